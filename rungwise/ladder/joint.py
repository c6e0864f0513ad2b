"""Hybrid scores of one title's rungs, estimated jointly with their pixel-only scores.

A hybrid score relies on the QP, which says nothing of what was lost before the last encode; a pixel-only score relies
on what is visible, and errs by content. Rungs of one title share their content, so pixel-only less hybrid is much the
same in all of them, but for a trend along quality and height. What is left of it is a rung's own: part of it corrects
the hybrid score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_RUNGS = 4  # fewer have no trend
# Parts of a rung's own difference that correct its score: where its pixels look worse than the other rungs suggest, and
# better. Chosen on encodes outside of benchmarks/ladder_encodes.py: folds of benchmarks/ablation.py and four masters.
WORSE_PART, BETTER_PART = 0.8, 0.2
_OUTLIER_SCALE = 2.0  # points, from which on a rung pulls on the trend less than by the square


def joint_scores(hybrid: ArrayLike, pixel: ArrayLike, heights: ArrayLike) -> NDArray[np.float64]:
    """Hybrid scores (n,), corrected by what pixel-only scores say of each rung beside the others; higher is better."""
    scores = np.asarray(hybrid, np.float64)
    if len(scores) < MIN_RUNGS:
        return scores
    own = _own_differences(np.asarray(pixel, np.float64) - scores, scores, np.asarray(heights, np.float64))
    return np.asarray(scores + WORSE_PART * np.minimum(own, 0) + BETTER_PART * np.maximum(own, 0), np.float64)


def _own_differences(
    differences: NDArray[np.float64], scores: NDArray[np.float64], heights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a robust line along score and log-height leaves of each difference; its slopes are small unless proved."""
    from scipy.optimize import least_squares

    x = np.stack([np.ones_like(scores), (scores - scores.mean()) / 10, np.log(heights / heights.max())], axis=1)

    def residuals(line: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([differences - x @ line, line[1:]])

    start = np.array([np.median(differences), 0.0, 0.0])
    line = least_squares(residuals, start, loss="huber", f_scale=_OUTLIER_SCALE).x
    return np.asarray(differences - x @ line, np.float64)
