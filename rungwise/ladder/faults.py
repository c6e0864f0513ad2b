"""Faults in a table of one title's rungs. Reads no file.

Hull and order hold within a codec over all its heights, because a player chooses among them all. Quality is
higher-is-better, at one display height.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.ladder.findings import Fault, group_faults
from rungwise.ladder.rungs import (
    GAP_STEPS,
    KINDS,
    CodecCheck,
    Crossover,
    Curve,
    Finding,
    Kind,
    LadderCheck,
    Metric,
    Neighbors,
    Rung,
    Verdict,
    make_crossover,
)
from rungwise.metrics.curves import convex_hull, crossovers, hull_bitrate, hull_quality


@dataclass(frozen=True)
class _Ladder:
    """All rungs with their quality and bitrate."""

    rungs: Sequence[Rung]
    quality: NDArray[np.float64]
    rate: NDArray[np.float64]
    metric: Metric
    intervals: Sequence[tuple[float | None, float | None]] | None


def check_ladder(
    rungs: Sequence[Rung],
    quality: ArrayLike,
    metric: Metric,
    intervals: Sequence[tuple[float | None, float | None]] | None = None,
) -> LadderCheck:
    """Check a title's rungs.

    Args:
        rungs: in any order, of any number of codecs.
        quality: (n,), higher is better, at one display height.
        metric: measures that quality.
        intervals: (low, high) of each quality, where known; shown, not used.

    Raises:
        ValueError: no rung, or a bitrate or quality that is not a number.
    """
    q, rate = np.asarray(quality, np.float64), np.asarray([rung.bitrate_kbps for rung in rungs], np.float64)
    convex_hull(rate, q)  # names what is wrong with the numbers
    ladder = _Ladder(rungs, q, rate, metric, intervals)
    checks, findings, verdicts = list[CodecCheck](), list[Finding](), dict[int, Verdict]()
    for codec in dict.fromkeys(rung.codec for rung in rungs):
        check, codec_findings, codec_verdicts = _check_codec(ladder, codec)
        checks.append(check)
        findings += codec_findings
        verdicts |= codec_verdicts
    findings.sort(key=lambda finding: (not finding.certain, list(KINDS).index(finding.kind)))
    return LadderCheck(
        metric=metric,
        verdicts=tuple(verdicts[row] for row in range(len(rungs))),
        codecs=tuple(checks),
        findings=tuple(f.model_copy(update={"number": number}) for number, f in enumerate(findings, 1)),
    )


def _check_codec(ladder: _Ladder, codec: str) -> tuple[CodecCheck, list[Finding], dict[int, Verdict]]:
    """One codec's curves, its findings by rising bitrate, and a verdict for each of its rungs."""
    rows = np.asarray([i for i, rung in enumerate(ladder.rungs) if rung.codec == codec])
    rows = rows[np.lexsort((ladder.quality[rows], ladder.rate[rows]))]
    rate, q = ladder.rate[rows], ladder.quality[rows]
    hull = rows[convex_hull(rate, q)]
    below = np.maximum(hull_quality(rate, q, rate) - q, 0.0)
    wasted = np.maximum(1 - hull_bitrate(rate, q, q) / rate, 0.0) * 100
    beyond_noise = _below_hull(ladder, rows, hull, below, wasted) | _unordered(ladder, rows)
    faults = {row: fault for row, fault in beyond_noise.items() if fault.certain}
    sound = [int(row) for row in rows if row not in faults]
    close = _close(ladder, [row for row in sound if row not in beyond_noise])
    faults |= {row: fault for row, fault in close.items() if fault.certain}
    doubts = {row: fault for row, fault in (close | beyond_noise).items() if row not in faults}
    curves = _curves(ladder, rows)
    neighbors = _neighbors(ladder, sound)
    check = CodecCheck(
        codec=codec,
        rungs=tuple(map(int, rows)),
        curves=curves,
        hull=tuple(map(int, hull)),
        floor=int(rows[np.argmin(q)]),
        ceiling=int(hull[-1]),
        crossovers=_crossovers(ladder, curves),
        neighbors=neighbors,
        gaps=tuple(pair for pair in neighbors if pair.steps > GAP_STEPS),
    )
    verdicts = {}
    for row, points, percent in zip(map(int, rows), below, wasted, strict=True):
        low, high = ladder.intervals[row] if ladder.intervals else (None, None)
        verdicts[row] = Verdict(
            quality=float(ladder.quality[row]),
            low=low,
            high=high,
            on_hull=row in hull,
            sound=row in sound,
            below_hull=float(points),
            wasted_percent=float(percent),
            flags=_flags(faults.get(row)),
            doubts=_flags(doubts.get(row)),
        )
    findings = group_faults(ladder.rungs, faults.values()) + group_faults(ladder.rungs, doubts.values())
    return check, findings, verdicts


def _flags(fault: Fault | None) -> tuple[Kind, ...]:
    """A rung that is out of order is below the hull as well."""
    if fault is None:
        return ()
    return ("unordered", "off-hull") if fault.kind == "unordered" else (fault.kind,)


def _unordered(ladder: _Ladder, rows: NDArray[np.int64]) -> dict[int, Fault]:
    """Rungs that some cheaper rung beats by more than the noise; the cheapest such is named, if it is certain."""
    rungs, q, faults = ladder.rungs, ladder.quality, {}
    for place, row in enumerate(rows):
        rung = rungs[row]
        cheaper = [int(i) for i in rows[:place] if rungs[i].bitrate_kbps < rung.bitrate_kbps]
        better = [i for i in cheaper if q[i] > q[row] + ladder.metric.noise]
        certain = [i for i in better if _is_certain(ladder, q[i] - q[row], q[i] - q[row], (i, row))]
        for other in (certain or better)[:1]:
            less = 100 * (1 - rungs[other].bitrate_kbps / rung.bitrate_kbps)
            points = float(q[other] - q[row])
            faults[int(row)] = Fault("unordered", int(row), other, points, less, certain=bool(certain))
    return faults


def _is_certain(ladder: _Ladder, margin: float, points: float, rows: Iterable[int]) -> bool:
    return ladder.metric.is_certain(margin, points, (ladder.rungs[row].height for row in rows))


def _below_hull(
    ladder: _Ladder,
    rows: NDArray[np.int64],
    hull: NDArray[np.int64],
    below: NDArray[np.float64],
    wasted: NDArray[np.float64],
) -> dict[int, Fault]:
    """Rungs below their codec's hull by more than the noise."""
    faults = {}
    for row, points, percent in zip(map(int, rows), below, wasted, strict=True):
        if points > ladder.metric.noise:
            height = _other_height(ladder, hull, row)
            certain = _is_certain(ladder, points, points, (row, *_nearest(ladder, hull, row)))
            faults[row] = Fault("off-hull", row, None, float(points), float(percent), height, certain)
    return faults


def _other_height(ladder: _Ladder, hull: NDArray[np.int64], row: int) -> int | None:
    """The height of the hull's rungs next to a rung's bitrate, if it is not the rung's; of two, the nearer rung's."""
    nearest = [ladder.rungs[i].height for i in _nearest(ladder, hull, row)]
    return None if ladder.rungs[row].height in nearest else nearest[0]


def _nearest(ladder: _Ladder, hull: NDArray[np.int64], row: int) -> list[int]:
    """The two rungs of the hull next to a rung's bitrate, the nearer one first."""
    distance = np.abs(np.log(ladder.rate[hull] / ladder.rate[row]))
    return [int(i) for i in hull[np.argsort(distance, kind="stable")][:2]]


def _close(ladder: _Ladder, sound: Sequence[int]) -> dict[int, Fault]:
    """From the cheapest up: sound rungs less than the least rise above the last one that is kept."""
    rungs, q, faults = ladder.rungs, ladder.quality, dict[int, Fault]()
    last: int | None = None
    for row in sound:
        if last is None or q[row] - q[last] >= ladder.metric.least_rise:
            last = row
            continue
        more = 100 * (rungs[row].bitrate_kbps / rungs[last].bitrate_kbps - 1)
        rise = float(q[row] - q[last])
        certain = _is_certain(ladder, ladder.metric.least_rise + ladder.metric.noise - rise, rise, (row, last))
        faults[row] = Fault("close", row, last, rise, more, certain=certain)
    return faults


def _neighbors(ladder: _Ladder, sound: Sequence[int]) -> tuple[Neighbors, ...]:
    q, rate, metric = ladder.quality, ladder.rate, ladder.metric
    least_gap = GAP_STEPS * metric.step - metric.noise
    return tuple(
        Neighbors(
            lower=lower,
            upper=upper,
            points=float(q[upper] - q[lower]),
            steps=float((q[upper] - q[lower]) / metric.step),
            bitrate_ratio=float(rate[upper] / rate[lower]),
            certain=_is_certain(ladder, q[upper] - q[lower] - least_gap, q[upper] - q[lower], (lower, upper)),
        )
        for lower, upper in pairwise(sound)
    )


def _curves(ladder: _Ladder, rows: NDArray[np.int64]) -> tuple[Curve, ...]:
    curves = []
    for height in sorted({ladder.rungs[row].height for row in rows}):
        own = np.asarray([row for row in rows if ladder.rungs[row].height == height])
        hull = own[convex_hull(ladder.rate[own], ladder.quality[own])]
        curves.append(Curve(height=height, rungs=tuple(map(int, hull))))
    return tuple(curves)


def _crossovers(ladder: _Ladder, curves: Sequence[Curve]) -> tuple[Crossover, ...]:
    """Between each height's curve and the next."""
    q, rate, between = ladder.quality, ladder.rate, []
    for lower, upper in pairwise(curves):
        a, b = list(lower.rungs), list(upper.rungs)
        between.append(make_crossover(lower.height, upper.height, crossovers(rate[a], q[a], rate[b], q[b])))
    return tuple(between)
