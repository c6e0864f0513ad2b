"""The golden input is the same everywhere, and its four views differ in quality."""

from __future__ import annotations

import numpy as np

from rungwise.score.contract import golden_input, sha256_array
from rungwise.score.views import ViewRecipe

RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=16)


def test_golden_input_is_fixed() -> None:
    pixels = golden_input(RECIPE)
    assert pixels.shape == (4, 2, 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert sha256_array(pixels) == "a151cc3f11f6a826075e9b6192bb6a67b54e8be1895e6efdbb357a53cffe7208"


def test_golden_views_grow_coarser() -> None:
    clean, noisy, blocks, coarse = golden_input(RECIPE).astype(int)
    assert np.abs(np.diff(clean, axis=2)).max() <= 3
    for view, size, step in ((blocks, 4, 16), (coarse, 8, 32)):
        assert (view % step == 0).all()
        corners = view[:, ::size, ::size].repeat(size, 1).repeat(size, 2)
        np.testing.assert_array_equal(view, corners)
    assert 0 < np.abs(noisy - noisy // 8 * 8).max() < 8
