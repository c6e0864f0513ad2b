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


def runs_of_clock(decode_ticks: Sequence[int | None], is_key: Sequence[bool]) -> NDArray[np.int64]:
    """Which run of the clock each packet belongs to, in coded order, counted from 0.

    Decoding times never fall but where a clock restarts: by much, or before a key frame.
    """
    known = [tick for tick in decode_ticks if tick is not None]
    if len(known) < max(3, len(decode_ticks)):
        return np.zeros(len(decode_ticks), np.int64)
    steps = np.asarray(np.diff(np.array(known, np.int64)), np.int64)
    falls = (steps < -RESTART_STEPS * _usual(steps)) | ((steps < 0) & np.asarray(is_key[1:]))
    return np.concatenate([[0], np.cumsum(falls)])


def order_keys(ticks: NDArray[np.int64], decode_ticks: Sequence[int | None], time_base: Fraction) -> NDArray[np.int64]:
    """What to sort packets by to have them as they are shown: their times, but of one that is far from its decoding
    time, as no other is, the place that is left for it."""
    if any(tick is None for tick in decode_ticks):
        return ticks
    ahead = ticks - np.asarray(decode_ticks, np.int64)
    stray = np.abs(ahead - np.median(ahead)) * float(time_base) > JUMP_SECONDS
    if not stray.any() or stray.sum() > len(ticks) // 2:
        return ticks
    keys = ticks.copy()
    others = np.sort(ticks[~stray])
    usual = _usual(np.diff(others))
    holes = others[:-1][np.diff(others) > 1.5 * usual] + usual
    for index in np.flatnonzero(stray):
        near = int(ticks[index] - ahead[index] + np.median(ahead))
        keys[index] = holes[np.abs(holes - near).argmin()] if len(holes) else near
    return keys


def _usual(steps: NDArray[np.int64]) -> int:
    forward = steps[steps > 0]
    return int(np.median(forward)) if len(forward) else 1


def shown_clock(ticks_N: NDArray[np.int64], time_base: Fraction) -> Clock:
    """The clock of frames in the order in which they are shown; an ordinary file's is its own times, to the bit.

    Args:
        ticks_N: presentation times in units of `time_base`, ascending but where the clock jumps or restarts.
    """
    unit, steps = float(time_base), np.diff(ticks_N)
    usual = _usual(steps)
    limit = max(JUMP_SECONDS / unit, JUMP_STEPS * usual)
    odd = (steps > limit) | (steps < 0)
    if not odd.any():
        return Clock(np.asarray((ticks_N - ticks_N[0]) * unit))
    strays = np.zeros(len(steps), bool)  # the step to and the step from a frame whose own time alone is off
    strays[:-1] = odd[:-1] & odd[1:] & (np.abs(steps[:-1] + steps[1:]) <= limit)
    strays[1:] |= strays[:-1]
    seconds = np.asarray(np.concatenate([[0], np.cumsum(np.where(odd, usual, steps))]) * unit)
    jumps, restarts = (np.flatnonzero(odd & ~strays & (steps > 0)), np.flatnonzero(odd & ~strays & (steps < 0)))
    notes = []
    if strays.any():
        first = int(np.flatnonzero(strays)[0])
        off = f"at {seconds[first + 1]:.3f} s by {abs(steps[first] * unit):.0f} s"
        notes.append(f"a frame's time is off {off} (of {(strays.sum() + 1) // 2} such): shown in its place")
    if len(jumps):
        total = (int(steps[jumps].sum()) - usual * len(jumps)) * unit
        many = "a gap" if len(jumps) == 1 else f"{len(jumps)} gaps"
        notes.append(f"{many} of {total:.0f} s at {seconds[jumps[0] + 1]:.3f} s is left out")
    if len(restarts):
        at = f"at {seconds[restarts[0] + 1]:.3f} s" + (f", {len(restarts)} times in all" if len(restarts) > 1 else "")
        notes.append(f"the file's clock restarts {at}: times go on from there")
    left_out = float((steps[jumps] - usual).sum() * unit)
    return Clock(seconds, left_out, tuple(notes), tuple(int(i) + 1 for i in sorted([*jumps, *restarts])))


def steady_clock(count: int, rate: Fraction) -> NDArray[np.float64]:
    """Seconds of `count` frames at one rate."""
    return np.arange(count) * rate.denominator / rate.numerator


def end_seconds(seconds_N: Sequence[float] | NDArray[np.float64], rate: Fraction | float) -> float:
    """When the last frame ends: it is shown as long as most are; a lone one as the stated rate (0: unknown) says."""
    if len(seconds_N) > 1:
        return float(seconds_N[-1]) + float(np.median(np.diff(seconds_N)))
    return float(seconds_N[-1]) + (float(1 / rate) if rate else 0.0)
