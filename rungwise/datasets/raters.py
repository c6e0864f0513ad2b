"""From single ratings to one score a clip: maximum likelihood with a bias and an inconsistency for each rater.

Rater i gives clip j the score x_ij = q_j + b_i + v_i n, n standard normal. Biased raters shift the mean of clips that
few have rated, careless ones blur all of them; the estimate takes the bias off and weighs raters by 1 / v_i^2. It is
the subject model of ITU-T P.910, solved by alternating projection (Li, Bampis, Krasula, Janowski, Katsavounidis: "A
simple model for subject behavior in subjective experiments", HVEI 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rungwise.dataset_table import read_table, write_table
from rungwise.tables import read_table_file

if TYPE_CHECKING:
    import pandas as pd

RATING_COLUMNS = ("clip", "rater", "score")
Z95 = 1.959963984540054
MIN_INCONSISTENCY = 0.25  # of the raters' median: one who agrees with himself by chance doesn't outvote all others
TOLERANCE, MAX_ROUNDS = 1e-9, 1000


@dataclass(frozen=True)
class Recovery:
    """Scores of N clips with half widths of their 95 % intervals, and bias and inconsistency of I raters."""

    score: NDArray[np.float64]
    ci95: NDArray[np.float64]
    bias: NDArray[np.float64]
    inconsistency: NDArray[np.float64]


def recover(ratings_IN: NDArray[np.float64]) -> Recovery:
    """Scores by maximum likelihood; NaN where a rater has not rated a clip.

    Raises:
        ValueError: a clip without a rating, a rater with fewer than two, or fewer than two raters.
    """
    rated = ~np.isnan(ratings_IN)
    if len(ratings_IN) < 2 or (rated.sum(1) < 2).any() or not rated.any(0).all():
        raise ValueError("every clip needs a rating, every rater two of them, and two raters are the least")
    score = np.nanmean(ratings_IN, 0)
    for _ in range(MAX_ROUNDS):
        bias = np.nanmean(ratings_IN - score, 1)
        bias -= bias.mean()  # raters as a whole have none
        residual = ratings_IN - score - bias[:, None]
        inconsistency = np.sqrt(np.nanmean(residual**2, 1))
        inconsistency = inconsistency.clip(max(MIN_INCONSISTENCY * float(np.median(inconsistency)), 1e-6))
        weight = rated / inconsistency[:, None] ** 2
        total = weight.sum(0)
        better = (weight * np.nan_to_num(ratings_IN - bias[:, None])).sum(0) / total
        change, score = float(np.abs(better - score).max()), better
        if change < TOLERANCE:
            break
    return Recovery(score, Z95 / np.sqrt(total), bias, inconsistency)


def aggregate(table: Path, ratings: Path, out: Path) -> tuple[pd.DataFrame, pd.Series[float], Recovery]:
    """Write a data set's table with the scores that its raters' single ratings give.

    Args:
        table: the data set; its scale of scores is the ratings'.
        ratings: columns clip, rater, score; one row a rating.
        out: the table with new score, score_std (between ratings), score_ci95 and score_raters.

    Returns:
        The new table; plain means in its order; the recovery of the rated clips in order of their names.

    Raises:
        ValueError: a column is missing, a clip is unknown, or as `recover`.
    """
    rows, given = read_table(table), read_table_file(ratings, text_columns=("clip", "rater"))
    if missing := [name for name in RATING_COLUMNS if name not in given.columns]:
        raise ValueError(f"{ratings}: no column {missing[0]!r}; one row a rating, with {', '.join(RATING_COLUMNS)}")
    unknown = sorted(set(given["clip"]) - set(rows["clip"]))
    if unknown:
        raise ValueError(f"{ratings}: no clip {unknown[0]!r} in {table}")
    wide = given.pivot_table(index="rater", columns="clip", values="score", aggfunc="mean")
    recovery = recover(wide.to_numpy(float))
    rows = rows[rows["clip"].isin(wide.columns)].reset_index(drop=True)
    order = np.searchsorted(wide.columns.to_numpy(str), rows["clip"].to_numpy(str))
    per_clip = given.groupby("clip")["score"]
    rows["score"] = recovery.score[order].clip(rows["score_min"], rows["score_max"])
    rows["score_std"] = rows["clip"].map(per_clip.std()).astype(float)
    rows["score_ci95"] = recovery.ci95[order]
    rows["score_raters"] = rows["clip"].map(per_clip.size()).astype(float)
    write_table(out, rows)
    return rows, rows["clip"].map(per_clip.mean()), recovery
