"""The SwinV2 student (after arXiv 2401.08522): a whole SwinV2 on each frame, all its stages fused, then time.

Local features keep their places: every stage's map is averaged to the last one's grid, where each stage has a token at
each place. A transformer layer mixes all tokens of a frame; a place's feature is the mean of its stages' tokens, and
places are pooled by a weight of their own. The global feature is all stages' means and deviations over the frame. As
published: [local; global] through one layer, and a light transformer over frames. Ours: grid, sine positions and
pooling, whose equations could not be read; frames have no order, as a video played backward is as good.

Shapes: N frames of all clips, S stages, P places, C channels, H W a map's sides, D feature width.
"""

from __future__ import annotations

import math
from typing import ClassVar, Unpack, cast

import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2, checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn import functional

from student.head import HeadSettings
from student.pixel_student import PixelStudent
from student.stem import mean_and_deviation
from student.swin import Transformer

FREQUENCIES = 4  # of the sine positions, along each side
COMMON = {"window": 8, "feature_dim": 128}  # of all sizes


class SwinV2Student(PixelStudent):
    """`depths` and `num_heads` have one entry a stage, at strides 4, 8, ...; `embed_dim` doubles. Sizes are those with
    published weights at a window of 8; parts of a view are padded to whole windows."""

    SIZES: ClassVar = {
        "tiny": COMMON | {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
        "small": COMMON | {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
        "base": COMMON | {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    }
    EXTRAS = ("norm.", "head.")

    def __init__(
        self,
        *,
        embed_dim: int,
        depths: tuple[int, ...],
        num_heads: tuple[int, ...],
        window: int,
        **shared: Unpack[HeadSettings],
    ) -> None:
        if len(depths) != len(num_heads):
            raise ValueError("student.size: depths and num_heads must have one entry a stage")
        super().__init__(**shared)
        dim, stages = shared["feature_dim"], len(depths)
        channels = tuple(embed_dim * 2**stage for stage in range(stages))
        swin = SwinTransformerV2(
            img_size=4 * window * 2 ** (stages - 1),
            num_classes=0,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window,
            drop_path_rate=0.0,
            dynamic_img_size=True,
        )
        self.backbone = nn.ModuleDict({"patch_embed": swin.patch_embed, "layers": swin.layers})
        self.local = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim)) for width in channels)
        self.stage = nn.Parameter(torch.empty(stages, 1, dim))
        nn.init.trunc_normal_(self.stage, std=0.02)
        self.place = nn.Linear(4 * FREQUENCIES, dim)
        self.fuse = Transformer(dim)
        self.weight = nn.Linear(dim, 1)
        self.whole = nn.Sequential(nn.LayerNorm(2 * sum(channels)), nn.Linear(2 * sum(channels), dim))
        self.join = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, dim))
        self.add_heads(Transformer(dim), channels)

    def frame_features(self, x_NCHW: Tensor) -> Tensor:
        """Local and global features, joined."""
        maps = self.maps(x_NCHW)
        local_ND = self.pool_places(self.local_features(maps))
        global_ND = self.whole(torch.cat([mean_and_deviation(map_NCHW) for map_NCHW in maps], 1))
        frame_ND: Tensor = self.join(torch.cat([local_ND, global_ND], 1))
        return frame_ND

    def maps(self, x_NCHW: Tensor) -> list[Tensor]:
        """Each stage's map_NCHW, styled."""
        x_NHWC, maps = self.backbone["patch_embed"](x_NCHW), []
        for layer, prompt in zip(cast(nn.ModuleList, self.backbone["layers"]), self.prompts, strict=True):
            maps.append(prompt(layer(x_NHWC).permute(0, 3, 1, 2)))
            x_NHWC = maps[-1].permute(0, 2, 3, 1)
        return maps

    def local_features(self, maps: list[Tensor]) -> Tensor:
        """feature_NPD of each place of the last map's grid, by all stages."""
        height, width = maps[-1].shape[2:]
        place_PD = self.place(sine_positions(height, width, maps[-1].device))
        tokens = []
        for map_NCHW, local in zip(maps, self.local, strict=True):
            cell = (-(-map_NCHW.shape[2] // height), -(-map_NCHW.shape[3] // width))
            cells = functional.avg_pool2d(map_NCHW, cell, ceil_mode=True, count_include_pad=False)
            tokens.append(local(cells.flatten(2).transpose(1, 2)) + place_PD)
        tokens_NSPD = torch.stack(tokens, 1) + self.stage
        mixed: Tensor = self.fuse(tokens_NSPD.flatten(1, 2))
        place_NPD: Tensor = mixed.unflatten(1, (len(maps), -1)).mean(1)
        return place_NPD

    def pool_places(self, feature_NPD: Tensor) -> Tensor:
        """The weighted mean over places."""
        pooled_ND: Tensor = (self.weight(feature_NPD).softmax(1) * feature_NPD).sum(1)
        return pooled_ND

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """timm's files as they are; the authors' have each merging of patches a stage earlier, and tables."""
        keys: dict[str, Tensor] = checkpoint_filter_fn(state, self.backbone)
        return keys


def sine_positions(height: int, width: int, device: torch.device) -> Tensor:
    """(places, 4 * FREQUENCIES): sines and cosines of the place's relative coordinates, row by row."""
    frequency = math.pi * 2.0 ** torch.arange(FREQUENCIES, device=device)

    def along(count: int) -> Tensor:
        angle = ((torch.arange(count, device=device) + 0.5) / count)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], 1)

    rows, columns = along(height), along(width)
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], 1)
