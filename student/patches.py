"""Patches on their own: how a stitched view is cut into them, the score of each, and the clip's score from theirs.

Shapes: B clips, T frames, U frames or pairs of frames, P patches row by row, W statistics, E width of a backbone's
feature, D width of a patch's feature, F bitstream features.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from student.head import in_fp32
from student.styleprompt import StreamPrompt

LARGEST: Final = 6.0  # standardized statistics are clipped to so many deviations
SCALE_CLIPS: Final = 256  # train clips from which mean and deviation are taken


def cut_patches(frames_BTHWC: Tensor, patch_px: int) -> Tensor:
    """patches_BPTHWC of views whose side is a whole number of patches."""
    grid = (frames_BTHWC.shape[2] // patch_px, patch_px)
    patches_BPTHWC: Tensor = (
        frames_BTHWC.unflatten(3, grid).unflatten(2, grid).permute(0, 2, 4, 1, 3, 5, 6).flatten(1, 2)
    )
    return patches_BPTHWC


class Standardizer(nn.Module):
    """Statistics with mean 0 and deviation 1 over train patches: the stem's maps differ a hundredfold in scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` was called, here or before a checkpoint was written."""
        return bool((self.spread != 1).any())

    @torch.no_grad()
    def fit(self, statistics_NW: Tensor) -> None:
        """Take mean and deviation over N patches."""
        values = statistics_NW.double()
        self.centre.copy_(values.mean(0))
        self.spread.copy_(values.std(0, correction=0) + 1e-3)

    def forward(self, statistics: Tensor) -> Tensor:
        """Same shape out, (..., W)."""
        return ((statistics - self.centre) / self.spread).clamp(-LARGEST, LARGEST)


class PatchScores(NamedTuple):
    """What a `PatchHead` gives."""

    score_BUP: Tensor
    """on the label's scale"""
    weighted_BU: Tensor
    """weighted mean of the scores, in the head's own unit"""
    frame_BUD: Tensor
    """feature of all patches of a frame or pair"""


class PatchHead(nn.Module):
    """A score and a weight for each patch, and one feature for all patches of a frame or pair.

    Two layers. With `terms`, the number of bitstream features, these move the first one's features by a StylePrompt of
    `prompts` rows; with `prompts` 0 they are inputs like the statistics.
    """

    def __init__(
        self, inputs: int, dim: int, *, minimum: float, maximum: float, terms: int = 0, prompts: int = 0
    ) -> None:
        super().__init__()
        self.middle, self.step, self.terms = (minimum + maximum) / 2, (maximum - minimum) / 4, terms
        self.prompt = StreamPrompt(dim, prompts, terms) if terms and prompts else None
        self.first = nn.Linear(inputs + (terms if self.prompt is None else 0), dim)
        self.norm, self.second = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.score, self.weight = nn.Linear(dim, 1), nn.Linear(dim, 1)
        self.pool = nn.Sequential(nn.LayerNorm(2 * dim + 1), nn.Linear(2 * dim + 1, dim), nn.GELU())

    def forward(self, inputs_BUPW: Tensor, terms_BF: Tensor | None = None) -> PatchScores:
        """Score patches by their statistics, and by the clip's bitstream features where the head takes them."""
        if self.terms and self.prompt is None:
            assert terms_BF is not None
            terms_BUPF = terms_BF[:, None, None].expand(-1, *inputs_BUPW.shape[1:3], -1)
            inputs_BUPW = torch.cat([inputs_BUPW, terms_BUPF], 3)
        first_BUPD = self.norm(self.first(inputs_BUPW))
        if self.prompt is not None:
            first_BUPD = self.prompt(first_BUPD, terms_BF)
        feature_BUPD = functional.gelu(self.second(functional.gelu(first_BUPD)))
        standard_BUP = in_fp32(self.score, feature_BUPD).squeeze(3)
        weight_BUP = in_fp32(self.weight, feature_BUPD).squeeze(3).softmax(2)
        weighted_BU = (weight_BUP * standard_BUP).sum(2)
        pooled = [feature_BUPD.mean(2), _deviation(feature_BUPD), weighted_BU.unsqueeze(2)]
        frame_BUD = self.pool(torch.cat(pooled, 2))
        return PatchScores(self.middle + self.step * standard_BUP, weighted_BU, frame_BUD)


class HybridPatchHead(nn.Module):
    """The hybrid score of a clip: the weighted mean of its patches' scores, which hear the bitstream, and what their
    pooled features add to it; the mean over frames or pairs."""

    def __init__(self, inputs: int, dim: int, *, minimum: float, maximum: float, terms: int, prompts: int) -> None:
        super().__init__()
        self.minimum, self.maximum = minimum, maximum
        self.patches = PatchHead(inputs, dim, minimum=minimum, maximum=maximum, terms=terms, prompts=prompts)
        self.rest = nn.Linear(dim, 1)
        nn.init.zeros_(self.rest.weight)
        nn.init.zeros_(self.rest.bias)

    def forward(self, inputs_BUPW: Tensor, terms_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Scores_B and the patches' score_BUP, on the label's scale."""
        patches = self.patches(inputs_BUPW, terms_BF)
        rest_BU = in_fp32(self.rest, patches.frame_BUD).squeeze(2)
        score_B = self.patches.middle + self.patches.step * (patches.weighted_BU + rest_BU).mean(1)
        # In training a score beyond the scale must be drawn back to it.
        return score_B if self.training else score_B.clamp(self.minimum, self.maximum), patches.score_BUP


def _deviation(values_BUPD: Tensor) -> Tensor:
    """Standard deviation over patches, of one too."""
    mean = values_BUPD.mean(2, keepdim=True)
    return ((values_BUPD - mean).square().mean(2) + 1e-6).sqrt()
