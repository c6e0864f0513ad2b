"""Figures of benchmarks/default_model.py: accuracy of every predictor, intervals and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import Evaluation, format_table
from rungwise.metrics.pairs import PairRule
from rungwise.progress import note
from student.gates import PAIR_GAP_SHARE

PREDICTORS = ("student", "pictures", "teacher", "ridge")
PAIRS = PairRule("label-range", PAIR_GAP_SHARE)


def figures(table: pd.DataFrame, num_resamples: int) -> dict[str, Any]:
    """The evaluation of every predictor in the table; seeds are predictors of their own."""
    names = [name for name in table.columns if name.rpartition(" ")[0] in PREDICTORS]
    renamed = {"psnr_mean": "psnr", "ssim_mean": "ssim"}
    table = table.rename(columns=renamed)
    more = [
        name for name in ("shipped", "shipped pictures", "vmaf_v0", "psnr", "ssim", "brisque", "niqe") if name in table
    ]
    result = evaluate_predictors(table, [*names, *more], num_resamples=num_resamples, pair_rule=PAIRS)
    note(format_table(result))
    return _brief(result) | {"contents": int(table["content"].nunique()), "clips": len(table)}


def _brief(result: Evaluation) -> dict[str, Any]:
    columns = ("srcc", "plcc_linear", "krcc", "rmse_raw", "within_content_srcc", "pairs_same_codec",
               "pairs_cross_codec", "pairs_cross_resolution")  # fmt: skip
    by_predictor = {}
    for predictor in result.predictors:
        values = predictor.model_dump(mode="json")
        by_predictor[predictor.predictor] = {name: values[name] for name in columns}
    return {"predictors": by_predictor}


def coverage_of_folds(table: pd.DataFrame, folds: NDArray[np.int64], share: float) -> dict[str, float]:
    """Intervals of each fold by the residuals of the other folds: how many of its clips they hold, and how wide."""
    residuals = (table["student 0"] - table["score"]).abs().to_numpy()
    held, widths = [], []
    for fold in np.unique(folds):
        width = float(np.quantile(residuals[folds != fold], share, method="higher"))
        held.append(residuals[folds == fold] <= width)
        widths.append(width)
    return {"held": float(np.concatenate(held).mean()), "half_width": float(np.mean(widths))}


def mean_residuals(table: pd.DataFrame) -> dict[str, float]:
    """Mean of prediction less label: how far a level is off."""
    columns = ("student 0", "pictures 0", "shipped", "shipped pictures")
    return {name: float((table[name] - table["score"]).mean()) for name in columns if name in table}


def by_content(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean and deviation of the residuals of each content, worst first."""
    rows = []
    for content, part in table.assign(residual=table["student 0"] - table["score"]).groupby("content"):
        rows.append({"content": content, "clips": len(part), "mean": float(part["residual"].mean()),
                     "deviation": float(part["residual"].std())})  # fmt: skip
    return sorted(rows, key=lambda row: -abs(row["mean"]))
