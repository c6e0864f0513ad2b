"""A video as time windows, each with its own view; a file and a pipe give the same pixels.

Windows are `length` seconds long and counted from the first frame. A tail without a frame in the second half of its
window is too short for a view of its own and joins the window before it. Window k uses the patch places of view k of
`make_views`, so a video of one window is scored with the same view as in training. Frames are chosen inside each
window.

Frames of a single color (flat.py) carry no information. If such a frame is chosen in a window that also has others,
frames are chosen again among the others.

The times of a file are known in advance, so only the chosen frames are decoded. Those of a pipe are not: patches of
every frame of at most one and a half windows are buffered, never whole frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import floor

import numpy as np
from numpy.typing import NDArray

from rungwise.media.clock import CLOCK_SECONDS, end_seconds, steady_clock
from rungwise.media.packets import Packets
from rungwise.score.frame_choice import luma_difference
from rungwise.score.views import PatchSource, View, ViewRecipe, stitch

WINDOW_SECONDS = 4.0
BLOCK_FRAMES = 32


@dataclass(frozen=True)
class Span:
    """Window `number` among those of `length_seconds`: its start and end, and the frames chosen in it."""

    length_seconds: float
    number: int
    start_seconds: float
    end_seconds: float
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]


@dataclass(frozen=True)
class WindowPixels:
    """A window and the pixels_TSSC of its view, uint8 RGB; `flat`: every frame is a single color (flat.py)."""

    span: Span
    pixels: NDArray[np.uint8]
    flat: bool = False


PlaceView = Callable[[Span], View]


def frame_times(packets: Packets) -> list[float]:
    """Seconds from the first frame; exact times of a steady rate up to the first that deviates by more than rounding.

    The same video then has bit-identical times in another container or through a pipe (`StreamClock`).
    """
    steady = steady_clock(len(packets.times_N), packets.rate)
    deviates = np.abs(packets.times_N - steady) > CLOCK_SECONDS
    num_steady = int(deviates.argmax()) if deviates.any() else len(steady)
    times = np.concatenate([steady[:num_steady], packets.times_N[num_steady:]])
    return [float(time) for time in np.maximum.accumulate(times)]


def window_of(time: float, length: float) -> int:
    """Number of the window that contains a time; the margin covers times such as 2.9999999 for 3."""
    return floor(time / length + 1e-9)


def in_second_half(time: float, length: float) -> bool:
    """Whether a time is in the second half of its window."""
    return time / length + 1e-9 - window_of(time, length) >= 0.5


def cut_windows(times: Sequence[float], length: float, breaks: Sequence[int] = ()) -> list[tuple[int, int]]:
    """(first, stop) frame indices of each window; counting restarts at each of the frames `breaks` (clock jumps)."""
    if breaks:
        edges = [0, *breaks, len(times)]
        runs = [(first, [time - times[first] for time in times[first:stop]]) for first, stop in pairwise(edges)]
        return [(first + a, first + b) for first, run in runs for a, b in cut_windows(run, length)]
    cuts = [0]
    for index in range(1, len(times)):
        if window_of(times[index], length) != window_of(times[index - 1], length):
            cuts.append(index)
    if len(cuts) > 1 and not in_second_half(times[-1], length):
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
    """Windows of a file, with their frames.

    Args:
        times: presentation times of all N frames in seconds.
        rate: frame rate that the file states.
        length: window length in seconds.
        recipe: how frames are chosen.
        differences: N - 1 luma differences; empty unless the recipe uses them.
        breaks: frames at which the clock jumps.
    """
    spans = []
    for number, (first, stop) in enumerate(cut_windows(times, length, breaks)):
        chosen = recipe.choose_frames(stop - first, np.asarray(differences[first : stop - 1]))
        end = times[stop] if stop < len(times) else end_seconds(times, rate)
        indices = tuple(first + index for index in chosen)
        spans.append(Span(length, number, times[first], end, indices, tuple(times[index] for index in indices)))
    return spans


def content_frames(recipe: ViewRecipe, is_flat_N: Sequence[bool], differences: Sequence[float]) -> tuple[int, ...]:
    """`ViewRecipe.choose_frames` among those of a window's N frames that are not flat."""
    content = np.flatnonzero(~np.asarray(is_flat_N))
    steps = np.asarray(differences, float)[content[1:] - 1] if len(differences) else np.empty(0)
    return tuple(int(content[index]) for index in recipe.choose_frames(len(content), steps))


def assemble_windows(
    spans: Sequence[Span], place: PlaceView, frames: Iterable[tuple[int, PatchSource, bool]]
) -> Iterator[WindowPixels]:
    """Yield each window as soon as its last frame arrives.

    A window is marked `flat` here if any of its frames is flat; the caller then checks the frames not chosen.

    Args:
        spans: the windows.
        place: view of a window.
        frames: (index, frame, is flat) of every frame that the windows use, ascending.
    """
    uses: dict[int, list[tuple[int, int]]] = {}
    for number, span in enumerate(spans):
        for slot, index in enumerate(span.frame_indices):
            uses.setdefault(index, []).append((number, slot))
    views: dict[int, View] = {}
    pixels: dict[int, NDArray[np.uint8]] = {}
    flat: set[int] = set()
    for index, source, is_flat in frames:
        for number, slot in uses.get(index, ()):
            span = spans[number]
            if number not in views:
                view = views[number] = place(span)
                pixels[number] = np.empty((len(span.frame_indices), view.size_px, view.size_px, 3), np.uint8)
            stitch(source, views[number], pixels[number][slot])
            if is_flat:
                flat.add(number)
            if slot == len(span.frame_indices) - 1:
                yield WindowPixels(span, pixels.pop(number), number in flat)
        del source  # before the next frame is made: a whole frame may be very large


@dataclass
class _OpenWindow:
    """A window whose end is not known yet: the patches of every frame so far."""

    number: int
    first: int
    start_seconds: float
    view: View
    times: list[float] = field(default_factory=list)  # of every frame
    blocks: list[NDArray[np.uint8]] = field(default_factory=list)  # patches of BLOCK_FRAMES frames each
    differences: list[float] = field(default_factory=list)  # to the previous frame, for each frame but the first
    is_flat: list[bool] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Frames so far."""
        return len(self.times)


class Assembler:
    """Windows of a stream, pushed frame by frame. `place` is called before the window's frames are chosen.

    Memory does not grow with the number of frames.
    """

    def __init__(self, length: float, recipe: ViewRecipe, place: PlaceView) -> None:
        self.length, self.recipe, self.place = length, recipe, place
        self.previous: _OpenWindow | None = None  # complete, unless a short tail joins it
        self.previous_count = 0  # its frames without that tail
        self.current: _OpenWindow | None = None
        self.num_frames = self.num_windows = 0
        self.origin = 0.0  # time from which windows are counted: that of the frame after the last clock jump
        self.time = 0.0  # of the last frame, from the origin
        self.previous_luma: NDArray[np.generic] | None = None
        # Blocks are reused: small arrays allocated between large frames would fragment the memory.
        self.free_blocks: list[NDArray[np.uint8]] = []

    def push(
        self, time: float, source: PatchSource, luma: NDArray[np.generic], is_flat: bool
    ) -> Iterator[WindowPixels]:
        """Add the next frame; yields at most one finished window."""
        difference = None
        if self.recipe.choice.needs_differences:
            if self.previous_luma is not None:
                difference = luma_difference(self.previous_luma, luma)
            self.previous_luma = np.array(luma)
        index, before, self.time = self.num_frames, self.time, time - self.origin
        self.num_frames += 1
        if self.current is None or window_of(self.time, self.length) != window_of(before, self.length):
            yield from self._close_previous()
            self.previous, self.previous_count = self.current, self.current.count if self.current else 0
            view = self.place(Span(self.length, self.num_windows, time, time, (index,), (time,)))
            self.current = _OpenWindow(self.num_windows, index, time, view)
            self.num_windows += 1
        assert self.current is not None
        self._add(self.current, time, source, difference, is_flat)
        if in_second_half(self.time, self.length):
            yield from self._close_previous()
        if self.previous is not None:
            self._add(self.previous, time, source, difference, is_flat)

    def _add(
        self, window: _OpenWindow, time: float, source: PatchSource, difference: float | None, is_flat: bool
    ) -> None:
        window.is_flat.append(is_flat)
        if window.count and difference is not None:
            window.differences.append(difference)
        slot = window.count % BLOCK_FRAMES
        if slot == 0:
            size = window.view.size_px
            block = self.free_blocks.pop() if self.free_blocks else np.empty((BLOCK_FRAMES, size, size, 3), np.uint8)
            window.blocks.append(block)
        stitch(source, window.view, window.blocks[-1][slot])
        window.times.append(time)

    def _close_previous(self) -> Iterator[WindowPixels]:
        """Yield the previous window: the current one is long enough to stand alone, so it won't join as a tail."""
        if self.previous is not None:
            assert self.current is not None
            yield self._finished(self.previous, self.previous_count, self.current.start_seconds)
            self.previous = None

    @property
    def open_seconds(self) -> float:
        """Start of the earliest window that is not yielded yet."""
        window = self.previous or self.current
        return 0.0 if window is None else window.start_seconds

    def restart(self, time: float, *, end_seconds: float) -> Iterator[WindowPixels]:
        """Yield the open window, which ends at `end_seconds`; windows are counted from the next frame, at `time`.

        A short tail joins the window before it, as at the end of a stream.
        """
        yield from self.finish(end_seconds)
        self.previous = self.current = None
        self.origin = time

    def finish(self, end_seconds: float) -> Iterator[WindowPixels]:
        """The window still open at the end of the stream."""
        assert self.current is not None
        last = self.current if self.previous is None else self.previous
        # A tail is numbered, but is no window if it joins the one before.
        self.num_windows -= self.previous is not None
        yield self._finished(last, last.count, end_seconds)

    def _finished(self, window: _OpenWindow, count: int, end_seconds: float) -> WindowPixels:
        differences, is_flat = window.differences[: count - 1], window.is_flat[:count]
        chosen = self.recipe.choose_frames(count, np.asarray(differences))
        if any(is_flat[index] for index in chosen) and not all(is_flat):
            chosen = content_frames(self.recipe, is_flat, differences)
        indices = tuple(window.first + index for index in chosen)
        pixels = np.stack([window.blocks[index // BLOCK_FRAMES][index % BLOCK_FRAMES] for index in chosen])
        self.free_blocks += window.blocks
        seconds = tuple(window.times[index] for index in chosen)
        span = Span(self.length, window.number, window.start_seconds, end_seconds, indices, seconds)
        return WindowPixels(span, pixels, all(is_flat))
