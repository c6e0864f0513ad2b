"""What both students share behind: a distribution over quality levels, and the score that it means.

Shapes: B clips, T frames, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rungwise.stream import NUM_TERMS


class Judgement(NamedTuple):
    """score_B on the label's scale, level logits_BK, feature_BD, frame_scores_BT from the same head.

    `stream_BF`, where the student was built for it, is what turns a coded stream's facts into a score
    (rungwise/stream.py). `deviation_B` is how far off the student expects to be, in score units, where it was built to
    say so.
    """

    score: Tensor
    logits: Tensor
    feature: Tensor
    frame_scores: Tensor
    deviation: Tensor | None
    stream: Tensor | None


def in_fp32(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function's output without autocast: bf16 has 8 bits, too few for a score of 0 to 100."""
    if not torch.is_autocast_enabled(x.device.type):
        plain: Tensor = layer(x)
        return plain
    with torch.autocast(x.device.type, enabled=False):
        exact: Tensor = layer(x.float())
    return exact


class LevelHead(nn.Module):
    """Levels lie at equal steps of the label's range; the score is the expectation of their distribution."""

    def __init__(
        self,
        dim: int,
        *,
        num_levels: int,
        minimum: float,
        maximum: float,
        aleatoric: bool,
        stream: bool,
        frames_each: int,
    ) -> None:
        """`frames_each`: frames that one time step stands for; each gets its step's score."""
        super().__init__()
        self.frames_each = frames_each
        self.clip = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.levels = nn.Linear(dim, num_levels)
        self.width = nn.Linear(dim, 1) if aleatoric else None
        self.stream = nn.Linear(dim, 1 + NUM_TERMS) if stream else None
        self.span = maximum - minimum
        self.level_values: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)

    def forward(self, frame_BTD: Tensor) -> Judgement:
        """Judge clips by their frames' features."""
        feature_BTD = self.clip(frame_BTD)
        feature = feature_BTD.mean(1)
        logits = in_fp32(self.levels, feature)
        deviation = None
        if self.width is not None:
            # From a tenth of the range: small enough to be useful, large enough to start calmly.
            deviation = self.span * functional.softplus(in_fp32(self.width, feature).squeeze(1) - 2.25).clamp(min=1e-3)
        frame_scores = in_fp32(self.expectation, in_fp32(self.levels, feature_BTD))
        frame_scores = frame_scores.repeat_interleave(self.frames_each, dim=1)
        fused = None if self.stream is None else in_fp32(self.stream, feature)
        return Judgement(in_fp32(self.expectation, logits), logits, feature, frame_scores, deviation, fused)

    def expectation(self, logits: Tensor) -> Tensor:
        """The score that level logits mean."""
        return logits.softmax(-1) @ self.level_values
