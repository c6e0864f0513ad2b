"""When frames are shown: the one place that turns a container's times into seconds of shown video.

Times in files go wrong: a recorder restarts and its clock with it, one frame's time lies hours ahead, an edit list
hides coded frames. A frame is shown until the next one, as long as that is plausible; what is not lasts as long as
most frames do, and is said in a note. So durations, bitrates, windows and their weights are those of what is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# A still may be held for long: a slide, a paused screen recording. More than this between two frames, and more than
# `JUMP_STEPS` usual steps, is a clock that jumps.
JUMP_SECONDS = 30.0
JUMP_STEPS = 20
RESTART_STEPS = 4  # by which decoding times must fall back where no key frame says that something new begins


@dataclass(frozen=True)
class Clock:
    """Seconds at which N frames are shown, from the first, ascending; and what was wrong with the file's own times.

    `breaks` are the frames before which the file's clock jumps or restarts: what lies there need not go on from before.
    """

    seconds_N: NDArray[np.float64]
    left_out_seconds: float = 0.0  # by which the file's own times are longer
    notes: tuple[str, ...] = ()
    breaks: tuple[int, ...] = ()


def shown_order(
    ticks_N: NDArray[np.int64], decode_ticks: Sequence[int | None], is_key: Sequence[bool], time_base: Fraction
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Packets in coded order as they are shown: (their order, their times in that order for `shown_clock`).

    Where something new begins (the clock falls or jumps at a key frame) what comes after is shown after. A jump between
    other frames changes the place of none: it moves to where the first frame after it is shown.
    """
    limit = _limit(_usual(_steps(np.sort(ticks_N))), time_base)
    steps = np.diff(ticks_N)
    alone = _alone(steps, np.abs(steps) > limit, limit)
    known = np.flatnonzero(~alone)
    near = ticks_N[known[np.clip(np.searchsorted(known, np.arange(len(alone)), side="right") - 1, 0, None)]]
    keys = np.asarray(is_key, bool)
    trusted = [None if stray else tick for tick, stray in zip(decode_ticks, alone, strict=True)]
    breaks = np.concatenate([[False], np.abs(np.diff(near)) > limit]) | _falls(trusted, keys)
    runs = np.cumsum(breaks & keys)
    steps_off = np.zeros(len(ticks_N), np.int64)
    for index in np.flatnonzero(breaks & ~keys):
        steps_off[index] = _jump(near[max(0, index - JUMP_STEPS) : index], near[index : index + JUMP_STEPS])
    off = np.cumsum(steps_off)
    mended = ticks_N - off
    places = mended.copy()
    for run in np.unique(runs[alone]):
        inside = runs == run
        places[inside] = _places(mended[inside], alone[inside])
    order = np.lexsort((places, runs))
    return order, mended[order] + off[np.maximum.accumulate(order)]


def _falls(decode_ticks: Sequence[int | None], is_key_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Packets at which decoding times fall: they never do but where a clock restarts, by much or at a key frame."""
    falls = np.zeros(len(is_key_N), bool)
    known = np.flatnonzero([tick is not None for tick in decode_ticks])
    steps = _steps(np.array([tick for tick in decode_ticks if tick is not None], np.int64))
    falls[known[1:]] = (steps < -RESTART_STEPS * _usual(steps)) | ((steps < 0) & is_key_N[known[1:]])
    return falls


def _alone(steps: NDArray[np.int64], far: NDArray[np.bool_], limit: float) -> NDArray[np.bool_]:
    """Frames that are far from the one before and from the one after, which are near each other; an end's one, too."""
    if len(steps) < 3 or not far.any():
        return np.zeros(len(steps) + 1, bool)
    between = far[:-1] & far[1:] & (np.abs(steps[:-1] + steps[1:]) <= limit)
    return np.concatenate([far[:1] & ~far[1:2], between, far[-1:] & ~far[-2:-1]])


def _jump(before: NDArray[np.int64], after: NDArray[np.int64]) -> int:
    """By how much the clock jumps between frames in coded order: so that those after it come next, or, where that
    leaves fewer holes, between those before it."""
    usual = _usual(np.diff(np.sort(np.concatenate([before, after]))))
    jumps = int(after.min() - before.max()) - usual + usual * np.arange(RESTART_STEPS + 1)
    holes = [np.abs(np.diff(np.sort(np.concatenate([before, after - jump]))) - usual).sum() for jump in jumps]
    best = int(np.argmin(holes))
    return int(jumps[best if holes[0] - holes[best] > 1.5 * usual else 0])


def _places(ticks: NDArray[np.int64], alone: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Frames' times, but of one that strays the place that is left for it near those that are coded beside it."""
    places = ticks.copy()
    known = np.flatnonzero(~alone)
    others = np.sort(ticks[known])
    usual = _usual(np.diff(others))
    holes = others[:-1][np.diff(others) > 1.5 * usual] + usual
    for index in np.flatnonzero(alone):
        if index in (0, len(ticks) - 1) or not len(holes):
            places[index] = others[0] - usual if index == 0 else others[-1] + usual
        else:
            places[index] = holes[np.abs(holes - ticks[known[known < index][-1]]).argmin()]
    return places


def _steps(ticks_N: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.diff(ticks_N), np.int64)  # whose type numpy leaves open


def _usual(steps: NDArray[np.int64]) -> int:
    forward = steps[steps > 0]
    return int(np.median(forward)) if len(forward) else 1


def _limit(usual: int, time_base: Fraction) -> float:
    """The longest step between frames that is no jump."""
    return max(JUMP_SECONDS / float(time_base), JUMP_STEPS * usual)


def shown_clock(ticks_N: NDArray[np.int64], time_base: Fraction) -> Clock:
    """The clock of frames in the order in which they are shown; an ordinary file's is its own times, to the bit.

    Args:
        ticks_N: presentation times in units of `time_base`, ascending but where the clock jumps or restarts.
    """
    unit, steps = float(time_base), np.diff(ticks_N)
    usual = _usual(steps)
    limit = _limit(usual, time_base)
    odd = (steps > limit) | (steps < 0)
    if not odd.any():
        return Clock(np.asarray((ticks_N - ticks_N[0]) * unit))
    alone = _alone(steps, odd, limit)
    strays = odd & (alone[:-1] | alone[1:])  # the step to and the step from a frame whose own time alone is off
    seconds = np.asarray(np.concatenate([[0], np.cumsum(np.where(odd, usual, steps))]) * unit)
    jumps, restarts = (np.flatnonzero(odd & ~strays & (steps > 0)), np.flatnonzero(odd & ~strays & (steps < 0)))
    notes = []
    if alone.any():
        first = int(np.flatnonzero(alone)[0])
        off = f"at {seconds[first]:.3f} s by {abs(steps[max(0, first - 1)] * unit):.0f} s"
        notes.append(f"a frame's time is off {off} (of {alone.sum()} such): shown in its place")
    if len(jumps):
        total = (int(steps[jumps].sum()) - usual * len(jumps)) * unit
        many = "a gap" if len(jumps) == 1 else f"{len(jumps)} gaps"
        notes.append(f"{many} of {total:.0f} s at {seconds[jumps[0] + 1]:.3f} s is left out")
    if len(restarts):
        at = f"at {seconds[restarts[0] + 1]:.3f} s" + (f", {len(restarts)} times in all" if len(restarts) > 1 else "")
        notes.append(f"the file's clock restarts {at}: times go on from there")
    left_out = max(0.0, float(np.ptp(ticks_N) * unit - seconds[-1]))
    return Clock(seconds, left_out, tuple(notes), tuple(int(i) + 1 for i in sorted([*jumps, *restarts])))


def steady_clock(count: int, rate: Fraction) -> NDArray[np.float64]:
    """Seconds of `count` frames at one rate."""
    return np.arange(count) * rate.denominator / rate.numerator


def end_seconds(seconds_N: Sequence[float] | NDArray[np.float64], rate: Fraction | float) -> float:
    """When the last frame ends: it is shown as long as most are; a lone one as the stated rate (0: unknown) says."""
    if len(seconds_N) > 1:
        return float(seconds_N[-1]) + float(np.median(np.diff(seconds_N)))
    return float(seconds_N[-1]) + (float(1 / rate) if rate else 0.0)
