"""The base class of students: a shared stem, a backbone over each frame, a layer over time, shared output heads.

Shapes: B clips, T frames, P patches, N = B * T or B * T * P, H W pixels or places, C channels, D feature width, W a
packed width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NotRequired, TypedDict, Unpack

import torch
from torch import Tensor, nn

from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from student.head import LevelHead
from student.patches import NUM_PATCH_STATISTICS, PATCH_WEIGHT, PatchPool
from student.protocol import Student
from student.stem import Stem
from student.styleprompt import StylePrompt, make_prompts

FIRST_STRIDE = 16  # of the first stage's map


class SharedSettings(TypedDict):
    """Constructor settings of every student."""

    feature_dim: int
    """width of a frame's feature"""
    stem_stages: int
    """stages of EfficientNet-Lite0 in the stem"""
    tuned_stem: bool
    """whether its last stages train"""
    pairs: bool
    """frames come in pairs of neighbors"""
    prompts: int
    """size of each stage's StylePrompt bank; 0: none"""
    aleatoric: bool
    """also predict the expected error"""
    stream_px: int | None
    """a hybrid student's patch side in pixels; None: pixel-only"""
    num_levels: int
    """quality levels"""
    minimum: float
    """of the label's scale"""
    maximum: float
    """of the label's scale"""
    patch_px: NotRequired[int]
    """side of the patches that are scored one by one; without it frames are seen whole"""


class FrameStudent(nn.Module, Student):
    """Subclasses build what lies between stem and heads, call `add_heads` last, and define `frame_features`.

    The order of modules decides their random weights: stem, own modules, layer over time, heads, prompts, patches.

    With `patch_px`, what lies below `patches` has a patch for a frame: no layer crosses a seam of the stitched view.
    """

    SIZES: ClassVar[dict[str, dict[str, Any]]]
    """named sizes: their own constructor settings and `feature_dim`"""

    def __init__(self, **shared: Unpack[SharedSettings]) -> None:
        super().__init__()
        self.shared = shared
        self.backbone = Stem(
            stages=shared["stem_stages"],
            tuned=shared["tuned_stem"],
            pairs=shared["pairs"],
            texture_px=shared["stream_px"],
            patch_px=shared.get("patch_px"),
        )

    @classmethod
    def view_settings(cls, recipe: ViewRecipe) -> dict[str, Any]:
        """Further constructor settings that follow from the views."""
        return {}

    def add_heads(self, temporal: nn.Module, stage_channels: Sequence[int]) -> None:
        """Add the layer over time, the output heads and the prompts; channels are those of the stages' maps."""
        shared = self.shared
        self.temporal = temporal
        self.head = LevelHead(
            shared["feature_dim"],
            num_levels=shared["num_levels"],
            minimum=shared["minimum"],
            maximum=shared["maximum"],
            aleatoric=shared["aleatoric"],
            stream=shared["stream_px"] is not None,
            frames_per_step=2 if shared["pairs"] else 1,
            patch_statistics=NUM_PATCH_STATISTICS if "patch_px" in shared else 0,
            patch_weight=PATCH_WEIGHT,
        )
        self.prompts = make_prompts((self.backbone.channels[-1], *stage_channels), shared["prompts"])
        self.patches = None
        if "patch_px" in shared:
            self.patches = PatchPool(shared["feature_dim"], minimum=shared["minimum"], maximum=shared["maximum"])

    def tune_prompts(self) -> None:
        """Freeze everything but the prompts and the head's last layer.

        Raises:
            ValueError: there are no prompts.
        """
        prompts = [module for module in self.prompts if isinstance(module, StylePrompt)]
        if not prompts:
            raise ValueError("student.tune styleprompt: the student has no prompts; set student.prompts above 0")
        self.requires_grad_(False)
        for module in (*prompts, self.head.levels):
            module.requires_grad_(True)

    def frame_features(self, pooled_NW: Tensor, map_NCHW: Tensor) -> Tensor:
        """Each frame's feature_ND from the stem's pooled statistics and its last map, which is styled already."""
        raise NotImplementedError

    def forward(self, frames_BTHWC: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips of uint8 RGB frames, with their bitstream features if given."""
        return self.upper(self.lower(frames_BTHWC), terms_BF)

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The stem's packed_BTW, or packed_BTPW of each patch."""
        packed: Tensor = self.backbone(frames_BTHWC)
        return packed

    def upper(self, hidden: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips by what `lower` gave."""
        pooled_NW, map_NCHW, texture_BTQ = self.backbone.unpack(hidden)
        feature_ND = self.frame_features(pooled_NW, self.prompts[0](map_NCHW))
        frame_BTD, score_BTP = feature_ND.unflatten(0, hidden.shape[:-1]), None
        if self.patches is not None:
            frame_BTD, score_BTP, statistics_BTS = self.patches(frame_BTD)
            if texture_BTQ is not None:
                texture_BTQ = torch.cat([texture_BTQ, statistics_BTS], 2)
        prediction: Prediction[Tensor] = self.head(self.temporal(frame_BTD), texture_BTQ, terms_BF)
        return prediction._replace(patch_scores=score_BTP)

    @property
    def lower_is_frozen(self) -> bool:
        """Whether no weight of the stem is trained."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    @property
    def is_hybrid(self) -> bool:
        """Whether there is a head for bitstream features."""
        return self.head.stream is not None

    @property
    def has_closed_form(self) -> bool:
        """The hybrid head's regression is fitted in closed form."""
        return self.is_hybrid

    def fit_closed_form(
        self, prediction: Prediction[Tensor], score_N: Tensor, terms_NF: Tensor, weight_N: Tensor
    ) -> None:
        """Fit the hybrid head's regression."""
        assert self.head.stream is not None
        assert prediction.texture is not None
        self.head.stream.fit_closed_form(prediction.texture, terms_NF, score_N, weight_N)
