"""The Swin student (after arXiv 2401.08522): SwinV2 on each frame, its stages fused by attention, then time.

Every stage gives two tokens a frame: its means over space (global: what is there) and its deviations (local: how it
varies from place to place, as artifacts do). A transformer layer mixes all stages' tokens; local and global tokens are
averaged apart, joined, and brought to one frame feature. A light transformer mixes frames; it knows no order, as a
video played backwards is as good.

Shapes: B clips, T frames, N = B * T, S tokens, C channels, H W places, D feature width.
"""

from __future__ import annotations

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.nn import functional

from rungwise.prediction import Prediction
from student.head import LevelHead
from student.stem import Stem, mean_and_deviation
from student.styleprompt import make_prompts

HEAD_DIM = 32
FIRST_STRIDE = 16  # of the first stage's map


class SwinStudent(nn.Module):
    """`depths` and `num_heads` have one entry a SwinV2 stage, at strides 16, 32, ...; `embed_dim` doubles.

    `view_px` is the side of a whole view; parts of a view are padded to whole windows.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        window: int,
        feature_dim: int,
        view_px: int,
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
        if len(depths) != len(num_heads):
            raise ValueError("student.size: depths and num_heads must have one entry a stage")
        stage_widths = tuple(embed_dim * 2**stage for stage in range(len(depths)))
        self.backbone = Stem(stages=stem_stages, tuned=tuned_stem, pairs=pairs, texture_px=stream_px)
        channels = self.backbone.channels
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
        widths = (*channels, *stage_widths)
        self.tokens = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, 2 * feature_dim)) for width in widths]
        )
        self.place = nn.Parameter(torch.zeros(2 * len(widths), feature_dim))
        nn.init.trunc_normal_(self.place, std=0.02)
        self.fuse = Transformer(feature_dim)
        self.join = nn.Sequential(nn.LayerNorm(2 * feature_dim), nn.Linear(2 * feature_dim, feature_dim))
        self.temporal = Transformer(feature_dim)
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
        self.prompts = make_prompts((channels[-1], *stage_widths), prompts)

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
        statistics = [*pooled.split([2 * c for c in self.backbone.channels[:-1]], 1), mean_and_deviation(x_NCHW)]
        x_NHWC = self.patch_embed(x_NCHW)
        for stage, prompt in zip(self.stages, self.prompts[1:], strict=True):
            x_NCHW = prompt(stage(x_NHWC).permute(0, 3, 1, 2))
            statistics.append(mean_and_deviation(x_NCHW))
            x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        tokens_NSD = torch.stack([token(s) for token, s in zip(self.tokens, statistics, strict=True)], 1)
        # Each stage's pair apart: S = 2 tokens a stage, global ones at even places.
        tokens_NSD = self.fuse(tokens_NSD.unflatten(2, (2, -1)).flatten(1, 2) + self.place)
        frame_ND = self.join(torch.cat([tokens_NSD[:, 1::2].mean(1), tokens_NSD[:, ::2].mean(1)], 1))
        frame_BTD = frame_ND.unflatten(0, packed_BTW.shape[:2])
        prediction: Prediction[Tensor] = self.head(self.temporal(frame_BTD), texture_BTQ, terms_BF)
        return prediction


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
