"""Patches on their own: how a stitched view is cut into them, the score of each, and their pooling to one feature.

Shapes: B clips, T frames, U frames or pairs of frames, P patches row by row, S statistics, D feature width.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from student.head import in_fp32

NUM_PATCH_STATISTICS: Final = 4
# Of patch scores in the kernel of the hybrid head's regression. The student was trained on the clips that support it
# and scores these too well: a larger weight trusts it more than it deserves elsewhere.
PATCH_WEIGHT: Final = 0.05


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

    def forward(self, feature_BUPD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """frame_BUD, the patches' score_BUP on the label's scale, and statistics_BUS of these."""
        standard_BUP = in_fp32(self.score, feature_BUPD).squeeze(3)
        weight_BUP = in_fp32(self.weight, feature_BUPD).squeeze(3).softmax(2)
        statistics_BUS = patch_statistics(standard_BUP)
        half = (feature_BUPD.shape[2] - 1) // 2
        median_BU1 = standard_BUP.sort(2).values[:, :, half : feature_BUPD.shape[2] - half].mean(2, keepdim=True)
        weighted_BU1 = (weight_BUP * standard_BUP).sum(2, keepdim=True)
        weighted_BUD = (weight_BUP.unsqueeze(3) * feature_BUPD).sum(2)
        pooled = [
            feature_BUPD.mean(2),
            _deviation(feature_BUPD),
            weighted_BUD,
            statistics_BUS,
            median_BU1,
            weighted_BU1,
        ]
        frame_BUD: Tensor = self.pool(torch.cat(pooled, 2))
        return frame_BUD, self.middle + self.step * standard_BUP, statistics_BUS


def patch_statistics(score_BUP: Tensor) -> Tensor:
    """statistics_BUS of patch scores: mean, deviation, mean of the lowest and of the highest quarter."""
    quarter, sorted_BUP = max(1, score_BUP.shape[2] // 4), score_BUP.sort(2).values
    low_BU, high_BU = sorted_BUP[:, :, :quarter].mean(2), sorted_BUP[:, :, -quarter:].mean(2)
    return torch.stack([score_BUP.mean(2), _deviation(score_BUP), low_BU, high_BU], 2)


def _deviation(values_BUP: Tensor) -> Tensor:
    """Standard deviation over patches, of one too."""
    mean = values_BUP.mean(2, keepdim=True)
    return ((values_BUP - mean).square().mean(2) + 1e-6).sqrt()
