"""All statistics of one predictor on one table, with their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rungwise.metrics import bootstrap
from rungwise.metrics import statistics as st
from rungwise.metrics.bootstrap import Resampled
from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE, EvaluationInput, column_codes
from rungwise.metrics.evaluation_result import (
    Difference,
    Interval,
    PairInterval,
    PredictorResult,
    ProtocolResult,
    Slice,
    WithinContentInterval,
    interval,
)
from rungwise.metrics.pairs import OrderedPairs, PairGap, count_pairs, ordered_pairs, pair_limit, pair_masks
from rungwise.metrics.protocols import ProtocolRows, apply_protocol
from rungwise.metrics.statistics import FloatArray, IntArray


class EvaluatedPredictor(NamedTuple):
    """Statistics of one predictor, its predictions (n,), the rows it covers (m,), and resampled values (D,)."""

    result: PredictorResult
    predictions: FloatArray
    rows: IntArray
    resampled: Mapping[str, FloatArray]


class _Intervals:
    """Intervals of several statistics on the same resamples, counts (D, C); keeps the resampled values by key."""

    def __init__(self, counts: FloatArray) -> None:
        self.counts, self.num_contents = counts, counts.shape[1]
        self.resampled: dict[str, FloatArray] = {}

    def interval(self, key: str, value: float, resampled: Resampled) -> Interval:
        self.resampled[key] = resampled(self.counts)
        return interval(value, *bootstrap.percentile_interval(self.resampled[key], self.num_contents))


class TableEvaluator:
    """Evaluates predictors of one table, which share its labels, contents, resamples and pairs."""

    def __init__(self, data: EvaluationInput, gap: PairGap, num_resamples: int, seed: int) -> None:
        table = data.table
        self.data, self.num_resamples, self.seed = data, num_resamples, seed
        self.content = column_codes(table["content"])
        self.content_names = [str(name) for name in sorted(table["content"].unique())]
        group = table["content"].astype(str)
        group = group + " " + table["preset"].astype(str) if "preset" in table.columns else group
        self.group, self.group_names = column_codes(group), [str(name) for name in sorted(group.unique())]
        self.num_thinned_contents = int((np.bincount(self.content) > pair_limit(len(table))).sum())
        self.pairs = ordered_pairs(data.target, self.content, gap)
        self.pair_masks = pair_masks(table, self.pairs)
        self._counts: dict[int, FloatArray] = {}

    def content_counts(self, num_contents: int) -> FloatArray:
        """How often each resample holds each content, (D, C); the same for all predictors with as many contents."""
        if num_contents not in self._counts:
            self._counts[num_contents] = bootstrap.draw_contents(num_contents, self.num_resamples, self.seed)
        return self._counts[num_contents]

    def evaluate(self, name: str) -> EvaluatedPredictor:
        """All statistics of a predictor, on the rows that have it."""
        predictions = self.data.predictions[name]
        rows = np.flatnonzero(np.isfinite(predictions))
        t, p, content = self.data.target[rows], predictions[rows], st.label_codes(self.content[rows])
        intervals = _Intervals(self.content_counts(int(content.max()) + 1))
        quality_map = st.fit_logistic4(t, p)
        mapped = quality_map(p)
        fitted_plcc, fitted_rmse = bootstrap.resampled_logistic4(t, p, content, quality_map)(intervals.counts)
        within = st.within_content_srcc(t, p, content)
        within_interval = intervals.interval(
            "within", within.value, bootstrap.resampled_within_content_srcc(t, p, content)
        )
        same_scale = not self.data.truth_negated and name != PREDICTOR_LOG_BITRATE
        rmse_raw = intervals.interval("rmse_raw", st.rmse(t, p), bootstrap.resampled_rmse(t, p, content))
        result = PredictorResult(
            predictor=name,
            n=t.size,
            contents=intervals.num_contents,
            missing=predictions.size - t.size,
            srcc=intervals.interval("srcc", st.srcc(t, p), bootstrap.resampled_srcc(t, p, content)),
            krcc=intervals.interval("krcc", st.krcc(t, p), bootstrap.resampled_krcc(t, p, content)),
            plcc=intervals.interval("plcc", st.plcc(t, mapped), lambda _: fitted_plcc),
            plcc_linear=intervals.interval("plcc_linear", st.plcc(t, p), bootstrap.resampled_plcc(t, p, content)),
            rmse=intervals.interval("rmse", st.rmse(t, mapped), lambda _: fitted_rmse),
            rmse_raw=rmse_raw if same_scale else None,
            outlier_ratio=self._outlier_ratio(np.abs(t - mapped), rows, content, intervals),
            within_content_srcc=WithinContentInterval(
                **within_interval.model_dump(), contents_used=within.used, contents_dropped=within.dropped
            ),
            pairs_same_codec=self._pair_accuracy("same_codec", predictions, intervals),
            pairs_cross_codec=self._pair_accuracy("cross_codec", predictions, intervals),
            pairs_cross_resolution=self._pair_accuracy("cross_resolution", predictions, intervals),
            quality_map=quality_map,
        )
        return EvaluatedPredictor(result, predictions, rows, intervals.resampled)

    def _outlier_ratio(
        self, error: FloatArray, rows: IntArray, content: IntArray, intervals: _Intervals
    ) -> Interval | None:
        """Fraction of absolute errors (m,) above the tolerance of their rows; None if a row has no tolerance."""
        tolerance = self.data.tolerance[rows]
        if np.isnan(tolerance).any():
            return None
        outlier = (error > tolerance).astype(np.float64)
        resampled = bootstrap.resampled_fraction(np.bincount(content, outlier), np.bincount(content))
        return intervals.interval("outliers", float(outlier.mean()), resampled)

    def _pair_accuracy(self, kind: str, predictions: FloatArray, intervals: _Intervals) -> PairInterval:
        """Pairwise accuracy of the pairs of one kind whose encodes both have a prediction."""
        has_both = np.isfinite(predictions[self.pairs.better]) & np.isfinite(predictions[self.pairs.worse])
        pairs = OrderedPairs(*(part[self.pair_masks[kind] & has_both] for part in self.pairs))
        contents = np.unique(self.content[np.isfinite(predictions)])
        correct, total = (v[contents] for v in count_pairs(predictions, pairs, len(self.content_names)))
        value = float(correct.sum() / total.sum()) if total.sum() else float("nan")
        accuracy = intervals.interval(kind, value, bootstrap.resampled_fraction(correct, total))
        return PairInterval(**accuracy.model_dump(), pairs=pairs.group.size)

    def difference(self, a: EvaluatedPredictor, b: EvaluatedPredictor) -> Difference:
        """Statistics of `a` minus those of `b`, on the rows that have both."""
        rows = np.intersect1d(a.rows, b.rows)
        num_contents = np.unique(self.content[rows]).size
        differences = {}
        for key in ("srcc", "within"):
            (value_a, resampled_a), (value_b, resampled_b) = (self._on_rows(side, key, rows) for side in (a, b))
            limits = bootstrap.percentile_interval(resampled_a - resampled_b, num_contents)
            differences[key] = interval(value_a - value_b, *limits)
        return Difference(
            predictor=a.result.predictor, against=b.result.predictor, n=rows.size,
            srcc=differences["srcc"], within_content_srcc=differences["within"],
        )  # fmt: skip

    def _on_rows(self, predictor: EvaluatedPredictor, key: str, rows: IntArray) -> tuple[float, FloatArray]:
        """A statistic on some of a predictor's rows, and its resampled values (D,)."""
        if rows.size < 2:
            return float("nan"), np.full(2, np.nan)
        if rows.size == predictor.rows.size:
            whole = predictor.result.srcc if key == "srcc" else predictor.result.within_content_srcc
            return float("nan") if whole.value is None else whole.value, predictor.resampled[key]
        make = bootstrap.resampled_srcc if key == "srcc" else bootstrap.resampled_within_content_srcc
        content = st.label_codes(self.content[rows])
        resampled = make(self.data.target[rows], predictor.predictions[rows], content)
        once = np.ones((1, int(content.max()) + 1))
        return float(resampled(once)[0]), resampled(self.content_counts(once.size))

    def protocol(self, name: str, predictor: EvaluatedPredictor) -> ProtocolResult:
        """A predictor evaluated by a named protocol."""
        rows = predictor.rows
        content = st.label_codes(self.content[rows])
        by_content = name.startswith("within")
        return apply_protocol(
            name,
            ProtocolRows(
                truth=self.data.target[rows],
                pred=predictor.predictions[rows],
                content=content,
                group=(self.content if by_content else self.group)[rows],
                group_names=self.content_names if by_content else self.group_names,
                counts=self.content_counts(int(content.max()) + 1),
            ),
            predictor.result,
            self.seed,
        )

    def slice(self, by: str, group: str, predictor: EvaluatedPredictor, rows: IntArray) -> Slice:
        """Statistics of a predictor on some of its rows, those whose column `by` is `group`."""
        t, p, content = self.data.target[rows], predictor.predictions[rows], st.label_codes(self.content[rows])
        intervals = _Intervals(self.content_counts(int(content.max()) + 1))
        quality_map = st.fit_logistic4(t, p)
        mapped = quality_map(p)
        fitted_plcc, fitted_rmse = bootstrap.resampled_logistic4(t, p, content, quality_map)(intervals.counts)
        within = st.within_content_srcc(t, p, content).value
        return Slice(
            by=by,
            group=group,
            predictor=predictor.result.predictor,
            n=rows.size,
            contents=intervals.num_contents,
            srcc=intervals.interval("srcc", st.srcc(t, p), bootstrap.resampled_srcc(t, p, content)),
            within_content_srcc=intervals.interval(
                "within", within, bootstrap.resampled_within_content_srcc(t, p, content)
            ),
            krcc=intervals.interval("krcc", st.krcc(t, p), bootstrap.resampled_krcc(t, p, content)),
            plcc=intervals.interval("plcc", st.plcc(t, mapped), lambda _: fitted_plcc),
            rmse=intervals.interval("rmse", st.rmse(t, mapped), lambda _: fitted_rmse),
        )
