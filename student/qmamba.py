"""The QMamba student (arXiv 2406.09546): a Mamba from the pixels up, with scans of local windows and StylePrompt.

The paper's stages are VMamba's, whose scan of a map has no form in plain operators of fair size. Here they are
EfficientViM's (hidden-state-mixer SSD, no scan over places), which has ImageNet weights under a free license, and after
each block comes the local-window scan that the paper adds. As published: StylePrompt on the map of each stage. Ours:
all stages' means and deviations make the frame's feature, and an SSD layer mixes frames, as the paper rates images.

Shapes: N frames of all clips, C channels, H W places, D feature width.
"""

from __future__ import annotations

from typing import ClassVar, Unpack, cast

import torch
from timm.models.efficientvim import EfficientViM, EfficientViMStage
from torch import Tensor, nn

from student.head import HeadSettings
from student.local_scan import LocalScan
from student.pixel_student import PixelStudent
from student.ssd import TemporalSSD
from student.stem import mean_and_deviation

COMMON = {"window": 7, "feature_dim": 128}  # of all sizes


class QMambaStudent(PixelStudent):
    """`embed_dim`, `depths` and `state_dim` have one entry an EfficientViM stage, at strides 16, 32, 64; `window` is
    the side of the windows that are scanned one by one. Sizes are M1 to M4, which have published weights."""

    SIZES: ClassVar = {
        "nano": COMMON | {"embed_dim": (128, 192, 320), "depths": (2, 2, 2), "state_dim": (49, 25, 9)},
        "tiny": COMMON | {"embed_dim": (128, 256, 512), "depths": (2, 2, 2), "state_dim": (49, 25, 9)},
        "small": COMMON | {"embed_dim": (224, 320, 512), "depths": (2, 2, 2), "state_dim": (49, 25, 9)},
        "base": COMMON | {"embed_dim": (224, 320, 512), "depths": (3, 4, 2), "state_dim": (64, 32, 16)},
    }
    EXTRAS = ("norm.", "heads.", "weights", "heads_dist.")

    def __init__(
        self,
        *,
        embed_dim: tuple[int, ...],
        depths: tuple[int, ...],
        state_dim: tuple[int, ...],
        window: int,
        **shared: Unpack[HeadSettings],
    ) -> None:
        if not len(embed_dim) == len(depths) == len(state_dim) > 0:
            raise ValueError("student.size: embed_dim, depths and state_dim must have one entry a stage")
        super().__init__(**shared)
        feature_dim, width = shared["feature_dim"], 2 * sum(embed_dim)
        vim = EfficientViM(num_classes=0, embed_dim=embed_dim, depths=depths, state_dim=state_dim)
        self.backbone = nn.ModuleDict({"patch_embed": vim.patch_embed, "stages": vim.stages})
        self.scans = nn.ModuleList(
            nn.ModuleList(LocalScan(dim, window=window) for _ in range(depth))
            for dim, depth in zip(embed_dim, depths, strict=True)
        )
        self.frame_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, feature_dim), nn.GELU())
        self.add_heads(TemporalSSD(feature_dim), embed_dim)

    def frame_features(self, x_NCHW: Tensor) -> Tensor:
        """All stages' statistics through one layer."""
        x_NCHW = self.backbone["patch_embed"](x_NCHW)
        statistics = []
        for stage, scans, prompt in zip(
            cast(nn.ModuleList, self.backbone["stages"]), self.scans, self.prompts, strict=True
        ):
            vim_stage = cast(EfficientViMStage, stage)
            for block, scan in zip(vim_stage.blocks, cast(nn.ModuleList, scans), strict=True):
                x_NCHW = scan(block(x_NCHW)[0])
            x_NCHW = prompt(x_NCHW)
            statistics.append(mean_and_deviation(x_NCHW))
            if vim_stage.downsample is not None:
                x_NCHW = vim_stage.downsample(x_NCHW)
        frame_ND: Tensor = self.frame_head(torch.cat(statistics, 1))
        return frame_ND

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """timm's files as they are; norms of the authors' are (1, C, 1, 1), and become (C,)."""
        want = self.backbone.state_dict()
        return {
            key: value.flatten() if key in want and want[key].ndim == 1 and value.ndim > 1 else value
            for key, value in state.items()
        }
