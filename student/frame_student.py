"""The base class of light students: a shared ImageNet stem, stages on its maps, a layer over time, output heads.

Shapes: B clips, T frames, P patches, N = B * T or B * T * P, H W pixels or places, C channels, D feature width, W a
packed width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, Unpack

import torch
from torch import Tensor, nn

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from student.head import HeadSettings, LevelHead, in_fp32
from student.patches import HybridPatchHead, PatchHead, Standardizer
from student.quality_student import QualityStudent
from student.stem import Stem, mean_and_deviation
from student.styleprompt import make_prompts

FIRST_STRIDE = 16  # of the first stage's map


class SharedSettings(HeadSettings):
    """Constructor settings of every light student."""

    stem_stages: int
    """stages of EfficientNet-Lite0 in the stem"""
    tuned_stem: bool
    """whether its last stages train"""
    pairs: bool
    """frames come in pairs of neighbors"""
    patch_px: NotRequired[int]
    """side of the patches that are scored one by one; without it frames are seen whole"""


class FrameStudent(QualityStudent):
    """Subclasses build what lies between stem and heads, call `add_heads` last, and define `frame_features`.

    The order of modules decides their random weights: stem, own modules, layer over time, heads, prompts, patches.

    With `patch_px`, what lies below `patches` has a patch for a frame: no layer crosses a seam of the stitched view. A
    student without a backbone scores patches, or frames, by the stem's statistics alone.
    """

    def __init__(self, *, has_backbone: bool = True, **shared: Unpack[SharedSettings]) -> None:
        super().__init__()
        self.shared, patch_px = shared, shared.get("patch_px")
        self.backbone = Stem(
            stages=shared["stem_stages"],
            tuned=shared["tuned_stem"],
            pairs=shared["pairs"],
            patch_px=patch_px,
            keep_map=has_backbone,
        )

    @classmethod
    def view_settings(cls, recipe: ViewRecipe) -> dict[str, Any]:
        """Further constructor settings that follow from the views."""
        return {}

    def add_heads(self, temporal: nn.Module, stage_channels: Sequence[int]) -> None:
        """Add the layer over time, the output heads and the prompts; channels are those of the stages' maps."""
        shared, is_patched = self.shared, "patch_px" in self.shared
        self.temporal = temporal
        self.head = LevelHead(
            shared, stream=shared["hybrid"] and not is_patched, frames_per_step=2 if shared["pairs"] else 1
        )
        has_map = self.backbone.keep_map
        self.prompts = make_prompts((self.backbone.channels[-1], *stage_channels) if has_map else (), shared["prompts"])
        self.scales, self.patches, self.hybrid = None, None, None
        if is_patched:
            dim, width = shared["feature_dim"], 2 * sum(self.backbone.channels)
            inputs, minimum, maximum = width + (dim if has_map else 0), shared["minimum"], shared["maximum"]
            self.scales = Standardizer(width)
            self.patches = PatchHead(inputs, dim, minimum=minimum, maximum=maximum)
            if shared["hybrid"]:
                self.hybrid = HybridPatchHead(
                    inputs,
                    dim,
                    minimum=minimum,
                    maximum=maximum,
                    terms=BITSTREAM_INPUT_DIM,
                    prompts=shared["prompts"],
                )

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        """Of each head that scores clips."""
        return (self.head.levels,) if self.hybrid is None else (self.head.levels, self.hybrid.rest)

    def frame_features(self, pooled_NW: Tensor, map_NCHW: Tensor) -> Tensor:
        """Each frame's feature_ND from the stem's pooled statistics and its last map, which is styled already."""
        raise NotImplementedError

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The stem's packed_BTW, or packed_BTPW of each patch."""
        packed: Tensor = self.backbone(frames_BTHWC)
        return packed

    def upper(self, hidden: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips by what `lower` gave."""
        if self.patches is not None:
            return self._score_patches(hidden, terms_BF)
        pooled_NW, map_NCHW = self.backbone.unpack(hidden)
        assert map_NCHW is not None, "only students of patches do without a backbone"
        frame_BTD = self.frame_features(pooled_NW, self.prompts[0](map_NCHW)).unflatten(0, hidden.shape[:-1])
        prediction: Prediction[Tensor] = self.head(self.temporal(frame_BTD), terms_BF)
        return prediction

    def _score_patches(self, hidden_BUPW: Tensor, terms_BF: Tensor | None) -> Prediction[Tensor]:
        """Score clips by their patches."""
        assert self.patches is not None
        assert self.scales is not None
        inputs = [in_fp32(self.scales, self.statistics(hidden_BUPW))]
        pooled_NW, map_NCHW = self.backbone.unpack(hidden_BUPW)
        if map_NCHW is not None:
            inputs.append(self.frame_features(pooled_NW, self.prompts[0](map_NCHW)))
        inputs_BUPW = torch.cat(inputs, 1).unflatten(0, hidden_BUPW.shape[:-1])
        patches = self.patches(inputs_BUPW)
        prediction: Prediction[Tensor] = self.head(self.temporal(patches.frame_BUD))
        prediction = prediction._replace(patch_scores=patches.score_BUP)
        if self.hybrid is None or terms_BF is None:
            return prediction
        fused_B, score_BUP = self.hybrid(inputs_BUPW, terms_BF)
        return prediction._replace(fused=fused_B, fused_patch_scores=score_BUP)

    def statistics(self, hidden: Tensor) -> Tensor:
        """Means and deviations of all of the stem's maps, (N, W), of what `lower` gave."""
        pooled_NW, map_NCHW = self.backbone.unpack(hidden)
        return pooled_NW if map_NCHW is None else torch.cat([pooled_NW, mean_and_deviation(map_NCHW)], 1)

    @property
    def needs_scales(self) -> bool:
        """Whether patches are scored and no checkpoint gave their statistics' scales."""
        return self.scales is not None and not self.scales.is_fitted

    @torch.no_grad()
    def fit_scales(self, hidden: Tensor) -> None:
        """Standardize by what `lower` gave of train clips, unless a checkpoint did."""
        if self.needs_scales:
            assert self.scales is not None
            self.scales.fit(self.statistics(hidden))

    @property
    def lower_is_frozen(self) -> bool:
        """Whether no weight of the stem is trained."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    @property
    def scores_patches(self) -> bool:
        """Whether each patch is scored on its own."""
        return self.patches is not None

    @property
    def is_hybrid(self) -> bool:
        """Whether there is a head for bitstream features."""
        return self.shared["hybrid"]
