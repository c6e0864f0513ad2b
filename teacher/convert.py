"""`rungwise teacher convert`: an official checkpoint made safe to pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from teacher.internvideo2 import SIZES, InternVideo2
from teacher.pe_core import convert_pe_core, is_pe_core
from teacher.positions import file_grid, fit_positions
from teacher.releases import KNOWN_EXTRAS, MAY_LACK, has_extra_mlp, without_prefix
from teacher.weights import Card, account, read_foreign, save_converted

NO_GRID = (0, 0, 0)


def convert(source: str, out: Path) -> dict[str, Any]:
    """Read an official InternVideo2 or PE-Core checkpoint and write what teachers read, as safetensors.

    Returns:
        The card's facts, counts in place of the lists of keys.

    Raises:
        ValueError: the file can't be read safely, or a key is unknown, missing or of another shape than its size has.
    """
    foreign, card = read_foreign(source)
    plain = {key.removeprefix("module."): value for key, value in foreign.items()}
    if not is_pe_core(plain):
        return convert_internvideo2(foreign, card, out)
    if out.suffix:
        raise ValueError(f"{out}: PE-Core becomes a folder with two towers; give a name without {out.suffix}")
    return convert_pe_core(plain, card, out)


def convert_internvideo2(foreign: Mapping[str, Tensor], card: Card, out: Path) -> dict[str, Any]:
    """Write the tower under official keys. Positions stay as they are, of either kind; a class head is kept. Beside it
    comes `<name>.card.json`."""
    if out.suffix != ".safetensors":
        raise ValueError(f"{out}: give a name that ends in .safetensors")
    state, card.prefix = without_prefix(foreign)
    frames, side, _ = file_grid(state, NO_GRID, card)
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 5:
        raise ValueError(f"{card.source}: has no patch_embed.proj.weight of a video tower; is it an InternVideo2?")
    dim, channels, tubelet, patch, _ = patches.shape
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    size = next((name for name, s in SIZES.items() if (s["embed_dim"], s["depth"]) == (dim, depth)), "unpublished")
    measures = ("blocks.0.mlp.fc1.weight", "clip_projector.cross_attn.proj.weight", "head.weight")
    shapes = {name: len(state[name]) for name in measures if name in state}
    with torch.device("meta"):  # the shapes of every key, without the weights
        tower = InternVideo2(
            embed_dim=dim,
            depth=depth,
            num_heads=SIZES[size]["num_heads"] if size in SIZES else 1,
            mlp_ratio=shapes.get("blocks.0.mlp.fc1.weight", 4 * dim) / dim,
            num_frames=frames * tubelet,
            img_size=side * patch,
            patch_size=patch,
            tubelet_size=tubelet,
            in_chans=channels,
            attn_pool_num_heads=1,
            clip_embed_dim=shapes.get("clip_projector.cross_attn.proj.weight", 768),
            num_classes=shapes.get("head.weight", 0),
            extra_mlp=has_extra_mlp(state),
        )
    fitted = fit_positions(state, tower.grid_THW, card)
    account(fitted, tower.state_dict(), card, extras=KNOWN_EXTRAS, may_lack=MAY_LACK)
    left_out = set(card.extras)
    save_converted(out, {key: value for key, value in state.items() if key not in left_out}, card)
    facts = {name: value for name, value in asdict(card).items() if not isinstance(value, list)}
    counts = {"used": len(card.used), "extras": len(card.extras), "left_fresh": len(card.left_fresh)}
    return facts | {"size": size, "dtype": str(patches.dtype).removeprefix("torch.")} | counts | {"out": str(out)}
