"""The interval around a score: how far scores of contents that a student never saw lie from their labels.

Errors grow toward the bad end of the scale, so the half width is linear in the score: a split-conformal quantile of
errors relative to their expected size (Lei et al. 2018, "Distribution-free predictive inference for regression", 5.2).
Clips of one content err alike, so contents, not clips, are exchangeable: each of K contents weighs 1 / (K + 1), its
clips alike, and the new one's 1 / (K + 1) lies at infinity (Lee, Barber, Willett 2023, "Distribution-free inference
with hierarchical data").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from rungwise.score.contract import Calibration, Scale

MIN_CONTENTS: Final = 30  # for a half width that depends on the score; with fewer it is constant
LEAST_SHARE: Final = 0.25  # of the mean error, at the best score


def calibrate(
    scores: NDArray[Any], labels: NDArray[Any], contents: Sequence[str], coverage: float, scale: Scale
) -> Calibration:
    """The interval of scores of held-out clips, (N,) each.

    It covers at least the fraction `promised` of new contents' clips in expectation. Where K / (K + 1) < coverage, the
    largest error is taken and K / (K + 1) promised.
    """
    errors, distances = np.abs(scores - labels).astype(float), np.abs(scale.best - scores).astype(float)
    codes, counts = np.unique(np.asarray(contents), return_inverse=True, return_counts=True)[1:]
    at_best, slope = float(errors.mean()) or 1.0, 0.0
    if len(counts) >= MIN_CONTENTS:
        # A column a point of distance, and one for what is left at the best score, above its least share.
        least = LEAST_SHARE * at_best
        (rest, slope), _ = nnls(np.column_stack([np.ones_like(distances), distances]), errors - least)
        at_best = least + rest
    ratios = errors / (at_best + slope * distances)
    weights = 1.0 / (counts[codes] * (len(counts) + 1.0))
    factor = _quantile(ratios, weights, coverage)
    return Calibration(
        coverage=coverage,
        half_width=factor * at_best,
        slope=factor * slope,
        num_clips=len(errors),
        num_contents=len(counts),
        promised=min(coverage, len(counts) / (len(counts) + 1.0)),
    )


def _quantile(values: NDArray[Any], weights: NDArray[Any], fraction: float) -> float:
    """The smallest value up to which the weights sum to `fraction`; the largest if they never do."""
    order = np.argsort(values, kind="stable")
    # Sums of weights miss a fraction like 9 / 10 by a rounding error.
    place = int(np.searchsorted(np.cumsum(weights[order]), fraction - 1e-9))
    return float(values[order[min(place, len(values) - 1)]])
