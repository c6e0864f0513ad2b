"""A teacher's input: uint8 RGB frames to normalized pictures."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
CHANGE_GAIN: Final = 4  # of what changes between neighbors, so that an ImageNet stem sees it


class Normalize(nn.Module):
    """frames_...HWC uint8 RGB -> x_NCHW float, normalized by a data set's statistics, all leading axes flattened."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """`mean` and `std` of pixels in 0..1."""
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Flatten, reorder and normalize, in fp32."""
        x_NCHW = frames.flatten(0, -4).permute(0, 3, 1, 2).float()
        normalized: Tensor = (x_NCHW - self.mean) / self.std
        return normalized


def images_and_changes(frames_BTHWC: Tensor) -> Tensor:
    """Pairs of neighboring frames as `student/stem.py` takes them: all first frames, then all changes."""
    first, second = frames_BTHWC[:, 0::2].float(), frames_BTHWC[:, 1::2].float()
    return torch.cat([first, (128 + CHANGE_GAIN * (second - first)).clamp(0, 255)])
