"""Inner features pooled to one vector a clip, and the cost of a pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from teacher.layers import Layers, count_flops, matrix_rate


class Toy(nn.Module):
    """Tokens, maps by frame, a recurrent layer's tuple, and something that is no feature of clips."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.maps, self.gru = nn.Identity(), nn.Identity(), nn.GRU(4, 3, batch_first=True)
        self.text = nn.Linear(4, 4)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        frames = x_BTHWC.flatten(0, 1)
        self.maps(frames.permute(0, 3, 1, 2))
        tokens: Tensor = self.tokens(x_BTHWC.flatten(1, 3))
        self.gru(tokens)
        self.text(torch.zeros(5, 4))
        return tokens


def test_tokens_maps_and_tuples_are_means_over_time_and_place() -> None:
    torch.manual_seed(0)
    model, x = Toy(), torch.randn(2, 3, 5, 6, 4)
    layers = Layers(model, ["tokens", "maps", "gru"])
    model(x)
    found = layers.pooled(2)
    torch.testing.assert_close(found["tokens"], x.mean((1, 2, 3)))
    torch.testing.assert_close(found["maps"], x.mean((1, 2, 3)))
    assert found["gru"].shape == (2, 3)


def test_what_is_no_feature_of_clips_is_refused() -> None:
    layers = Layers(model := Toy(), ["text"])
    model(torch.randn(2, 3, 5, 6, 4))
    with pytest.raises(ValueError, match=r"'text' gives \(5, 4\) for 2 clips"):
        layers.pooled(2)
    with pytest.raises(ValueError, match=r"no module 'tokenz'; it has tokens"):
        Layers(Toy(), ["tokenz"])


def test_flops_are_two_a_multiply_add() -> None:
    layer = nn.Linear(16, 8, bias=False)
    assert count_flops(lambda: layer(torch.randn(4, 16))) == 2 * 4 * 16 * 8
    assert matrix_rate("cpu", torch.float32, 64, repeats=2) > 0
