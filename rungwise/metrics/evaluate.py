"""Accuracy of quality predictors on a table of encodes, with bootstrap intervals by content.

`evaluate_predictors` is the only function that turns a table into statistics; training, the command line and the
report all call it. Bitrate alone orders the rungs of a ladder well, so log-bitrate is evaluated as a baseline wherever
bitrates are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rungwise.metrics.evaluation_input import (
    PREDICTOR_LOG_BITRATE,
    EvaluationInput,
    number_column,
    read_evaluation_input,
)
from rungwise.metrics.evaluation_notes import input_notes, result_notes
from rungwise.metrics.evaluation_result import Evaluation, LadderFidelity
from rungwise.metrics.ladder_fidelity import BDCache, Ladders, ladder_fidelity
from rungwise.metrics.pairs import DEFAULT_RANGE_FRACTION, PairRule, pair_gap
from rungwise.metrics.predictor_metrics import EvaluatedPredictor, TableEvaluator
from rungwise.metrics.protocols import check_protocol
from rungwise.metrics.slices import evaluate_slices

_MIN_RESAMPLES, _MAX_RESAMPLED_ROWS = 100, 10_000_000
_MAX_PREDICTORS_COMPARED = 4


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
    """Compare prediction columns with the labels of a table.

    Higher predictions must mean better quality. If lower labels mean better quality, the labels are negated, and raw
    RMSE is not reported. Rows without a prediction (NaN) are left out of that predictor's statistics and counted.

    Args:
        table: one row per encode. Required columns: content, score_polarity, score_min, score_max (one value each),
            the label and the predictions. Optional columns: bitrate_kbps (NaN if unknown), codec, width, height,
            preset, score_ci95 (half-width), score_std and score_raters.
        predictors: prediction columns. "log-bitrate" is added automatically.
        truth: the label column.
        num_resamples: bootstrap resamples of contents; large tables use fewer, and `notes` reports it.
        seed: of the bootstrap. Equal tables and seeds give equal results.
        pair_rule: which pairs count. None selects "interval" if every row has a label interval, else a tenth of each
            content's label range.
        against: predictors that the others are compared with. The default is log-bitrate and, with up to 4
            predictors, the first one.
        protocols: names from `rungwise.metrics.protocols`.
        by: columns to group the table by, "resolution", or "bitrate-band" (thirds of each content's rows).
        ladders: also compare BD-rates, convex hulls and adjacent rungs (`rungwise.metrics.ladder_fidelity`); requires
            bitrates and codecs.

    Raises:
        ValueError: a column is missing or repeated, a label is not finite, a prediction is infinite, a bitrate is not
            positive, polarity or range differs between rows, or a protocol is unknown.
    """
    for name in protocols:
        check_protocol(name)
    data = read_evaluation_input(table, predictors, truth)
    rule = _pair_rule(pair_rule, data)
    comparisons = _comparisons(list(data.predictions), predictors, against)
    resamples = affordable_resamples(len(table), num_resamples)
    gap = pair_gap(rule, table["content"], data.target, data.tolerance, data.score_max - data.score_min)
    evaluator = TableEvaluator(data, gap, resamples, seed)
    evaluated = {name: evaluator.evaluate(name) for name in data.predictions}
    results = [predictor.result for predictor in evaluated.values()]
    by_protocol = [evaluator.protocol(name, predictor) for name in protocols for predictor in evaluated.values()]
    slices, slice_notes = evaluate_slices(by, evaluated, evaluator)
    fidelity = _ladder_fidelity(evaluated, evaluator) if ladders else []
    notes = input_notes(data, rule, resamples, num_resamples)
    notes += result_notes(results, by_protocol, fidelity, evaluator.num_thinned_contents)
    return Evaluation(
        truth=truth,
        score_polarity=data.polarity,
        truth_negated=data.truth_negated,
        score_min=data.score_min,
        score_max=data.score_max,
        n=len(table),
        contents=table["content"].nunique(),
        pair_rule=rule.kind if rule.kind == "interval" else f"{rule.kind}:{rule.fraction:g}",
        resamples=resamples,
        resamples_requested=num_resamples,
        seed=seed,
        predictors=tuple(results),
        differences=tuple(evaluator.difference(evaluated[a], evaluated[b]) for a, b in comparisons),
        protocols=tuple(by_protocol),
        slices=tuple(slices),
        fidelity=tuple(fidelity),
        notes=(*notes, *slice_notes),
    )


def affordable_resamples(num_rows: int, num_requested: int) -> int:
    """Number of bootstrap resamples, reduced so that rows x resamples stay within 10 million.

    It never falls below 100, or `num_requested` if that is smaller.
    """
    return min(num_requested, max(_MIN_RESAMPLES, _MAX_RESAMPLED_ROWS // max(num_rows, 1)))


def _pair_rule(requested: PairRule | None, data: EvaluationInput) -> PairRule:
    """The requested rule, or the default of `evaluate_predictors`."""
    has_intervals = data.outlier_rule == "interval"
    default = PairRule("interval") if has_intervals else PairRule("content-range", DEFAULT_RANGE_FRACTION)
    rule = requested or default
    if rule.kind == "interval" and not has_intervals:
        raise ValueError("pair rule interval needs score_ci95, or score_std with score_raters, in every row")
    return rule


def _comparisons(names: Sequence[str], predictors: Sequence[str], against: Sequence[str]) -> list[tuple[str, str]]:
    """(predictor, reference) of every difference to report."""
    if unknown := [name for name in against if name not in names]:
        raise ValueError(f"against: no predictor {unknown[0]!r} among {', '.join(names)}")
    default = [PREDICTOR_LOG_BITRATE, *(predictors[:1] if len(predictors) <= _MAX_PREDICTORS_COMPARED else ())]
    references = list(against) or [name for name in dict.fromkeys(default) if name in names]
    pairs = [(name, reference) for reference in references for name in names if name != reference]
    return [pair for pair in pairs if against or pair[0] != PREDICTOR_LOG_BITRATE]


def _ladder_fidelity(evaluated: Mapping[str, EvaluatedPredictor], evaluator: TableEvaluator) -> list[LadderFidelity]:
    """Ladder fidelity of every predictor, on its rows with a bitrate."""
    table = evaluator.data.table
    if missing := [name for name in ("bitrate_kbps", "codec") if name not in table.columns]:
        raise ValueError(f"ladders: the table has no column {missing[0]!r}")
    bitrate, codec = number_column(table, "bitrate_kbps"), table["codec"].astype(str)
    if "preset" in table.columns and table["preset"].nunique() > 1:  # presets have separate rate-quality curves
        codec = codec + " " + table["preset"].astype(str)
    codecs = codec.to_numpy()
    keys = [name for name in ("content", "codec", "preset", "width", "height") if name in table.columns]
    series = np.asarray(table.groupby(keys, dropna=False).ngroup(), np.int64)
    truth_bd_rates: BDCache = {}
    results = []
    for name, predictor in evaluated.items():
        rows = predictor.rows[np.isfinite(bitrate[predictor.rows])]
        ladders = Ladders(
            truth=evaluator.data.target[rows],
            pred=predictor.predictions[rows],
            bitrate_kbps=bitrate[rows],
            content=evaluator.content[rows],
            content_names=evaluator.content_names,
            codec=codecs[rows].tolist(),
            series=series[rows],
        )
        results.append(ladder_fidelity(name, ladders, evaluator.num_resamples, evaluator.seed, truth_bd_rates))
    return results
