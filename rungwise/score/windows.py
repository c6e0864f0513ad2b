"""A video as windows of time, each with its own view, from a file or from a pipe, with the same pixels from both.

Windows are `length` seconds long and counted from the first frame. A tail that has no frame at or after its window's
middle is too short for a view of its own and joins the window before. Window k is looked at where view k of
`make_views` is, so a video of one window is seen as training sees it. Frames are chosen inside each window.

Frames of one flat color (flat.py) tell a model nothing. A window in which such a frame is chosen, and that has others,
takes its frames from those others.

A file's times are known beforehand, so only the wanted frames are read. A pipe's are not: the patches of every frame
of at most one and a half windows are kept, never whole frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
from numpy.typing import NDArray

from rungwise.media.clock import end_seconds, steady_clock
from rungwise.media.packets import Packets
from rungwise.score.frame_choice import luma_difference
from rungwise.score.views import Patches, View, ViewRecipe, stitch

WINDOW_SECONDS = 4.0
BLOCK_FRAMES = 32
CLOCK_SECONDS = 0.0011  # how far a container's clock may round a frame's time: Matroska's counts milliseconds


@dataclass(frozen=True)
class Span:
    """Window `number` of those that are `length_seconds` long: where it lies and which frames it is judged by."""

    length_seconds: float
    number: int
    start_seconds: float
    end_seconds: float
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]


@dataclass(frozen=True)
class SeenWindow:
    """A window and its view's pixels_TSSC; `flat`: each of its frames is one flat color (rungwise/score/flat.py)."""

    span: Span
    pixels: NDArray[np.uint8]
    flat: bool = False


PlaceView = Callable[[Span], View]


def frame_times(packets: Packets) -> list[float]:
    """Seconds from the first frame; where only the container's rounding hides a steady rate, that rate's own times.

    The same video in another container, or through a pipe, then has the same times to the bit.
    """
    times = packets.times_N
    steady = steady_clock(len(times), packets.rate)
    if np.abs(times - steady).max() <= CLOCK_SECONDS:
        times = steady
    return [float(time) for time in times]


def window_of(time: float, length: float) -> int:
    """Which window a time lies in; the margin is for times such as 2.9999999 that stand for 3."""
    return floor(time / length + 1e-9)


def is_late(time: float, length: float) -> bool:
    """Whether a time lies at or after the middle of its window."""
    return time / length + 1e-9 - window_of(time, length) >= 0.5


def cut_windows(times: Sequence[float], length: float, breaks: Sequence[int] = ()) -> list[tuple[int, int]]:
    """(first, stop) frame numbers of each window; windows are counted afresh from each of the frames `breaks`, before
    which the file's clock jumps."""
    if breaks:
        edges = [0, *breaks, len(times)]
        runs = [(first, [time - times[first] for time in times[first:stop]]) for first, stop in pairwise(edges)]
        return [(first + a, first + b) for first, run in runs for a, b in cut_windows(run, length)]
    cuts = [0]
    for index in range(1, len(times)):
        if window_of(times[index], length) != window_of(times[index - 1], length):
            cuts.append(index)
    if len(cuts) > 1 and not is_late(times[-1], length):
        cuts.pop()
    return list(zip(cuts, [*cuts[1:], len(times)], strict=True))


def plan_windows(
    times: Sequence[float],
    rate: Fraction,
    length: float,
    recipe: ViewRecipe,
    differences: Sequence[float],
    breaks: Sequence[int] = (),
) -> list[Span]:
    """The windows of a file whose times, and differences if the recipe wants them, are known."""
    spans = []
    for number, (first, stop) in enumerate(cut_windows(times, length, breaks)):
        chosen = recipe.choose_frames(stop - first, np.asarray(differences[first : stop - 1]))
        end = times[stop] if stop < len(times) else end_seconds(times, rate)
        indices = tuple(first + index for index in chosen)
        spans.append(Span(length, number, times[first], end, indices, tuple(times[index] for index in indices)))
    return spans


def content_frames(recipe: ViewRecipe, is_flat_N: Sequence[bool], differences: Sequence[float]) -> tuple[int, ...]:
    """As `ViewRecipe.choose_frames` of a window's N frames, among those that are not flat."""
    content = np.flatnonzero(~np.asarray(is_flat_N))
    steps = np.asarray(differences, float)[content[1:] - 1] if len(differences) else np.empty(0)
    return tuple(int(content[index]) for index in recipe.choose_frames(len(content), steps))


def gather(
    spans: Sequence[Span], place: PlaceView, frames: Iterable[tuple[int, Patches, bool]]
) -> Iterator[SeenWindow]:
    """Windows as their frames come; `frames` holds all that they want: index, ascending, frame as shown, is it flat.

    A window is `flat` here if any of them is; the frames that it does not want decide what becomes of it.
    """
    uses: dict[int, list[tuple[int, int]]] = {}
    for job, span in enumerate(spans):
        for slot, index in enumerate(span.frame_indices):
            uses.setdefault(index, []).append((job, slot))
    views: dict[int, View] = {}
    pixels: dict[int, NDArray[np.uint8]] = {}
    flat: set[int] = set()
    for index, shown, is_flat in frames:
        for job, slot in uses.get(index, ()):
            span = spans[job]
            if job not in views:
                view = views[job] = place(span)
                pixels[job] = np.empty((len(span.frame_indices), view.size_px, view.size_px, 3), np.uint8)
            stitch(shown, views[job], pixels[job][slot])
            if is_flat:
                flat.add(job)
            if slot == len(span.frame_indices) - 1:
                yield SeenWindow(span, pixels.pop(job), job in flat)
        del shown  # before the next is made: a whole frame may be very large


@dataclass
class _Open:
    """A window whose end is not known: what its frames look like at its view's places, were each one wanted."""

    number: int
    first: int
    start_seconds: float
    places: View
    count: int = 0
    blocks: list[NDArray[np.uint8]] = field(default_factory=list)  # of BLOCK_FRAMES frames' patches each
    differences: list[float] = field(default_factory=list)  # from the frame before, for each but the first
    is_flat: list[bool] = field(default_factory=list)


class Assembler:
    """Windows of a stream, frame by frame. `place` is called for where to look, before the frames are chosen."""

    def __init__(self, length: float, recipe: ViewRecipe, place: PlaceView) -> None:
        self.length, self.recipe, self.place = length, recipe, place
        self.before: _Open | None = None  # complete, but for a short tail that may yet join it
        self.count_before = 0  # its frames without that tail
        self.now: _Open | None = None
        self.times: list[float] = []
        self.previous_luma: NDArray[np.generic] | None = None
        # Used again and again: small arrays made between large frames would leave holes all over the memory.
        self.spare: list[NDArray[np.uint8]] = []

    def push(self, time: float, shown: Patches, luma: NDArray[np.generic], is_flat: bool) -> Iterator[SeenWindow]:
        """Take the next frame; yields at most one finished window."""
        difference = None
        if self.recipe.choice.needs_differences:
            if self.previous_luma is not None:
                difference = luma_difference(self.previous_luma, luma)
            self.previous_luma = np.array(luma)
        index = len(self.times)
        starts = not self.times or window_of(time, self.length) != window_of(self.times[-1], self.length)
        self.times.append(time)
        if starts:
            yield from self._settle()
            number = 0 if self.now is None else self.now.number + 1
            self.before, self.count_before = self.now, self.now.count if self.now else 0
            self.now = _Open(number, index, time, self.place(Span(self.length, number, time, time, (index,), (time,))))
        assert self.now is not None
        self._add(self.now, shown, difference, is_flat)
        if is_late(time, self.length):
            yield from self._settle()
        if self.before is not None:
            self._add(self.before, shown, difference, is_flat)

    def _add(self, window: _Open, shown: Patches, difference: float | None, is_flat: bool) -> None:
        window.is_flat.append(is_flat)
        if window.count and difference is not None:
            window.differences.append(difference)
        place = window.count % BLOCK_FRAMES
        if place == 0:
            size = window.places.size_px
            window.blocks.append(self.spare.pop() if self.spare else np.empty((BLOCK_FRAMES, size, size, 3), np.uint8))
        stitch(shown, window.places, window.blocks[-1][place])
        window.count += 1

    def _settle(self) -> Iterator[SeenWindow]:
        """The window that now runs stands by itself, so the one before is complete without it."""
        if self.before is not None:
            assert self.now is not None
            yield self._seen(self.before, self.count_before, self.now.start_seconds)
            self.before = None

    def finish(self, rate: Fraction) -> Iterator[SeenWindow]:
        """The windows still open at the end."""
        assert self.now is not None
        last = self.now if self.before is None else self.before
        yield self._seen(last, last.count, end_seconds(self.times, rate))

    def _seen(self, window: _Open, count: int, end_seconds: float) -> SeenWindow:
        differences, is_flat = window.differences[: count - 1], window.is_flat[:count]
        chosen = self.recipe.choose_frames(count, np.asarray(differences))
        if any(is_flat[index] for index in chosen) and not all(is_flat):
            chosen = content_frames(self.recipe, is_flat, differences)
        indices = tuple(window.first + index for index in chosen)
        pixels = np.stack([window.blocks[index // BLOCK_FRAMES][index % BLOCK_FRAMES] for index in chosen])
        self.spare += window.blocks
        seconds = tuple(self.times[index] for index in indices)
        span = Span(self.length, window.number, window.start_seconds, end_seconds, indices, seconds)
        return SeenWindow(span, pixels, all(is_flat))
