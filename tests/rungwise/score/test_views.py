"""Views are reproducible, at native pixel density, in display coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import rgb_frames
from rungwise.score.frame_choice import difference_frames, pair_frames, uniform_frames
from rungwise.score.views import (
    View,
    ViewRecipe,
    make_views,
    read_views,
)

RECIPE = ViewRecipe(num_frames=3, frame_choice="uniform", grid=2, patch_px=32)


def test_the_same_view_twice_gives_identical_bytes(clip: Path) -> None:
    first, second = make_views(clip, RECIPE, count=2), make_views(clip, RECIPE, count=2)
    assert first == second
    assert read_views(clip, first).tobytes() == read_views(clip, second).tobytes()
    assert first[0].corners_yx != first[1].corners_yx
    assert make_views(clip, RECIPE, count=1) == first[:1]


def test_a_view_survives_json(clip: Path) -> None:
    (view,) = make_views(clip, RECIPE)
    assert View.model_validate_json(view.model_dump_json()) == view


def test_a_remuxed_video_has_the_same_pixels(clip: Path, tmp_path: Path) -> None:
    remuxed = tmp_path / "clip.mkv"
    run_ffmpeg(["-i", str(clip), "-c", "copy", str(remuxed)])
    (here,), (there,) = make_views(clip, RECIPE), make_views(remuxed, RECIPE)
    assert here.corners_yx == there.corners_yx
    np.testing.assert_array_equal(read_views(clip, [here]), read_views(remuxed, [there]))


def test_patches_are_the_decoded_pixels(clip: Path) -> None:
    (view,) = make_views(clip, RECIPE)
    pixels = read_views(clip, [view])[0]
    for slot, (index, frame) in enumerate(rgb_frames(clip, view.frame_indices)):
        assert index == view.frame_indices[slot]
        for cell, (y, x) in enumerate(view.corners_yx):
            row, column = divmod(cell, 2)
            patch = pixels[slot, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
            np.testing.assert_array_equal(patch, frame[y : y + 32, x : x + 32])


def test_corners_are_even_and_inside_their_cells(clip: Path) -> None:
    for view in make_views(clip, RECIPE, count=20):
        for cell, (y, x) in enumerate(view.corners_yx):
            row, column = divmod(cell, 2)
            assert y % 2 == x % 2 == 0
            assert row * 54 <= y <= (row + 1) * 54 - 32
            assert column * 96 <= x <= (column + 1) * 96 - 32


def test_a_low_rung_is_scaled_to_the_display_height(small_clip: Path) -> None:
    (view,) = make_views(small_clip, RECIPE, display_height=108)
    assert (view.display_width, view.display_height) == (192, 108)
    pixels = read_views(small_clip, [view])[0]
    _, frame = next(rgb_frames(small_clip, view.frame_indices[:1]))
    scaled = np.asarray(Image.fromarray(frame).resize((192, 108), Image.Resampling.BICUBIC)).astype(int)
    for cell, (y, x) in enumerate(view.corners_yx):
        row, column = divmod(cell, 2)
        patch = pixels[0, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert np.abs(patch - scaled[y : y + 32, x : x + 32]).max() <= 1  # Pillow computes boxes in float32


def test_a_video_smaller_than_a_patch_is_padded_with_its_edge_pixels(small_clip: Path) -> None:
    recipe = ViewRecipe(num_frames=1, frame_choice="uniform", grid=1, patch_px=128)
    (view,) = make_views(small_clip, recipe)
    pixels = read_views(small_clip, [view])[0, 0]
    assert view.corners_yx == ((0, 0),)
    np.testing.assert_array_equal(pixels[54:], np.broadcast_to(pixels[53], (74, 128, 3)))


def test_uniform_frames() -> None:
    assert uniform_frames(8, 4) == (1, 3, 5, 7)
    assert uniform_frames(1, 3) == (0, 0, 0)
    assert uniform_frames(100, 1) == (50,)


def test_pair_frames_are_neighbors_in_equal_spans() -> None:
    assert pair_frames(8, 4) == (2, 3, 6, 7)
    assert pair_frames(100, 2) == (50, 51)
    assert pair_frames(2, 4) == (0, 1, 0, 1)
    assert pair_frames(1, 4) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="num_frames is 3; pairs of frames need an even number"):
        ViewRecipe(num_frames=3, frame_choice="pairs", grid=2, patch_px=32)


def test_all_rungs_of_a_title_have_the_same_patch_places(clip: Path, small_clip: Path) -> None:
    recipe = ViewRecipe(num_frames=4, frame_choice="pairs", grid=2, patch_px=32)
    (here,), (there,) = make_views(clip, recipe), make_views(small_clip, recipe, display_height=108)
    assert here.corners_yx == there.corners_yx
    assert read_views(clip, [here]).shape == (1, 4, 64, 64, 3)


def test_difference_frames_follow_the_motion() -> None:
    still_then_moving = np.array([0.0] * 50 + [1.0] * 10)
    assert difference_frames(still_then_moving, 2) == (53, 58)
    assert difference_frames(np.zeros(9), 5) == uniform_frames(10, 5)
    chosen = difference_frames(np.ones(99), 4)
    assert chosen == (13, 38, 62, 87)


def test_difference_views_read(clip: Path) -> None:
    (view,) = make_views(clip, RECIPE.model_copy(update={"frame_choice": "difference"}))
    assert list(view.frame_indices) == sorted(view.frame_indices)
    assert read_views(clip, [view]).shape == (1, 3, 64, 64, 3)


def test_views_read_together_must_share_frames(clip: Path) -> None:
    (one,) = make_views(clip, RECIPE)
    (other,) = make_views(clip, RECIPE.model_copy(update={"num_frames": 2}))
    with pytest.raises(ValueError, match="must share frames"):
        read_views(clip, [one, other])
