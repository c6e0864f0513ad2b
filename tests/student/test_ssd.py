"""The matrix form of the SSD scan against the plain recurrence."""

from __future__ import annotations

import pytest
import torch
from plain_ssd import ssd_sequential
from timm.models.efficientvim import HSMSSD

from student.ssd import TemporalSSD, ssd


@pytest.mark.parametrize("length", [1, 2, 5, 16, 33])
def test_matrix_form_equals_the_recurrence(length: int) -> None:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

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


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (10, 10)])
def test_the_frame_encoders_mixer_is_a_sum_over_places(height: int, width: int) -> None:
    """EfficientViM's hidden-state mixer: H = sum_l x_l (a_l b_l)^T over all places l, y_l = H' c_l; no scan."""
    torch.manual_seed(0)
    mixer = HSMSSD(6, state_dim=4).double()
    x = torch.randn(2, 6, height, width, dtype=torch.float64)
    with torch.no_grad():
        y, _ = mixer(x)
        projected = mixer.dw(mixer.BCdt_proj(x.flatten(2)).reshape(2, -1, height, width)).flatten(2)
        b, c, dt = projected.split(4, dim=1)
        a = (dt + mixer.A.view(1, -1, 1)).softmax(-1)
        for clip in range(2):
            state = torch.zeros(6, 4, dtype=torch.float64)
            for place in range(height * width):
                state += torch.outer(x[clip].flatten(1)[:, place], a[clip, :, place] * b[clip, :, place])
            hidden, gate = mixer.hz_proj(state[None]).split(6, dim=1)
            state = mixer.out_proj(hidden * torch.nn.functional.silu(gate) + hidden * mixer.D)[0]
            for place in range(height * width):
                torch.testing.assert_close(y[clip].flatten(1)[:, place], state @ c[clip, :, place])
