"""Bootstrap confidence intervals by content.

Encodes of one content are not independent, so whole contents are resampled with replacement. The number of times each
content was drawn fully describes a resample. A statistic to be resampled is therefore a function of these counts, a
`Resampled`. The `resampled_*` functions sort, rank or sum once and then answer thousands of draws with a few matrix
products. `resampled_rows` does the same for any function, slowly.

Shapes: n rows (encodes), C contents in the order of np.unique(content), D draws.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from rungwise.metrics.statistics import (
    MAX_R,
    Column,
    FloatArray,
    IntArray,
    QualityMap,
    checked_columns,
    content_srccs,
    correlation_of_moments,
    fit_logistic4,
    label_codes,
    logistic_grid,
    moments,
    ratio,
    rows_by_code,
    sigmoid,
    sorted_runs,
)

Resampled = Callable[[FloatArray], FloatArray]
"""Maps counts (D, C), how often each draw holds each content, to the statistic of each draw (D,)."""

_MAX_KRCC_MATRIX_ROWS, _KRCC_BINS = 2048, 256  # above it, n x n pairs cost more than histogram bins per draw
_CELLS_PER_BLOCK = 1 << 21


def bootstrap_by_content(
    statistic: Resampled, content: Column, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval (low, high) of a statistic under resampling of whole contents (n,).

    A content drawn twice counts as two. The interval is (nan, nan) for a single content, which carries no information
    on others, and where more than 5 % of the draws are undefined.
    """
    num_contents = int(label_codes(content).max()) + 1
    return percentile_interval(statistic(draw_contents(num_contents, num_resamples, seed)), num_contents)


def draw_contents(num_contents: int, num_resamples: int, seed: int) -> FloatArray:
    """How often each of D resamples holds each of C contents, (D, C); equal arguments give equal draws.

    Raises:
        ValueError: `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    rng, probabilities = np.random.default_rng(seed), [1 / num_contents] * num_contents
    return rng.multinomial(num_contents, probabilities, num_resamples).astype(np.float64)


def percentile_interval(values: FloatArray, num_contents: int) -> tuple[float, float]:
    """The middle 95 % of resampled values (D,); `bootstrap_by_content` lists the cases without an interval."""
    defined = values[np.isfinite(values)]
    if num_contents < 2 or defined.size < 0.95 * values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap_by_content(
    a: Resampled, b: Resampled, content: Column, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference a - b and its 95 % interval, (delta, low, high), on the same resamples for both."""
    once = np.ones((1, int(label_codes(content).max()) + 1))
    low, high = bootstrap_by_content(lambda counts: a(counts) - b(counts), content, num_resamples, seed)
    return float((a(once) - b(once))[0]), low, high


def resampled_rows(function: Callable[[IntArray, IntArray], float], content: Column) -> Resampled:
    """Resample any statistic: `function(rows, contents)` gets the drawn row indices and a content number for each.

    Copies of a content drawn twice carry different numbers. This is the slow reference of every `resampled_*` below.
    """
    rows_of = rows_by_code(label_codes(content))

    def value(count: FloatArray) -> float:
        drawn = [rows_of[c] for c in np.repeat(np.arange(len(rows_of)), count.astype(np.int64))]
        copies = np.repeat(np.arange(len(drawn)), [rows.size for rows in drawn])
        return function(np.concatenate(drawn), copies)

    return lambda counts: np.array([value(count) for count in counts])


def resampled_srcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """Resample `srcc`: a row drawn k times has weight k, and its mean rank follows from the weights below it."""
    t, p = checked_columns(truth, pred)
    codes = label_codes(content, t.size)
    sides = [sorted_runs(t), sorted_runs(p)]

    def block(counts: FloatArray) -> FloatArray:
        weight_Dn = counts[:, codes]
        half = weight_Dn.sum(axis=1, keepdims=True) / 2
        ranks = []
        for order, starts, run in sides:
            tied = np.add.reduceat(weight_Dn[:, order], starts, axis=1)
            ranks.append((np.cumsum(tied, axis=1) - tied / 2 - half)[:, run])  # minus the mean of all ranks
        x, y = ranks
        xy, xx, yy = (np.einsum("dn,dn,dn->d", weight_Dn, u, v) for u, v in ((x, y), (x, x), (y, y)))
        return ratio(xy, np.sqrt(xx * yy))

    step = max(1, _CELLS_PER_BLOCK // t.size)
    return lambda counts: np.concatenate([block(counts[k : k + step]) for k in range(0, len(counts), step)])


def resampled_krcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """Resample `krcc`: tau-b is a ratio of sums over pairs, so pairs of contents add up in C x C matrices.

    Above 2048 rows, truth and prediction are first quantized to 256 equally filled bins, and a 2-D histogram replaces
    the pairs of rows. The error in tau-b is then below .005.
    """
    t, p = checked_columns(truth, pred)
    codes = label_codes(content, t.size)
    if t.size > _MAX_KRCC_MATRIX_ROWS:
        cells = _rank_bins(t) * _KRCC_BINS + _rank_bins(p)
        return lambda counts: np.array([_krcc_of_histogram(cells, count[codes]) for count in counts])
    order, starts, _ = sorted_runs(codes)
    sign_t, sign_p = (np.sign(v[order, None] - v[None, order]) for v in (t, p))
    pairs = (sign_t * sign_p, np.abs(sign_t), np.abs(sign_p))
    matrices = [np.add.reduceat(np.add.reduceat(m, starts, axis=1), starts, axis=0) for m in pairs]

    def value(counts: FloatArray) -> FloatArray:
        agree, untied_t, untied_p = (np.einsum("dc,dc->d", counts @ m, counts) for m in matrices)
        return ratio(agree, np.sqrt(untied_t * untied_p))

    return value


def _rank_bins(values: FloatArray) -> IntArray:
    """Bin of each value by its mean rank, (n,), from 0 to _KRCC_BINS - 1."""
    rank = (stats.rankdata(values) - 0.5) / values.size
    return np.asarray(np.minimum(rank * _KRCC_BINS, _KRCC_BINS - 1), np.int64)


def _krcc_of_histogram(cells: IntArray, weight: FloatArray) -> float:
    """Tau-b of a weighted 2-D histogram; `cells` (n,) is truth bin x _KRCC_BINS + prediction bin."""
    table = np.bincount(cells, weight, _KRCC_BINS**2).reshape(_KRCC_BINS, _KRCC_BINS)
    below = np.cumsum(table, axis=0) - table  # weight at lower truth, by bin of the prediction
    left = np.cumsum(below, axis=1) - below  # ... and at lower prediction
    right = below.sum(axis=1, keepdims=True) - left - below
    untied = [table.sum() ** 2 - (table.sum(axis=axis) ** 2).sum() for axis in (0, 1)]
    return float(ratio(2 * (table * (left - right)).sum(), np.sqrt(untied[0] * untied[1])))


def resampled_plcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """Resample `plcc` from the moments of each content."""
    t, p = checked_columns(truth, pred)
    sums = moments(t, p, label_codes(content, t.size))
    return lambda counts: correlation_of_moments(counts @ sums)[0]


def resampled_rmse(truth: Column, pred: Column, content: Column) -> Resampled:
    """Resample `rmse` from the squared error of each content."""
    t, p = checked_columns(truth, pred)
    codes = label_codes(content, t.size)
    squares, sizes = np.bincount(codes, (t - p) ** 2), np.bincount(codes)
    return lambda counts: np.sqrt((counts @ squares) / (counts @ sizes))


def resampled_logistic4(
    truth: Column, pred: Column, content: Column, fitted: QualityMap | None = None
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """Resample `plcc_logistic4` and `rmse_logistic4`, both (D,), with a new fit in each draw.

    The fit of a draw is the best of 126 sigmoids, half of them near the fit to all rows (`fitted`, computed if not
    given), of that fit, and of the line. PLCC above .5 is within .002 of a full search.
    """
    t, p = checked_columns(truth, pred)
    codes = label_codes(content, t.size)
    mean, std, fitted = float(p.mean()), float(p.std()), fitted or fit_logistic4(t, p)
    grid = logistic_grid()
    if fitted.kind == "logistic4":
        center = ((fitted.beta[2] - mean) / std, np.log2(fitted.beta[3] / std))
        grid = np.concatenate([grid, grid * (0.25, 0.375) + center + (0.0, 0.375)])

    def fit(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        best, truth_std = correlation_of_moments(counts @ moments(t, p, codes))
        curves = [fitted(p)] if std == 0 else [fitted(p), *(sigmoid(p, mean + std * c, std * 2.0**s) for c, s in grid)]
        for curve in curves:
            best = np.fmax(np.abs(best), np.abs(correlation_of_moments(counts @ moments(t, curve, codes))[0]))
        return best, truth_std * np.sqrt(1 - np.nan_to_num(best) ** 2)

    return fit


def resampled_within_content_srcc(truth: Column, pred: Column, content: Column, min_count: int = 3) -> Resampled:
    """Resample `within_content_srcc`: a draw only changes how often each content's z counts."""
    r, weight = content_srccs(truth, pred, content, min_count)
    weighted_z = weight * np.arctanh(np.clip(r, -MAX_R, MAX_R))
    return lambda counts: np.tanh(ratio(counts @ weighted_z, counts @ weight))


def resampled_fraction(numerator: Column, denominator: Column) -> Resampled:
    """Resample sum(numerator) / sum(denominator), both (C,), such as the results of `pair_counts`."""
    return lambda counts: ratio(counts @ np.asarray(numerator), counts @ np.asarray(denominator))
