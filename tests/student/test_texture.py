"""Texture: each statistic moves with what it is named for, and no seam between patches is taken for detail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from student.texture import BANDS, EDGES, NUM_BAND_TEXTURE, NUM_TEXTURE, Texture

PX = 32
WIDTH = 2 + len(EDGES)  # of a band


def views(pictures: np.ndarray) -> torch.Tensor:
    """(B, T, S, S) of luma as uint8 RGB."""
    return torch.from_numpy(np.clip(pictures, 0, 255).astype(np.uint8)[..., None].repeat(3, -1))


def noise(seed: int, deviation: float, count: int = 2) -> np.ndarray:
    return 128 + np.random.default_rng(seed).normal(size=(1, count, 2 * PX, 2 * PX)) * deviation


def test_shape_and_no_clip_hangs_on_another() -> None:
    frames = views(np.concatenate([noise(seed, 5 * seed + 1, 4) for seed in range(3)]))
    found = Texture(PX)(frames)
    assert found.shape == (3, 2, NUM_TEXTURE)
    torch.testing.assert_close(found[1:2], Texture(PX)(frames[1:2]))
    torch.testing.assert_close(found[:, 1:], Texture(PX)(frames[:, 2:]))
    assert torch.isfinite(Texture(PX)(torch.zeros(1, 2, 2 * PX, 2 * PX, 3, dtype=torch.uint8))).all()
    assert torch.isfinite(Texture(PX)(views(255 * (noise(0, 1) > 128)))).all()


def test_an_octave_of_noise_is_two_bits_of_variance_in_the_finest_band() -> None:
    weak, strong = (Texture(PX)(views(noise(0, deviation)))[0, 0] for deviation in (8.0, 16.0))
    assert float(strong[0] - weak[0]) == pytest.approx(2, abs=0.1)
    assert (strong[2 : 2 + len(EDGES)] >= weak[2 : 2 + len(EDGES)]).all()


def test_detail_is_found_in_the_band_of_its_size() -> None:
    fine = noise(0, 16)
    coarse = 128 + np.kron(noise(0, 16)[..., ::4, ::4] - 128, np.ones((4, 4)))
    means = [Texture(PX)(views(pictures))[0, 0, : BANDS * WIDTH : WIDTH] for pictures in (fine, coarse)]
    assert means[0].argmax() == 0
    assert means[1].argmax() > 0


def test_a_still_picture_changes_nothing_and_a_moving_one_where_its_edges_are() -> None:
    still = noise(0, 16, 1).repeat(2, axis=1)
    half = NUM_BAND_TEXTURE // 2
    of_still = Texture(PX)(views(still))[0, 0]
    assert float(of_still[half]) == pytest.approx(np.log2(0.05), abs=0.01)
    squares = 100.0 + 80 * (np.indices((2 * PX, 2 * PX)) // 8 % 2).sum(0)
    moving = np.stack([squares, np.roll(squares, 1, 1)])[None]
    of_moving, of_noise = (Texture(PX)(views(pictures))[0, 0] for pictures in (moving, noise(1, 16)))
    assert of_moving[half] > of_still[half] + 4
    assert of_moving[-1] > of_noise[-1] + 0.1


def test_seams_between_patches_are_no_detail() -> None:
    flat = np.zeros((1, 2, 2 * PX, 2 * PX))
    flat[..., :PX, PX:] = 200
    flat[..., PX:, :] = 90
    found = Texture(PX)(views(flat))[0, 0]
    assert found[: BANDS * WIDTH : WIDTH].max() < -4  # log2 of the floor
