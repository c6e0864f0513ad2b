"""PE-Core's published checkpoint (arXiv 2504.13181) as the files that `q_clip` reads: its text tower as a transformers
CLIP folder, its image tower under timm's keys.

The text tower is a CLIP's with an exact GELU and heads of 64; keys are open_clip's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models.eva import checkpoint_filter_fn
from torch import Tensor
from transformers import CLIPConfig, CLIPTextModelWithProjection

from rungwise.artifact import write_json
from teacher.weights import Card, account, save_converted

HEAD_DIM = 64
TEXT, VISION = "model.safetensors", "vision.safetensors"
LAYER_KEYS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def is_pe_core(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint holds both of PE-Core's towers."""
    return "visual.conv1.weight" in state and "token_embedding.weight" in state


def convert_pe_core(state: Mapping[str, Tensor], card: Card, out: Path) -> dict[str, Any]:
    """Write folder `out`: a CLIP's config.json and text tower, and vision.safetensors; each file with its card.

    Returns:
        Facts for people: the image tower's name in timm, counts.

    Raises:
        ValueError: a key is unknown, missing or of another shape, or no tower of timm has the image tower's shape.
    """
    text = text_tower(state)
    config = clip_config(text)
    with torch.device("meta"):
        own_text = CLIPTextModelWithProjection(cast(Any, config.text_config)).state_dict()
        own_text["logit_scale"] = torch.empty(())
    name, vision, own_vision = vision_tower(state, card.source)
    text_card, vision_card = replace(card), replace(card)
    account(text, own_text, text_card, extras=())
    account(vision, own_vision, vision_card, extras=())
    out.mkdir(parents=True, exist_ok=True)
    save_converted(out / TEXT, text, text_card)
    save_converted(out / VISION, vision, vision_card)
    write_json(out / "config.json", config.to_dict())
    counts = {"text tensors": len(text_card.used), "vision tensors": len(vision_card.used)}
    return {"source": card.source, "sha256": card.sha256, "vision": name, **counts, "out": str(out)}


def text_tower(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything but the image tower, under transformers' keys; keys without a counterpart keep their names."""
    text: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("transformer.resblocks."):
            number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
            layer = f"text_model.encoder.layers.{number}"
            name, _, kind = rest.rpartition(".")
            if name == "attn" and kind.startswith("in_proj_"):
                for part, rows in zip("qkv", value.chunk(3), strict=True):
                    text[f"{layer}.self_attn.{part}_proj.{kind.removeprefix('in_proj_')}"] = rows
            else:
                text[f"{layer}.{LAYER_KEYS.get(name, name)}.{kind}"] = value
        elif key == "text_projection":
            text["text_projection.weight"] = value.T
        elif not key.startswith("visual."):
            text[OTHER_KEYS.get(key, key)] = value
    return text


OTHER_KEYS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}


def clip_config(text: Mapping[str, Tensor]) -> CLIPConfig:
    """A CLIP's config with this text tower, read off its shapes.

    Raises:
        ValueError: a tensor that tells the shape is missing; it is named.
    """

    def shape(key: str) -> torch.Size:
        if key not in text:
            raise ValueError(f"no {key} in the checkpoint: is it a PE-Core with its text tower?")
        return text[key].shape

    vocabulary, width = shape(OTHER_KEYS["token_embedding.weight"])
    joint_width = shape("text_projection.weight")[0]
    tower = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shape("text_model.encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": len({key.split(".")[3] for key in text if key.startswith("text_model.encoder.layers.")}),
        "num_attention_heads": width // HEAD_DIM,
        "max_position_embeddings": shape(OTHER_KEYS["positional_embedding"])[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": joint_width,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0,
    }
    scale = float(text["logit_scale"]) if "logit_scale" in text else None
    return CLIPConfig(text_config=tower, projection_dim=joint_width, logit_scale_init_value=cast(Any, scale))


def vision_tower(state: Mapping[str, Tensor], source: str) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """timm's name of the image tower, its tensors under timm's keys, and timm's own for their shapes.

    Raises:
        ValueError: timm has no such tower.
    """
    width, _, _, patch = state["visual.conv1.weight"].shape
    for name in timm.list_models("vit_pe_core*"):
        with torch.device("meta"):
            tower = cast(Any, timm.create_model(name, pretrained=False))
        if (tower.embed_dim, tower.patch_embed.patch_size[0]) == (width, patch):
            return name, dict(checkpoint_filter_fn(dict(state), tower)), tower.state_dict()
    raise ValueError(f"{source}: an image tower of width {width} and patches of {patch} px is no PE-Core that timm has")
