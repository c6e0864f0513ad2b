"""The light Mamba student: EfficientViM stages (hidden-state-mixer SSD) on an ImageNet stem, an SSD layer over time.

All stages, early and late, are pooled to means and deviations over space: early ones see blocking and ringing, late
ones what the scene is. Every scan is in matrix form: the same path on CPU, GPU and in ONNX.

Shapes: N frames of all clips, C channels, H W places, D feature width.
"""

from __future__ import annotations

from typing import ClassVar, Unpack, cast

import torch
from timm.models.efficientvim import EfficientViM, EfficientViMStage
from torch import Tensor, nn

from student.frame_student import FIRST_STRIDE, FrameStudent, SharedSettings
from student.ssd import TemporalSSD
from student.stem import mean_and_deviation


class MambaStudent(FrameStudent):
    """`embed_dim`, `depths` and `state_dim` have one entry an EfficientViM stage, at strides 16, 32, 64.

    Without stages, a student of patches sees each by the stem's statistics, and Mamba mixes over time alone.
    """

    SIZES: ClassVar = {
        "pooled": {"embed_dim": (), "depths": (), "state_dim": (), "feature_dim": 128},
        "nano": {"embed_dim": (48, 96, 128), "depths": (1, 2, 1), "state_dim": (25, 16, 9), "feature_dim": 96},
        "small": {"embed_dim": (64, 128, 192), "depths": (2, 2, 2), "state_dim": (49, 25, 9), "feature_dim": 128},
    }

    def __init__(
        self,
        *,
        embed_dim: tuple[int, ...],
        depths: tuple[int, ...],
        state_dim: tuple[int, ...],
        **shared: Unpack[SharedSettings],
    ) -> None:
        if not len(embed_dim) == len(depths) == len(state_dim):
            raise ValueError("student.size: embed_dim, depths and state_dim must have one entry a stage")
        if not embed_dim and "patch_px" not in shared:
            raise ValueError("student.size: a student without stages needs patch_scores: true")
        super().__init__(has_backbone=bool(embed_dim), **shared)
        feature_dim = shared["feature_dim"]
        if embed_dim:
            self._add_stages(embed_dim, depths, state_dim, feature_dim)
        self.add_heads(TemporalSSD(feature_dim), embed_dim)

    def _add_stages(
        self, embed_dim: tuple[int, ...], depths: tuple[int, ...], state_dim: tuple[int, ...], feature_dim: int
    ) -> None:
        channels = self.backbone.channels
        vim = EfficientViM(num_classes=0, embed_dim=embed_dim, depths=depths, state_dim=state_dim)
        stride = FIRST_STRIDE // self.backbone.stride
        self.patch_embed = nn.Sequential(
            nn.Conv2d(channels[-1], embed_dim[0], 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(embed_dim[0]),
        )
        self.stages = vim.stages
        width = 2 * (sum(channels) + sum(embed_dim))
        self.frame_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU())

    def frame_features(self, pooled_NW: Tensor, map_NCHW: Tensor) -> Tensor:
        """All stages' statistics through one layer."""
        statistics = [pooled_NW, mean_and_deviation(map_NCHW)]
        x_NCHW = self.patch_embed(map_NCHW)
        for stage, prompt in zip(self.stages, self.prompts[1:], strict=True):
            vim_stage = cast(EfficientViMStage, stage)
            for block in vim_stage.blocks:
                x_NCHW, _ = block(x_NCHW)
            x_NCHW = prompt(x_NCHW)
            statistics.append(mean_and_deviation(x_NCHW))
            if vim_stage.downsample is not None:
                x_NCHW = vim_stage.downsample(x_NCHW)
        frame_ND: Tensor = self.frame_head(torch.cat(statistics, 1))
        return frame_ND
