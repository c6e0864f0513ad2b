"""Accuracy of predictors on a table of encodes, with intervals by content and the trivial baseline beside.

`evaluate_predictors` is the one place where a table becomes figures: training, command line and report call
it. The bitrate alone orders the rungs of a ladder well, so it is judged too wherever it is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

import numpy as np
import pandas as pd

from rungwise.metrics import statistics as st
from rungwise.metrics.evaluation_result import (
    Difference,
    Evaluation,
    Interval,
    LadderFidelity,
    PairInterval,
    Polarity,
    PredictorResult,
    ProtocolResult,
    Slice,
    WithinContentInterval,
    interval,
)
from rungwise.metrics.ladder_fidelity import BDCache, Ladders, ladder_fidelity
from rungwise.metrics.protocols import Rows, check_protocol, judge
from rungwise.metrics.statistics import FloatArray, Gap, IntArray, Resampled

PREDICTOR_LOG_BITRATE = "log-bitrate"
BITRATE_BAND, RESOLUTION = "bitrate-band", "resolution"
_BANDS = ("low", "middle", "high")
_FEW_CONTENTS, _MIN_RESAMPLES, _MAX_DRAWN_ROWS, _MAX_GROUPS, _MIN_SLICE_ROWS = 10, 100, 10_000_000, 50, 3
_MAX_COMPARED, _NAMES_SHOWN = 4, 5
_Z95 = 1.959963984540054
_CONTRADICTS = -0.3  # an SRCC below it says that somebody holds the scale upside down


class PairRule(NamedTuple):
    """Which pairs of a content should be in order.

    "interval": labels further apart than the 95 % interval of their difference, from the labels' own intervals.
    "content-range" and "label-range": further apart than `share` of the content's range of labels, or of the scale's.
    """

    kind: str
    share: float = 0.0


PAIR_RULES = ("interval", "content-range", "label-range")
DEFAULT_SHARE = 0.1  # of a content's range: a tenth is near what tens of raters can tell apart


def parse_pair_rule(text: str) -> PairRule:
    """`interval`, `content-range:0.1` or `label-range:0.05`.

    Raises:
        ValueError: another word, or a share outside [0, 1).
    """
    kind, _, share = text.partition(":")
    try:
        rule = PairRule(kind, float(share) if share else 0.0)
    except ValueError:
        rule = PairRule("")
    if rule.kind not in PAIR_RULES or (kind != "interval") != bool(share) or not 0 <= rule.share < 1:
        raise ValueError(f"pair rule is {text!r}; it must be interval, content-range:S or label-range:S, 0 <= S < 1")
    return rule


def evaluate_predictors(
    table: pd.DataFrame,
    predictors: Sequence[str],
    *,
    truth: str = "score",
    num_resamples: int = 1000,
    seed: int = 0,
    pair_rule: PairRule | None = None,
    against: Sequence[str] = (),
    protocols: Sequence[str] = (),
    by: Sequence[str] = (),
    ladders: bool = False,
) -> Evaluation:
    """Compare prediction columns with the truth of a table.

    Predictions are higher for better quality. Where the label is lower for better, the truth is negated for
    everything but the raw RMSE, which then does not exist. Rows without a prediction (NaN) are left out of that
    predictor's figures and counted.

    Args:
        table: one row an encode: content, score_polarity, score_min, score_max (one value each), the truth and the
            prediction columns; if known bitrate_kbps (NaN where not), codec, width, height, preset, score_ci95
            (half-width), score_std and score_raters.
        predictors: prediction columns. "log-bitrate" is added by itself.
        truth: the label column.
        num_resamples: content resamples for the intervals; fewer on large tables, as `notes` then says.
        seed: of the resampling. The same table and seed give the same figures.
        pair_rule: which pairs count; None takes the labels' intervals if all rows have one, else a tenth of each
            content's range.
        against: predictors with which the others are compared; none takes log-bitrate and, of up to 4, the first.
        protocols: names from `rungwise.metrics.protocols`.
        by: columns to cut the table by, "resolution" or "bitrate-band" (thirds of each content's rows).
        ladders: compare BD-rates, hulls and steps too (`rungwise.metrics.ladder_fidelity`); needs bitrates and codecs.

    Raises:
        ValueError: a column is missing or named twice, a label is not finite or a prediction infinite (how many,
            which clip first), a bitrate is not positive, polarity or range is not one value, no such protocol.
    """
    for name in protocols:
        check_protocol(name)
    columns = _prediction_columns(table, predictors, truth)
    polarity, low, high = _label_scale(table)
    negated = polarity == "lower_is_better"
    target = _numbers(table, truth) * (-1 if negated else 1)
    half_width, outliers = _half_widths(table)
    rule = pair_rule or (PairRule("interval") if outliers == "interval" else PairRule("content-range", DEFAULT_SHARE))
    if rule.kind == "interval" and outliers != "interval":
        raise ValueError("pair rule interval needs score_ci95, or score_std with score_raters, in every row")
    resamples = affordable_resamples(len(table), num_resamples)
    judge_rows = _Judge(table, target, _gap(rule, table, target, half_width, high - low), half_width, resamples, seed)

    judged = {name: judge_rows(name, column, not negated) for name, column in columns.items()}
    unknown = [name for name in against if name not in columns]
    if unknown:
        raise ValueError(f"against: no predictor {unknown[0]!r} among {', '.join(columns)}")
    usual = [PREDICTOR_LOG_BITRATE, *(predictors[:1] if len(predictors) <= _MAX_COMPARED else ())]
    rivals = list(against) or [name for name in dict.fromkeys(usual) if name in columns]
    pairs = [(name, rival) for rival in rivals for name in columns if name != rival]
    pairs = [pair for pair in pairs if against or pair[0] != PREDICTOR_LOG_BITRATE]
    by_protocol = [judge_rows.protocol(name, one) for name in protocols for one in judged.values()]
    slices, small = _slices(by, table, judged, judge_rows)
    fidelity = _fidelity(table, judged, judge_rows) if ladders else []
    results = [one.result for one in judged.values()]
    notes = _notes(table, columns, rule, low, high, outliers, negated, resamples, num_resamples)
    return Evaluation(
        truth=truth,
        score_polarity=polarity,
        truth_negated=negated,
        score_min=low,
        score_max=high,
        n=len(table),
        contents=table["content"].nunique(),
        pair_rule=rule.kind if rule.kind == "interval" else f"{rule.kind}:{rule.share:g}",
        resamples=resamples,
        resamples_wanted=num_resamples,
        seed=seed,
        predictors=tuple(results),
        differences=tuple(judge_rows.difference(judged[a], judged[b]) for a, b in pairs),
        protocols=tuple(by_protocol),
        slices=tuple(slices),
        fidelity=tuple(fidelity),
        notes=(*notes, *_findings(results, by_protocol, fidelity, judge_rows.thinned), *small),
    )


def affordable_resamples(num_rows: int, wanted: int) -> int:
    """Resamples that keep a large table to seconds: `wanted` while rows x resamples stay within 10 million,
    else fewer, but never below 100 (or `wanted`)."""
    return min(wanted, max(_MIN_RESAMPLES, _MAX_DRAWN_ROWS // max(num_rows, 1)))


class _Judged(NamedTuple):
    """A predictor's figures, its rows, and its resampled values by statistic."""

    result: PredictorResult
    pred: FloatArray
    rows: IntArray
    drawn: Mapping[str, FloatArray]


class _Judge:
    """What all predictors of one table share: labels, contents, resamples and pairs, made once for like rows."""

    def __init__(
        self, table: pd.DataFrame, target: FloatArray, gap: Gap, half_width: FloatArray, resamples: int, seed: int
    ) -> None:
        self.target, self.half_width, self.resamples, self.seed = target, half_width, resamples, seed
        self.content = _codes(table["content"])
        self.content_names = [str(name) for name in sorted(table["content"].unique())]
        group = table["content"].astype(str)
        group = group + " " + table["preset"].astype(str) if "preset" in table.columns else group
        self.group, self.group_names = _codes(group), [str(name) for name in sorted(group.unique())]
        self.thinned = int((np.bincount(self.content) > st.pair_limit(len(table))).sum())
        self.pairs = st.ordered_pairs(target, self.content, gap)
        self.kinds = _pair_kinds(table, self.pairs)
        self._counts: dict[int, FloatArray] = {}

    def counts(self, num_contents: int) -> FloatArray:
        if num_contents not in self._counts:
            self._counts[num_contents] = st.draw_contents(num_contents, self.resamples, self.seed)
        return self._counts[num_contents]

    def __call__(self, name: str, column: FloatArray, raw: bool) -> _Judged:
        rows = np.flatnonzero(np.isfinite(column))
        t, p, content = self.target[rows], column[rows], _recoded(self.content[rows])
        num_contents = int(content.max()) + 1
        counts, drawn = self.counts(num_contents), {}
        known = np.isfinite(column[self.pairs.better]) & np.isfinite(column[self.pairs.worse])
        present = np.unique(self.content[rows])

        def figure(key: str, value: float, resampled: Resampled) -> Interval:
            drawn[key] = resampled(counts)
            return interval(value, *st.interval_of(drawn[key], num_contents))

        def pairs(kind: str) -> PairInterval:
            keep = self.kinds[kind] & known
            kept = st.OrderedPairs(*(part[keep] for part in self.pairs))
            right, total = (v[present] for v in st.count_pairs(column, kept, len(self.content_names)))
            share = float(right.sum() / total.sum()) if total.sum() else float("nan")
            found = figure(kind, share, st.resampled_share(right, total))
            return PairInterval(**found.model_dump(), pairs=kept.group.size)

        quality_map = st.fit_logistic4(t, p)
        mapped = quality_map(p)
        fitted_plcc, fitted_rmse = st.resampled_logistic4(t, p, content, quality_map)(counts)
        within = st.within_content_srcc(t, p, content)
        within_figure = figure("within", within.value, st.resampled_within_content_srcc(t, p, content))
        half = self.half_width[rows]
        outside = (np.abs(t - mapped) > half).astype(np.float64)
        outliers = st.resampled_share(np.bincount(content, outside), np.bincount(content))
        raw = raw and name != PREDICTOR_LOG_BITRATE
        result = PredictorResult(
            predictor=name,
            n=t.size,
            contents=num_contents,
            missing=column.size - t.size,
            srcc=figure("srcc", st.srcc(t, p), st.resampled_srcc(t, p, content)),
            krcc=figure("krcc", st.krcc(t, p), st.resampled_krcc(t, p, content)),
            plcc=figure("plcc", st.plcc(t, mapped), lambda _: fitted_plcc),
            plcc_linear=figure("plcc_linear", st.plcc(t, p), st.resampled_plcc(t, p, content)),
            rmse=figure("rmse", st.rmse(t, mapped), lambda _: fitted_rmse),
            rmse_raw=figure("rmse_raw", st.rmse(t, p), st.resampled_rmse(t, p, content)) if raw else None,
            outlier_ratio=None if np.isnan(half).any() else figure("outliers", float(outside.mean()), outliers),
            within_content_srcc=WithinContentInterval(
                **within_figure.model_dump(), contents_used=within.used, contents_dropped=within.dropped
            ),
            pairs_same_codec=pairs("same_codec"),
            pairs_cross_codec=pairs("cross_codec"),
            pairs_cross_resolution=pairs("cross_resolution"),
            quality_map=quality_map,
        )
        return _Judged(result, column, rows, drawn)

    def difference(self, one: _Judged, other: _Judged) -> Difference:
        rows = np.intersect1d(one.rows, other.rows)
        contents = np.unique(self.content[rows]).size
        found = {}
        for key in ("srcc", "within"):
            (value, drawn), (value_other, drawn_other) = (self._on(judged, key, rows) for judged in (one, other))
            found[key] = interval(value - value_other, *st.interval_of(drawn - drawn_other, contents))
        return Difference(
            predictor=one.result.predictor, against=other.result.predictor, n=rows.size,
            srcc=found["srcc"], within_content_srcc=found["within"],
        )  # fmt: skip

    def _on(self, judged: _Judged, key: str, rows: IntArray) -> tuple[float, FloatArray]:
        """A statistic on some of a predictor's rows, and its resampled values."""
        if rows.size < 2:
            return float("nan"), np.full(2, np.nan)
        if rows.size == judged.rows.size:
            figure = judged.result.srcc if key == "srcc" else judged.result.within_content_srcc
            return float("nan") if figure.value is None else figure.value, judged.drawn[key]
        make = st.resampled_srcc if key == "srcc" else st.resampled_within_content_srcc
        content = _recoded(self.content[rows])
        resampled, once = make(self.target[rows], judged.pred[rows], content), np.ones((1, int(content.max()) + 1))
        return float(resampled(once)[0]), resampled(self.counts(once.size))

    def protocol(self, name: str, one: _Judged) -> ProtocolResult:
        content = _recoded(self.content[one.rows])
        groups = (self.content_names, self.content) if name.startswith("within") else (self.group_names, self.group)
        rows = Rows(
            self.target[one.rows], one.pred[one.rows], content, groups[1][one.rows], groups[0],
            self.counts(int(content.max()) + 1),
        )  # fmt: skip
        return judge(name, rows, one.result, self.seed)


def _slices(
    by: Sequence[str], table: pd.DataFrame, judged: Mapping[str, _Judged], judge_rows: _Judge
) -> tuple[list[Slice], list[str]]:
    """Slices, and notes on groups too small for one."""
    found, notes = [], []
    for column in by:
        labels = _labels(column, table)
        groups = sorted(set(labels) - {""}, key=_group_order)
        if len(groups) > _MAX_GROUPS:
            raise ValueError(f"by {column!r}: {len(groups)} groups, at most {_MAX_GROUPS} can be shown")
        small = [str(group) for group in groups if (labels == group).sum() < _MIN_SLICE_ROWS]
        if small:
            notes.append(f"By {column}: {len(small)} groups of fewer than {_MIN_SLICE_ROWS} rows: {_some(small)}.")
        for group in groups:
            in_group = (labels == group).to_numpy()
            for one in judged.values():
                rows = one.rows[in_group[one.rows]]
                if rows.size >= _MIN_SLICE_ROWS:
                    found.append(_slice(column, str(group), one, rows, judge_rows))
    return found, notes


def _labels(column: str, table: pd.DataFrame) -> pd.Series[Any]:
    """The group of every row, "" where it has none."""
    source = {BITRATE_BAND: "bitrate_kbps", RESOLUTION: "height"}.get(column, column)
    if source not in table.columns:
        raise ValueError(f"by {column!r}: the table has no column {source!r}")
    values = table[source]
    if column == BITRATE_BAND:
        rank = values.groupby(table["content"]).rank(pct=True, method="first")
        return pd.Series(np.select([rank <= 1 / 3, rank <= 2 / 3, rank > 2 / 3], _BANDS, ""), table.index)
    if column == RESOLUTION:
        return values.map(lambda height: "" if pd.isna(height) else f"{height:g}p", na_action=None)
    return values.map(lambda value: "" if pd.isna(value) else str(value), na_action=None)


def _slice(by: str, group: str, one: _Judged, rows: IntArray, judge_rows: _Judge) -> Slice:
    t, p, content = judge_rows.target[rows], one.pred[rows], _recoded(judge_rows.content[rows])
    num_contents = int(content.max()) + 1
    counts, quality_map = judge_rows.counts(num_contents), st.fit_logistic4(t, p)
    mapped, fitted = quality_map(p), st.resampled_logistic4(t, p, content, quality_map)(counts)

    def figure(value: float, resampled: Resampled) -> Interval:
        return interval(value, *st.interval_of(resampled(counts), num_contents))

    return Slice(
        by=by,
        group=group,
        predictor=one.result.predictor,
        n=rows.size,
        contents=num_contents,
        srcc=figure(st.srcc(t, p), st.resampled_srcc(t, p, content)),
        within_content_srcc=figure(
            st.within_content_srcc(t, p, content).value, st.resampled_within_content_srcc(t, p, content)
        ),
        krcc=figure(st.krcc(t, p), st.resampled_krcc(t, p, content)),
        plcc=figure(st.plcc(t, mapped), lambda _: fitted[0]),
        rmse=figure(st.rmse(t, mapped), lambda _: fitted[1]),
    )


def _fidelity(table: pd.DataFrame, judged: Mapping[str, _Judged], judge_rows: _Judge) -> list[LadderFidelity]:
    missing = [name for name in ("bitrate_kbps", "codec") if name not in table.columns]
    if missing:
        raise ValueError(f"ladders: the table has no column {missing[0]!r}")
    bitrate, codec = _numbers(table, "bitrate_kbps"), table["codec"].astype(str)
    if "preset" in table.columns and table["preset"].nunique() > 1:  # another preset is another encoder
        codec = codec + " " + table["preset"].astype(str)
    codecs = codec.to_numpy()
    keys = [name for name in ("content", "codec", "preset", "width", "height") if name in table.columns]
    codes = np.asarray(table.groupby(keys, dropna=False).ngroup(), np.int64)
    truths, found = BDCache(), []
    for name, one in judged.items():
        rows = one.rows[np.isfinite(bitrate[one.rows])]
        ladders = Ladders(
            judge_rows.target[rows], one.pred[rows], bitrate[rows], judge_rows.content[rows],
            judge_rows.content_names, codecs[rows].tolist(), codes[rows],
        )  # fmt: skip
        found.append(ladder_fidelity(name, ladders, judge_rows.resamples, judge_rows.seed, truths))
    return found


def _prediction_columns(table: pd.DataFrame, predictors: Sequence[str], truth: str) -> dict[str, FloatArray]:
    """Checked predictions by name, NaN where there is none; the log-bitrate baseline is last."""
    needed = ["content", "score_polarity", "score_min", "score_max", truth, *predictors]
    if missing := [name for name in needed if name not in table.columns]:
        raise ValueError(f"missing columns {missing}; the table has {list(table.columns)}")
    if len(set(predictors)) < len(predictors) or {PREDICTOR_LOG_BITRATE, truth} & set(predictors):
        raise ValueError(f"name each predictor once, and neither {PREDICTOR_LOG_BITRATE!r} nor {truth!r}")

    def refuse(name: str, bad: IntArray, what: str) -> None:
        if bad.size:
            clip = table["clip"].iloc[bad[0]] if "clip" in table.columns else f"row {table.index[bad[0]]}"
            raise ValueError(f"{name!r} is {what} in {bad.size} of {len(table)} rows, first {clip}")

    refuse(truth, np.flatnonzero(~np.isfinite(_numbers(table, truth))), "not finite")
    for name in predictors:
        refuse(name, np.flatnonzero(np.isinf(_numbers(table, name))), "infinite")
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
    if empty := [name for name, column in columns.items() if np.isfinite(column).sum() < 2]:
        raise ValueError(f"{empty[0]!r} has a number in fewer than 2 of {len(table)} rows")
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


def _half_widths(table: pd.DataFrame) -> tuple[FloatArray, str]:
    """How far off a prediction may be and still be no outlier (n,), and by what: "interval" of the label (ITU-T
    P.1401), twice its "deviation" (VQEG 2000), or "" with NaN."""

    def column(name: str) -> FloatArray:
        return _numbers(table, name) if name in table.columns else np.full(len(table), np.nan)

    std, raters = column("score_std"), column("score_raters")
    by_raters = _Z95 * std / np.sqrt(np.where(raters > 0, raters, np.nan))
    for half_width, how in ((column("score_ci95"), "interval"), (by_raters, "interval"), (2 * std, "deviation")):
        if np.isfinite(half_width).all():
            return half_width, how
    return np.full(len(table), np.nan), ""


def _gap(rule: PairRule, table: pd.DataFrame, target: FloatArray, half_width: FloatArray, label_range: float) -> Gap:
    if rule.kind == "interval":
        return lambda i, j: np.hypot(half_width[i], half_width[j])
    if rule.kind == "label-range":
        return rule.share * label_range
    by_content = pd.Series(target).groupby(_codes(table["content"]))
    gaps = rule.share * (by_content.transform("max") - by_content.transform("min")).to_numpy()
    return lambda i, j: np.broadcast_to(gaps[i], np.broadcast_shapes(i.shape, j.shape))


def _pair_kinds(table: pd.DataFrame, pairs: st.OrderedPairs) -> dict[str, Any]:
    """Which pairs are of which kind, (P,) bool; none where the table doesn't say codecs or sizes."""

    def same(columns: Sequence[str]) -> tuple[Any, Any]:
        nothing = np.zeros(pairs.better.size, bool)
        if not set(columns) <= set(table.columns) or table[[*columns]].replace("", None).isna().any(axis=None):
            return nothing, nothing
        codes = table.groupby([*columns]).ngroup().to_numpy()
        equal = codes[pairs.better] == codes[pairs.worse]
        return equal, ~equal

    one_codec, two_codecs = same(["codec"])
    _, two_sizes = same([name for name in ("width", "height") if name in table.columns] or ["height"])
    return {"same_codec": one_codec, "cross_codec": two_codecs, "cross_resolution": two_sizes}


_PAIR_WORDS = {
    "interval": "labels further apart than the 95 % interval of their difference",
    "content-range": "labels more than {share:g} of the content's range of labels apart",
    "label-range": "labels more than {gap:g} apart",
}
_OUTLIER_WORDS = {
    "interval": "Outliers: fitted predictions outside the label's 95 % interval.",
    "deviation": "Outliers: fitted predictions more than two deviations of the label off.",
}


def _notes(
    table: pd.DataFrame,
    columns: Mapping[str, FloatArray],
    rule: PairRule,
    low: float,
    high: float,
    outliers: str,
    negated: bool,
    resamples: int,
    wanted: int,
) -> list[str]:
    """What a reader must know of these figures, in sentences."""
    contents = table["content"].nunique()
    notes = [f"Brackets: 95 % intervals from {resamples} resamples of {contents} contents."]
    words = _PAIR_WORDS[rule.kind].format(share=rule.share, gap=rule.share * (high - low))
    notes.append(f"Pairs: encodes of one content, {words}; a tied prediction is half right.")
    if outliers:
        notes.append(_OUTLIER_WORDS[outliers])
    if resamples < wanted:
        notes.append(f"{wanted} resamples were asked for; {len(table)} rows are too many for that.")
    if contents < _FEW_CONTENTS:
        notes.append(f"With {contents} contents the intervals are rough, and rather too narrow.")
    if negated:
        notes.append("The label is lower for better quality: it was negated, and raw RMSE does not exist.")
    if PREDICTOR_LOG_BITRATE not in columns:
        notes.append("No bitrates: the log-bitrate baseline could not be computed.")
    for name, column in columns.items():
        if missing := int(np.isnan(column).sum()):
            what = "no bitrate" if name == PREDICTOR_LOG_BITRATE else f"no {name}"
            notes.append(f"{missing} rows have {what}: {name} and differences against it omit them.")
    return notes


def _findings(
    results: Sequence[PredictorResult],
    protocols: Sequence[ProtocolResult],
    fidelity: Sequence[LadderFidelity],
    thinned: int,
) -> list[str]:
    """What a reader must know of what was found, in sentences."""
    notes = []
    by_name = {result.predictor: result for result in results}
    bitrate = by_name.pop(PREDICTOR_LOG_BITRATE, None)
    if bitrate is not None and (bitrate.within_content_srcc.value or 0) < _CONTRADICTS:
        notes.append("Within contents the label falls as bitrate rises: is its polarity right?")
    falls = [name for name, result in by_name.items() if (result.srcc.value or 0) < _CONTRADICTS]
    if falls:
        notes.append(f"Falling with quality: {', '.join(falls)}. Negate those that are lower for better (--falling).")
    if thinned:
        notes.append(f"{thinned} contents are so large that their pairs are a sample, spread evenly over the labels.")
    for first in {p.protocol: p for p in reversed(protocols)}.values():
        if first.dropped:
            rows = f"{len(first.dropped)} groups of {sum(first.dropped.values())} rows"
            notes.append(f"Protocol {first.protocol} leaves out of SRCC {rows}: {_some(list(first.dropped))}.")
    for reason, count in (fidelity[0].bd_refused if fidelity else {}).items():
        notes.append(f"BD-rates refused for {fidelity[0].predictor}: {count} ({reason}).")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _group_order(group: str) -> tuple[int, float, str]:
    """Bands from low to high, numbers (720p too) by size, then words."""
    if group in _BANDS:
        return 0, _BANDS.index(group), group
    try:
        return 1, float(group.removesuffix("p")), group
    except ValueError:
        return 2, 0.0, group


def _numbers(table: pd.DataFrame, name: str) -> FloatArray:
    return table[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _codes(column: pd.Series[Any]) -> IntArray:
    return pd.factorize(column, sort=True, use_na_sentinel=False)[0].astype(np.int64)


def _recoded(codes: IntArray) -> IntArray:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
