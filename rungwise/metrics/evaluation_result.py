"""Results of an evaluation, as records and as JSON, CSV and text.

`rungwise.metrics.evaluate` creates them. Correlations lie in [-1, 1], pairwise accuracies and other fractions in
[0, 1]. RMSE is in label units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from rungwise.metrics.statistics import QualityMap

Polarity = Literal["higher_is_better", "lower_is_better"]
_MAX_PREDICTOR_COLUMNS = 4  # above it, a table has one row per predictor


class Frozen(BaseModel):
    """An immutable record that rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Frozen):
    """A value with its 95 % interval by content bootstrap; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


def interval(value: float, low: float, high: float) -> Interval:
    """An Interval with None in place of nan, which JSON cannot hold."""
    a, b, c = (float(v) if np.isfinite(v) else None for v in (value, low, high))
    return Interval(value=a, low=b, high=c)


class WithinContentInterval(Interval):
    """Per-content SRCC (Fisher z mean), and the number of contents used and dropped."""

    contents_used: int
    contents_dropped: int


class PairInterval(Interval):
    """A fraction of pairs (or adjacent rungs, or hulls) within contents, and their number."""

    pairs: int


class PredictorResult(Frozen):
    """Statistics of one predictor on the `n` rows that have it.

    `plcc`, `rmse` and `outlier_ratio` are computed after `quality_map`, the logistic fit.
    """

    predictor: str
    n: int
    contents: int
    missing: int = 0
    srcc: Interval
    krcc: Interval
    plcc: Interval
    plcc_linear: Interval
    rmse: Interval
    rmse_raw: Interval | None
    outlier_ratio: Interval | None = None
    within_content_srcc: WithinContentInterval
    pairs_same_codec: PairInterval
    pairs_cross_codec: PairInterval
    pairs_cross_resolution: PairInterval
    quality_map: QualityMap


class Difference(Frozen):
    """`predictor` minus `against`, on the `n` rows that have both and with the same resamples."""

    predictor: str
    against: str
    n: int
    srcc: Interval
    within_content_srcc: Interval


class Slice(Frozen):
    """Statistics of a predictor on the rows whose column `by` is `group`; PLCC and RMSE use a fit to these rows."""

    by: str
    group: str
    predictor: str
    n: int
    contents: int
    srcc: Interval
    within_content_srcc: Interval
    krcc: Interval
    plcc: Interval
    rmse: Interval


class ProtocolResult(Frozen):
    """A predictor evaluated by a named protocol (rungwise/metrics/protocols.py).

    `groups` and `rows` count what entered the SRCC. `dropped` maps groups that are too small or constant to their
    rows. `plcc` is None if the protocol does not define it.
    """

    protocol: str
    predictor: str
    srcc: Interval
    krcc: Interval
    plcc: Interval | None
    groups: int
    rows: int
    dropped: Mapping[str, int]


class BDPair(Frozen):
    """BD-rate in percent of codec `test` against `anchor` on one content, by the truth and by a predictor.

    `refused` is the reason if it could not be computed.
    """

    content: str
    anchor: str
    test: str
    truth_percent: float | None
    predictor_percent: float | None
    refused: str = ""


class LadderFidelity(Frozen):
    """Agreement of a predictor with the truth in ladder decisions (rungwise/metrics/ladder_fidelity.py)."""

    predictor: str
    bd_median_error: Interval
    bd_same_sign: PairInterval
    bd_srcc: Interval
    bd_refused: Mapping[str, int]
    hull_agreement: PairInterval
    steps_in_order: PairInterval
    steps_rising: float | None
    truth_steps_rising: float | None
    bd_pairs: tuple[BDPair, ...]


class Evaluation(Frozen):
    """All statistics of a table, with the settings that produced them. It can be read back from its JSON."""

    truth: str
    score_polarity: Polarity
    truth_negated: bool
    score_min: float
    score_max: float
    n: int
    contents: int
    pair_rule: str = ""
    resamples: int
    resamples_requested: int
    seed: int
    predictors: tuple[PredictorResult, ...]
    differences: tuple[Difference, ...]
    protocols: tuple[ProtocolResult, ...] = ()
    slices: tuple[Slice, ...] = ()
    fidelity: tuple[LadderFidelity, ...] = ()
    notes: tuple[str, ...]


STATISTICS: Mapping[str, str] = {
    "srcc": "SRCC",
    "within_content_srcc": "Per-content SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC (logistic fit)",
    "plcc_linear": "PLCC (no fit)",
    "rmse": "RMSE (logistic fit)",
    "rmse_raw": "RMSE (no fit)",
    "outlier_ratio": "Outlier ratio",
    "pairs_same_codec": "Pairwise accuracy, same codec",
    "pairs_cross_codec": "Pairwise accuracy, cross-codec",
    "pairs_cross_resolution": "Pairwise accuracy, cross-resolution",
}
SLICE_STATISTICS = ("srcc", "within_content_srcc", "krcc", "plcc", "rmse")
FIDELITY: Mapping[str, str] = {
    "bd_median_error": "BD-rate median error (percentage points)",
    "bd_same_sign": "BD-rate sign agreement",
    "bd_srcc": "BD-rate SRCC",
    "hull_agreement": "Convex hull agreement (IoU)",
    "steps_in_order": "Adjacent-rung accuracy",
}


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON; `Evaluation.model_validate_json` reads it back. Undefined values are null."""
    return evaluation.model_dump_json(indent=2) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line per statistic: part, predictor, against, statistic, n, value, low, high.

    `against` is another predictor, a protocol or a group, depending on the part.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["part", "predictor", "against", "statistic", "n", "value", "low", "high"])
    for part, predictor, against, statistic, n, result in _statistics(evaluation):
        i = result or Interval(value=None)
        writer.writerow([part, predictor, against, statistic, n, i.value, i.low, i.high])
    return out.getvalue()


def _statistics(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str, int, Interval | None]]:
    for result in evaluation.predictors:
        for key in STATISTICS:
            yield "predictor", result.predictor, "", key, result.n, getattr(result, key)
    for d in evaluation.differences:
        for key in ("srcc", "within_content_srcc"):
            yield "difference", d.predictor, d.against, key, d.n, getattr(d, key)
    for p in evaluation.protocols:
        for key in ("srcc", "krcc", "plcc"):
            yield "protocol", p.predictor, p.protocol, key, p.rows, getattr(p, key)
    for s in evaluation.slices:
        for key in SLICE_STATISTICS:
            yield "slice", s.predictor, f"{s.by}={s.group}", key, s.n, getattr(s, key)
    for f in evaluation.fidelity:
        for key in FIDELITY:
            yield "ladder", f.predictor, "", key, len(f.bd_pairs), getattr(f, key)


def format_number(value: float | None, statistic: str) -> str:
    """A statistic as text: .931 for a correlation or fraction, 4.21 for an RMSE or points, - if undefined."""
    if value is None:
        return "-"
    if statistic.startswith("rmse") or statistic.endswith("error"):
        return f"{value:.2f}"
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def format_interval(result: Interval | None, statistic: str) -> str:
    """A statistic as `.931 [.902, .955]`; without the brackets if it has no interval."""
    if result is None or result.value is None:
        return "-"
    value, low, high = (format_number(v, statistic) for v in (result.value, result.low, result.high))
    return value if result.low is None else f"{value} [{low}, {high}]"


def shown_statistics(evaluation: Evaluation) -> dict[str, str]:
    """Titles by key of the statistics that at least one predictor has."""
    return {
        key: title
        for key, title in STATISTICS.items()
        if any(getattr(r, key) is not None and getattr(r, key).value is not None for r in evaluation.predictors)
    }


def tables(evaluation: Evaluation) -> list[tuple[str, list[list[str]]]]:
    """Every table as (title, rows of plain cells), headings first; the text and the HTML page print these."""
    result = [("Accuracy", _accuracy_rows(evaluation))]
    if evaluation.differences:
        result.append(("Differences", _difference_rows(evaluation)))
    for protocol in dict.fromkeys(p.protocol for p in evaluation.protocols):
        result.append((f"Protocol {protocol}", _protocol_rows(evaluation, protocol)))
    for by in dict.fromkeys(s.by for s in evaluation.slices):
        result.append((f"By {by}", _slice_rows(evaluation, by)))
    if evaluation.fidelity:
        result.append(("Ladder fidelity", _fidelity_rows(evaluation)))
    return result


def _accuracy_rows(evaluation: Evaluation) -> list[list[str]]:
    results, titles = evaluation.predictors, shown_statistics(evaluation)
    rows = [["", "Encodes / contents", *titles.values()]]
    for r in results:
        rows.append([r.predictor, f"{r.n} / {r.contents}", *(format_interval(getattr(r, key), key) for key in titles)])
    return _transposed(rows) if len(results) <= _MAX_PREDICTOR_COLUMNS else rows


def _difference_rows(evaluation: Evaluation) -> list[list[str]]:
    rows = [["Difference", "SRCC", STATISTICS["within_content_srcc"]]]
    for d in evaluation.differences:
        srcc, within = (format_interval(value, "srcc") for value in (d.srcc, d.within_content_srcc))
        rows.append([f"{d.predictor} - {d.against}", srcc, within])
    return rows


def _protocol_rows(evaluation: Evaluation, protocol: str) -> list[list[str]]:
    results = [p for p in evaluation.protocols if p.protocol == protocol]
    keys = ["srcc", "krcc", *(["plcc"] if any(p.plcc is not None for p in results) else [])]
    rows = [[f"Protocol {protocol}", *(key.upper() for key in keys), "Groups", "Encodes", "Dropped encodes"]]
    for p in results:
        values = [format_interval(getattr(p, key), "srcc") for key in keys]
        rows.append([p.predictor, *values, str(p.groups), str(p.rows), str(sum(p.dropped.values()))])
    return rows


def _slice_rows(evaluation: Evaluation, by: str) -> list[list[str]]:
    slices = {(s.predictor, s.group): s for s in evaluation.slices if s.by == by}
    groups = list(dict.fromkeys(group for _, group in slices))
    sizes = [str(max(s.n for s in slices.values() if s.group == group)) for group in groups]
    rows = [[f"SRCC by {by}", *groups], ["Encodes", *sizes]]
    for predictor in dict.fromkeys(name for name, _ in slices):
        row = [slices.get((predictor, group)) for group in groups]
        rows.append([predictor, *(format_interval(s.srcc if s else None, "srcc") for s in row)])
    return rows


def _fidelity_rows(evaluation: Evaluation) -> list[list[str]]:
    rows = [["Ladder fidelity", *FIDELITY.values(), "BD-rates used"]]
    for f in evaluation.fidelity:
        num_pairs = len(f.bd_pairs)
        num_used = num_pairs - sum(f.bd_refused.values())
        values = [format_interval(getattr(f, key), key) for key in FIDELITY]
        rows.append([f.predictor, *values, f"{num_used} of {num_pairs}"])
    return _transposed(rows) if len(evaluation.fidelity) <= _MAX_PREDICTOR_COLUMNS else rows


def _transposed(rows: list[list[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def format_table(evaluation: Evaluation) -> str:
    """Aligned plain text: all tables, then the notes."""
    lines = []
    for _, rows in tables(evaluation):
        lines += [*_aligned(rows), ""]
    return "\n".join([*lines, *evaluation.notes]) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
