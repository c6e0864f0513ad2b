"""What an evaluation found, as data, and as JSON, CSV and text.

`rungwise.metrics.evaluate` fills these in. Correlations lie in [-1, 1], shares in [0, 1], RMSE is in label units.
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
_MAX_ACROSS = 4  # predictors side by side; more of them go down the page


class Frozen(BaseModel):
    """A record that neither changes nor takes unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Frozen):
    """A value with its 95 % interval by content bootstrap; None where a figure does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None


def interval(value: float, low: float, high: float) -> Interval:
    """An Interval whose missing figures are None: JSON knows no nan."""
    a, b, c = (float(v) if np.isfinite(v) else None for v in (value, low, high))
    return Interval(value=a, low=b, high=c)


class WithinContentInterval(Interval):
    """Fisher z mean of the SRCC inside contents, and how many of them it could use."""

    contents_used: int
    contents_dropped: int


class PairInterval(Interval):
    """A share of pairs (or steps, or hulls) inside contents, and how many of them there were."""

    pairs: int


class PredictorResult(Frozen):
    """Figures of one predictor on the `n` rows that have it; `plcc`, `rmse` and outliers hold after `quality_map`."""

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
    """How far `predictor` lies above `against` on the `n` rows that both have; both saw the same resamples."""

    predictor: str
    against: str
    n: int
    srcc: Interval
    within_content_srcc: Interval


class Slice(Frozen):
    """A predictor's figures on the rows whose column `by` is `group`; PLCC and RMSE after a fit to these rows."""

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
    """A predictor judged by a named protocol (rungwise/metrics/protocols.py); correlations the protocol lacks are None.

    `groups` and `rows` entered the SRCC; `dropped` names what was too small or constant, with its rows.
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
    """BD-rate in percent of codec `test` against `anchor` on one content, by the truth and by a predictor."""

    content: str
    anchor: str
    test: str
    truth_percent: float | None
    predictor_percent: float | None
    refused: str = ""


class LadderFidelity(Frozen):
    """How well a predictor replaces the truth where ladders are built (rungwise/metrics/ladder_fidelity.py)."""

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
    """All figures of a table, and all that is needed to read them. Reads back from its own JSON."""

    truth: str
    score_polarity: Polarity
    truth_negated: bool
    score_min: float
    score_max: float
    n: int
    contents: int
    pair_rule: str = ""
    resamples: int
    resamples_wanted: int
    seed: int
    predictors: tuple[PredictorResult, ...]
    differences: tuple[Difference, ...]
    protocols: tuple[ProtocolResult, ...] = ()
    slices: tuple[Slice, ...] = ()
    fidelity: tuple[LadderFidelity, ...] = ()
    notes: tuple[str, ...]


STATISTICS: Mapping[str, str] = {
    "srcc": "SRCC",
    "within_content_srcc": "SRCC within content",
    "krcc": "KRCC",
    "plcc": "PLCC after logistic",
    "plcc_linear": "PLCC",
    "rmse": "RMSE after logistic",
    "rmse_raw": "RMSE raw",
    "outlier_ratio": "Outlier ratio",
    "pairs_same_codec": "Pairs in order, same codec",
    "pairs_cross_codec": "Pairs in order, across codecs",
    "pairs_cross_resolution": "Pairs in order, across resolutions",
}
SLICE_STATISTICS = ("srcc", "within_content_srcc", "krcc", "plcc", "rmse")
FIDELITY: Mapping[str, str] = {
    "bd_median_error": "BD-rate, median error in points",
    "bd_same_sign": "BD-rate, same winner",
    "bd_srcc": "BD-rate, SRCC",
    "hull_agreement": "Hull agreement",
    "steps_in_order": "Steps along bitrate in order",
}


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON; `Evaluation.model_validate_json` reads it back. Missing figures are null."""
    return evaluation.model_dump_json(indent=2) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line a figure: part, predictor, against (another predictor, a protocol or a group), statistic, n, value,
    low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["part", "predictor", "against", "statistic", "n", "value", "low", "high"])
    for part, predictor, against, statistic, n, figure in _figures(evaluation):
        f = figure or Interval(value=None)
        writer.writerow([part, predictor, against, statistic, n, f.value, f.low, f.high])
    return out.getvalue()


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, str, str, str, int, Interval | None]]:
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
    """A figure as the field prints it: .931 for a correlation or share, 4.21 for an RMSE or points, - for none."""
    if value is None:
        return "-"
    if statistic.startswith("rmse") or statistic.endswith("error"):
        return f"{value:.2f}"
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def format_interval(figure: Interval | None, statistic: str) -> str:
    """`.931 [.902, .955]`; without its bracket where there is no interval."""
    if figure is None or figure.value is None:
        return "-"
    value, low, high = (format_number(v, statistic) for v in (figure.value, figure.low, figure.high))
    return value if figure.low is None else f"{value} [{low}, {high}]"


def shown_statistics(evaluation: Evaluation) -> dict[str, str]:
    """The statistics that at least one predictor has, key -> title."""
    return {
        key: title
        for key, title in STATISTICS.items()
        if any(getattr(r, key) is not None and getattr(r, key).value is not None for r in evaluation.predictors)
    }


def tables(evaluation: Evaluation) -> list[tuple[str, list[list[str]]]]:
    """Every table as (title, rows of plain cells), the first row its head; text and page print these."""
    results, keys = evaluation.predictors, shown_statistics(evaluation)
    sizes = [f"{r.n} / {r.contents}" for r in results]
    if len(results) <= _MAX_ACROSS:
        first = [["", *(r.predictor for r in results)], ["rows / contents", *sizes]]
        first += [[title, *(format_interval(getattr(r, key), key) for r in results)] for key, title in keys.items()]
    else:
        first = [["", "rows / contents", *keys.values()]]
        first += [
            [r.predictor, size, *(format_interval(getattr(r, key), key) for key in keys)]
            for r, size in zip(results, sizes, strict=True)
        ]
    found = [("Accuracy", first)]
    if evaluation.differences:
        rows = [["difference", "SRCC", "SRCC within content"]]
        for d in evaluation.differences:
            srcc, within = (format_interval(figure, "srcc") for figure in (d.srcc, d.within_content_srcc))
            rows.append([f"{d.predictor} - {d.against}", srcc, within])
        found.append(("Differences", rows))
    for protocol in dict.fromkeys(p.protocol for p in evaluation.protocols):
        mine = [p for p in evaluation.protocols if p.protocol == protocol]
        shown = ["srcc", "krcc", *(["plcc"] if any(p.plcc is not None for p in mine) else [])]
        rows = [[f"protocol {protocol}", *(key.upper() for key in shown), "groups", "rows", "dropped rows"]]
        for p in mine:
            figures = [format_interval(getattr(p, key), "srcc") for key in shown]
            rows.append([p.predictor, *figures, str(p.groups), str(p.rows), str(sum(p.dropped.values()))])
        found.append((f"Protocol {protocol}", rows))
    for by in dict.fromkeys(s.by for s in evaluation.slices):
        cells = {(s.predictor, s.group): s for s in evaluation.slices if s.by == by}
        groups = list(dict.fromkeys(group for _, group in cells))
        sizes = [str(max(s.n for (_, group), s in cells.items() if group == wanted)) for wanted in groups]
        rows = [[f"SRCC by {by}", *groups], ["rows", *sizes]]
        for name in dict.fromkeys(predictor for predictor, _ in cells):
            row = [cells.get((name, group)) for group in groups]
            rows.append([name, *(format_interval(s.srcc if s else None, "srcc") for s in row)])
        found.append((f"By {by}", rows))
    if evaluation.fidelity:
        rows = [["ladder fidelity", *(f.predictor for f in evaluation.fidelity)]]
        rows += [
            [title, *(format_interval(getattr(f, key), key) for f in evaluation.fidelity)]
            for key, title in FIDELITY.items()
        ]
        used = [(len(f.bd_pairs) - sum(f.bd_refused.values()), len(f.bd_pairs)) for f in evaluation.fidelity]
        rows.append(["BD-rates used", *(f"{kept} of {pairs}" for kept, pairs in used)])
        found.append(("Ladder fidelity", rows if len(evaluation.fidelity) <= _MAX_ACROSS else _turned(rows)))
    return found


def _turned(rows: list[list[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*rows, strict=True)]


def format_table(evaluation: Evaluation) -> str:
    """Plain aligned text: every table, then the notes."""
    lines = []
    for _, rows in tables(evaluation):
        lines += [*_aligned(rows), ""]
    return "\n".join([*lines, *evaluation.notes]) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
