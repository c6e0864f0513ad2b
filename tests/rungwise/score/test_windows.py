"""Time windows: the same from a file, whose end is known, and from a stream."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rungwise.media.clock import end_seconds
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import Packets, read_packets
from rungwise.score.views import DisplayFrame, View, ViewRecipe, display_size, place_view
from rungwise.score.windows import Assembler, Span, assemble_windows, cut_windows, frame_times, plan_windows


def seconds(count: int, fps: float = 10) -> list[float]:
    return [index / fps for index in range(count)]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [(0, 1)]),
        (30, [(0, 30)]),
        (40, [(0, 40)]),
        (41, [(0, 41)]),  # a tail of one frame joins
        (60, [(0, 60)]),  # and so does a tail of half a window
        (61, [(0, 40), (40, 61)]),
        (100, [(0, 40), (40, 100)]),
        (101, [(0, 40), (40, 80), (80, 101)]),
    ],
)
def test_tails(count: int, expected: list[tuple[int, int]]) -> None:
    assert cut_windows(seconds(count), 4.0) == expected


def test_windows_are_cut_by_time_not_by_frame_count() -> None:
    uneven = [0, 0.1, 0.2, 3.9, 4.0, 4.1, 9.0, 11.9]
    assert cut_windows(uneven, 4.0) == [(0, 4), (4, 6), (6, 8)]
    assert end_seconds(uneven, Fraction(10)) == pytest.approx(12.0)
    assert end_seconds([0.0], Fraction(10)) == 0.1


@pytest.mark.parametrize("choice", ["uniform", "difference"])
@pytest.mark.parametrize("length", [0.3, 1.0, 4.0])
def test_a_stream_gives_the_same_windows_as_a_file(choice: str, length: float) -> None:
    recipe = ViewRecipe.model_validate({"num_frames": 3, "frame_choice": choice, "grid": 1, "patch_px": 8})
    random = np.random.default_rng(0)

    def place(span: Span) -> View:
        return place_view(recipe, span.number, (20, 16), (), ())

    for trial in range(40):
        count = int(random.integers(1, 60))
        steps = random.choice([0.02, 0.1, 0.1, 0.7], count - 1) if trial % 2 else np.full(count - 1, 0.1)
        times = [0.0, *np.cumsum(steps).tolist()]
        frames = random.integers(0, 256, (count, 16, 20, 3), np.uint8)
        lumas = frames[..., 0]
        differences = [float(np.abs(a.astype(int) - b.astype(int)).mean()) for a, b in pairwise(lumas)]
        spans = plan_windows(times, Fraction(10), length, recipe, differences)
        requested = sorted({index for span in spans for index in span.frame_indices})
        planned = list(
            assemble_windows(spans, place, ((index, DisplayFrame(frames[index], 20, 16), False) for index in requested))
        )
        assembler = Assembler(length, recipe, place)
        streamed: list[Any] = []
        for index, time in enumerate(times):
            streamed += assembler.push(time, DisplayFrame(frames[index], 20, 16), lumas[index], False)
            num_buffered = sum(window.count for window in (assembler.previous, assembler.current) if window)
            assert num_buffered <= 3 * max(stop - first for first, stop in cut_windows(times, length))
        streamed += assembler.finish(end_seconds(times, Fraction(10)))
        assert [window.span for window in streamed] == [window.span for window in planned]
        for one, other in zip(streamed, planned, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)


def packets(ticks: list[int], base: Fraction, rate: Fraction) -> Packets:
    keys = np.ones(len(ticks), bool)
    return Packets(np.asarray(ticks), keys, keys, np.ones(len(ticks), int), base, rate, 0, "h264")


def test_container_rounding_of_a_steady_rate_is_undone() -> None:
    rate = Fraction(24000, 1001)
    rounded = [round(index * 1001 / 24) for index in range(500)]  # milliseconds
    exact = [index * 1001 / 24000 for index in range(500)]
    assert frame_times(packets(rounded, Fraction(1, 1000), rate)) == exact
    assert frame_times(packets([index * 1001 for index in range(500)], Fraction(1, 24000), rate)) == exact
    uneven = [*rounded[:-1], rounded[-1] + 10]
    assert frame_times(packets(uneven, Fraction(1, 1000), rate))[-1] == uneven[-1] / 1000


def test_display_size_applies_the_sample_aspect_ratio(clip: Path, tmp_path: Path) -> None:
    assert display_size(720, 576, None) == (720, 576)
    assert display_size(720, 576, None, 16 / 11) == (1047, 576)
    assert display_size(720, 480, 1080, 8 / 9) == (1440, 1080)
    from rungwise.media.video import first_frame

    for name, rotation, ratio in (("wide", 0, 4 / 3), ("turned", 90, 3 / 4)):
        path, turned = tmp_path / f"{name}.mp4", tmp_path / f"{name}_turned.mp4"
        run_ffmpeg(["-i", str(clip), "-vf", "setsar=4/3", "-c:v", "libx264", "-threads", "1", str(path)])
        run_ffmpeg(["-display_rotation", str(rotation), "-i", str(path), "-c", "copy", str(turned)])
        assert first_frame(turned)[1] == pytest.approx(ratio)
    assert read_packets(clip).rate == 12
