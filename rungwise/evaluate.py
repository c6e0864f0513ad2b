"""Accuracy of predictors on a table of encodes, with intervals by content and the trivial baseline beside.

`evaluate_predictors` is the one place where a table becomes figures: training, command line and report call
it. The bitrate alone orders the rungs of a ladder well, so it is judged too wherever it is known.
"""

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from rungwise import statistics as st
from rungwise.statistics import FloatArray, IntArray, QualityMap, Resampled

PREDICTOR_LOG_BITRATE = "log-bitrate"
DEFAULT_GAP_SHARE = 0.05
Polarity = Literal["higher_is_better", "lower_is_better"]
Pairs = Callable[[IntArray, IntArray], Any]
Bootstrap = Callable[[Resampled, IntArray], tuple[float, float]]
_FEW_CONTENTS, _MIN_RESAMPLES, _MAX_DRAWN_ROWS = 10, 100, 10_000_000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Frozen):
    """A value with its 95 % interval by content bootstrap; None where a figure does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None


class WithinContentInterval(Interval):
    """Fisher z mean of the SRCC inside contents, and how many of them it could use."""

    contents_used: int
    contents_dropped: int


class PairInterval(Interval):
    """Share of pairs inside a content that are in order, and how many pairs there were."""

    pairs: int


class PredictorResult(_Frozen):
    """Figures of one predictor. RMSE is in label units; `plcc` and `rmse` hold after `quality_map`."""

    predictor: str
    n: int
    contents: int
    srcc: Interval
    krcc: Interval
    plcc: Interval
    plcc_linear: Interval
    rmse: Interval
    rmse_raw: Interval | None
    within_content_srcc: WithinContentInterval
    pairs_same_codec: PairInterval
    pairs_cross_codec: PairInterval
    pairs_cross_resolution: PairInterval
    quality_map: QualityMap


class Difference(_Frozen):
    """How far `predictor` lies above `against` on the rows that both have; both saw the same resamples."""

    predictor: str
    against: str
    n: int
    srcc: Interval
    within_content_srcc: Interval


class Evaluation(_Frozen):
    """All figures of a table, and all that is needed to read them. Reads back from its own JSON."""

    truth: str
    score_polarity: Polarity
    truth_negated: bool
    score_min: float
    score_max: float
    n: int
    contents: int
    pair_gap: float
    resamples: int
    resamples_wanted: int
    seed: int
    predictors: tuple[PredictorResult, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


STATISTICS: Mapping[str, str] = {
    "srcc": "SRCC",
    "within_content_srcc": "SRCC within content",
    "krcc": "KRCC",
    "plcc": "PLCC after logistic",
    "plcc_linear": "PLCC",
    "rmse": "RMSE after logistic",
    "rmse_raw": "RMSE raw",
    "pairs_same_codec": "Pairs in order, same codec",
    "pairs_cross_codec": "Pairs in order, across codecs",
    "pairs_cross_resolution": "Pairs in order, across resolutions",
}


def evaluate_predictors(
    table: pd.DataFrame,
    predictors: Sequence[str],
    *,
    truth: str = "score",
    num_resamples: int = 1000,
    seed: int = 0,
    gap_share: float = DEFAULT_GAP_SHARE,
) -> Evaluation:
    """Compare prediction columns with the truth of a table.

    Predictions are higher for better quality. Where the label is lower for better, the truth is negated for
    everything but the raw RMSE, which then does not exist. Pairs count if their labels differ by more than
    `gap_share` of the label's range.

    Args:
        table: one row an encode: content, codec, width, height, score_polarity, score_min, score_max (one
            value each), the truth and the prediction columns; bitrate_kbps if known (NaN where not).
        predictors: prediction columns. "log-bitrate" is added by itself.
        truth: the label column.
        num_resamples: content resamples for the intervals; fewer on large tables, as `notes` then says.
        seed: of the resampling. The same table and seed give the same figures.
        gap_share: smallest label difference of a pair that should be in order, in [0, 1) of the range.

    Raises:
        ValueError: a column is missing or named twice, a prediction or label is not finite (how many, which
            clip first), a bitrate is not positive, polarity or range is not one value.
    """
    columns = _prediction_columns(table, predictors, truth)
    polarity, low, high = _label_scale(table)
    if not 0 <= gap_share < 1:
        raise ValueError(f"gap_share must be in [0, 1), got {gap_share}")
    negated = polarity == "lower_is_better"
    target = _numbers(table, truth) * (-1 if negated else 1)
    content = _codes(table["content"])
    gap = gap_share * (high - low)
    resamples = affordable_resamples(len(table), num_resamples)
    bootstrap = functools.partial(st.bootstrap_by_content, num_resamples=resamples, seed=seed)

    def delta(name: str, against: str) -> Difference:
        rows = np.flatnonzero(np.isfinite(columns[name]) & np.isfinite(columns[against]))
        t, c, a, b = target[rows], content[rows], columns[name][rows], columns[against][rows]
        srcc, within = (
            _interval(*st.paired_bootstrap_by_content(make(t, a, c), make(t, b, c), c, resamples, seed))
            for make in (st.resampled_srcc, st.resampled_within_content_srcc)
        )
        return Difference(predictor=name, against=against, n=rows.size, srcc=srcc, within_content_srcc=within)

    results = []
    for name, pred in columns.items():
        rows = np.flatnonzero(np.isfinite(pred))
        rungs = _Rungs(target[rows], pred[rows], content[rows], _pair_kinds(table.iloc[rows]))
        raw = name != PREDICTOR_LOG_BITRATE and not negated
        results.append(_result(name, rungs, gap, raw, bootstrap))
    rivals = [name for name in dict.fromkeys([PREDICTOR_LOG_BITRATE, *predictors[:1]]) if name in columns]
    return Evaluation(
        truth=truth,
        score_polarity=polarity,
        truth_negated=negated,
        score_min=low,
        score_max=high,
        n=len(table),
        contents=int(content.max()) + 1,
        pair_gap=gap,
        resamples=resamples,
        resamples_wanted=num_resamples,
        seed=seed,
        predictors=tuple(results),
        differences=tuple(delta(name, rival) for rival in rivals for name in predictors if name != rival),
        notes=tuple(_notes(table, columns, gap, negated, resamples, num_resamples)),
    )


def affordable_resamples(num_rows: int, wanted: int) -> int:
    """Resamples that keep a large table to seconds: `wanted` while rows x resamples stay within 10 million,
    else fewer, but never below 100 (or `wanted`)."""
    return min(wanted, max(_MIN_RESAMPLES, _MAX_DRAWN_ROWS // max(num_rows, 1)))


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON; `Evaluation.model_validate_json` reads it back. Missing figures are null."""
    return evaluation.model_dump_json(indent=2) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """One line a figure: predictor, against (empty but for differences), statistic, n, value, low, high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["predictor", "against", "statistic", "n", "value", "low", "high"])
    for result in evaluation.predictors:
        for statistic in STATISTICS:
            f = getattr(result, statistic) or Interval(value=None)
            writer.writerow([result.predictor, "", statistic, result.n, f.value, f.low, f.high])
    for d in evaluation.differences:
        for statistic in ("srcc", "within_content_srcc"):
            f = getattr(d, statistic)
            writer.writerow([d.predictor, d.against, statistic, d.n, f.value, f.low, f.high])
    return out.getvalue()


def format_number(value: float | None, statistic: str) -> str:
    """A figure as the field prints it: .931 for a correlation or share, 4.21 for an RMSE, - for none."""
    if value is None:
        return "-"
    if statistic.startswith("rmse"):
        return f"{value:.2f}"
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def format_interval(figure: Interval | None, statistic: str) -> str:
    """`.931 [.902, .955]`; without its bracket where there is no interval."""
    if figure is None or figure.value is None:
        return "-"
    value, low, high = (format_number(v, statistic) for v in (figure.value, figure.low, figure.high))
    return value if figure.low is None else f"{value} [{low}, {high}]"


def format_table(evaluation: Evaluation) -> str:
    """Plain aligned text: statistics down, predictors across, then the differences and the notes."""
    results = evaluation.predictors
    rows = [["", *(r.predictor for r in results)]]
    rows += [["rows / contents", *(f"{r.n} / {r.contents}" for r in results)]]
    rows += [[name, *(format_interval(getattr(r, k), k) for r in results)] for k, name in STATISTICS.items()]
    lines = _aligned(rows)
    if evaluation.differences:
        rows = [["difference", "SRCC", "SRCC within content"]]
        for d in evaluation.differences:
            srcc, within = (format_interval(figure, "srcc") for figure in (d.srcc, d.within_content_srcc))
            rows.append([f"{d.predictor} - {d.against}", srcc, within])
        lines += ["", *_aligned(rows)]
    return "\n".join([*lines, "", *evaluation.notes]) + "\n"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


class _Rungs(NamedTuple):
    truth: FloatArray
    pred: FloatArray
    content: IntArray
    kinds: dict[str, Pairs]


def _result(name: str, rungs: _Rungs, gap: float, raw: bool, bootstrap: Bootstrap) -> PredictorResult:
    t, p, content, kinds = rungs

    def interval(value: float, resampled: Resampled) -> Interval:
        return _interval(value, *bootstrap(resampled, content))

    def pairs(kind: str) -> PairInterval:
        right, total = st.pair_counts(t, p, content, kinds[kind], gap)
        share = float(right.sum() / total.sum()) if total.sum() else float("nan")
        figure = interval(share, st.resampled_share(right, total))
        return PairInterval(**figure.model_dump(), pairs=int(total.sum()))

    quality_map = st.fit_logistic4(t, p)
    mapped = quality_map(p)
    fitted_plcc, fitted_rmse = st.resampled_logistic4(t, p, content)
    within = st.within_content_srcc(t, p, content)
    within_figure = interval(within.value, st.resampled_within_content_srcc(t, p, content))
    return PredictorResult(
        predictor=name,
        n=t.size,
        contents=np.unique(content).size,
        srcc=interval(st.srcc(t, p), st.resampled_srcc(t, p, content)),
        krcc=interval(st.krcc(t, p), st.resampled_krcc(t, p, content)),
        plcc=interval(st.plcc(t, mapped), fitted_plcc),
        plcc_linear=interval(st.plcc(t, p), st.resampled_plcc(t, p, content)),
        rmse=interval(st.rmse(t, mapped), fitted_rmse),
        rmse_raw=interval(st.rmse(t, p), st.resampled_rmse(t, p, content)) if raw else None,
        within_content_srcc=WithinContentInterval(
            **within_figure.model_dump(), contents_used=within.used, contents_dropped=within.dropped
        ),
        pairs_same_codec=pairs("same_codec"),
        pairs_cross_codec=pairs("cross_codec"),
        pairs_cross_resolution=pairs("cross_resolution"),
        quality_map=quality_map,
    )


def _prediction_columns(table: pd.DataFrame, predictors: Sequence[str], truth: str) -> dict[str, FloatArray]:
    """Checked predictions by name; only the log-bitrate baseline, last, may hold NaN."""
    needed = [
        "content",
        "codec",
        "width",
        "height",
        "score_polarity",
        "score_min",
        "score_max",
        truth,
        *predictors,
    ]
    if missing := [name for name in needed if name not in table.columns]:
        raise ValueError(f"missing columns {missing}; the table has {list(table.columns)}")
    if len(set(predictors)) < len(predictors) or {PREDICTOR_LOG_BITRATE, truth} & set(predictors):
        raise ValueError(f"name each predictor once, and neither {PREDICTOR_LOG_BITRATE!r} nor {truth!r}")
    for name in (truth, *predictors):
        bad = np.flatnonzero(~np.isfinite(_numbers(table, name)))
        if bad.size:
            clip = table["clip"].iloc[bad[0]] if "clip" in table.columns else f"row {table.index[bad[0]]}"
            raise ValueError(f"{name!r} is not finite in {bad.size} of {len(table)} rows, first {clip}")
    if table["content"].isna().any():
        raise ValueError(f"content is missing in {table['content'].isna().sum()} of {len(table)} rows")
    columns = {name: _numbers(table, name) for name in predictors}
    if "bitrate_kbps" in table.columns:
        bitrate = _numbers(table, "bitrate_kbps")
        if not (bitrate[~np.isnan(bitrate)] > 0).all() or np.isinf(bitrate).any():
            raise ValueError(f"bitrate_kbps must be finite and above 0, or NaN if unknown, got {np.nanmin(bitrate)}")
        if np.isfinite(bitrate).sum() > 1:
            columns[PREDICTOR_LOG_BITRATE] = np.log10(bitrate)
    if len(table) < 2 or not columns:
        raise ValueError(f"nothing to evaluate: {len(table)} rows, predictors {list(predictors)}, no bitrate_kbps")
    return columns


def _label_scale(table: pd.DataFrame) -> tuple[Polarity, float, float]:
    for name in ("score_polarity", "score_min", "score_max"):
        if table[name].nunique(dropna=False) != 1:
            raise ValueError(f"{name} must be one value in a table, got {table[name].unique().tolist()}")
    polarity = str(table["score_polarity"].iloc[0])
    low, high = (float(_numbers(table, name)[0]) for name in ("score_min", "score_max"))
    if polarity not in get_args(Polarity):
        raise ValueError(f"score_polarity is {polarity!r}, want one of {get_args(Polarity)}")
    if not low < high or not np.isfinite(high - low):
        raise ValueError(f"want score_min < score_max, both finite, got {low} and {high}")
    return cast(Polarity, polarity), low, high


def _pair_kinds(table: pd.DataFrame) -> dict[str, Pairs]:
    codec = _codes(table["codec"])
    size = _codes(table["width"].astype(str) + "x" + table["height"].astype(str))
    return {
        "same_codec": lambda i, j: codec[i] == codec[j],
        "cross_codec": lambda i, j: codec[i] != codec[j],
        "cross_resolution": lambda i, j: size[i] != size[j],
    }


def _notes(
    table: pd.DataFrame,
    columns: Mapping[str, FloatArray],
    gap: float,
    negated: bool,
    resamples: int,
    wanted: int,
) -> list[str]:
    """What a reader must know of these figures, in sentences."""
    contents = table["content"].nunique()
    notes = [f"Brackets: 95 % intervals from {resamples} resamples of {contents} contents."]
    notes.append(f"Pairs: encodes of one content, labels more than {gap:g} apart; a tied prediction is half right.")
    if resamples < wanted:
        notes.append(f"{wanted} resamples were asked for; {len(table)} rows are too many for that.")
    if contents < _FEW_CONTENTS:
        notes.append(f"With {contents} contents the intervals are rough, and rather too narrow.")
    if negated:
        notes.append("The label is lower for better quality: it was negated, and raw RMSE does not exist.")
    if PREDICTOR_LOG_BITRATE not in columns:
        notes.append("No bitrates: the log-bitrate baseline could not be computed.")
    elif missing := int(np.isnan(columns[PREDICTOR_LOG_BITRATE]).sum()):
        notes.append(f"{missing} rows have no bitrate: log-bitrate and differences against it omit them.")
    return notes


def _numbers(table: pd.DataFrame, name: str) -> FloatArray:
    return table[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _codes(column: "pd.Series[Any]") -> IntArray:
    return pd.factorize(column, sort=True, use_na_sentinel=False)[0].astype(np.int64)


def _interval(value: float, low: float, high: float) -> Interval:
    # JSON knows no nan
    a, b, c = (float(v) if np.isfinite(v) else None for v in (value, low, high))
    return Interval(value=a, low=b, high=c)
