"""Fidelity of `rungwise ladder check`: its decisions by a metric beside those by VMAF v1, on test contents.

    python benchmarks/ladder_encodes.py --masters FOLDER --work DIR
    python benchmarks/ladder_fidelity.py --work DIR --out benchmarks/results/ladder_fidelity.json

The first command makes the encodes. The second scores them at paired places, as the check does, and needs minutes: run
it again for another packaged file (`--model` for one that is not packaged). Scores lie in DIR, by content and model.

- Sound ladders: rungs of one content and codec that VMAF v1 recommends, so it finds no fault.
- Faulty ladders: a sound one with one planted fault that VMAF v1 finds.
- Errors of a difference, from which the check's tolerances follow: of each content from all others; `errors` in the
  output, over all contents, are HYBRID_ERRORS and PIXEL_ONLY_ERRORS of rungwise/ladder/rungs.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ladder_encodes import VMAF_V1, read_table
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from rungwise.artifact import sha256_file, write_json
from rungwise.ladder.advice import recommend
from rungwise.ladder.faults import check_ladder
from rungwise.ladder.joint import joint_scores, missing_octaves
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
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.metrics.ladder_fidelity import Ladders, ladder_fidelity
from rungwise.score.scorer import SHIPPED_MODEL

NEAR_RATIO = 3.0  # bitrates of two rungs whose difference counts in the errors
COUNT = 5  # rungs of a recommended ladder
CAPS = (0.4, 0.7, 1.0)  # quantiles of a content's and codec's bitrates
BD_FLOOR = 5.0  # percent, above which the sign of a BD-rate counts
FloatArray = NDArray[np.float64]


def log_bitrate(table: pd.DataFrame) -> FloatArray:
    """VMAF v1 by a line through log-bitrate, of each content from all others."""
    x, y = np.log(table["bitrate_kbps"].to_numpy()), table["vmaf_v1"].to_numpy()
    values = np.empty(len(table))
    for content in table["content"].unique():
        own = (table["content"] == content).to_numpy()
        values[own] = np.polyval(np.polyfit(x[~own], y[~own], 1), x[own])
    return values


def difference_errors(table: pd.DataFrame, quality: Callable[[Sequence[int]], FloatArray]) -> pd.DataFrame:
    """Squared errors of differences between two rungs of a content and codec, near in bitrate: one row a pair."""
    rows = []
    usual = table[table["role"].isin(["grid", "vbr", "capped"])]
    for (content, _), codec in usual.groupby(["content", "codec"], sort=False):
        rate, height = codec["bitrate_kbps"].to_numpy(), codec["height"].to_numpy()
        error = quality(codec.index.tolist()) - codec["vmaf_v1"].to_numpy()
        a, b = np.triu_indices(len(codec), 1)
        near = np.abs(np.log(rate[a] / rate[b])) <= np.log(NEAR_RATIO)
        a, b = a[near], b[near]
        score = error + codec["vmaf_v1"].to_numpy()
        part = {"square": (error[a] - error[b]) ** 2, "points": score[a] - score[b], "across": height[a] != height[b]}
        rows.append(pd.DataFrame({"content": content} | part))
    return pd.concat(rows, ignore_index=True)


def fit_errors(pairs: pd.DataFrame) -> DifferenceErrors:
    """Their parts by weighted least squares of the squared errors, as large ones scatter the most."""
    across = pairs["across"].to_numpy()
    terms = np.stack([~across, across, pairs["points"].to_numpy() ** 2], axis=1).astype(float)
    weight = np.ones(len(pairs))
    for _ in range(20):
        variances = nnls(terms * weight[:, None], pairs["square"].to_numpy() * weight)[0]
        weight = 1 / np.maximum(terms @ variances, 0.25)
    one_height, two_heights, share = np.sqrt(variances).round(3).tolist()
    return DifferenceErrors(one_height=one_height, across=two_heights, share=share)


@dataclass(frozen=True)
class Predictor:
    """A row of the result: quality of some rows of the table, and the metric with its tolerances by content."""

    name: str
    quality: Callable[[Sequence[int]], FloatArray]
    metric: Callable[[str], Metric]


def predictors(table: pd.DataFrame) -> list[Predictor]:
    """The baseline, the model's scores, and VMAF v0; "hybrid" is what the check uses."""
    v0 = make_metric("VMAF v0", "vmaf_v0.6.1", "vmaf")
    baseline = make_metric("log-bitrate", "vmaf", "column")
    return [
        Predictor("log-bitrate", _column(log_bitrate(table)), lambda _: baseline),
        _model_row(table, "pixel-only", _column(table["pixel_only"])),
        _model_row(table, "hybrid, each rung by itself", _column(table["hybrid"])),
        _model_row(table, "hybrid", joint_column(table)),
        Predictor("VMAF v0", _column(table["vmaf_v0"]), lambda _: v0),
    ]


def _column(values: ArrayLike) -> Callable[[Sequence[int]], FloatArray]:
    array = np.asarray(values, np.float64)
    return lambda rows: array[list(rows)]


def joint_column(table: pd.DataFrame) -> Callable[[Sequence[int]], FloatArray]:
    """Hybrid scores, corrected by the bits that the rows which are asked for took beside each other."""

    def joint(rows: Sequence[int]) -> FloatArray:
        own = table.loc[list(rows)]
        missing = missing_octaves(own["log2_bits"], own["log2_qstep"], own["height"], own["codec"].tolist())
        return np.clip(joint_scores(own["hybrid"], missing), 0.0, 100.0)

    return joint


def _model_row(table: pd.DataFrame, name: str, quality: Callable[[Sequence[int]], FloatArray]) -> Predictor:
    pairs = difference_errors(table, quality)
    metrics = {
        content: make_metric(name, "vmaf", "model", errors=fit_errors(pairs[pairs["content"] != content]))
        for content in table["content"].unique()
    }
    return Predictor(name, quality, metrics.__getitem__)


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
    return Predictor("VMAF v1", _column(table["vmaf_v1"]), lambda _: metric)


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
    """Rungs without a fault between them, which are a margin more than a gap apart."""
    faulty = {i for i, verdict in enumerate(result.verdicts) if verdict.flags or verdict.doubts}
    pairs = [pair for codec in result.codecs for pair in codec.neighbors if not faulty & {pair.lower, pair.upper}]
    least = GAP_STEPS * result.metric.step + margin
    return {(rows[pair.lower], rows[pair.upper]) for pair in pairs if pair.points > least}


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

    What ladders share with the sound one that they come from counts once. By the truth, what is within its noise of
    being a fault is neither a fault nor a false alarm: rungs of a sound ladder are hardly farther apart than a step, so
    an error of a point would turn half of them into faults.
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


def grids(table: pd.DataFrame) -> Iterator[tuple[str, str, list[int]]]:
    """Content, codec and rows of each grid."""
    for (content, codec), part in table[table["role"] == "grid"].groupby(["content", "codec"], sort=False):
        yield str(content), str(codec), part.index.tolist()


def curve_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """Hull agreement and BD-rates between codecs on the grids."""
    grid = table[table["role"] == "grid"]
    codes, names = pd.factorize(grid["content"])
    quality = np.empty(len(grid))
    for code in range(len(names)):  # all codecs of a title at once, as in the check
        quality[codes == code] = predictor.quality(grid.index[codes == code].tolist())
    series = pd.factorize(grid["content"] + grid["codec"] + grid["height"].astype(str))[0]
    ladders = Ladders(
        grid["vmaf_v1"].to_numpy(np.float64), quality, grid["bitrate_kbps"].to_numpy(np.float64),
        codes, list(names), grid["codec"].tolist(), series,
    )  # fmt: skip
    result = ladder_fidelity(predictor.name, ladders, 200, 0, {})
    pairs = [(p.truth_percent, p.predictor_percent) for p in result.bd_pairs if not p.refused]
    true, own = np.asarray(pairs, np.float64).reshape(-1, 2).T
    plain = np.abs(true) > BD_FLOOR
    return {
        "hull_agreement": result.hull_agreement.model_dump(),
        "bd_pairs": len(true),
        "bd_refused": sum(result.bd_refused.values()),
        "bd_mean_error": float(np.abs(own - true).mean()) if len(true) else None,
        "bd_median_error": float(np.median(np.abs(own - true))) if len(true) else None,
        "bd_same_sign": float((np.sign(own) == np.sign(true))[plain].mean()) if plain.any() else None,
        "bd_signs": int(plain.sum()),
    }


def crossover_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """Errors of the bitrates at which heights cross, where both have one crossing, and how often only one has."""
    truth, octaves, differing = truth_of(table), list[float](), 0
    for content, _, rows in grids(table):
        by_truth = check(table, rows, truth).codecs[0].crossovers
        own = check(table, rows, predictor, content).codecs[0].crossovers
        for a, b in zip(by_truth, own, strict=True):
            if len(a.bitrates_kbps) == len(b.bitrates_kbps) == 1:
                octaves.append(abs(float(np.log2(b.bitrates_kbps[0] / a.bitrates_kbps[0]))))
            else:
                differing += (a.better_height, a.bitrates_kbps != ()) != (b.better_height, b.bitrates_kbps != ())
    return {
        "crossovers": len(octaves),
        "crossover_mean_octaves": float(np.mean(octaves)) if octaves else None,
        "crossover_median_octaves": float(np.median(octaves)) if octaves else None,
        "crossovers_of_one": differing,
    }


def recommendation_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """VMAF v1 lost by COUNT recommended rungs of a grid in place of those that VMAF v1 would choose under the cap."""
    truth, losses = truth_of(table), list[tuple[str, float]]()
    for content, _, rows in grids(table):
        rate = table["bitrate_kbps"].to_numpy()[rows]
        for cap in np.quantile(rate, CAPS):
            chosen = []
            for metric in (truth, predictor):
                result = check(table, rows, metric, content)
                advice = recommend(rungs_of(table, rows), result, count=COUNT, cap_kbps=float(cap))[0]
                chosen.append([rows[i] for i in advice.keep])
            if all(chosen):
                least = max(rate[[rows.index(row) for row in ladder]].min() for ladder in chosen)
                best, own = (delivered(table, ladder, least, float(cap)) for ladder in chosen)
                losses.append((content, best - own))
    values = pd.DataFrame(losses, columns=["content", "points"])
    return {
        "ladders_recommended": len(values),
        "vmaf_lost": float(values["points"].mean()),
        "vmaf_lost_worst_content": float(values.groupby("content")["points"].mean().max()),
        "vmaf_lost_within_1": float((values["points"] <= 1).mean()),
    }


def delivered(table: pd.DataFrame, rows: Sequence[int], least: float, cap: float) -> float:
    """Mean VMAF v1 of the dearest rung that fits, over log-uniform bandwidths from one that both ladders can use."""
    bandwidth = np.geomspace(least, cap, 200) * (1 + 1e-9)
    rate, quality = table["bitrate_kbps"].to_numpy()[list(rows)], table["vmaf_v1"].to_numpy()[list(rows)]
    order = np.argsort(rate)
    return float(quality[order][np.searchsorted(rate[order], bandwidth, side="right") - 1].mean())


def main() -> None:
    """Score the encodes and write all figures."""
    parser = argparse.ArgumentParser(description="Fidelity of `rungwise ladder check`")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = read_table(arguments.work, arguments.model)
    sound = sound_ladders(table)
    ladders = sound + [faulty for ladder in sound for faulty in faulty_ladders(table, ladder)]
    rows = {}
    for predictor in predictors(table):
        rows[predictor.name] = (
            fault_figures(table, ladders, predictor) | curve_figures(table, predictor)
            | crossover_figures(table, predictor) | recommendation_figures(table, predictor)
        )  # fmt: skip
    qualities = {"hybrid": joint_column(table), "pixel_only": _column(table["pixel_only"])}
    errors = {name: fit_errors(difference_errors(table, quality)).model_dump() for name, quality in qualities.items()}
    result = {
        "ffmpeg": ffmpeg_version(), "model": sha256_file(arguments.model)[:16], "contents": table["content"].nunique(),
        "encodes": len(table), "ladders": len(ladders), "errors": errors, "rows": rows,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
