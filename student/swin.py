"""The light Swin student (after arXiv 2401.08522): SwinV2 stages on an ImageNet stem, fused by attention, then time.

Every stage gives two tokens a frame: its means over space (global: what is there) and its deviations (local: how it
varies from place to place, as artifacts do). A transformer layer mixes all stages' tokens; local and global tokens are
averaged apart, joined, and brought to one frame feature. A light transformer mixes frames; it knows no order, as a
video played backwards is as good.

Shapes: N frames of all clips, S tokens, C channels, H W places, D feature width.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.nn import functional

from rungwise.score.views import ViewRecipe
from student.frame_student import FIRST_STRIDE, FrameStudent, SharedSettings
from student.stem import mean_and_deviation

HEAD_DIM = 32


class SwinStudent(FrameStudent):
    """`depths` and `num_heads` have one entry a SwinV2 stage, at strides 16, 32, ...; `embed_dim` doubles.

    `view_px` is the side of a whole view; parts of a view are padded to whole windows.
    """

    SIZES: ClassVar = {
        "nano": {"embed_dim": 48, "depths": (1, 2, 1), "num_heads": (2, 4, 8), "window": 5, "feature_dim": 96},
        "small": {"embed_dim": 96, "depths": (2, 2, 2), "num_heads": (3, 6, 12), "window": 5, "feature_dim": 128},
    }

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        window: int,
        view_px: int,
        **shared: Unpack[SharedSettings],
    ) -> None:
        if len(depths) != len(num_heads):
            raise ValueError("student.size: depths and num_heads must have one entry a stage")
        super().__init__(**shared)
        channels, feature_dim = self.backbone.channels, shared["feature_dim"]
        stage_channels = tuple(embed_dim * 2**stage for stage in range(len(depths)))
        swin = SwinTransformerV2(
            img_size=-(-view_px // self.backbone.stride),
            patch_size=FIRST_STRIDE // self.backbone.stride,
            in_chans=channels[-1],
            num_classes=0,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window,
            drop_path_rate=0.0,
            dynamic_img_size=True,
        )
        self.patch_embed, self.stages = swin.patch_embed, swin.layers
        widths = (*channels, *stage_channels)
        self.tokens = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * feature_dim)) for width in widths]
        )
        self.place = nn.Parameter(torch.zeros(2 * len(widths), feature_dim))
        nn.init.trunc_normal_(self.place, std=0.02)
        self.fuse = Transformer(feature_dim)
        self.join = nn.Sequential(nn.LayerNorm(2 * feature_dim), nn.Linear(2 * feature_dim, feature_dim))
        self.add_heads(Transformer(feature_dim), stage_channels)

    @classmethod
    def view_settings(cls, recipe: ViewRecipe) -> dict[str, Any]:
        """The side of a view, which positions depend on."""
        return {"view_px": recipe.size_px}

    def frame_features(self, pooled_NW: Tensor, map_NCHW: Tensor) -> Tensor:
        """All stages' statistics as tokens that attend to one another."""
        pooled = pooled_NW.split([2 * channels for channels in self.backbone.channels[:-1]], 1)
        statistics = [*pooled, mean_and_deviation(map_NCHW)]
        x_NHWC = self.patch_embed(map_NCHW)
        for stage, prompt in zip(self.stages, self.prompts[1:], strict=True):
            x_NCHW = prompt(stage(x_NHWC).permute(0, 3, 1, 2))
            statistics.append(mean_and_deviation(x_NCHW))
            x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        tokens_NSD = torch.stack([token(s) for token, s in zip(self.tokens, statistics, strict=True)], 1)
        # Each stage's pair apart: S = 2 tokens a stage, global ones at even places.
        tokens_NSD = self.fuse(tokens_NSD.unflatten(2, (2, -1)).flatten(1, 2) + self.place)
        frame_ND: Tensor = self.join(torch.cat([tokens_NSD[:, 1::2].mean(1), tokens_NSD[:, ::2].mean(1)], 1))
        return frame_ND


class Transformer(nn.Module):
    """One pre-norm transformer layer over tokens_NSD, without positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % HEAD_DIM:
            raise ValueError(f"student.size: feature_dim {dim} must be a multiple of {HEAD_DIM}")
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_NSD: Tensor) -> Tensor:
        """Same shape out."""
        qkv = self.qkv(self.norm1(x_NSD)).unflatten(2, (3, -1, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x_NSD = x_NSD + self.proj(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x_NSD + self.mlp(self.norm2(x_NSD))
        return out
