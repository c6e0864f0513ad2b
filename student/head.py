"""The output heads that students share: a distribution over quality levels, and the score that it means.

Shapes: B clips, T frames, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.prediction import Prediction

HYBRID_DIM: Final = 64


def in_fp32(layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A function's output without autocast: bf16 has 8 bits, too few for a score of 0 to 100."""
    kind = inputs[0].device.type
    # The meta device, on which operations are counted, knows no autocast.
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return layer(*inputs)
    with torch.autocast(kind, enabled=False):
        return layer(*(x.float() for x in inputs))


class HybridHead(nn.Module):
    """A score from the clip's feature and bitstream features (rungwise/bitstream/features.py), of students that see
    frames whole."""

    def __init__(self, dim: int, *, minimum: float, maximum: float) -> None:
        super().__init__()
        self.minimum, self.span = minimum, maximum - minimum
        self.pictures = nn.Linear(dim, HYBRID_DIM)
        self.terms = nn.Linear(BITSTREAM_INPUT_DIM, HYBRID_DIM, bias=False)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(HYBRID_DIM, HYBRID_DIM), nn.GELU(), nn.Linear(HYBRID_DIM, 1))
        self.straight = nn.Linear(BITSTREAM_INPUT_DIM, 1, bias=False)

    def forward(self, feature_BD: Tensor, terms_BF: Tensor) -> Tensor:
        """Scores_B on the label's scale."""
        mixed_B1: Tensor = self.mix(self.pictures(feature_BD) + self.terms(terms_BF)) + self.straight(terms_BF)
        return self.minimum + self.span * mixed_B1.squeeze(1).sigmoid()


class HeadSettings(TypedDict):
    """What every student with these heads is constructed with."""

    feature_dim: int
    """width of a frame's feature"""
    prompts: int
    """size of each StylePrompt's bank; 0: none"""
    aleatoric: bool
    """also predict the expected error"""
    hybrid: bool
    """whether it also scores with bitstream features"""
    num_levels: int
    """quality levels"""
    minimum: float
    """of the label's scale"""
    maximum: float
    """of the label's scale"""


class LevelHead(nn.Module):
    """Levels lie at equal steps of the label's range; the score is the expectation of their distribution."""

    def __init__(self, settings: HeadSettings, *, stream: bool, frames_per_step: int) -> None:
        """`stream`: with a `HybridHead`; `frames_per_step`: frames that one time step stands for, each of which gets
        its step's score."""
        super().__init__()
        dim, num_levels = settings["feature_dim"], settings["num_levels"]
        minimum, maximum = settings["minimum"], settings["maximum"]
        self.frames_per_step = frames_per_step
        self.clip = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.levels = nn.Linear(dim, num_levels)
        self.width = nn.Linear(dim, 1) if settings["aleatoric"] else None
        self.stream = HybridHead(dim, minimum=minimum, maximum=maximum) if stream else None
        self.span = maximum - minimum
        self.level_values: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)

    def forward(self, frame_BTD: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips by their frames' features, and with bitstream features where they are given."""
        feature_BTD = self.clip(frame_BTD)
        feature = feature_BTD.mean(1)
        logits = in_fp32(self.levels, feature)
        deviation = None
        if self.width is not None:
            # From a tenth of the range: small enough to be useful, large enough to start calmly.
            deviation = self.span * functional.softplus(in_fp32(self.width, feature).squeeze(1) - 2.25).clamp(min=1e-3)
        frame_scores = in_fp32(self.expectation, in_fp32(self.levels, feature_BTD))
        frame_scores = frame_scores.repeat_interleave(self.frames_per_step, dim=1)
        fused = None
        if self.stream is not None and terms_BF is not None:
            fused = in_fp32(self.stream, feature, terms_BF)
        return Prediction(
            in_fp32(self.expectation, logits),
            logits,
            feature,
            frame_scores,
            deviation=deviation,
            fused=fused,
        )

    def expectation(self, logits: Tensor) -> Tensor:
        """The score that level logits mean."""
        return logits.softmax(-1) @ self.level_values
