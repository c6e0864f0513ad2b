"""The table of an evaluation, checked and converted to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd

from rungwise.metrics.evaluation_result import Polarity
from rungwise.metrics.statistics import FloatArray, IntArray

PREDICTOR_LOG_BITRATE = "log-bitrate"
_Z95 = 1.959963984540054

OutlierRule = Literal["interval", "std", "none"]


@dataclass(frozen=True)
class EvaluationInput:
    """A checked table of n encodes.

    Attributes:
        table: one row per encode.
        truth: the label column.
        polarity: of the label.
        score_min: lowest label of the scale.
        score_max: highest label of the scale.
        target: labels (n,), negated if lower labels mean better quality.
        predictions: values (n,) by predictor, NaN where missing; the log-bitrate baseline is last.
        tolerance: error (n,) above which a fitted prediction is an outlier, in label units; NaN if unknown.
        outlier_rule: where `tolerance` comes from: the label's 95 % "interval" (ITU-T P.1401), twice its "std" (VQEG
            FR-TV phase I), or "none".
    """

    table: pd.DataFrame
    truth: str
    polarity: Polarity
    score_min: float
    score_max: float
    target: FloatArray
    predictions: Mapping[str, FloatArray]
    tolerance: FloatArray
    outlier_rule: OutlierRule

    @property
    def truth_negated(self) -> bool:
        """Whether lower labels mean better quality."""
        return self.polarity == "lower_is_better"


def read_evaluation_input(table: pd.DataFrame, predictors: Sequence[str], truth: str) -> EvaluationInput:
    """Check a table and take its columns; `evaluate_predictors` documents the columns.

    Raises:
        ValueError: see `evaluate_predictors`.
    """
    predictions = _prediction_columns(table, predictors, truth)
    polarity, score_min, score_max = _label_scale(table)
    tolerance, outlier_rule = _outlier_tolerance(table)
    return EvaluationInput(
        table=table,
        truth=truth,
        polarity=polarity,
        score_min=score_min,
        score_max=score_max,
        target=number_column(table, truth) * (-1 if polarity == "lower_is_better" else 1),
        predictions=predictions,
        tolerance=tolerance,
        outlier_rule=outlier_rule,
    )


def number_column(table: pd.DataFrame, name: str) -> FloatArray:
    """A column as float64, NaN where missing."""
    return table[name].to_numpy(dtype=np.float64, na_value=np.nan)


def column_codes(column: pd.Series[Any]) -> IntArray:
    """Values as numbers from 0, in sorted order."""
    return pd.factorize(column, sort=True, use_na_sentinel=False)[0].astype(np.int64)


def _prediction_columns(table: pd.DataFrame, predictors: Sequence[str], truth: str) -> dict[str, FloatArray]:
    """Checked predictions by name, NaN where missing; the log-bitrate baseline is last."""
    required = ["content", "score_polarity", "score_min", "score_max", truth, *predictors]
    if missing := [name for name in required if name not in table.columns]:
        raise ValueError(f"missing columns {missing}; the table has {list(table.columns)}")
    if len(set(predictors)) < len(predictors) or {PREDICTOR_LOG_BITRATE, truth} & set(predictors):
        raise ValueError(f"name each predictor once, and neither {PREDICTOR_LOG_BITRATE!r} nor {truth!r}")
    _check_no_rows(table, truth, ~np.isfinite(number_column(table, truth)), "not finite")
    for name in predictors:
        _check_no_rows(table, name, np.isinf(number_column(table, name)), "infinite")
    if table["content"].isna().any():
        raise ValueError(f"content is missing in {table['content'].isna().sum()} of {len(table)} rows")
    columns = {name: number_column(table, name) for name in predictors}
    if "bitrate_kbps" in table.columns:
        bitrate = number_column(table, "bitrate_kbps")
        if not (bitrate[~np.isnan(bitrate)] > 0).all() or np.isinf(bitrate).any():
            raise ValueError(f"bitrate_kbps must be finite and above 0, or NaN if unknown, got {np.nanmin(bitrate)}")
        if np.isfinite(bitrate).sum() > 1:
            columns[PREDICTOR_LOG_BITRATE] = np.log10(bitrate)
    if len(table) < 2 or not columns:
        raise ValueError(f"nothing to evaluate: {len(table)} rows, predictors {list(predictors)}, no bitrate_kbps")
    if empty := [name for name, column in columns.items() if np.isfinite(column).sum() < 2]:
        raise ValueError(f"{empty[0]!r} has a number in fewer than 2 of {len(table)} rows")
    return columns


def _check_no_rows(table: pd.DataFrame, name: str, invalid: np.ndarray[Any, np.dtype[np.bool_]], problem: str) -> None:
    """Raise ValueError with the first clip if any row (n,) is invalid."""
    rows = np.flatnonzero(invalid)
    if rows.size:
        clip = table["clip"].iloc[rows[0]] if "clip" in table.columns else f"row {table.index[rows[0]]}"
        raise ValueError(f"{name!r} is {problem} in {rows.size} of {len(table)} rows, first {clip}")


def _label_scale(table: pd.DataFrame) -> tuple[Polarity, float, float]:
    """Polarity, lowest and highest label."""
    for name in ("score_polarity", "score_min", "score_max"):
        if table[name].nunique(dropna=False) != 1:
            raise ValueError(f"{name} must be one value in a table, got {table[name].unique().tolist()}")
    polarity = str(table["score_polarity"].iloc[0])
    score_min, score_max = (float(number_column(table, name)[0]) for name in ("score_min", "score_max"))
    if polarity not in get_args(Polarity):
        raise ValueError(f"score_polarity is {polarity!r}; it must be one of {get_args(Polarity)}")
    if not score_min < score_max or not np.isfinite(score_max - score_min):
        raise ValueError(f"score_min < score_max must hold and both be finite, got {score_min} and {score_max}")
    return cast(Polarity, polarity), score_min, score_max


def _outlier_tolerance(table: pd.DataFrame) -> tuple[FloatArray, OutlierRule]:
    """Tolerance (n,) and its rule, by the first source that every row has."""

    def column(name: str) -> FloatArray:
        return number_column(table, name) if name in table.columns else np.full(len(table), np.nan)

    std, raters = column("score_std"), column("score_raters")
    ci95_of_std = _Z95 * std / np.sqrt(np.where(raters > 0, raters, np.nan))
    if np.isfinite(ci95 := column("score_ci95")).all():
        return ci95, "interval"
    if np.isfinite(ci95_of_std).all():
        return ci95_of_std, "interval"
    if np.isfinite(std).all():
        return 2 * std, "std"
    return np.full(len(table), np.nan), "none"
