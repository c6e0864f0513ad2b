"""CLIP's towers for the teachers on CLIP: image towers in steps, and reading of configs, prompts and weights.

Shapes: B clips, T frames, M = B * T, N tokens of a frame, D tower width, Z joint width of image and text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTextModelWithProjection, PretrainedConfig
from transformers import CLIPVisionModelWithProjection as VisionTower

from rungwise.progress import note
from teacher.normalize import Normalize

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Block = Callable[[Tensor], Tensor]


class ClipImages(nn.Module):
    """CLIP's image tower in three steps, frames_BTHWC -> tokens_MND -> blocks -> joint_MZ, with M = B*T."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.tower = cast(Any, VisionTower(cast(Any, config.vision_config)))
        self.normalize = Normalize(CLIP_MEAN, CLIP_STD)
        self.patch: int = self.tower.config.patch_size
        self.width: int = self.tower.config.hidden_size
        self.depth: int = self.tower.config.num_hidden_layers
        self.joint_width: int = self.tower.config.projection_dim

    def tokens(self, frames_BTHWC: Tensor) -> Tensor:
        _check_patches(frames_BTHWC, self.patch)
        vision = self.tower.vision_model
        x = vision.embeddings(self.normalize(frames_BTHWC), interpolate_pos_encoding=True)
        return cast(Tensor, vision.pre_layrnorm(x))

    def blocks(self, num_tokens: int) -> list[Block]:
        return [partial(layer, attention_mask=None) for layer in self.tower.vision_model.encoder.layers]

    def project(self, x_MND: Tensor) -> Tensor:
        return cast(Tensor, self.tower.visual_projection(self.tower.vision_model.post_layernorm(x_MND[:, 0])))


class PeImages(nn.Module):
    """A PE-Core tower of timm (arXiv 2504.13181) in the same steps. Its rotary positions need square views."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if not name.startswith("vit_pe_core") or not timm.is_model(name):
            known = ", ".join(timm.list_models("vit_pe_core*"))
            raise ValueError(f"vision {name}: not a PE-Core tower of timm; choose one of {known}")
        self.tower = cast(Any, timm.create_model(name, pretrained=False, dynamic_img_size=True))
        self.normalize = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.patch: int = self.tower.patch_embed.patch_size[0]
        self.width: int = self.tower.embed_dim
        self.depth: int = len(self.tower.blocks)
        self.joint_width: int = self.tower.num_classes

    def tokens(self, frames_BTHWC: Tensor) -> Tensor:
        _check_patches(frames_BTHWC, self.patch)
        height, width = frames_BTHWC.shape[2:4]
        if height != width:  # `blocks` knows the number of patches, not their grid
            raise ValueError(f"view of {height}x{width} pixels: PE-Core takes square views; change `views`")
        x, _ = self.tower._pos_embed(self.tower.patch_embed(self.normalize(frames_BTHWC)))
        return cast(Tensor, self.tower.norm_pre(x))

    def blocks(self, num_tokens: int) -> list[Block]:
        side = math.isqrt(num_tokens - self.tower.num_prefix_tokens)
        rope = self.tower.rope.get_embed(shape=(side, side))
        return [partial(block, rope=rope) for block in self.tower.blocks]

    def project(self, x_MND: Tensor) -> Tensor:
        return cast(Tensor, self.tower.forward_head(self.tower.norm(x_MND)))


class TextAndScale(CLIPTextModelWithProjection):  # type: ignore[no-untyped-call]
    """CLIP's text tower with the scale of its logits, as they lie in a CLIP's file; an image tower there is left."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.logit_scale = nn.Parameter(torch.zeros(()))


def trainable_count(model: nn.Module) -> int:
    """Number of parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _check_patches(frames_BTHWC: Tensor, patch: int) -> None:
    height, width = frames_BTHWC.shape[2:4]
    if height % patch or width % patch:
        raise ValueError(f"view of {height}x{width} pixels: not whole patches of {patch}; change `views`")


def maybe_recompute(recompute: bool, function: Callable[..., Tensor], *args: Any) -> Tensor:
    return cast(Tensor, checkpoint(function, *args, use_reentrant=False)) if recompute else function(*args)


def note_count(name: str, model: nn.Module) -> None:
    note(f"{name}: {trainable_count(model):,} trainable of {sum(p.numel() for p in model.parameters()):,}")


def clip_config_of(values: dict[str, Any]) -> CLIPConfig:
    config = CLIPConfig.from_dict(values)
    for tower in (cast(Any, config.text_config), cast(Any, config.vision_config)):
        tower.projection_dim = config.projection_dim  # a tower's own is not what CLIPModel goes by
        tower._attn_implementation = "sdpa"  # of whose `is_causal` the text tower makes use
    return config


def read_config(clip: str) -> dict[str, Any]:
    """CLIPConfig of a folder or hub id as a JSON-able dict, without what belongs to the place or the precision."""
    path = Path(clip)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) > 2 or clip.startswith(".")):
        raise ValueError(f"{clip}: no such folder; give a CLIP folder or a hub id (OWNER/NAME)")
    values = read_from(clip, "config.json", lambda: PretrainedConfig.get_config_dict(clip)[0])
    if values.get("model_type") != "clip":
        raise ValueError(f"{clip}: config.json is not a CLIP's but '{values.get('model_type')}'; give a CLIP")
    local = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key not in local}

    config = CLIPConfig.from_dict(values)
    return cast(dict[str, Any], json.loads(config.to_json_string(use_diff=False), object_pairs_hook=keep))


def read_prompts(clip: str, prompts: list[str], config: dict[str, Any]) -> list[list[int]]:
    tokenizer = cast(Any, read_from(clip, "tokenizer", lambda: cast(Any, AutoTokenizer).from_pretrained(clip)))
    all_ids: list[list[int]] = [list(map(int, tokenizer(prompt)["input_ids"])) for prompt in prompts]
    text = config["text_config"]
    for prompt, ids in zip(prompts, all_ids, strict=True):
        # A folder without tokenizer files gives, without a word, a tokenizer that knows nothing.
        if len(ids) < 3 or tokenizer.unk_token_id in ids[1:-1] or max(ids) >= text["vocab_size"]:
            raise ValueError(f"{clip}: no tokenizer that knows '{prompt}'; copy CLIP's tokenizer files there")
        if ids[-1] != tokenizer.eos_token_id or len(ids) > text["max_position_embeddings"]:
            raise ValueError(f"{clip}: the tokenizer's '{prompt}' has no end token or is too long; use CLIP's own")
    return all_ids


def read_pretrained(clip: str, *, text_alone: bool = False) -> Any:
    """CLIPModel in fp32, every weight of which comes from the file and which uses every weight there.

    `text_alone`: a `TextAndScale`; the file may or may not have an image tower.
    """
    options: dict[str, Any] = {
        "use_safetensors": True,
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    kind: Any = CLIPModel
    if text_alone:
        kind, options["config"] = TextAndScale, clip_config_of(read_config(clip)).text_config
    model, report = read_from(clip, "weights (safetensors)", lambda: kind.from_pretrained(clip, **options))
    unused = [key for key in report["unexpected_keys"] if not key.endswith("position_ids")]  # older files' constants
    if text_alone:
        unused = [key for key in unused if not key.startswith(("vision_model.", "visual_projection."))]
    _name_odd_keys(sorted(report["missing_keys"]), sorted(unused), clip)
    for key, shape, expected in report["mismatched_keys"]:
        raise ValueError(f"{clip}: {key} is {list(shape)}, not {list(expected)}; give the weights of its config.json")
    return model.eval()


def read_from(place: str, what: str, read: Callable[[], Any]) -> Any:
    """`read()`, whose many errors become one line."""
    try:
        return read()
    except Exception as error:  # transformers, its hub client, tokenizers and safetensors raise each their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = "check its files"
        if not Path(place).exists():
            files = "config.json, model.safetensors and the tokenizer's files"
            advice = f"download {files} from https://huggingface.co/{place} into a folder and give the folder instead"
        raise ValueError(f"{place}: no {what} could be read ({reason}); {advice}") from error


def load_exactly(module: nn.Module, state: dict[str, Tensor], where: str, prefix: str = "") -> None:
    """Fill a module from the keys that start with `prefix`, which must be its own, neither more nor less."""
    own, state = module.state_dict(), {key: value for key, value in state.items() if key.startswith(prefix)}
    _name_odd_keys(sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys()), where)
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{where}: {key} is {list(value.shape)}, not {list(own[key].shape)}; wrong checkpoint?")
    module.load_state_dict(state, strict=True)


def _name_odd_keys(missing: list[str], unexpected: list[str], where: str) -> None:
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing ({len(missing)} such); give a complete checkpoint")
    if unexpected:
        raise ValueError(f"{where}: {unexpected[0]} is not known ({len(unexpected)} such); give a checkpoint of CLIP")
