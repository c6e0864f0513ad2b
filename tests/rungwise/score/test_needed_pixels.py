"""A view's pixels from as little decoding as it needs: the same bytes as from all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rungwise.score.needed_pixels
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import ViewRecipe, make_views, read_views

FRAGMENTS = ViewRecipe(num_frames=4, frame_choice="uniform", grid=2, patch_px=24)


@pytest.mark.parametrize("display_height", [None, 120])
def test_needed_pixels_are_those_of_the_whole_video(odd_files: Path, display_height: int | None) -> None:
    compared = set()
    for path in sorted(odd_files.iterdir()):
        try:
            views = make_views(path, FRAGMENTS, count=2, display_height=display_height)
            whole = read_views(path, views)
        except ValueError:
            continue
        np.testing.assert_array_equal(read_needed_pixels(path, views), whole, err_msg=path.name)
        compared.add(path.name)
    assert {"plain.mp4", "rotated.mp4", "ten_bit.mkv", "vfr.mp4", "two_sizes.ts"} <= compared


def test_a_long_clip_is_sought_and_not_decoded_whole(long_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = make_views(long_clip, FRAGMENTS)
    whole = read_views(long_clip, views)
    monkeypatch.setattr(rungwise.score.needed_pixels, "read_views", None)
    np.testing.assert_array_equal(read_needed_pixels(long_clip, views), whole)
