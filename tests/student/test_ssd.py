"""The matrix form of the SSD scan against the plain recurrence."""

from __future__ import annotations

import pytest
import torch

from student.ssd import TemporalSSD, ssd, ssd_sequential


@pytest.mark.parametrize("length", [1, 2, 5, 16, 33])
def test_matrix_form_equals_the_recurrence(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, b, c = draw(2, length, 3, 4), draw(2, length, 5), draw(2, length, 5)
    log_a = -3 * draw(2, length, 3).abs()
    torch.testing.assert_close(ssd(x, log_a, b, c), ssd_sequential(x, log_a, b, c), rtol=1e-12, atol=1e-12)


def test_strong_decay_neither_overflows_nor_loses_the_gradient() -> None:
    x = torch.ones(1, 8, 1, 1, requires_grad=True)
    y = ssd(x, torch.full((1, 8, 1), -200.0), torch.ones(1, 8, 2), torch.ones(1, 8, 2))
    y.sum().backward()
    torch.testing.assert_close(y, torch.full_like(y, 2.0))
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_the_layer_is_causal() -> None:
    torch.manual_seed(0)
    layer = TemporalSSD(16).double()
    x = torch.randn(1, 6, 16, dtype=torch.float64)
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(layer(x)[:, :4], layer(changed)[:, :4])
    assert not torch.allclose(layer(x)[:, 4:], layer(changed)[:, 4:])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        TemporalSSD(18)
