"""InternVideo2's positions: made, and fitted from files of other frame counts and crops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from teacher.weights import Card

FRESH_AXES: Final = ("time", "width", "height")  # order of the parts of fresh positions, as in the release
SEPARABLE = ("pos_embed_spatial", "pos_embed_temporal", "pos_embed_cls")
PUBLISHED_FRAMES = (4, 8, 16)
OTHER_FRAMES = (1, 2, 32, 64)
PUBLISHED_GRID = 16  # 224 px in patches of 14


def sincos_3d(dim: int, grid_THW: tuple[int, int, int]) -> Tensor:
    """(1, 1 + T*H*W, dim): first quarter of the width temporal, then columns, then rows, zeros for the class token.

    Widths that don't divide (by 16) start as noise: only tests have such.
    """
    frames, height, width = grid_THW
    if dim % 16:
        return 0.02 * torch.randn(1, 1 + frames * height * width, dim)
    t, y, x = torch.meshgrid(*(torch.arange(extent, dtype=torch.float64) for extent in grid_THW), indexing="ij")
    axes = {"time": (dim // 4, t), "width": (dim * 3 // 8, x), "height": (dim * 3 // 8, y)}
    rows = torch.cat([_sincos(*axes[axis]) for axis in FRESH_AXES], -1).flatten(0, 2)
    return torch.cat([torch.zeros(1, dim), rows.float()])[None]


def _sincos(dim: int, places: Tensor) -> Tensor:
    frequencies = 10_000 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = places.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def file_grid(state: Mapping[str, Tensor], wanted_THW: tuple[int, int, int], card: Card) -> tuple[int, int, int]:
    """Frames and square grid of a file's positions; `wanted_THW` decides where rows alone can't.

    Raises:
        ValueError: no positions, both kinds, half of the separable ones, or rows that no frame count explains.
    """
    separable = [name for name in SEPARABLE if name in state]
    if separable and "pos_embed" in state:
        raise ValueError(f"{card.source}: holds both joint and separable positions; keep one kind")
    lacking = [name for name in SEPARABLE if name not in state] if separable else []
    if lacking or not (separable or "pos_embed" in state):
        raise ValueError(f"{card.source}: does not fit the model: missing key {(lacking or ['pos_embed'])[0]!r}")
    if not separable:
        return _grid_of(state["pos_embed"].shape[1] - 1, wanted_THW, card)
    frames, places = state["pos_embed_temporal"].shape[1], state["pos_embed_spatial"].shape[1]
    side = round(places**0.5)
    if side * side != places:
        raise ValueError(f"{card.source}: pos_embed_spatial has {places} rows, which is no square grid")
    return frames, side, side


def fit_positions(state: Mapping[str, Tensor], grid_THW: tuple[int, int, int], card: Card) -> dict[str, Tensor]:
    """The state dict with one joint `pos_embed` for a model of `grid_THW` tokens.

    Raises:
        ValueError: as `file_grid`, or separable positions of different widths.
    """
    file_THW = file_grid(state, grid_THW, card)
    fitted = dict(state)
    kind = "joint" if "pos_embed" in fitted else "separable"
    if kind == "separable":
        spatial, temporal, cls = (fitted.pop(name).float() for name in SEPARABLE)
        if len({spatial.shape[2], temporal.shape[2], cls.shape[2]}) > 1:
            raise ValueError(f"{card.source}: separable positions are of different widths")
        fitted["pos_embed"] = torch.cat([cls, (temporal.unsqueeze(2) + spatial.unsqueeze(1)).flatten(1, 2)], 1)
    card.positions = f"{kind}, {file_THW[0]} frames of {file_THW[1]}x{file_THW[2]}"
    if file_THW != grid_THW:
        fitted["pos_embed"] = interpolate(fitted["pos_embed"], file_THW, grid_THW)
        card.positions += f", interpolated to {grid_THW[0]} frames of {grid_THW[1]}x{grid_THW[2]}"
    return fitted


def _grid_of(rows: int, wanted_THW: tuple[int, int, int], card: Card) -> tuple[int, int, int]:
    """Frames and square grid behind a number of rows. Rows alone can't tell 4 x 16^2 from 16 x 8^2, so the model's
    own grid is believed first, then the published one."""
    if rows == wanted_THW[0] * wanted_THW[1] * wanted_THW[2]:
        return wanted_THW
    for choices in (PUBLISHED_FRAMES, OTHER_FRAMES):
        grids = [(frames, round((rows / frames) ** 0.5)) for frames in choices]
        fitting = [(frames, side) for frames, side in grids if frames * side * side == rows]
        if fitting:
            frames, side = max(
                fitting,
                key=lambda grid: (grid[1] == wanted_THW[1], grid[0] == wanted_THW[0], grid[1] == PUBLISHED_GRID),
            )
            return frames, side, side
    raise ValueError(f"{card.source}: pos_embed has {rows} rows after the class token; no known frame count fits")


def interpolate(pos_1ND: Tensor, file_THW: tuple[int, int, int], want_THW: tuple[int, int, int]) -> Tensor:
    """Positions for another grid: linear in time, bicubic in space, class row kept."""
    cls, rows = pos_1ND[:, :1].float(), pos_1ND[0, 1:].float()
    rows = rows.unflatten(0, file_THW)
    if file_THW[0] != want_THW[0]:
        flat = rows.permute(1, 2, 3, 0).flatten(0, 1)  # (H*W, D, T)
        flat = functional.interpolate(flat, size=want_THW[0], mode="linear", align_corners=False)
        rows = flat.unflatten(0, file_THW[1:]).permute(3, 0, 1, 2)
    if file_THW[1:] != want_THW[1:]:
        flat = rows.permute(0, 3, 1, 2)  # (T, D, H, W)
        flat = functional.interpolate(flat, size=want_THW[1:], mode="bicubic", align_corners=False)
        rows = flat.permute(0, 2, 3, 1)
    return torch.cat([cls, rows.flatten(0, 2)[None]], 1)
