"""Golden files: a checkpoint, an input and every output that its maker's own code gave, re-run on ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from teacher.internvideo2 import SIZES, InternVideo2, fill_tower
from teacher.releases import has_extra_mlp
from teacher.weights import Card, parse_json_field, read_metadata

# The official constructor's arguments that change no output in evaluation: kernels, dropout, initial values.
NO_EFFECT = {
    "qkv_bias",
    "drop_path_rate",
    "head_drop_path_rate",
    "fc_drop_rate",
    "init_values",
    "init_scale",
    "qk_normalization",
    "use_flash_attn",
    "use_fused_rmsnorm",
    "fused_mlp_heuristic",
    "layerscale_no_force_fp32",
    "use_checkpoint",
    "checkpoint_num",
    "sep_pos_embed",  # known from the keys
}
# Those of NO_EFFECT whose other value is another model, which no published checkpoint is.
FIXED = {"qkv_bias": False, "qk_normalization": True}
TAKEN = {
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "num_frames",
    "img_size",
    "patch_size",
    "tubelet_size",
    "in_chans",
    "attn_pool_num_heads",
    "clip_embed_dim",
    "num_classes",
    "gelu",
}


def internvideo2_from_official(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> InternVideo2:
    """Build the tower from the official constructor's arguments and fill it."""
    unknown = sorted(config.keys() - TAKEN - NO_EFFECT - {"use_fused_mlp"})
    if unknown:
        raise ValueError(f"{path}: config key {unknown[0]!r} is unknown; known are {', '.join(sorted(TAKEN))}")
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{path}: config says {name}: {config[name]}; only {value} is supported")
    heads = [value for key, value in state.items() if key.endswith("head.weight") and "itm" not in key]
    settings = SIZES["1B"] | {"num_frames": 8, "num_classes": len(heads[0]) if heads else 0}
    settings |= {name: value for name, value in config.items() if name in TAKEN}
    settings["extra_mlp"] = has_extra_mlp(state)
    if config.get("use_fused_mlp"):
        settings["gelu"] = "tanh"
    model = InternVideo2(**settings)
    fill_tower(model, state, Card(source=str(path), sha256=""))
    return model


MODELS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Tensor], Path], InternVideo2]] = {
    "internvideo2": internvideo2_from_official,
}


def run_golden(path: Path) -> dict[str, float]:
    """Largest absolute deviation of every `output/NAME`, in the file's order of blocks.

    NAME is a module of the model, whose output it is, or "logits", the model's own.

    Raises:
        ValueError: not a golden file, an unknown model or output, or a checkpoint that does not fit.
    """
    metadata = read_metadata(path)
    name, config = metadata.get("model"), parse_json_field(metadata, "config", path)
    if name not in MODELS:
        raise ValueError(f"{path}: golden file of {name!r}; known are {', '.join(MODELS)}")
    tensors = load_file(path)
    groups: dict[str, dict[str, Tensor]] = {"checkpoint": {}, "input": {}, "output": {}}
    for key, value in tensors.items():
        group, _, rest = key.partition("/")
        if group not in groups:
            raise ValueError(f"{path}: tensor {key!r} is neither checkpoint/, input/ nor output/")
        groups[group][rest] = value
    empty = [group for group, members in groups.items() if not members]
    if empty:
        raise ValueError(f"{path}: holds no {empty[0]}/* tensors")
    model = MODELS[name](config, groups["checkpoint"], path).eval()
    modules = dict(model.named_modules())
    outputs: dict[str, Tensor] = {}

    def keep(output: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, value: Tensor) -> None:
            outputs[output] = value

        return hook

    for output in groups["output"].keys() - {"logits"}:
        if output not in modules:
            raise ValueError(f"{path}: output/{output} is no part of {name}")
        modules[output].register_forward_hook(keep(output))
    with torch.inference_mode():
        outputs["logits"] = model.classify(*groups["input"].values())
    return {output: _deviation(outputs[output], groups["output"][output], output, path)
            for output in sorted(groups["output"], key=_natural)}  # fmt: skip


def _deviation(have: Tensor, want: Tensor, output: str, path: Path) -> float:
    if have.shape != want.shape:
        raise ValueError(f"{path}: output/{output} is {tuple(want.shape)}, the model gives {tuple(have.shape)}")
    deviation = (have.double() - want.double()).abs().max()
    return float(deviation.nan_to_num(nan=float("inf")))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
