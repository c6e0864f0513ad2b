"""Which rungs to keep, drop and add, and BD-rate between codecs. Reads no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.ladder.rungs import GAP_STEPS, KINDS, CodecCheck, Frozen, LadderCheck, Rung, format_kbps
from rungwise.metrics.curves import bd_rate, pareto_front

OBJECTIVE = (
    "keep the cheapest and the best sound rung under the cap, and between them those that minimize the largest quality "
    "gap, then the sum of squared gaps; without a requested number, as many as fit one step apart, and those between "
    "that fit but for the noise"
)


class Drop(Frozen):
    """A rung to leave out, and why."""

    rung: int
    reason: str


class Addition(Frozen):
    """A rung to encode between two that are kept, read off the codec's own curve; in place of `replaced`, if any."""

    lower: int
    upper: int
    replaced: int | None
    height: int
    bitrate_kbps: float
    quality: float


class Recommendation(Frozen):
    """One codec's recommended ladder. `largest_gap` is None with fewer than two rungs kept."""

    codec: str
    keep: tuple[int, ...]
    drop: tuple[Drop, ...]
    add: tuple[Addition, ...]
    largest_gap: float | None
    note: str


class Saving(Frozen):
    """BD-rate of `codec` against `anchor` in percent of bitrate at equal quality; negative saves."""

    anchor: str
    codec: str
    bd_rate_percent: float | None
    reason: str


def choose_rungs(quality: ArrayLike, count: int, least_gap: ArrayLike = 0.0) -> tuple[int, ...] | None:
    """The best `count` rows of rising qualities by the OBJECTIVE, first and last included; exact dynamic programming.

    With `count` 1 it is the last alone. None if no such choice keeps rows `least_gap` apart: a number, or one for
    each pair (from, to).
    """
    q = np.asarray(quality, np.float64)
    n = len(q)
    assert count >= 1
    assert (np.diff(q) > 0).all()
    count = min(count, n)
    if count == 1:
        return (n - 1,)
    gap = q - q[:, None]  # (from, to)
    gap = np.where((gap > 0) & (gap >= np.asarray(least_gap)), gap, np.inf)
    largest = gap[0]  # over choices that end in each row
    for _ in range(count - 2):
        largest = np.maximum(largest[:, None], gap).min(axis=0)
    if not np.isfinite(largest[-1]):
        return None
    allowed = np.where(gap <= largest[-1] * (1 + 1e-12), gap**2, np.inf)
    cost, came_from = allowed[0], []
    for _ in range(count - 2):
        ways = cost[:, None] + allowed
        came_from.append(ways.argmin(axis=0))
        cost = ways.min(axis=0)
    rows = [n - 1]
    for back in reversed(came_from):
        rows.append(int(back[rows[-1]]))
    return (0, *reversed(rows))


def recommend(
    rungs: Sequence[Rung], check: LadderCheck, *, count: int | None = None, cap_kbps: float | None = None
) -> tuple[Recommendation, ...]:
    """For every codec: which rungs to keep, drop and add.

    Args:
        rungs: those that were checked.
        check: their check.
        count: number of rungs; None for as many as fit one step apart.
        cap_kbps: highest bitrate of a rung.
    """
    return tuple(_recommend(rungs, check, codec, count, cap_kbps) for codec in check.codecs)


def _recommend(
    rungs: Sequence[Rung], check: LadderCheck, codec: CodecCheck, count: int | None, cap_kbps: float | None
) -> Recommendation:
    step, q = check.metric.step, np.asarray([verdict.quality for verdict in check.verdicts])
    rate = np.asarray([rung.bitrate_kbps for rung in rungs])
    sound = np.asarray([row for row in codec.rungs if check.verdicts[row].sound])
    allowed = sound if cap_kbps is None else sound[rate[sound] <= cap_kbps]
    if not allowed.size:
        every = tuple(Drop(rung=row, reason="above the cap") for row in codec.rungs)
        note = f"no sound rung is below the cap of {format_kbps(cap_kbps or 0)} kbps"
        return Recommendation(codec=codec.codec, keep=(), drop=every, add=(), largest_gap=None, note=note)
    front = allowed[pareto_front(rate[allowed], q[allowed])]
    if count is None:
        tries = (choose_rungs(q[front], number, step) for number in range(len(front), 0, -1))
        chosen = next(rows for rows in tries if rows is not None)
        chosen = _with_fitting(q[front], chosen, check.metric.least_rise)
    else:
        chosen = choose_rungs(q[front], count) or ()
    keep = [int(front[row]) for row in chosen]
    add = _additions(rungs, codec, front, keep, q, rate, step, count)
    gaps = np.diff(q[keep])
    notes = []
    if count is not None and len(keep) + len(add) < count:
        notes.append(f"{count} rungs requested, but only {len(keep) + len(add)} fit one step apart")
    elif count is not None and gaps.size and gaps.min() < check.metric.least_rise:
        notes.append(f"with {count} rungs, some are less than one step apart")
    moved = {addition.replaced for addition in add}
    dropped = [
        Drop(rung=row, reason="replaced" if row in moved else _reason(check, row, rate, cap_kbps))
        for row in codec.rungs
        if row not in keep
    ]
    return Recommendation(
        codec=codec.codec,
        keep=tuple(keep),
        drop=tuple(dropped),
        add=tuple(add),
        largest_gap=float(gaps.max()) if gaps.size else None,
        note="; ".join(notes),
    )


def _with_fitting(q: NDArray[np.float64], chosen: Sequence[int], least_rise: float) -> tuple[int, ...]:
    """The chosen rows of rising qualities, and those at least `least_rise` from all of them, the most distant first."""
    rows = list(chosen)
    while True:
        distance = np.abs(q[:, None] - q[rows]).min(axis=1)
        if distance.max() < least_rise:
            return tuple(sorted(rows))
        rows.append(int(distance.argmax()))


def _reason(check: LadderCheck, row: int, rate: NDArray[np.float64], cap_kbps: float | None) -> str:
    verdict = check.verdicts[row]
    if cap_kbps is not None and rate[row] > cap_kbps:
        return "above the cap"
    if not verdict.flags and not verdict.doubts:
        return "not needed"
    (kind, *_) = verdict.flags or verdict.doubts
    reason = "too close to a kept rung" if kind == "close" else KINDS[kind]
    return reason if verdict.flags else f"perhaps {reason}"


def _additions(
    rungs: Sequence[Rung],
    codec: CodecCheck,
    front: NDArray[np.int64],
    keep: Sequence[int],
    q: NDArray[np.float64],
    rate: NDArray[np.float64],
    step: float,
    count: int | None,
) -> list[Addition]:
    """Split the largest gap until `count` is reached, or none is wider than GAP_STEPS steps.

    Bitrates are interpolated on the Pareto front of sound rungs, in log bitrate.
    """
    gaps = np.diff(q[list(keep)])
    pieces = np.ones(len(gaps), np.int64)
    while gaps.size:
        widest = int(np.argmax(gaps / pieces))
        if count is None and gaps[widest] / pieces[widest] <= GAP_STEPS * step:
            break
        if count is not None and (
            len(keep) + (pieces - 1).sum() >= count or gaps[widest] / (pieces[widest] + 1) < step
        ):
            break
        pieces[widest] += 1
    additions, replaced = list[Addition](), set[int | None]()
    for lower, upper, parts in zip(keep, keep[1:], pieces, strict=False):
        for part in range(1, int(parts)):
            quality = float(q[lower] + (q[upper] - q[lower]) * part / parts)
            kbps = float(np.exp(np.interp(quality, q[front], np.log(rate[front]))))
            height = _best_height(codec, (rungs[lower].height, rungs[upper].height), q, rate, kbps)
            between = {int(row) for row in front if q[lower] < q[row] < q[upper]} - replaced
            near = min(between, key=lambda row: abs(q[row] - quality), default=None)
            near = near if near is not None and abs(q[near] - quality) < step else None
            replaced.add(near)
            additions.append(
                Addition(lower=lower, upper=upper, replaced=near, height=height, bitrate_kbps=kbps, quality=quality)
            )
    return additions


def _best_height(
    codec: CodecCheck, heights: tuple[int, int], q: NDArray[np.float64], rate: NDArray[np.float64], kbps: float
) -> int:
    """Which of two neighbors' heights is better at a bitrate; the upper one's where neither curve covers it."""
    reached = {heights[1]: -np.inf}
    for curve in codec.curves:
        own = list(curve.rungs)
        if curve.height in heights and rate[own[0]] <= kbps <= rate[own[-1]]:
            reached[curve.height] = float(np.interp(np.log(kbps), np.log(rate[own]), q[own]))
    return max(reached, key=lambda height: reached[height])


def savings(rungs: Sequence[Rung], check: LadderCheck, anchor: str | None = None) -> tuple[Saving, ...]:
    """BD-rate between codecs over the sound rungs of each: all against `anchor`, or every pair.

    Raises:
        ValueError: no such codec.
    """
    names = [codec.codec for codec in check.codecs]
    if anchor is not None and anchor not in names:
        raise ValueError(f"--anchor is {anchor!r}; the ladder's codecs are {', '.join(names)}")
    points: dict[str, Any] = {}
    for codec in check.codecs:
        rows = [row for row in codec.rungs if check.verdicts[row].sound]
        points[codec.codec] = [rungs[i].bitrate_kbps for i in rows], [check.verdicts[i].quality for i in rows]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    if anchor is not None:
        pairs = [(anchor, name) for name in names if name != anchor]
    results = []
    for first, second in pairs:
        rate = bd_rate(*points[first], *points[second])
        reason = rate.reason.replace("anchor:", f"{first}:").replace("test:", f"{second}:")
        results.append(Saving(anchor=first, codec=second, bd_rate_percent=rate.percent, reason=reason))
    return tuple(results)
