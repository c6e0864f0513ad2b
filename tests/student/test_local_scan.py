"""QMamba's local-window scan: its orders by hand, its matrix form against a plain loop."""

from __future__ import annotations

import pytest
import torch
from plain_ssd import ssd_sequential
from torch import Tensor, nn

from student.local_scan import HEAD_DIM, LocalScan, ssd_chunks, window_orders


def test_windows_are_read_one_by_one() -> None:
    rows, columns, *backward = window_orders(3, 4, 2).tolist()
    # 0  1 |  2  3
    # 4  5 |  6  7
    # -------------
    # 8  9 | 10 11
    assert rows == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
    assert columns == [0, 4, 1, 5, 8, 9, 2, 6, 3, 7, 10, 11]
    assert backward == [rows[::-1], columns[::-1]]


@pytest.mark.parametrize("length", [1, 4, 5, 12, 19])
def test_chunks_equal_the_recurrence(length: int) -> None:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, b, c = draw(2, length, 3, 4), draw(2, length, 5), draw(2, length, 5)
    log_a = -draw(2, length, 3).abs()
    torch.testing.assert_close(ssd_chunks(x, log_a, b, c, 4), ssd_sequential(x, log_a, b, c), rtol=1e-12, atol=1e-12)


def plain_scan(layer: LocalScan, map_CHW: Tensor) -> Tensor:
    """The layer's equations, place after place, with a state for each sequence and head."""
    _, height, width = map_CHW.shape
    size, heads = layer.state_dim, layer.heads
    windows = [(top, left) for top in range(0, height, layer.window) for left in range(0, width, layer.window)]
    rows = [
        (y, x)
        for top, left in windows
        for y in range(top, min(top + layer.window, height))
        for x in range(left, min(left + layer.window, width))
    ]
    # By columns is by rows of the transposed map.
    columns = [
        (y, x)
        for top, left in sorted(windows, key=lambda window: window[::-1])
        for x in range(left, min(left + layer.window, width))
        for y in range(top, min(top + layer.window, height))
    ]
    out = torch.zeros_like(map_CHW)
    for sequence, places in enumerate((rows, columns, rows[::-1], columns[::-1])):
        state = torch.zeros(heads, HEAD_DIM, size, dtype=map_CHW.dtype)
        for y, x in places:
            normed = layer.norm(map_CHW[:, y, x])
            value = layer.in_proj(normed)[: heads * HEAD_DIM].view(heads, HEAD_DIM)
            own = layer.select(normed).view(4, -1)[sequence]
            b, c, step = own[:size], own[size : 2 * size], nn.functional.softplus(own[2 * size :])
            decay = torch.exp(-step * layer.log_decay[sequence].exp())
            state = decay[:, None, None] * state + step[:, None, None] * value[:, :, None] * b
            out[:, y, x] += (state @ c + layer.skip[sequence][:, None] * value).flatten()
    gate = layer.in_proj(layer.norm(map_CHW.permute(1, 2, 0)))[..., heads * HEAD_DIM :]
    mixed: Tensor = layer.out_proj(layer.out_norm(out.permute(1, 2, 0)) * nn.functional.silu(gate))
    scanned: Tensor = map_CHW + mixed.permute(2, 0, 1)
    return scanned


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4), (6, 7)])
def test_the_layer_is_a_plain_loop_over_places(height: int, width: int) -> None:
    torch.manual_seed(0)
    layer = LocalScan(32, window=3, state_dim=4).double()
    maps = torch.randn(2, 32, height, width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(layer(maps), maps)  # until it is trained
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=0.5)
        torch.testing.assert_close(layer(maps), torch.stack([plain_scan(layer, one) for one in maps]))
