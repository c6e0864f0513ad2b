"""What is found in a table of rungs of one title. Pure: no file is read here.

Rungs are named by their row everywhere; curves, hull and order are taken within a codec, over all its heights, as a
player picks among them all. Quality is higher-is-better by the time it gets here, all at one display height.

`tolerance` is what measurement noise may do: a rung counts as off the hull or out of order only beyond it. A rung
within it is `sound`. The step of a viewer (`step`) is another thing: neighbors closer than that differ for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from rungwise.metrics.curves import convex_hull, crossovers, hull_bitrate, hull_quality

VMAF_STEP = 6.0
VMAF_STEP_SOURCE = (
    "a rule of thumb for VMAF v0, what 75 % of viewers notice (J. Ozer, streaminglearningcenter.com); "
    "we know of none for VMAF v1"
)
VMAF_TOLERANCE = 2.0
VMAF_TOLERANCE_SOURCE = (
    "a third of the usual step; where scores scatter by 1 point, 1 sound ladder of 50 with 10 rungs then raises a "
    "false alarm, 1 of 6 with 15 (simulated)"
)
GAP_STEPS = 2.0  # a wider hole has room for a rung that is a step from both its neighbors

Kind = Literal["unordered", "off-hull", "close"]
KINDS: dict[Kind, str] = {
    "unordered": "out of order",
    "off-hull": "off the hull",
    "close": "too close",
}


class Frozen(BaseModel):
    """A record that neither changes nor takes unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rung(Frozen):
    """One encode of the title; `bitrate_kbps` is measured, of its video alone, `declared_kbps` is a playlist's word."""

    name: str
    codec: str
    height: int
    bitrate_kbps: float
    width: int | None = None
    declared_kbps: float | None = None


class Metric(Frozen):
    """What quality is measured by, and how finely. `negated`: lower was better, so the sign was turned."""

    name: str
    kind: str
    source: Literal["model", "vmaf", "column"]
    negated: bool
    step: float
    step_source: str
    tolerance: float
    tolerance_source: str


class Verdict(Frozen):
    """One rung by one metric. `wasted_percent`: the share of its bits that the hull does without at its quality."""

    quality: float
    low: float | None
    high: float | None
    on_hull: bool
    sound: bool
    below_hull: float
    wasted_percent: float
    flags: tuple[Kind, ...]


class Finding(Frozen):
    """A fault of the first of `rungs`, against the second where there is one, in plain words."""

    number: int
    kind: Kind
    rungs: tuple[int, ...]
    points: float
    text: str


class Crossover(Frozen):
    """Where `high_height` overtakes `low_height`; no bitrates: `better` is so wherever both have rungs."""

    low_height: int
    high_height: int
    bitrates_kbps: tuple[float, ...]
    better_height: int | None
    text: str


class Neighbors(Frozen):
    """Two sound rungs next to each other in bitrate."""

    lower: int
    upper: int
    points: float
    steps: float
    bitrate_ratio: float


class Curve(Frozen):
    """One height's quality against bitrate: its own convex hull, so a botched encode is no part of it."""

    height: int
    rungs: tuple[int, ...]


class CodecCheck(Frozen):
    """One codec's rungs: `rungs` by rising bitrate, `hull` those on the convex hull, floor and ceiling of quality.

    `gaps` are wider than GAP_STEPS steps, between rungs without a fault: no rung is to blame, one may be added.
    """

    codec: str
    rungs: tuple[int, ...]
    curves: tuple[Curve, ...]
    hull: tuple[int, ...]
    floor: int
    ceiling: int
    crossovers: tuple[Crossover, ...]
    neighbors: tuple[Neighbors, ...]
    gaps: tuple[Neighbors, ...]


class LadderCheck(Frozen):
    """All that one metric says of a ladder."""

    metric: Metric
    verdicts: tuple[Verdict, ...]
    codecs: tuple[CodecCheck, ...]
    findings: tuple[Finding, ...]

    @property
    def num_flagged(self) -> int:
        """Rungs with a fault."""
        return sum(bool(verdict.flags) for verdict in self.verdicts)


def make_metric(
    name: str,
    kind: str,
    source: Literal["model", "vmaf", "column"],
    *,
    negated: bool = False,
    step: float | None = None,
    tolerance: float | None = None,
) -> Metric:
    """A metric with its step and tolerance: as given, or the stated ones of a VMAF scale.

    Raises:
        ValueError: neither given nor a VMAF scale, or not above 0.
    """
    on_vmaf = kind.lower().startswith("vmaf")
    for option, value in (("--step", step), ("--tolerance", tolerance)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{option} is {value}; it must be above 0")
    if step is None and not on_vmaf:
        raise ValueError(
            f"quality is {kind}, which has no usual just-noticeable step; say it with --step, in its units"
        )
    if tolerance is None:
        tolerance = VMAF_TOLERANCE if on_vmaf else (step or 0.0) / 3
        tolerance_source = VMAF_TOLERANCE_SOURCE if on_vmaf else "a third of the step"
    else:
        tolerance_source = "--tolerance"
    return Metric(
        name=name,
        kind=kind,
        source=source,
        negated=negated,
        step=VMAF_STEP if step is None else step,
        step_source=VMAF_STEP_SOURCE if step is None else "--step",
        tolerance=tolerance,
        tolerance_source=tolerance_source,
    )


def describe(rung: Rung) -> str:
    """Such as "h264 360p at 812 kbps"."""
    return f"{rung.codec} {rung.height}p at {format_kbps(rung.bitrate_kbps)} kbps"


def format_kbps(kbps: float) -> str:
    """Whole kbps from 100 on, one decimal below."""
    return f"{kbps:.0f}" if kbps >= 99.95 else f"{kbps:.1f}"


def check_ladder(
    rungs: Sequence[Rung],
    quality: ArrayLike,
    metric: Metric,
    intervals: Sequence[tuple[float | None, float | None]] | None = None,
) -> LadderCheck:
    """Judge a title's rungs, (n,) qualities with them, higher better.

    Args:
        rungs: in any order, of any number of codecs.
        quality: one a rung, at one display height.
        metric: what it is measured by.
        intervals: (low, high) of each quality, where known; shown, not used.

    Raises:
        ValueError: no rung, or a bitrate or quality that is no number.
    """
    q = np.asarray(quality, np.float64)
    rate = np.asarray([rung.bitrate_kbps for rung in rungs], np.float64)
    convex_hull(rate, q)  # says what is wrong with the numbers
    n = len(rungs)
    codecs = list(dict.fromkeys(rung.codec for rung in rungs))
    on_hull, below, wasted = np.zeros(n, bool), np.zeros(n), np.zeros(n)
    flags: list[tuple[Kind, ...]] = [()] * n
    checks, found = [], []
    for codec in codecs:
        rows = np.asarray([i for i, rung in enumerate(rungs) if rung.codec == codec])
        rows = rows[np.lexsort((q[rows], rate[rows]))]
        hull = rows[convex_hull(rate[rows], q[rows])]
        on_hull[hull] = True
        below[rows] = np.maximum(hull_quality(rate[rows], q[rows], rate[rows]) - q[rows], 0.0)
        wasted[rows] = np.maximum(1 - hull_bitrate(rate[rows], q[rows], q[rows]) / rate[rows], 0.0) * 100
        faults = _unordered(rows, rungs, q, metric)
        for row in rows:
            if below[row] > metric.tolerance:
                saved = f"which has its quality for {wasted[row]:.0f} % fewer bits"
                text = f"{describe(rungs[row])}: {below[row]:.1f} points below the hull, {saved}."
                faults.setdefault(int(row), _finding("off-hull", (int(row),), below[row], text))
        sound = [int(row) for row in rows if row not in faults]
        faults |= _close(sound, rungs, q, metric)
        neighbors = _neighbors(sound, rungs, q, metric)
        staying = _neighbors([row for row in sound if row not in faults], rungs, q, metric)
        curves = _curves(rows, rungs, q, rate)
        for row, fault in faults.items():
            flags[row] = ("unordered", "off-hull") if fault.kind == "unordered" else (fault.kind,)
        found += sorted(faults.values(), key=lambda fault: rate[fault.rungs[0]])
        checks.append(
            CodecCheck(
                codec=codec,
                rungs=tuple(map(int, rows)),
                curves=curves,
                hull=tuple(map(int, hull)),
                floor=int(rows[np.argmin(q[rows])]),
                ceiling=int(hull[-1]),
                crossovers=_crossovers(curves, q, rate),
                neighbors=neighbors,
                gaps=tuple(pair for pair in staying if pair.steps > GAP_STEPS),
            )
        )
    found.sort(key=lambda finding: list(KINDS).index(finding.kind))
    verdicts = [
        Verdict(
            quality=float(q[i]),
            low=intervals[i][0] if intervals else None,
            high=intervals[i][1] if intervals else None,
            on_hull=bool(on_hull[i]),
            sound="off-hull" not in flags[i],
            below_hull=float(below[i]),
            wasted_percent=float(wasted[i]),
            flags=flags[i],
        )
        for i in range(n)
    ]
    return LadderCheck(
        metric=metric,
        verdicts=tuple(verdicts),
        codecs=tuple(checks),
        findings=tuple(f.model_copy(update={"number": number}) for number, f in enumerate(found, 1)),
    )


def _finding(kind: Kind, rows: tuple[int, ...], points: float, text: str) -> Finding:
    return Finding(number=0, kind=kind, rungs=rows, points=float(points), text=text)


def _unordered(
    rows: NDArray[np.int64], rungs: Sequence[Rung], q: NDArray[np.float64], metric: Metric
) -> dict[int, Finding]:
    """Rungs that some cheaper rung beats by more than the tolerance; the cheapest such is named."""
    found = {}
    for place, row in enumerate(rows):
        rung = rungs[row]
        cheaper = [i for i in rows[:place] if rungs[i].bitrate_kbps < rung.bitrate_kbps]
        better = next((int(i) for i in cheaper if q[i] > q[row] + metric.tolerance), None)
        if better is not None:
            points, fewer = q[better] - q[row], 100 * (1 - rungs[better].bitrate_kbps / rung.bitrate_kbps)
            size = "the same height" if rungs[better].height == rung.height else f"{rungs[better].height}p"
            text = (
                f"{describe(rung)}: {size} at {format_kbps(rungs[better].bitrate_kbps)} kbps "
                f"scores {points:.1f} points more for {fewer:.0f} % fewer bits."
            )
            found[int(row)] = _finding("unordered", (int(row), better), points, text)
    return found


def _close(sound: Sequence[int], rungs: Sequence[Rung], q: NDArray[np.float64], metric: Metric) -> dict[int, Finding]:
    """From the cheapest up: sound rungs less than a step above the last one that stays."""
    found: dict[int, Finding] = {}
    kept = None
    for row in sound:
        if kept is None or q[row] - q[kept] >= metric.step:
            kept = row
            continue
        points, more = q[row] - q[kept], 100 * (rungs[row].bitrate_kbps / rungs[kept].bitrate_kbps - 1)
        text = (
            f"{describe(rungs[row])}: {points:+.1f} points over {rungs[kept].height}p at "
            f"{format_kbps(rungs[kept].bitrate_kbps)} kbps, for {more:.0f} % more bits."
        )
        found[row] = _finding("close", (row, kept), points, text)
    return found


def _neighbors(
    sound: Sequence[int], rungs: Sequence[Rung], q: NDArray[np.float64], metric: Metric
) -> tuple[Neighbors, ...]:
    return tuple(
        Neighbors(
            lower=lower,
            upper=upper,
            points=float(q[upper] - q[lower]),
            steps=float((q[upper] - q[lower]) / metric.step),
            bitrate_ratio=rungs[upper].bitrate_kbps / rungs[lower].bitrate_kbps,
        )
        for lower, upper in pairwise(sound)
    )


def _curves(
    rows: NDArray[np.int64], rungs: Sequence[Rung], q: NDArray[np.float64], rate: NDArray[np.float64]
) -> tuple[Curve, ...]:
    curves = []
    for height in sorted({rungs[row].height for row in rows}):
        own = np.asarray([row for row in rows if rungs[row].height == height])
        curves.append(Curve(height=height, rungs=tuple(map(int, own[convex_hull(rate[own], q[own])]))))
    return tuple(curves)


def _crossovers(curves: Sequence[Curve], q: NDArray[np.float64], rate: NDArray[np.float64]) -> tuple[Crossover, ...]:
    """Between each height's curve and the next."""
    found = []
    for lower, upper in pairwise(curves):
        low, high, a, b = lower.height, upper.height, list(lower.rungs), list(upper.rungs)
        crossing = crossovers(rate[a], q[a], rate[b], q[b])
        better = {"low": low, "high": high, None: None}[crossing.better]
        if crossing.bitrates_kbps:
            at = ", ".join(format_kbps(kbps) for kbps in crossing.bitrates_kbps)
            text = f"{low}p and {high}p cross at {at} kbps; {better}p is better above"
        elif better is not None:
            text = f"{better}p is better than {high if better == low else low}p wherever both have rungs"
        else:
            text = f"{low}p and {high}p have no bitrate in common"
        found.append(
            Crossover(
                low_height=low,
                high_height=high,
                bitrates_kbps=crossing.bitrates_kbps,
                better_height=better,
                text=text,
            )
        )
    return tuple(found)
