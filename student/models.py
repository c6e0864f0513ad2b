"""Students by name, behind the teacher's interface: frames_BTHWC uint8 RGB in, score, levels and feature out.

Shapes: B clips, T frames, H W pixels, C channels, K quality levels, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from timm.models.efficientvim import EfficientViM
from torch import Tensor, nn

from student.ssd import TemporalSSD


class Judgement(NamedTuple):
    """score_B on the label's scale, level logits_BK, feature_BD, and frame_scores_BT from the same head."""

    score: Tensor
    logits: Tensor
    feature: Tensor
    frame_scores: Tensor


class MambaStudent(nn.Module):
    """timm's EfficientViM (hidden-state-mixer SSD) on each frame, an SSD layer over time, a level head.

    All stages are pooled to means and deviations over space: early stages see blocking and ringing, late ones what
    the scene is. No ImageNet weights are needed.
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
        self.backbone = EfficientViM(num_classes=0, embed_dim=embed_dim, depths=depths, state_dim=state_dim)
        # The classifier's own norms and stage weights play no part here.
        self.backbone.norm = nn.ModuleList([nn.Identity() for _ in self.backbone.norm])
        del self.backbone.weights
        stem_dim = embed_dim[0] // 4
        width = 2 * (stem_dim + sum(embed_dim))
        self.frame_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU())
        self.temporal = TemporalSSD(feature_dim)
        self.clip_head = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, feature_dim), nn.GELU())
        self.levels = nn.Linear(feature_dim, num_levels)
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)

    def forward(self, frames_BTHWC: Tensor) -> Judgement:
        """Judge clips; normalisation is inside, so that an export needs only uint8 frames."""
        batch, frames = frames_BTHWC.shape[:2]
        x_NCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).to(self.levels.weight.dtype) / 127.5 - 1
        pooled_NW = torch.cat([_mean_and_deviation(m) for m in self._maps(x_NCHW)], 1)
        frame_BTD = self.temporal(self.frame_head(pooled_NW).view(batch, frames, -1))
        feature_BTD = self.clip_head(frame_BTD)
        feature = feature_BTD.mean(1)
        logits = self.levels(feature)
        frame_scores = self.levels(feature_BTD).softmax(-1) @ self.level_values
        return Judgement(logits.softmax(-1) @ self.level_values, logits, feature, frame_scores)

    def _maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Feature maps: the stem at a quarter of the size, then every stage before its downsampling."""
        stem = list(self.backbone.patch_embed.conv.children())
        for layer in stem[:2]:
            x_NCHW = layer(x_NCHW)
        maps = [x_NCHW]
        for layer in stem[2:]:
            x_NCHW = layer(x_NCHW)
        for stage in self.backbone.stages:
            before, x_NCHW, _ = stage(x_NCHW)
            maps.append(before)
        return maps


def _mean_and_deviation(map_NCHW: Tensor) -> Tensor:
    mean = map_NCHW.mean((2, 3), keepdim=True)
    deviation = ((map_NCHW - mean).square().mean((2, 3)) + 1e-6).sqrt()
    return torch.cat([mean.flatten(1), deviation], 1)


STUDENTS: dict[str, Callable[..., nn.Module]] = {"mamba": MambaStudent}
