"""When frames are shown: container timestamps as seconds of displayed video.

Timestamps can be wrong: a recorder restarts together with its clock, one frame's timestamp is hours ahead, an edit list
hides coded frames. A frame is shown until the next one if that is plausible, else for the typical frame duration, and a
note says so. Durations, bitrates, windows and their weights then match what is displayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# A still may be held for long, such as a slide or a paused screen recording. A step between two frames is a clock jump
# if it exceeds this and also `JUMP_STEPS` typical steps.
JUMP_SECONDS = 30.0
JUMP_STEPS = 20
CLOCK_SECONDS = 0.0011  # largest rounding error of a container's timestamps: Matroska counts milliseconds
RESTART_STEPS = 4  # decoding times must fall by this many typical steps for a restart that is not at a key frame


@dataclass(frozen=True)
class Clock:
    """Display times of N frames.

    Attributes:
        seconds_N: seconds from the first frame, ascending.
        left_out_seconds: by how much the file's own timestamps span more.
        notes: what was wrong with the timestamps.
        breaks: frames before which the file's clock jumps or restarts, where content may be discontinuous.
    """

    seconds_N: NDArray[np.float64]
    left_out_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    breaks: tuple[int, ...] = ()


def shown_order(
    ticks_N: NDArray[np.int64], decode_ticks: Sequence[int | None], is_key: Sequence[bool], time_base: Fraction
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Display order of packets that are in coded order, and their times in that order for `shown_clock`.

    Where the clock falls or jumps at a key frame, a new section begins, which is displayed after the one before. A jump
    at another frame does not change the order: it moves to the first displayed frame after it.
    """
    limit = _max_step(_typical_step(_steps(np.sort(ticks_N))), time_base)
    steps = np.diff(ticks_N)
    is_stray = _stray_frames(steps, np.abs(steps) > limit, limit)
    regular = np.flatnonzero(~is_stray)
    previous = np.clip(np.searchsorted(regular, np.arange(len(is_stray)), side="right") - 1, 0, None)
    near = ticks_N[regular[previous]]  # strays replaced by the regular frame before them
    keys = np.asarray(is_key, bool)
    trusted = [None if stray else tick for tick, stray in zip(decode_ticks, is_stray, strict=True)]
    breaks = np.concatenate([[False], np.abs(np.diff(near)) > limit]) | _decode_time_falls(trusted, keys)
    sections = np.cumsum(breaks & keys)
    jumps = np.zeros(len(ticks_N), np.int64)
    for index in np.flatnonzero(breaks & ~keys):
        jumps[index] = _jump(near[max(0, index - JUMP_STEPS) : index], near[index : index + JUMP_STEPS])
    offsets = np.cumsum(jumps)
    corrected = ticks_N - offsets
    places = corrected.copy()
    for section in np.unique(sections[is_stray]):
        inside = sections == section
        places[inside] = _place_strays(corrected[inside], is_stray[inside])
    order = np.lexsort((places, sections))
    return order, corrected[order] + offsets[np.maximum.accumulate(order)]


def _decode_time_falls(decode_ticks: Sequence[int | None], is_key_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Packets at which decoding times fall, by much or at a key frame: only a clock restart makes them fall."""
    falls = np.zeros(len(is_key_N), bool)
    known = np.flatnonzero([tick is not None for tick in decode_ticks])
    steps = _steps(np.array([tick for tick in decode_ticks if tick is not None], np.int64))
    falls[known[1:]] = (steps < -RESTART_STEPS * _typical_step(steps)) | ((steps < 0) & is_key_N[known[1:]])
    return falls


def _stray_frames(steps: NDArray[np.int64], is_far: NDArray[np.bool_], limit: float) -> NDArray[np.bool_]:
    """Frames far from both neighbors, which are near each other; also a first or last frame far from its neighbor."""
    if len(steps) < 3 or not is_far.any():
        return np.zeros(len(steps) + 1, bool)
    between = is_far[:-1] & is_far[1:] & (np.abs(steps[:-1] + steps[1:]) <= limit)
    return np.concatenate([is_far[:1] & ~is_far[1:2], between, is_far[-1:] & ~is_far[-2:-1]])


def _jump(before: NDArray[np.int64], after: NDArray[np.int64]) -> int:
    """Size of a clock jump between frames in coded order.

    Without it, the frames after it follow those before it, or interleave with them if that leaves fewer gaps.
    """
    typical = _typical_step(np.diff(np.sort(np.concatenate([before, after]))))
    jumps = int(after.min() - before.max()) - typical + typical * np.arange(RESTART_STEPS + 1)
    gaps = [np.abs(np.diff(np.sort(np.concatenate([before, after - jump]))) - typical).sum() for jump in jumps]
    best = int(np.argmin(gaps))
    return int(jumps[best if gaps[0] - gaps[best] > 1.5 * typical else 0])


def _place_strays(ticks: NDArray[np.int64], is_stray: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Times of frames, with each stray moved to the free place nearest to the frame coded before it."""
    places = ticks.copy()
    regular = np.flatnonzero(~is_stray)
    others = np.sort(ticks[regular])
    typical = _typical_step(np.diff(others))
    free = others[:-1][np.diff(others) > 1.5 * typical] + typical
    for index in np.flatnonzero(is_stray):
        if index in (0, len(ticks) - 1) or not len(free):
            places[index] = others[0] - typical if index == 0 else others[-1] + typical
        else:
            places[index] = free[np.abs(free - ticks[regular[regular < index][-1]]).argmin()]
    return places


def _steps(ticks_N: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.diff(ticks_N), np.int64)  # numpy's stubs leave the dtype open


def _typical_step(steps: NDArray[np.int64]) -> int:
    forward = steps[steps > 0]
    return int(np.median(forward)) if len(forward) else 1


def _max_step(typical: int, time_base: Fraction) -> float:
    """The longest step between frames that is not a clock jump."""
    return max(JUMP_SECONDS / float(time_base), JUMP_STEPS * typical)


def shown_clock(ticks_N: NDArray[np.int64], time_base: Fraction) -> Clock:
    """The clock of frames in display order; regular timestamps are kept bit for bit.

    Args:
        ticks_N: presentation times in units of `time_base`, ascending except where the clock jumps or restarts.
        time_base: seconds per tick.
    """
    unit, steps = float(time_base), np.diff(ticks_N)
    typical = _typical_step(steps)
    limit = _max_step(typical, time_base)
    irregular = (steps > limit) | (steps < 0)
    if not irregular.any():
        return Clock(np.asarray((ticks_N - ticks_N[0]) * unit))
    is_stray = _stray_frames(steps, irregular, limit)
    stray_steps = irregular & (is_stray[:-1] | is_stray[1:])  # to and from a stray frame
    seconds = np.asarray(np.concatenate([[0], np.cumsum(np.where(irregular, typical, steps))]) * unit)
    jumps = np.flatnonzero(irregular & ~stray_steps & (steps > 0))
    restarts = np.flatnonzero(irregular & ~stray_steps & (steps < 0))
    notes = list[str]()
    if is_stray.any():
        first = int(np.flatnonzero(is_stray)[0])
        offset = abs(steps[max(0, first - 1)] * unit)
        count = f" (of {is_stray.sum()} such)" if is_stray.sum() > 1 else ""
        notes.append(f"stray timestamp at {seconds[first]:.3f} s, off by {offset:.0f} s{count}: corrected")
    if len(jumps):
        total = (int(steps[jumps].sum()) - typical * len(jumps)) * unit
        notes.append(_gap_note(len(jumps), total, seconds[jumps[0] + 1]))
    if len(restarts):
        notes.append(_restart_note(len(restarts), seconds[restarts[0] + 1]))
    left_out = max(0.0, float(np.ptp(ticks_N) * unit - seconds[-1]))
    return Clock(seconds, left_out, tuple(notes), tuple(int(i) + 1 for i in sorted([*jumps, *restarts])))


def _gap_note(count: int, total_seconds: float, first_seconds: float) -> str:
    gaps = "a gap" if count == 1 else f"{count} gaps"
    return f"{gaps} of {total_seconds:.0f} s at {first_seconds:.3f} s in the timestamps: removed"


def _restart_note(count: int, first_seconds: float) -> str:
    times = f", {count} times in total" if count > 1 else ""
    return f"timestamps restart at {first_seconds:.3f} s{times}: continued from there"


def steady_clock(count: int, rate: Fraction) -> NDArray[np.float64]:
    """Times in seconds of `count` frames at a constant rate."""
    return np.arange(count) * rate.denominator / rate.numerator


def end_seconds(seconds_N: Sequence[float] | NDArray[np.float64], rate: Fraction | float) -> float:
    """End of the last frame: it lasts the median frame duration, or 1 / `rate` if it is the only one (0: unknown)."""
    if len(seconds_N) > 1:
        return float(seconds_N[-1]) + float(np.median(np.diff(seconds_N)))
    return float(seconds_N[-1]) + (float(1 / rate) if rate else 0.0)


@dataclass
class _Jumps:
    """Clock jumps in one direction."""

    count: int = 0
    seconds: float = 0.0  # in total
    first_seconds: float = 0.0  # display time of the frame after the first one

    def add(self, seconds: float, time: float) -> None:
        self.first_seconds = self.first_seconds if self.count else time
        self.count += 1
        self.seconds += seconds


class StreamClock:
    """Display times of a stream's frames, one at a time; those of the same frames in a file are equal to the bit.

    They are exact times of a steady rate up to the first frame that deviates by more than container rounding. Only
    counts of the steps between frames are stored.
    """

    def __init__(self, rate: Fraction, time_base: Fraction | None = None) -> None:
        self.rate, self.time_base = rate, time_base
        self.num_frames = 0
        self.seconds = 0.0  # of the last frame
        self.steps: Counter[float] = Counter()  # seconds between frames
        self.is_steady = True
        self.tick: int | None = None  # of the last frame
        self.shown_ticks = 0  # from the first frame to the last
        self.tick_steps: Counter[int] = Counter()
        self.gaps, self.restarts = _Jumps(), _Jumps()

    def add_frame(self, tick: int | None) -> bool:
        """Add the next frame at `tick` (None: no timestamp); whether the clock jumps or restarts before it."""
        steady, gap = self.num_frames * self.rate.denominator / self.rate.numerator, 0
        raw = steady
        if tick is not None and self.time_base is not None:
            gap = self._add_tick(tick)
            raw = self.shown_ticks * float(self.time_base)
        self.is_steady &= abs(raw - steady) <= CLOCK_SECONDS
        seconds = max(self.seconds, steady if self.is_steady else raw)
        if self.num_frames:
            self.steps[seconds - self.seconds] += 1
        self.num_frames += 1
        self.seconds = seconds
        if gap:
            (self.gaps if gap > 0 else self.restarts).add(gap * float(self.time_base or 1), seconds)
        return gap != 0

    def _add_tick(self, tick: int) -> int:
        """Advance by a frame's timestamp; the ticks left out before it, negative if the clock restarts."""
        if self.tick is None:
            self.tick = tick
            return 0
        step, gap = tick - self.tick, 0
        assert self.time_base is not None
        if step < 0 or step * self.time_base > JUMP_SECONDS:
            typical = int(_median(self.tick_steps)) if self.tick_steps else 1
            if step < 0 or step > _max_step(typical, self.time_base):
                step, gap = typical, step - typical
        if step > 0:
            self.tick_steps[step] += 1
        self.shown_ticks += step
        self.tick = tick
        return gap

    @property
    def end_seconds(self) -> float:
        """As the function `end_seconds`."""
        if self.steps:
            return self.seconds + _median(self.steps)
        return self.seconds + float(1 / self.rate)

    def step_range(self) -> tuple[float, float]:
        """Longest minus shortest step between frames, and the median step, in seconds."""
        return (max(self.steps) - min(self.steps), _median(self.steps)) if self.steps else (0.0, 0.0)

    def notes(self) -> list[str]:
        """What was wrong with the timestamps."""
        notes = []
        if self.gaps.count:
            notes.append(_gap_note(self.gaps.count, self.gaps.seconds, self.gaps.first_seconds))
        if self.restarts.count:
            notes.append(_restart_note(self.restarts.count, self.restarts.first_seconds))
        return notes


def _median(counts: Counter[int] | Counter[float]) -> float:
    """Median of counted values, equal to NumPy's to the bit."""
    values, numbers = zip(*sorted(counts.items()), strict=True)
    ends = np.cumsum(numbers)
    middle = [values[int(np.searchsorted(ends, place, side="right"))] for place in ((ends[-1] - 1) // 2, ends[-1] // 2)]
    return float(np.mean(middle))
