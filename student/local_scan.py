"""QMamba's local-window scan (arXiv 2406.09546) by Mamba-2's state space duality, in matrix form.

The places of a map are read window by window, so that neighbors in the picture are neighbors in the sequence; the state
is carried from window to window. Four sequences: rows inside a window and windows row by row, columns and windows
column by column, and both backward. The paper scans by Mamba-1, with a decay for each channel; here a head has one, so
that a chunk of the scan is a product of matrices (student/ssd.py), on CPU, GPU and in ONNX.

Shapes: N maps, H W places, C channels, L = H * W steps, K = 4 sequences, S channels a head, M heads, D state size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from student.ssd import ssd

SEQUENCES: Final = 4
HEAD_DIM: Final = 16  # channels a head


@lru_cache(maxsize=64)
def window_orders(height: int, width: int, window: int) -> NDArray[np.int64]:
    """The places of a map, row * width + column, in the order of each sequence, (K, L); the last windows may be cut."""
    row, column = (axis.ravel() for axis in np.indices((height, width)))
    rows = np.lexsort((column, row, column // window, row // window))  # the last key comes first
    columns = np.lexsort((row, column, row // window, column // window))
    return np.stack([rows, columns, rows[::-1], columns[::-1]])


def ssd_chunks(x_BLMS: Tensor, log_a_BLM: Tensor, b_BLD: Tensor, c_BLD: Tensor, chunk: int) -> Tensor:
    """`ssd` of a long sequence: `chunk` steps at a time, and the states between chunks, all by products of matrices."""
    length = x_BLMS.shape[1]
    if length <= chunk:
        return ssd(x_BLMS, log_a_BLM, b_BLD, c_BLD)
    count = -(-length // chunk)

    def chunks(values: Tensor) -> Tensor:
        """(B * chunks, chunk, ...); steps after the end give 0 and keep the state."""
        padding = [0, 0] * (values.ndim - 2) + [0, count * chunk - length]
        parts: Tensor = functional.pad(values, padding).unflatten(1, (count, chunk)).flatten(0, 1)
        return parts

    x, log_a, b, c = (chunks(values) for values in (x_BLMS, log_a_BLM, b_BLD, c_BLD))
    inside = ssd(x, log_a, b, c)
    cumulative = log_a.cumsum(1)
    total_BGM = cumulative[:, -1].unflatten(0, (-1, count))
    to_end = (cumulative[:, -1:] - cumulative).exp().unsqueeze(-1) * x
    added_BGMSD = torch.einsum("blms,bld->bmsd", to_end, b).unflatten(0, (-1, count))
    # The state before chunk g is the sum over earlier chunks f of what f added, decayed by the chunks between them.
    before = total_BGM.cumsum(1) - total_BGM
    exponent_BGFM = before.unsqueeze(2) - (before + total_BGM).unsqueeze(1)
    steps = torch.arange(count, device=x.device)
    earlier = (steps[:, None] > steps[None, :]).view(1, count, count, 1)
    decay_BGFM = torch.where(earlier, exponent_BGFM, torch.full_like(exponent_BGFM, -1e4)).exp()
    state = torch.einsum("bgfm,bfmsd->bgmsd", decay_BGFM, added_BGMSD).flatten(0, 1)
    carried = torch.einsum("bld,bmsd->blms", c, state) * cumulative.exp().unsqueeze(-1)
    y_BLMS: Tensor = (inside + carried).unflatten(0, (-1, count)).flatten(1, 2)[:, :length]
    return y_BLMS


class LocalScan(nn.Module):
    """A residual, gated scan of a map's windows; the identity until it is trained, so that pretrained stages around it
    start as they are."""

    def __init__(self, dim: int, *, window: int, state_dim: int = 8) -> None:
        super().__init__()
        if dim % HEAD_DIM:
            raise ValueError(f"student.size: embed_dim {dim} must be a multiple of {HEAD_DIM}")
        self.window, self.state_dim, self.heads = window, state_dim, dim // HEAD_DIM
        self.norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * dim)
        self.select = nn.Linear(dim, SEQUENCES * (2 * state_dim + self.heads))
        self.log_decay = nn.Parameter(torch.linspace(0.0, 1.5, self.heads).repeat(SEQUENCES, 1))
        self.skip = nn.Parameter(torch.ones(SEQUENCES, self.heads))
        self.out_norm, self.out_proj = nn.LayerNorm(dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        """Same shape out."""
        height, width = map_NCHW.shape[2:]
        x_NLC = map_NCHW.flatten(2).transpose(1, 2)
        normed = self.norm(x_NLC)
        value_NLC, gate_NLC = self.in_proj(normed).chunk(2, 2)
        y_NLC = self.scan(value_NLC, self.select(normed), window_orders(height, width, self.window))
        mixed_NLC = x_NLC + self.out_proj(self.out_norm(y_NLC) * functional.silu(gate_NLC))
        mixed_NCHW: Tensor = mixed_NLC.transpose(1, 2).unflatten(2, (height, width))
        return mixed_NCHW

    def scan(self, value_NLC: Tensor, selected_NLE: Tensor, order_KL: NDArray[np.int64]) -> Tensor:
        """Sum of the sequences' scans, each brought back to its places; E holds each one's B, C and step sizes."""
        length = value_NLC.shape[1]
        starts_K1 = length * np.arange(SEQUENCES)[:, None]

        def index(place_KL: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(place_KL.ravel()).to(value_NLC.device)

        value = value_NLC[:, index(order_KL)].unflatten(1, (SEQUENCES, length)).flatten(0, 1)
        value_BLMS = value.unflatten(2, (self.heads, HEAD_DIM))
        every = selected_NLE.unflatten(2, (SEQUENCES, -1)).transpose(1, 2).flatten(1, 2)
        own = every[:, index(order_KL + starts_K1)].unflatten(1, (SEQUENCES, length))
        b_NKLD, c_NKLD, step = own.split([self.state_dim, self.state_dim, self.heads], 3)
        step_NKLM = functional.softplus(step)
        log_a_NKLM = -step_NKLM * self.log_decay.exp().unsqueeze(1)
        scaled_BLMS = value_BLMS * step_NKLM.flatten(0, 1).unsqueeze(3)
        y_BLMS = ssd_chunks(
            scaled_BLMS, log_a_NKLM.flatten(0, 1), b_NKLD.flatten(0, 1), c_NKLD.flatten(0, 1), self.window**2
        )
        skipped = value_BLMS.unflatten(0, (-1, SEQUENCES)) * self.skip[:, None, :, None]
        y_NKLC = (y_BLMS.unflatten(0, (-1, SEQUENCES)) + skipped).flatten(3)
        back = y_NKLC.flatten(1, 2)[:, index(order_KL.argsort(1) + starts_K1)]
        y_NLC: Tensor = back.unflatten(1, (SEQUENCES, length)).sum(1)
        return y_NLC
