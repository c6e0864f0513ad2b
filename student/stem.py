"""The stem that students share: the first stages of an ImageNet EfficientNet-Lite0, and pooling of maps.

A few hundred encodes train no filters from scratch (docs/lab-notes/2026-11.md). The first two stages are never trained:
their maps are the largest, and backward through them is most of the cost.

Shapes: B clips, T frames, N = B * T, H W pixels, C channels, W a packed width.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import timm
import torch
from torch import Tensor, nn

from rungwise.lite0 import match_keys, weights_path
from student.patches import cut_patches

CHANNELS: Final = (16, 24, 40, 80, 112)  # of the maps of EfficientNet-Lite0's first stages
STRIDES: Final = (2, 4, 8, 16, 16)
FROZEN: Final = 2  # stages that never train
GAIN: Final = 4  # of what changes between neighbors, so that an ImageNet stem sees it


def images_and_changes(frames_BTHWC: Tensor) -> Tensor:
    """Pairs of neighboring frames as the first frame and the change to the second around mid gray, x_2BUHWC.

    U = T / 2 pairs. The change is amplified by `GAIN` and clipped; all first frames come before all changes.
    """
    first, second = frames_BTHWC[:, 0::2], frames_BTHWC[:, 1::2]
    change = (128 + GAIN * (second.float() - first.float())).clamp(0, 255)
    return torch.cat([first.float(), change])


class Unpacked(NamedTuple):
    """The maps' statistics_NW, and the last map_NCHW, which is square, where it was packed.

    Statistics are of the early maps alone where the last map is there.
    """

    pooled: Tensor
    last: Tensor | None


class Stem(nn.Module):
    """uint8 frames in, one packed vector a frame or pair out: statistics of the early maps, then the last map itself.

    Packed, so that what a frozen stem gives is one array that can be kept on disk.
    """

    def __init__(
        self,
        *,
        stages: int,
        tuned: bool,
        pairs: bool,
        patch_px: int | None = None,
        keep_map: bool = True,
    ) -> None:
        """`stages` of Lite0's seven, up to 5. `tuned`: all but two train, at the backbone's learning rate.

        `pairs`: frames come in pairs of neighbors; each pair is one frame with twice the channels, the first
        frame's and those of the change to the second.

        `patch_px`: each patch of that side is a picture of its own.

        `keep_map`: the last map itself is packed, not its statistics.
        """
        super().__init__()
        self.pairs, self.stride, self.patch_px, self.keep_map = pairs, STRIDES[stages - 1], patch_px, keep_map
        self.channels = tuple(channels * (2 if pairs else 1) for channels in CHANNELS[:stages])
        lite0 = cast(Any, timm.create_model("tf_efficientnet_lite0", pretrained=False))
        self.conv_stem, self.bn1, self.blocks = lite0.conv_stem, lite0.bn1, lite0.blocks[:stages]
        self.requires_grad_(False)
        self.blocks[FROZEN:].requires_grad_(tuned)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Stem:
        """Batch norms keep their ImageNet statistics."""
        return super().train(False)

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """packed_BTW of uint8 RGB, or packed_BTPW of each patch."""
        if self.patch_px is not None:
            patches_BPTHWC = cut_patches(frames_BTHWC, self.patch_px)
            packed_BPTW: Tensor = self._pack(patches_BPTHWC.flatten(0, 1)).unflatten(0, (-1, patches_BPTHWC.shape[1]))
            return packed_BPTW.transpose(1, 2)
        return self._pack(frames_BTHWC)

    def _pack(self, frames_BTHWC: Tensor) -> Tensor:
        """packed_BTW; normalization is inside, so that an export needs only frames."""
        pictures = images_and_changes(frames_BTHWC) if self.pairs else frames_BTHWC
        x_NCHW = pictures.flatten(0, 1).permute(0, 3, 1, 2).to(self.conv_stem.weight.dtype)
        x_NCHW = self.bn1(self.conv_stem((x_NCHW - self.mean) / self.std))
        parts = []
        for blocks in self.blocks[:-1] if self.keep_map else self.blocks:
            x_NCHW = blocks(x_NCHW)
            parts.append(self._beside(mean_and_deviation(x_NCHW)))
        if self.keep_map:
            # Channels last, as convolutions of frames leave it: packing copies nothing, and later ones stay as fast.
            parts.append(self._beside(self.blocks[-1](x_NCHW).permute(0, 2, 3, 1)).flatten(1))
        steps = frames_BTHWC.shape[1] // (2 if self.pairs else 1)
        packed_BTW: Tensor = torch.cat(parts, 1).unflatten(0, (-1, steps))
        return packed_BTW

    def unpack(self, packed: Tensor) -> Unpacked:
        """What `forward` packed; N counts patches where they are apart."""
        packed_NW, pooled = packed.flatten(0, -2), 2 * sum(self.channels[:-1])
        if not self.keep_map:
            return Unpacked(packed_NW, None)
        side = round(((packed_NW.shape[1] - pooled) / self.channels[-1]) ** 0.5)
        map_NHWC = packed_NW[:, pooled:].unflatten(1, (side, side, self.channels[-1]))
        return Unpacked(packed_NW[:, :pooled], map_NHWC.permute(0, 3, 1, 2))

    def _beside(self, values: Tensor) -> Tensor:
        """Each pair's two pictures side by side in the last axis."""
        if not self.pairs:
            return values
        images, changes = values.unflatten(0, (2, -1))  # not chunk: an export would take the batch for a constant
        return torch.cat([images, changes], -1)


def mean_and_deviation(map_NCHW: Tensor) -> Tensor:
    """Means and deviations over space, (N, 2C)."""
    mean = map_NCHW.mean((2, 3), keepdim=True)
    deviation = ((map_NCHW - mean).square().mean((2, 3)) + 1e-6).sqrt()
    return torch.cat([mean.flatten(1), deviation], 1)


def load_imagenet_stem(stem: Stem) -> None:
    """Fill the stem with ImageNet weights (`rungwise.lite0`), strictly.

    Raises:
        ValueError: the file's keys are not EfficientNet-Lite0's; the first odd one is named.
    """
    path = weights_path()
    foreign = torch.load(path, map_location="cpu", weights_only=True)
    keys = match_keys(stem.state_dict(), foreign, str(path))
    stem.load_state_dict({own: foreign[key] for own, key in keys.items()}, strict=True)
