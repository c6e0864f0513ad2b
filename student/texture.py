"""Spatial and temporal statistics (SI/TI-like): amount and scale of detail, motion, flatness. Nothing here trains.

The bits that a picture needs at a quantizer step size depend on them, so the hybrid head takes them beside bitstream
features (student/head.py). Filters are fixed and run on each patch alone: none crosses a seam of a view.

Shapes: B clips, U pairs of frames, P patches, R = B * U * P, H W pixels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

LUMA: Final = (0.2126, 0.7152, 0.0722)  # BT.709
BLUE: Final = (-0.1146, -0.3854, 0.5)
RED: Final = (0.5, -0.4542, -0.0458)
BANDS: Final = 3  # octaves of detail
CELL: Final = 8  # pixels of a band's own scale
EDGES: Final = (-2.0, 1.0, 4.0, 7.0)  # log2 variances of a cell, how many lie above which is counted
NUM_BAND_TEXTURE = 2 * (BANDS * (2 + len(EDGES)) + 1)
NUM_TEXTURE = NUM_BAND_TEXTURE + 18
FLOOR: Final = 0.05  # of a variance in squared code values: what is flat


class Texture(nn.Module):
    """Statistics of pairs of neighboring frames, BUQ with Q = NUM_TEXTURE: of the frames, then of their difference."""

    def __init__(self, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.planes: Tensor
        self.register_buffer("planes", torch.tensor((LUMA, BLUE, RED)).T.contiguous(), persistent=False)

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """statistics_BUQ of uint8 RGB views whose side is a whole number of patches."""
        pairs = frames_BTHWC.shape[1] // 2
        grid, px = frames_BTHWC.shape[2] // self.patch_px, self.patch_px
        planes = frames_BTHWC.float() @ self.planes
        patches = planes.reshape(-1, 2, grid, px, grid, px, 3).permute(1, 0, 2, 4, 6, 3, 5)  # 2, B * U, G, G, 3, H, W
        luma, chroma = patches[..., 0, :, :].flatten(2, 3), patches[..., 1:, :, :].flatten(2, 3)  # 2, B * U, P, ...
        change = luma[1] - luma[0]
        both = torch.cat([_of_bands(luma[0]), _of_bands(luma[1])]).unflatten(0, (2, -1)).mean(0)
        statistics = torch.cat([both, _of_bands(change), _of_pictures(luma, chroma, change)], 1)
        statistics_BUQ: Tensor = statistics.unflatten(0, (-1, pairs))
        return statistics_BUQ


def _log2(x: Tensor) -> Tensor:
    return (x + FLOOR).log() * 1.442695


def _of_bands(x_NPHW: Tensor) -> Tensor:
    """Per octave: mean and standard deviation of the cells' log2 variance, fractions above `EDGES`; then the rest.

    NQ.
    """
    statistics = []
    x_R1HW = x_NPHW.flatten(0, 1).unsqueeze(1)
    for _ in range(BANDS):
        low = functional.avg_pool2d(functional.pad(x_R1HW, (1, 1, 1, 1), mode="replicate"), 3, 1)
        cells = functional.avg_pool2d((x_R1HW - low).square(), CELL)
        cells_NK = _log2(cells).flatten(1).unflatten(0, x_NPHW.shape[:2]).flatten(1)
        mean = cells_NK.mean(1, keepdim=True)
        above = [(2 * (cells_NK - edge)).sigmoid().mean(1, keepdim=True) for edge in EDGES]
        statistics += [mean, ((cells_NK - mean).square().mean(1, keepdim=True) + 1e-6).sqrt(), *above]
        x_R1HW = functional.avg_pool2d(x_R1HW, 2)
    rest = x_R1HW - x_R1HW.mean((2, 3), keepdim=True)
    statistics.append(_log2(rest.square().mean((2, 3))).unflatten(0, x_NPHW.shape[:2]).mean(1))
    return torch.cat(statistics, 1)


def _of_pictures(luma: Tensor, chroma: Tensor, change: Tensor) -> Tensor:
    """Brightness, color, edges, flatness, and how much of the change lies on edges, N18.

    luma 2NPHW, chroma 2NPCHW, change NPHW.
    """
    across, down = luma.diff(dim=4), luma.diff(dim=3)
    energy, along = across.square().mean((3, 4)), down.square().mean((3, 4))
    peaks = across.square().square().mean((3, 4))
    flat = (1 - across.abs()).clamp(0, 1).mean((3, 4))
    bend = (luma[..., 2:] - 2 * luma[..., 1:-1] + luma[..., :-2]).square().mean((3, 4))
    far = (luma[..., 4:] - luma[..., :-4]).square().mean((3, 4))
    overall = luma.mean((2, 3, 4), keepdim=True)
    coarse = functional.avg_pool2d(chroma.flatten(0, 3).unsqueeze(1), 4).unflatten(0, chroma.shape[:4]).squeeze(4)
    fine = chroma.unflatten(4, (-1, 4)).unflatten(6, (-1, 4)) - coarse.unsqueeze(5).unsqueeze(7)
    moved, edges = change.abs(), across[0].abs()
    per_patch = {
        "energy": _log2(energy), "along": _log2(along), "slant": _log2(along) - _log2(energy),
        "peaks": _log2(peaks) - 2 * _log2(energy), "flat": flat, "bend": _log2(bend) - _log2(energy),
        "far": _log2(far) - _log2(energy), "largest": _log2(peaks) / 2,
    }  # fmt: skip
    statistics = [values.mean((0, 2)) for values in per_patch.values()]
    statistics += [
        (_log2(energy) - _log2(energy).mean(2, keepdim=True)).square().mean((0, 2)).add(1e-6).sqrt(),
        (flat - flat.mean(2, keepdim=True)).square().mean((0, 2)).add(1e-6).sqrt(),
        overall.mean((0, 2, 3, 4)) / 64,
        (luma - overall).square().mean((0, 2, 3, 4)).add(1e-6).sqrt() / 32,
        ((40 - luma) / 10).sigmoid().mean((0, 2, 3, 4)),
        chroma.abs().mean((0, 2, 3, 4, 5)) / 16,
        _log2(coarse.square().mean((3, 4, 5)) - coarse.mean((3, 4, 5)).square().clamp(min=0)).mean((0, 2)),
        _log2(fine.square().mean((3, 4, 5, 6, 7))).mean((0, 2)),
        _log2(change.square().mean((1, 2, 3))),
        (moved[..., 1:] * edges).mean((1, 2, 3))
        / ((moved.square().mean((1, 2, 3)) * edges.square().mean((1, 2, 3)) + FLOOR).sqrt()),
    ]
    return torch.stack(statistics, 1)
