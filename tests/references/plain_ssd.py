"""The state-space scan written as its recurrence, one step after another."""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_sequential(x_BTHP: Tensor, log_a_BTH: Tensor, b_BTN: Tensor, c_BTN: Tensor) -> Tensor:
    """What `student.ssd.ssd` computes in matrix form: x_BTHP, log_a_BTH, b_BTN, c_BTN to y_BTHP."""
    batch, length, heads, channels = x_BTHP.shape
    state_BHPN = x_BTHP.new_zeros(batch, heads, channels, b_BTN.shape[-1])
    outputs = []
    for t in range(length):
        state_BHPN = state_BHPN * log_a_BTH[:, t].exp()[..., None, None]
        state_BHPN = state_BHPN + x_BTHP[:, t].unsqueeze(-1) * b_BTN[:, t, None, None, :]
        outputs.append((state_BHPN * c_BTN[:, t, None, None, :]).sum(-1))
    return torch.stack(outputs, 1)
