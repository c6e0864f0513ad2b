"""Patches on their own: how a stitched view is cut into them, the score of each, and their pooling to one feature.

Shapes: B clips, T frames, U frames or pairs of frames, P patches row by row, D feature width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from student.head import in_fp32


def cut_patches(frames_BTHWC: Tensor, patch_px: int) -> Tensor:
    """patches_BPTHWC of views whose side is a whole number of patches."""
    grid = (frames_BTHWC.shape[2] // patch_px, patch_px)
    patches_BPTHWC: Tensor = (
        frames_BTHWC.unflatten(3, grid).unflatten(2, grid).permute(0, 2, 4, 1, 3, 5, 6).flatten(1, 2)
    )
    return patches_BPTHWC


class PatchPool(nn.Module):
    """A score for each patch, and one feature for all patches of a frame.

    Features are pooled to mean, deviation and a learned weighted mean; scores to these and to the mean of the lowest
    and of the highest quarter and the median: a viewer minds the worst places.
    """

    def __init__(self, dim: int, *, minimum: float, maximum: float) -> None:
        super().__init__()
        self.middle, self.step = (minimum + maximum) / 2, (maximum - minimum) / 4
        self.score, self.weight = nn.Linear(dim, 1), nn.Linear(dim, 1)
        width = 3 * dim + 6
        self.pool = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim), nn.GELU())

    def forward(self, feature_BUPD: Tensor) -> tuple[Tensor, Tensor]:
        """frame_BUD, and the patches' score_BUP on the label's scale."""
        standard_BUP = in_fp32(self.score, feature_BUPD).squeeze(3)
        weight_BUP = in_fp32(self.weight, feature_BUPD).squeeze(3).softmax(2)
        patches = feature_BUPD.shape[2]
        quarter, half = max(1, patches // 4), (patches - 1) // 2
        sorted_BUP = standard_BUP.sort(2).values
        statistics = [
            standard_BUP.mean(2),
            _deviation(standard_BUP),
            sorted_BUP[:, :, :quarter].mean(2),
            sorted_BUP[:, :, -quarter:].mean(2),
            sorted_BUP[:, :, half : patches - half].mean(2),  # the median
            (weight_BUP * standard_BUP).sum(2),
        ]
        weighted_BUD = (weight_BUP.unsqueeze(3) * feature_BUPD).sum(2)
        pooled = [feature_BUPD.mean(2), _deviation(feature_BUPD), weighted_BUD, torch.stack(statistics, 2)]
        frame_BUD: Tensor = self.pool(torch.cat(pooled, 2))
        return frame_BUD, self.middle + self.step * standard_BUP


def _deviation(values_BUP: Tensor) -> Tensor:
    """Standard deviation over patches, of one too."""
    mean = values_BUP.mean(2, keepdim=True)
    return ((values_BUP - mean).square().mean(2) + 1e-6).sqrt()
