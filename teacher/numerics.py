"""Numerics that teachers share."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


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
