"""Students by name, behind the teacher's interface: frames_BTHWC uint8 RGB in, score, levels and feature out.

Shapes: B clips, T frames, H W pixels, C channels, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.models.efficientvim import EfficientViM
from torch import Tensor, nn

from rungwise.lite0 import match_keys, weights_path
from student.ssd import TemporalSSD

STEM_STAGES = 3  # of EfficientNet-Lite0's seven: 56 thousand weights, stride 8
STEM_CHANNELS = (16, 24, 40)


class Judgement(NamedTuple):
    """score_B on the label's scale, level logits_BK, feature_BD, and frame_scores_BT from the same head."""

    score: Tensor
    logits: Tensor
    feature: Tensor
    frame_scores: Tensor


class MambaStudent(nn.Module):
    """timm's EfficientViM (hidden-state-mixer SSD) on each frame, an SSD layer over time, a level head.

    The convolutions in front are the first stages of an ImageNet EfficientNet-Lite0: from scratch a few hundred
    encodes teach no filters, with them they do (benchmarks/NOTES.md). All stages, early and late, are pooled to means
    and deviations over space: early ones see blocking and ringing, late ones what the scene is.

    `embed_dim`, `depths` and `state_dim` have one entry an EfficientViM stage, at strides 16, 32, 64.
    """

    def __init__(
        self,
        *,
        embed_dim: tuple[int, ...],
        depths: tuple[int, ...],
        state_dim: tuple[int, ...],
        feature_dim: int,
        num_levels: int,
        minimum: float,
        maximum: float,
    ) -> None:
        super().__init__()
        if not len(embed_dim) == len(depths) == len(state_dim):
            raise ValueError("student: embed_dim, depths and state_dim must have one entry a stage")
        lite0 = cast(Any, timm.create_model("tf_efficientnet_lite0", pretrained=False))
        self.backbone = nn.ModuleDict(
            {"conv_stem": lite0.conv_stem, "bn1": lite0.bn1, "blocks": lite0.blocks[:STEM_STAGES]}
        )
        for part in (lite0.conv_stem, lite0.bn1, *lite0.blocks[: STEM_STAGES - 1]):
            part.requires_grad_(False)  # their maps are the largest, and backward through them the most of the cost
        vim = EfficientViM(num_classes=0, embed_dim=embed_dim, depths=depths, state_dim=state_dim)
        self.patch_embed = nn.Sequential(
            nn.Conv2d(STEM_CHANNELS[-1], embed_dim[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(embed_dim[0])
        )
        self.stages = vim.stages
        width = 2 * (sum(STEM_CHANNELS) + sum(embed_dim))
        self.frame_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU())
        self.temporal = TemporalSSD(feature_dim)
        self.clip_head = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, feature_dim), nn.GELU())
        self.levels = nn.Linear(feature_dim, num_levels)
        self.level_values: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)
        self.register_buffer("mean", 255 * torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> MambaStudent:
        """Training mode, but for the stem's batch norms, which keep their ImageNet statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, frames_BTHWC: Tensor) -> Judgement:
        """Judge clips; normalisation is inside, so that an export needs only uint8 frames."""
        batch, frames = frames_BTHWC.shape[:2]
        x_NCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).to(self.levels.weight.dtype)
        pooled_NW = torch.cat([_mean_and_deviation(m) for m in self._maps((x_NCHW - self.mean) / self.std)], 1)
        frame_BTD = self.temporal(self.frame_head(pooled_NW).view(batch, frames, -1))
        feature_BTD = self.clip_head(frame_BTD)
        feature = feature_BTD.mean(1)
        logits = self.levels(feature)
        frame_scores = self.levels(feature_BTD).softmax(-1) @ self.level_values
        return Judgement(logits.softmax(-1) @ self.level_values, logits, feature, frame_scores)

    def _maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Feature maps of the stem's stages (strides 2, 4, 8), then of EfficientViM's before their downsampling."""
        x_NCHW = self.backbone["bn1"](self.backbone["conv_stem"](x_NCHW))
        maps = []
        for blocks in cast(nn.Sequential, self.backbone["blocks"]):
            x_NCHW = blocks(x_NCHW)
            maps.append(x_NCHW)
        x_NCHW = self.patch_embed(x_NCHW)
        for stage in self.stages:
            before, x_NCHW, _ = stage(x_NCHW)
            maps.append(before)
        return maps


def _mean_and_deviation(map_NCHW: Tensor) -> Tensor:
    mean = map_NCHW.mean((2, 3), keepdim=True)
    deviation = ((map_NCHW - mean).square().mean((2, 3)) + 1e-6).sqrt()
    return torch.cat([mean.flatten(1), deviation], 1)


def load_imagenet_stem(model: MambaStudent) -> None:
    """Fill the stem with ImageNet weights (`rungwise.lite0`), strictly; the rest starts from the seed.

    Raises:
        ValueError: the file's keys are not EfficientNet-Lite0's; the first odd one is named.
    """
    path = weights_path()
    foreign = torch.load(path, map_location="cpu", weights_only=True)
    keys = match_keys(model.backbone.state_dict(), foreign, str(path))
    model.backbone.load_state_dict({own: foreign[key] for own, key in keys.items()}, strict=True)


STUDENTS: dict[str, Callable[..., nn.Module]] = {"mamba": MambaStudent}
PRETRAINED: dict[str, Callable[..., None]] = {"mamba": load_imagenet_stem}
