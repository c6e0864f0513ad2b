"""Faults of a ladder by a metric, beside those by VMAF v1: sound ladders, planted faults, and what is found of them.

By the truth, what is within its noise of being a fault is neither a fault nor a false alarm. Rungs of a sound ladder
are hardly farther apart than a step, so an error of a point would turn half of them into faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from ladder_encodes import VMAF_V1
from numpy.typing import ArrayLike, NDArray

from rungwise.ladder.advice import recommend
from rungwise.ladder.faults import check_ladder
from rungwise.ladder.rungs import (
    GAP_STEPS,
    VMAF_TOLERANCE,
    DifferenceErrors,
    Kind,
    LadderCheck,
    Metric,
    Rung,
    make_metric,
)

ERRORS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # points, of a difference
NUM_DRAWS = 5
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Predictor:
    """A row of the result: quality of some rows of the table, and the metric with its tolerances by content."""

    name: str
    quality: Callable[[Sequence[int]], FloatArray]
    metric: Callable[[str], Metric]


def column(values: ArrayLike) -> Callable[[Sequence[int]], FloatArray]:
    array = np.asarray(values, np.float64)
    return lambda rows: array[list(rows)]


@dataclass(frozen=True)
class Ladder:
    """Rungs of one content and codec by their row in the table.

    `base` is the number of the sound ladder it comes from, `fault` what is planted in it, in rung `planted` if it is in
    one.
    """

    content: str
    codec: str
    base: int
    fault: str
    rows: tuple[int, ...]
    planted: int | None = None


def rungs_of(table: pd.DataFrame, rows: Sequence[int]) -> list[Rung]:
    """Rungs of the table's rows."""
    return [
        Rung(name=row["name"], codec=row["codec"], height=row["height"], bitrate_kbps=row["bitrate_kbps"])
        for _, row in table.loc[list(rows)].iterrows()
    ]


def check(table: pd.DataFrame, rows: Sequence[int], predictor: Predictor, content: str = "") -> LadderCheck:
    """The check of these rows; rungs of the result are places in `rows`."""
    return check_ladder(rungs_of(table, rows), predictor.quality(rows), predictor.metric(content))


def truth_of(table: pd.DataFrame) -> Predictor:
    """VMAF v1 itself."""
    metric = make_metric("VMAF v1", VMAF_V1, "vmaf")
    return Predictor("VMAF v1", column(table["vmaf_v1"]), lambda _: metric)


def sound_ladders(table: pd.DataFrame) -> list[Ladder]:
    """What VMAF v1 recommends of the grid of each content and codec, and of H.264 by VBR and by capped CRF."""
    truth, ladders = truth_of(table), list[Ladder]()
    for (content, codec, role), part in table.groupby(["content", "codec", "role"], sort=False):
        if role not in ("grid", "vbr", "capped"):
            continue
        rows = part.index.tolist()
        advice = recommend(rungs_of(table, rows), check(table, rows, truth))[0]
        chosen = tuple(rows[i] for i in advice.keep)
        sound = check(table, chosen, truth)
        if len(chosen) > 2 and not sound.findings:
            ladders.append(Ladder(str(content), str(codec), len(ladders), "", chosen))
    return ladders


def faulty_ladders(table: pd.DataFrame, ladder: Ladder) -> Iterator[Ladder]:
    """One for each kind of fault that the content's encodes can give this ladder."""
    same = table[(table["content"] == ladder.content) & (table["codec"] == ladder.codec)]
    truth = truth_of(table)
    others: dict[str, list[tuple[float, int]]] = {}
    for row in same.index.difference(list(ladder.rows)):
        role = str(same["role"][row])
        rows = (*ladder.rows, int(row))
        result, place = check(table, rows, truth), len(ladder.rows)
        if (fault := faults_of(result).get(place)) is None:
            continue
        if (points := severity(result, place, *fault[:2])) > VMAF_TOLERANCE:
            name = role if role in ("saturated", "reencode", "blurred") else fault[0]
            others.setdefault(name, []).append((points, int(row)))
    for kind, candidates in others.items():
        _, row = sorted(candidates)[len(candidates) // 2]  # neither the plainest nor the faintest
        yield replace(ladder, fault=kind, rows=(*ladder.rows, row), planted=row)
    for place in range(1, len(ladder.rows) - 1):
        rows = ladder.rows[:place] + ladder.rows[place + 1 :]
        if gaps_of(rows, check(table, rows, truth), VMAF_TOLERANCE) - gaps_of(
            ladder.rows, check(table, ladder.rows, truth), -VMAF_TOLERANCE
        ):
            yield replace(ladder, fault="gap", rows=rows)
            break


def gaps_of(rows: Sequence[int], result: LadderCheck, margin: float) -> set[tuple[int, int]]:
    """Neighbors which are a margin more than a gap apart."""
    least = GAP_STEPS * result.metric.step + margin
    pairs = [pair for codec in result.codecs for pair in codec.neighbors if pair.points > least]
    return {(rows[pair.lower], rows[pair.upper]) for pair in pairs}


def faults_of(result: LadderCheck) -> dict[int, tuple[Kind, int | None, bool]]:
    """Kind of each rung's fault or doubt, the rung that it is compared with, and whether it is a fault."""
    return {row: (f.kind, f.other, f.certain) for f in result.findings for row in f.rungs}


def severity(truth: LadderCheck, row: int, kind: Kind, other: int | None) -> float:
    """Points of VMAF v1 by which a rung has a fault of this kind; those below 0 have none."""
    quality = [verdict.quality for verdict in truth.verdicts]
    if kind == "off-hull" or other is None:
        return truth.verdicts[row].below_hull - truth.metric.noise
    if kind == "unordered":
        return quality[other] - quality[row] - truth.metric.noise
    return truth.metric.least_rise - (quality[row] - quality[other])


def fault_counts(table: pd.DataFrame, ladders: Sequence[Ladder], predictor: Predictor) -> pd.DataFrame:
    """One row a plain fault of the truth, whether found, uncertain or missed, and one a false alarm.

    What ladders share with the sound one that they come from counts once.
    """
    truth, rows = truth_of(table), list[tuple[Any, ...]]()
    for ladder in ladders:
        by_truth = check(table, ladder.rows, truth)
        result = check(table, ladder.rows, predictor, ladder.content)
        head = ladder.content, ladder.base, ladder.fault
        for place, kind, outcome in (*rung_outcomes(by_truth, result), *gap_outcomes(by_truth, result)):
            names = tuple(ladder.rows[i] for i in place)
            is_plant = (ladder.planted,) == names if kind != "gap" else ladder.fault == "gap"
            rows.append((*head, str(names), kind, outcome, is_plant and outcome != "false"))
    columns = ["content", "base", "fault", "place", "kind", "outcome", "is_plant"]
    counts = pd.DataFrame(rows, columns=columns)
    return counts.drop_duplicates(["base", "place", "kind", "outcome"]).reset_index(drop=True)


def rung_outcomes(truth: LadderCheck, result: LadderCheck) -> Iterator[tuple[tuple[int, ...], str, str]]:
    """(place, kind, outcome) of rungs with a plain fault, and of false alarms."""
    true, own = faults_of(truth), faults_of(result)
    for row, (kind, other, _) in true.items():
        if severity(truth, row, kind, other) > VMAF_TOLERANCE:
            yield (row,), kind, "missed" if row not in own else "found" if own[row][2] else "uncertain"
    for row, (kind, other, certain) in own.items():
        if certain and row not in true and severity(truth, row, kind, other) < -VMAF_TOLERANCE:
            yield (row,), kind, "false"


def gap_outcomes(truth: LadderCheck, result: LadderCheck) -> Iterator[tuple[tuple[int, ...], str, str]]:
    """(place, kind, outcome) of plain gaps, and of false alarms."""
    places = range(len(truth.verdicts))
    plain, possible = (gaps_of(places, truth, margin) for margin in (VMAF_TOLERANCE, -VMAF_TOLERANCE))
    own = {(gap.lower, gap.upper): gap.certain for codec in result.codecs for gap in codec.gaps}
    words = {True: "found", False: "uncertain", None: "missed"}
    yield from ((pair, "gap", words[own.get(pair)]) for pair in plain)
    yield from ((pair, "gap", "false") for pair, certain in own.items() if certain and pair not in possible)


def rates(counts: pd.DataFrame) -> dict[str, float | int | None]:
    """Numbers of faults by outcome, precision, recall and F1."""
    numbers = {name: int((counts["outcome"] == name).sum()) for name in ("found", "uncertain", "missed", "false")}
    hits, false, true = numbers["found"], numbers["false"], sum(numbers.values()) - numbers["false"]
    precision, recall = hits / (hits + false) if hits + false else None, hits / true if true else None
    f1 = 2 * hits / (hits + false + true) if hits + false + true else None
    return numbers | {"precision": precision, "recall": recall, "f1": f1}


def fault_figures(table: pd.DataFrame, ladders: Sequence[Ladder], predictor: Predictor) -> dict[str, Any]:
    """Faults found and false, by kind and by what was planted, and false alarms on sound ladders."""
    counts = fault_counts(table, ladders, predictor)
    sound = sum(not ladder.fault for ladder in ladders)
    alarms = int(((counts["fault"] == "") & (counts["outcome"] == "false")).sum())
    outcomes = ["found", "uncertain", "missed"]
    return {
        "faults": rates(counts),
        "by_kind": {kind: rates(part) for kind, part in counts.groupby("kind")},
        "planted": {
            kind: part["outcome"].value_counts().reindex(outcomes, fill_value=0).to_dict()
            for kind, part in counts[counts["is_plant"]].groupby("fault")
        },
        "sound_ladders": sound,
        "false_alarms": alarms,
        "false_alarms_on_20": 20 * alarms / sound,
    }


def error_figures(table: pd.DataFrame, ladders: Sequence[Ladder]) -> list[dict[str, float]]:
    """F1 and false alarms of VMAF v1 with a random error of its differences, means over draws."""
    draws = np.random.default_rng(0).normal(0, 0.5**0.5, (NUM_DRAWS, len(table)))
    rows = list[dict[str, float]]()
    for points in ERRORS:
        errors = DifferenceErrors(one_height=points, across=points, share=0.0)
        metric = partial(_same_metric, make_metric("VMAF v1", VMAF_V1, "vmaf", errors=errors))
        qualities = [column(table["vmaf_v1"] + points * draw) for draw in draws]
        figures = [fault_figures(table, ladders, Predictor("", quality, metric)) for quality in qualities]
        f1 = float(np.mean([figure["faults"]["f1"] for figure in figures]))
        alarms = float(np.mean([figure["false_alarms_on_20"] for figure in figures]))
        rows.append({"error": points, "f1": f1, "false_alarms_on_20": alarms})
    return rows


def _same_metric(metric: Metric, _: str) -> Metric:
    return metric
