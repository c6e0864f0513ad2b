"""The Mamba student: EfficientViM (hidden-state-mixer SSD) on each frame, an SSD layer over time, a level head.

All stages, early and late, are pooled to means and deviations over space: early ones see blocking and ringing, late
ones what the scene is. Every scan is in matrix form: the same path on CPU, GPU and in ONNX.

Shapes: B clips, T frames, N = B * T, C channels, H W places, D feature width.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.models.efficientvim import EfficientViM, EfficientViMStage
from torch import Tensor, nn

from rungwise.prediction import Prediction
from student.head import LevelHead
from student.ssd import TemporalSSD
from student.stem import Stem, mean_and_deviation
from student.styleprompt import make_prompts

FIRST_STRIDE = 16  # of the first stage's map


class MambaStudent(nn.Module):
    """`embed_dim`, `depths` and `state_dim` have one entry an EfficientViM stage, at strides 16, 32, 64."""

    def __init__(
        self,
        *,
        embed_dim: tuple[int, ...],
        depths: tuple[int, ...],
        state_dim: tuple[int, ...],
        feature_dim: int,
        stem_stages: int,
        tuned_stem: bool,
        pairs: bool,
        prompts: int,
        aleatoric: bool,
        stream_px: int | None,
        num_levels: int,
        minimum: float,
        maximum: float,
    ) -> None:
        super().__init__()
        if not len(embed_dim) == len(depths) == len(state_dim):
            raise ValueError("student.size: embed_dim, depths and state_dim must have one entry a stage")
        self.backbone = Stem(stages=stem_stages, tuned=tuned_stem, pairs=pairs, texture_px=stream_px)
        channels, stride = self.backbone.channels, FIRST_STRIDE // self.backbone.stride
        vim = EfficientViM(num_classes=0, embed_dim=embed_dim, depths=depths, state_dim=state_dim)
        self.patch_embed = nn.Sequential(
            nn.Conv2d(channels[-1], embed_dim[0], 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(embed_dim[0]),
        )
        self.stages = vim.stages
        width = 2 * (sum(channels) + sum(embed_dim))
        self.frame_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU())
        self.temporal = TemporalSSD(feature_dim)
        self.head = LevelHead(
            feature_dim,
            num_levels=num_levels,
            minimum=minimum,
            maximum=maximum,
            aleatoric=aleatoric,
            stream=stream_px is not None,
            frames_each=2 if pairs else 1,
        )
        self.settle = None if stream_px is None else self.head.settle
        self.prompts = make_prompts((channels[-1], *embed_dim), prompts)

    def forward(self, frames_BTHWC: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips of uint8 RGB frames, with their bitstream features (rungwise/bitstream/features.py) if given."""
        return self.upper(self.lower(frames_BTHWC), terms_BF)

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The stem's packed_BTW."""
        packed_BTW: Tensor = self.backbone(frames_BTHWC)
        return packed_BTW

    def upper(self, packed_BTW: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Judge clips by what the stem gave of them."""
        pooled, x_NCHW, texture_BTQ = self.backbone.unpack(packed_BTW)
        x_NCHW = self.prompts[0](x_NCHW)
        statistics = [pooled, mean_and_deviation(x_NCHW)]
        x_NCHW = self.patch_embed(x_NCHW)
        for stage, prompt in zip(self.stages, self.prompts[1:], strict=True):
            vim_stage = cast(EfficientViMStage, stage)
            for block in vim_stage.blocks:
                x_NCHW, _ = block(x_NCHW)
            x_NCHW = prompt(x_NCHW)
            statistics.append(mean_and_deviation(x_NCHW))
            if vim_stage.downsample is not None:
                x_NCHW = vim_stage.downsample(x_NCHW)
        frame_BTD = self.frame_head(torch.cat(statistics, 1)).unflatten(0, packed_BTW.shape[:2])
        prediction: Prediction[Tensor] = self.head(self.temporal(frame_BTD), texture_BTQ, terms_BF)
        return prediction
