"""Mamba-2's state space duality over time, in matrix form: one path on CPU, GPU and in ONNX.

The recurrence h_t = a_t h_{t-1} + dt_t B_t x_t^T, y_t = C_t^T h_t (Dao and Gu 2024, section 3) is, unrolled,
Y = (L o C B^T) (dt X) with L[t, s] = prod_{s < r <= t} a_r for s <= t. T is a handful of frames, so the T x T
matrix is small and no scan is needed. Shapes: B batch, T time, H heads, P channels a head, N state size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def ssd(x_BTHP: Tensor, log_a_BTH: Tensor, b_BTN: Tensor, c_BTN: Tensor) -> Tensor:
    """Matrix form of the scan. `x` already carries dt; log_a = dt * A <= 0. Returns y_BTHP."""
    cumulative = log_a_BTH.cumsum(1)
    exponent_BTSH = cumulative.unsqueeze(2) - cumulative.unsqueeze(1)
    steps = torch.arange(x_BTHP.shape[1], device=x_BTHP.device)
    causal = (steps[:, None] >= steps[None, :]).view(1, len(steps), len(steps), 1)
    # Masked before exp: the upper triangle's exponent is positive and would overflow.
    decay_BTSH = torch.where(causal, exponent_BTSH, torch.full_like(exponent_BTSH, -1e4)).exp()
    weights_BTSH = (c_BTN @ b_BTN.transpose(1, 2)).unsqueeze(-1) * decay_BTSH
    return torch.einsum("btsh,bshp->bthp", weights_BTSH, x_BTHP)


class TemporalSSD(nn.Module):
    """A residual, gated SSD layer over frame features x_BTD."""

    def __init__(self, dim: int, *, num_heads: int = 4, state_dim: int = 16) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"feature_dim {dim} must be a multiple of {num_heads}")
        self.num_heads, self.state_dim = num_heads, state_dim
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * dim + 2 * state_dim + num_heads)
        self.out_proj = nn.Linear(dim, dim)
        self.log_decay = nn.Parameter(torch.linspace(0.0, 1.5, num_heads))
        self.skip = nn.Parameter(torch.ones(num_heads))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Mix over time, causally; same shape out."""
        batch, length, dim = x_BTD.shape
        sizes = [dim, dim, self.state_dim, self.state_dim, self.num_heads]
        value, gate, b, c, dt = self.in_proj(self.norm(x_BTD)).split(sizes, -1)
        step_BTH = functional.softplus(dt)
        value_BTHP = value.reshape(batch, length, self.num_heads, -1)
        y = ssd(value_BTHP * step_BTH.unsqueeze(-1), -step_BTH * self.log_decay.exp(), b, c)
        y = (y + value_BTHP * self.skip.view(1, 1, -1, 1)).reshape(batch, length, dim)
        mixed: Tensor = self.out_proj(y * functional.silu(gate))
        return x_BTD + mixed
