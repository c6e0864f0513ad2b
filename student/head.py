"""The output heads that students share: a distribution over quality levels, and the score that it means.

Shapes: B clips, T frames, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM, NUM_BITSTREAM_FEATURES
from rungwise.prediction import Prediction
from student.texture import NUM_BAND_TEXTURE, NUM_TEXTURE

HYBRID_DIM: Final = 64
CENTERS: Final = 3072  # at most so many train clips support the regression
REGRESSION_WEIGHT: Final = 0.7  # in the hybrid score; the network has the rest
NOISE: Final = 0.4  # variance of the target of a clip of weight 1, in the kernel's units
JITTER: Final = 1e-6
OTHER_CODEC: Final = 0.5  # similarity of equal bitstream features of two codecs
BITSTREAM_WEIGHT: Final = 1.5  # of bitstream features alone in the kernel


def in_fp32(layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """A function's output without autocast: bf16 has 8 bits, too few for a score of 0 to 100."""
    kind = inputs[0].device.type
    if not torch.is_autocast_enabled(kind):
        return layer(*inputs)
    with torch.autocast(kind, enabled=False):
        return layer(*(x.float() for x in inputs))


class HybridHead(nn.Module):
    """A score from pixels, their statistics and bitstream features (rungwise/bitstream/features.py): the weighted mean
    of a small network and a regression on similarity to train clips.

    The regression is fitted in closed form after the network is trained: a Gaussian process supported by at most
    `CENTERS` train clips (Quinonero-Candela and Rasmussen 2005, subset of regressors). Its kernel compares bitstream
    features, each kind of statistics, and both together, and has a linear term in the features. The target is the
    squared label (as a fraction of its range): most encodes lie near the top, where labels differ little.
    """

    def __init__(self, dim: int, *, minimum: float, maximum: float) -> None:
        super().__init__()
        self.minimum, self.span = minimum, maximum - minimum
        self.pictures = nn.Linear(dim, HYBRID_DIM)
        self.terms = nn.Linear(BITSTREAM_INPUT_DIM, HYBRID_DIM, bias=False)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(HYBRID_DIM, HYBRID_DIM), nn.GELU(), nn.Linear(HYBRID_DIM, 1))
        self.straight = nn.Linear(BITSTREAM_INPUT_DIM, 1, bias=False)
        self.centre: Tensor
        self.spread: Tensor
        self.support: Tensor
        self.weight: Tensor
        self.offset: Tensor
        self.register_buffer("centre", torch.zeros(NUM_TEXTURE))
        self.register_buffer("spread", torch.ones(NUM_TEXTURE))
        self.register_buffer("support", torch.zeros(CENTERS, BITSTREAM_INPUT_DIM + NUM_TEXTURE))
        self.register_buffer("weight", torch.zeros(CENTERS))
        self.register_buffer("offset", torch.full((1,), 0.5))

    def forward(self, feature_BD: Tensor, texture_BQ: Tensor, terms_BF: Tensor) -> Tensor:
        """Scores_B on the label's scale; in training, of the network alone."""
        mixed_B1: Tensor = self.mix(self.pictures(feature_BD) + self.terms(terms_BF)) + self.straight(terms_BF)
        share = mixed_B1.squeeze(1).sigmoid()
        if not self.training:
            share = (1 - REGRESSION_WEIGHT) * share + REGRESSION_WEIGHT * self.regressed(texture_BQ, terms_BF)
        return self.minimum + self.span * share

    @torch.no_grad()
    def fit_closed_form(self, texture_NQ: Tensor, terms_NF: Tensor, score_N: Tensor, weight_N: Tensor) -> None:
        """Fit the regression to the clips that have a label and bitstream features, in double precision."""
        known = ~(score_N.isnan() | terms_NF.isnan().any(1))
        texture, terms = texture_NQ[known].double(), terms_NF[known].double()
        squared = ((score_N[known].double() - self.minimum) / self.span) ** 2
        center, spread = texture.mean(0), texture.std(0) + 1e-3
        points = torch.cat([terms, (texture - center) / spread], 1)
        self.centre.copy_(center)
        self.spread.copy_(spread)
        self._fit(points, squared, weight_N[known].double() / NOISE)

    @torch.no_grad()
    def refit_closed_form(
        self,
        texture_NQ: Tensor,
        terms_NF: Tensor,
        share_N: Tensor,
        weight_N: Tensor,
        support_weight_M: Tensor,
        noise: float,
    ) -> None:
        """Refit the regression to more clips, keeping its values on its present support.

        Args:
            texture_NQ, terms_NF: of the new clips.
            share_N: the regression's targets, as fractions of the scale's range.
            weight_N: of the new clips; 1 is that of an ordinary clip.
            support_weight_M: of each clip of the present support, whose target is the regression's own value.
            noise: variance of a clip of weight 1, in units of the kernel's.
        """
        support = self.support.double()
        values = _kernel(support, support) @ self.weight.double() + self.offset.double()
        new = torch.cat([terms_NF, (texture_NQ - self.centre) / self.spread], 1).double()
        weighted = support_weight_M > 0
        points = torch.cat([support[weighted], new])
        squared = torch.cat([values[weighted], share_N.double() ** 2])
        self._fit(points, squared, torch.cat([support_weight_M[weighted], weight_N]).double() / noise)

    def _fit(self, points: Tensor, squared: Tensor, precision: Tensor) -> None:
        """The closed form, with a seeded draw of the points for support."""
        chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:CENTERS].sort().values
        support, offset = points[chosen], squared.mean()
        across, inside = _kernel(points, support), _kernel(support, support)
        inside += JITTER * torch.eye(len(support), dtype=inside.dtype, device=inside.device)
        weighed = across.T * precision
        weight = torch.linalg.solve(weighed @ across + inside, weighed @ (squared - offset))
        for buffer, values in ((self.support, support), (self.weight, weight)):
            buffer.zero_()
            buffer[: len(values)] = values.to(buffer.dtype)
        self.offset.copy_(offset)

    def regressed(self, texture_BQ: Tensor, terms_BF: Tensor) -> Tensor:
        """The regression's own score, as a fraction of the scale's range, 0 to 1."""
        points_BP = torch.cat([terms_BF, (texture_BQ - self.centre) / self.spread], 1)
        return (_kernel(points_BP, self.support) @ self.weight + self.offset).clamp(0, 1).sqrt()


def _kernel(left_NP: Tensor, right_MP: Tensor) -> Tensor:
    """Similarity of points, NM: of bitstream features (two codecs count as half alike), of statistics, and of both;
    with a linear term in the features.

    Statistics have a heavy tail (rational quadratic, Rasmussen and Williams 2006, eq. 4.19, alpha 1): a content
    far from all training contents is scored by the nearest ones, not by the mean of all.
    """
    codecs = slice(NUM_BITSTREAM_FEATURES, BITSTREAM_INPUT_DIM)
    ends = (
        (0, NUM_BITSTREAM_FEATURES),
        (BITSTREAM_INPUT_DIM, BITSTREAM_INPUT_DIM + NUM_BAND_TEXTURE),
        (BITSTREAM_INPUT_DIM + NUM_BAND_TEXTURE, None),
    )
    features, bands, others = (_distance(left_NP[:, slice(*end)], right_MP[:, slice(*end)]) for end in ends)
    alike = (-features).exp() * (OTHER_CODEC + (1 - OTHER_CODEC) * left_NP[:, codecs] @ right_MP[:, codecs].T)
    line = left_NP[:, :NUM_BITSTREAM_FEATURES] @ right_MP[:, :NUM_BITSTREAM_FEATURES].T / NUM_BITSTREAM_FEATURES
    return BITSTREAM_WEIGHT * alike + (1 + alike) * (1 / (1 + bands) + 1 / (1 + others)) + line


def _distance(left_NP: Tensor, right_MP: Tensor) -> Tensor:
    """|a - b|^2 / 2P."""
    squares = left_NP.square().sum(1, keepdim=True) + right_MP.square().sum(1) - 2 * left_NP @ right_MP.T
    return squares.clamp(min=0) / (2 * left_NP.shape[1])


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
        frames_per_step: int,
    ) -> None:
        """`frames_per_step`: frames that one time step stands for; each gets its step's score."""
        super().__init__()
        self.frames_per_step = frames_per_step
        self.clip = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.levels = nn.Linear(dim, num_levels)
        self.width = nn.Linear(dim, 1) if aleatoric else None
        self.stream = HybridHead(dim, minimum=minimum, maximum=maximum) if stream else None
        self.span = maximum - minimum
        self.level_values: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)

    def forward(
        self, frame_BTD: Tensor, texture_BTQ: Tensor | None = None, terms_BF: Tensor | None = None
    ) -> Prediction[Tensor]:
        """Score clips by their frames' features, and with statistics and bitstream features where they are given."""
        feature_BTD = self.clip(frame_BTD)
        feature = feature_BTD.mean(1)
        logits = in_fp32(self.levels, feature)
        deviation = None
        if self.width is not None:
            # From a tenth of the range: small enough to be useful, large enough to start calmly.
            deviation = self.span * functional.softplus(in_fp32(self.width, feature).squeeze(1) - 2.25).clamp(min=1e-3)
        frame_scores = in_fp32(self.expectation, in_fp32(self.levels, feature_BTD))
        frame_scores = frame_scores.repeat_interleave(self.frames_per_step, dim=1)
        texture = None if texture_BTQ is None else texture_BTQ.mean(1)
        fused = None
        if self.stream is not None and texture is not None and terms_BF is not None:
            fused = in_fp32(self.stream, feature, texture, terms_BF)
        return Prediction(
            in_fp32(self.expectation, logits),
            logits,
            feature,
            frame_scores,
            deviation=deviation,
            texture=texture,
            fused=fused,
        )

    def expectation(self, logits: Tensor) -> Tensor:
        """The score that level logits mean."""
        return logits.softmax(-1) @ self.level_values
