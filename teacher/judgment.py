"""What every teacher says of a clip, and the few things all teachers share.

A teacher is an `nn.Module` that takes frames_BTHWC uint8 RGB and returns `Judgment`. Where its lower part can be
frozen, `forward` is `upper(lower(frames))`, so that the lower part's output can be kept (see distill/pipeline.py).
Shapes: B clips, T frames, H W pixels, C channels, K quality levels, D feature width, Z contrast width.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHANGE_GAIN = 4  # of what changes between neighbors, so that an ImageNet stem sees it


class Judgment(NamedTuple):
    """score_B on the label's scale, level logits_BK, feature_BD; unit embeddings_B2Z where a model is contrasted."""

    score: Tensor
    logits: Tensor
    feature: Tensor
    embeddings: Tensor | None = None


class Normalize(nn.Module):
    """frames_...HWC uint8 RGB -> x_NCHW float in units of a data set's deviation, all leading axes flattened."""

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


def keep_batch_statistics(model: Model) -> Model:
    """Batch norms in evaluation mode, whatever the rest is in."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def in_fp32(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's output without autocast: bf16 has 8 bits, too few for a score of 0 to 100 or a fine distribution."""
    if x.device.type == "meta":  # shapes alone, to count operations; it knows no autocast
        shape: Tensor = layer(x)
        return shape
    with torch.autocast(x.device.type, enabled=False):
        output: Tensor = layer(x.float())
    return output


def vectorize(score_B: Tensor, num_levels: int) -> Tensor:
    """Level logits of a score, logit_k = -(y - k)^2 with y in 0..K-1 (CLIPVQA's vectorized regression, section 3).

    Args:
        score_B: 0..1 from worst to best; it may overshoot.
    """
    levels = torch.arange(num_levels, dtype=score_B.dtype, device=score_B.device)
    return -(score_B.unsqueeze(-1) * (num_levels - 1) - levels).square()
