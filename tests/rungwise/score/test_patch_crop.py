"""Patches cropped out of packed RGB frames match those of the whole frame."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from rungwise.media.video import rgb
from rungwise.score.flat import is_flat_frame
from rungwise.score.patch_crop import PACKED_RGB, PatchCropper


def frame_of(name: str, samples: np.ndarray) -> av.VideoFrame:
    height, width = samples.shape[:2]
    frame = av.VideoFrame(width, height, name)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    [plane] = frame.planes
    rows = np.zeros((height, plane.line_size), np.uint8)
    rows[:, : width * samples.shape[2]] = samples.reshape(height, -1)
    plane.update(rows.tobytes())
    return frame


@pytest.mark.parametrize("name", PACKED_RGB)
def test_patches_of_packed_rgb_match_the_whole_frame(name: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (98, 162, PACKED_RGB[name][0]), np.uint8)
    frame, cropper = frame_of(name, samples), PatchCropper()
    assert cropper.can_crop(frame, (162, 98), 64)
    whole = rgb(frame)
    for y, x in ((0, 0), (34, 98), (7, 51)):
        np.testing.assert_array_equal(cropper.patch(frame, y, x, 64), whole[y : y + 64, x : x + 64])


@pytest.mark.parametrize("name", PACKED_RGB)
def test_alpha_does_not_make_packed_rgb_not_flat(name: str) -> None:
    size, first = PACKED_RGB[name]
    samples = np.full((32, 48, size), 90, np.uint8)
    if size == 4:
        samples[::2, :, 3 - 3 * first] = 7  # the alpha or padding byte
    assert is_flat_frame(frame_of(name, samples))
    samples[20, 30, first + 1] = 99
    assert not is_flat_frame(frame_of(name, samples))
