"""Agreement between true and predicted quality: correlations, ordered pairs, and their intervals by content.

Pure functions of 1-D float arrays. All raise ValueError for arrays that are not 1-D, differ in length, are
shorter than 2 or hold a non-finite value. A statistic without a value (a constant prediction has no
correlation) is nan, and never a warning.

Intervals come from resampling whole contents with replacement: encodes of one content are not independent.
How often each content was drawn says all about a resample, so a statistic to be resampled is a function of
counts, `Resampled`. The `resampled_*` makers sort, rank or sum once and then answer thousands of draws with a
few matrix products; `resampled_rows` does the same for any function, slowly.

Shapes: n rows (encodes), C contents in the order of np.unique(content), D draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Column = ArrayLike  # one value a row, (n,)
Resampled = Callable[[FloatArray], FloatArray]
"""Maps counts (D, C), how often each draw holds each content, to the statistic of each draw (D,)."""

Eligible = Callable[[IntArray, IntArray], NDArray[np.bool_]] | None
"""Says for row indices (P,) each, which pairs count (P,), symmetrically; None counts all."""

Gap = float | Callable[[IntArray, IntArray], FloatArray]
"""By how much two rows' truths must differ (its units): one number, or of row indices that broadcast."""

_MAX_KRCC_MATRIX_ROWS, _KRCC_STEPS = 2048, 256  # above it, n x n pairs cost more than cells per draw
_MAX_SIGN_ROWS = 64
_CELLS_PER_BLOCK, _MAX_R = 1 << 21, 0.99
_MAX_PAIR_CELLS = 40_000_000  # above it, large groups are thinned, evenly by truth


def srcc(truth: Column, pred: Column) -> float:
    """Spearman rank correlation in [-1, 1] with ties at their mean rank; nan if either side is constant."""
    t, p = _checked(truth, pred)
    return _pearson(stats.rankdata(t), stats.rankdata(p))


def krcc(truth: Column, pred: Column) -> float:
    """Kendall's tau-b in [-1, 1]; nan if either side is constant."""
    t, p = _checked(truth, pred)
    if np.ptp(t) == 0 or np.ptp(p) == 0:
        return float("nan")
    if t.size > _MAX_SIGN_ROWS:
        return float(stats.kendalltau(t, p).statistic)
    x, y = (np.sign(v[:, None] - v[None, :]) for v in (t, p))  # scipy's sorting pays for large tables only
    return float(np.clip((x * y).sum() / np.sqrt(np.abs(x).sum() * np.abs(y).sum()), -1, 1))


def plcc(truth: Column, pred: Column) -> float:
    """Pearson correlation in [-1, 1]; nan if either side is constant."""
    return _pearson(*_checked(truth, pred))


def rmse(truth: Column, pred: Column) -> float:
    """Root mean squared error, in the units of the truth."""
    t, p = _checked(truth, pred)
    return float(np.sqrt(np.mean((t - p) ** 2)))


@dataclass(frozen=True)
class QualityMap:
    """A monotone map from predictions to the label scale.

    "logistic4": beta = (b1, b2, b3, b4) of b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), falling if b1 < b2.
    "linear": beta = (slope, intercept), where no logistic fits better than the straight line.
    """

    kind: Literal["logistic4", "linear"]
    beta: tuple[float, ...]

    def __call__(self, pred: ArrayLike) -> FloatArray:
        """Mapped predictions, in the shape of `pred` and the units of the truth."""
        x = np.asarray(pred, dtype=np.float64)
        if self.kind == "linear":
            return self.beta[0] * x + self.beta[1]
        b1, b2, b3, b4 = self.beta
        return b2 + (b1 - b2) * _sigmoid(x, b3, abs(b4))


def fit_logistic4(truth: Column, pred: Column) -> QualityMap:
    """Least-squares fit of the VQEG 4-parameter logistic, rising or falling as the data do.

    b1 and b2 enter linearly, so the best b3 and b4 are those whose sigmoid correlates most with the truth: a
    search in two dimensions, started from a grid and hence from no guess. Center and scale stay within 6 and
    [1/16, 16] standard deviations of the predictions. Where the search does not converge, or finds nothing
    better than a line, the line is returned and `kind` says so.
    """
    t, p = _checked(truth, pred)
    mean, std = float(p.mean()), float(p.std())

    def shortfall(theta: FloatArray) -> float:
        r = _pearson(t, _sigmoid(p, mean + std * theta[0], std * 2.0 ** theta[1]))
        return 1.0 if np.isnan(r) else 1.0 - abs(r)

    if np.ptp(t) == 0 or np.unique(p).size < 4:
        return QualityMap("linear", _line(p, t))
    grid = _logistic_grid()
    start = grid[int(np.argmin([shortfall(theta) for theta in grid]))]
    simplex = start + np.vstack([np.zeros(2), np.diag(np.where(start > 0, -0.5, 0.5))])
    options = {"xatol": 1e-6, "fatol": 1e-12, "initial_simplex": simplex}
    box = [(-6.0, 6.0), (-4.0, 4.0)]
    found = optimize.minimize(shortfall, start, method="Nelder-Mead", bounds=box, options=options)
    if not found.success or found.fun > 1.0 - abs(_pearson(t, p)) - 1e-9:
        return QualityMap("linear", _line(p, t))
    center, scale = mean + std * float(found.x[0]), std * 2.0 ** float(found.x[1])
    slope, intercept = _line(_sigmoid(p, center, scale), t)
    return QualityMap("logistic4", (intercept + slope, intercept, center, scale))


def plcc_logistic4(truth: Column, pred: Column) -> float:
    """Pearson correlation after `fit_logistic4`, in [0, 1] as the fit takes either polarity, or nan."""
    t, p = _checked(truth, pred)
    return float("nan") if np.ptp(p) == 0 else _pearson(t, fit_logistic4(t, p)(p))


def rmse_logistic4(truth: Column, pred: Column) -> float:
    """Root mean squared error after `fit_logistic4`, in the units of the truth."""
    return rmse(truth, fit_logistic4(truth, pred)(pred))


class WithinContent(NamedTuple):
    """A mean over contents: its value in [-1, 1] (nan if none was used), contents used and dropped."""

    value: float
    used: int
    dropped: int


def fisher_z_mean(correlations: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean of correlations in [-1, 1] through Fisher's z = arctanh(r); nan if nothing weighs.

    |r| above .99, so also 1, is taken as .99: arctanh(1) is infinite, and cutting only at 1 itself would rate
    a perfect order below an almost perfect one.
    """
    r = np.asarray(correlations, dtype=np.float64)
    w = np.ones_like(r) if weights is None else np.asarray(weights, dtype=np.float64)
    if r.ndim != 1 or r.shape != w.shape or not np.all((np.abs(r) <= 1) & np.isfinite(w) & (w >= 0)):
        raise ValueError(f"want correlations in [-1, 1] and as many weights >= 0, got {r} and {w}")
    return float(np.tanh(ratio(w @ np.arctanh(np.clip(r, -_MAX_R, _MAX_R)), w.sum())))


def within_content_srcc(truth: Column, pred: Column, content: Column, min_count: int = 3) -> WithinContent:
    """Fisher z mean, weighted by size, of the SRCC inside each content (n,).

    Contents with fewer than `min_count` rows or one constant truth are dropped. A constant prediction counts
    as 0: it orders nothing, and dropping it would leave predictors on different contents.
    """
    r, weight = _srccs(truth, pred, content, min_count)
    return WithinContent(fisher_z_mean(r, weight), int((weight > 0).sum()), int((weight == 0).sum()))


class OrderedPairs(NamedTuple):
    """Pairs of rows of one group whose truths differ: row indices (P,), and the group's number (P,)."""

    better: IntArray
    worse: IntArray
    group: IntArray


def ordered_pairs(truth: Column, group: Column, min_gap: Gap = 0) -> OrderedPairs:
    """All pairs of one `group` (n,) whose truths differ by more than `min_gap`.

    Groups of over `pair_limit(n)` rows are thinned to as many, spread evenly over their truths.
    """
    t, _ = _checked(truth, truth)
    if not callable(min_gap) and not (np.isfinite(min_gap) and min_gap >= 0):
        raise ValueError(f"min_gap must be finite and >= 0, got {min_gap}")
    better, worse, groups = [], [], []
    for c, rows in enumerate(_rows_of(_codes(group, t.size))):
        if rows.size < 2:
            continue
        if rows.size > pair_limit(t.size):
            spread = np.linspace(0, rows.size - 1, pair_limit(t.size)).astype(np.int64)
            rows = rows[np.argsort(t[rows], kind="stable")[spread]]
        i, j = rows[:, None], rows[None, :]
        gap = min_gap(i, j) if callable(min_gap) else min_gap
        a, b = np.nonzero(t[i] - t[j] > gap)  # i is the better one, so each pair is met once
        better.append(rows[a])
        worse.append(rows[b])
        groups.append(np.full(a.size, c))
    return OrderedPairs(*(np.concatenate([np.empty(0, np.int64), *parts]) for parts in (better, worse, groups)))


def pair_limit(num_rows: int) -> int:
    """Rows of a group that may pair with each other in a table of `num_rows`: 40 million / n."""
    return max(2, _MAX_PAIR_CELLS // num_rows)


def pair_accuracy(truth: Column, pred: Column, group: Column, eligible: Eligible = None, min_gap: Gap = 0) -> float:
    """Share in [0, 1] of pairs in order, a tied prediction counting half; nan without pairs.

    Pairs are of one `group` (n,), `eligible`, and differ in truth by more than `min_gap` (its units).
    """
    right, total = pair_counts(truth, pred, group, eligible, min_gap)
    return float(ratio(right.sum(), total.sum()))


def pair_counts(
    truth: Column, pred: Column, group: Column, eligible: Eligible = None, min_gap: Gap = 0
) -> tuple[FloatArray, FloatArray]:
    """Pairs in order and pairs in all, each (C,); see `pair_accuracy`."""
    t, p = _checked(truth, pred)
    pairs = ordered_pairs(t, group, min_gap)
    keep = slice(None) if eligible is None else eligible(pairs.better, pairs.worse)
    return count_pairs(p, OrderedPairs(*(part[keep] for part in pairs)), int(_codes(group, t.size).max()) + 1)


def count_pairs(pred: FloatArray, pairs: OrderedPairs, num_groups: int) -> tuple[FloatArray, FloatArray]:
    """Pairs in order, a tie counting half, and pairs in all, each (num_groups,)."""
    a, b = pred[pairs.better], pred[pairs.worse]
    right = np.bincount(pairs.group, (a > b) + 0.5 * (a == b), num_groups).astype(np.float64)
    return right, np.bincount(pairs.group, minlength=num_groups).astype(np.float64)


def bootstrap_by_content(
    statistic: Resampled, content: Column, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval (low, high) of a statistic under resampling of whole contents (n,).

    A content drawn twice counts as two. (nan, nan) for a single content, which tells nothing of others, and
    where over 5 % of draws have no value.
    """
    num_contents = int(_codes(content).max()) + 1
    return interval_of(statistic(draw_contents(num_contents, num_resamples, seed)), num_contents)


def draw_contents(num_contents: int, num_resamples: int, seed: int) -> FloatArray:
    """How often each of D resamples holds each of C contents, (D, C); the same arguments draw the same."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    rng, chance = np.random.default_rng(seed), [1 / num_contents] * num_contents
    return rng.multinomial(num_contents, chance, num_resamples).astype(np.float64)


def interval_of(values: FloatArray, num_contents: int) -> tuple[float, float]:
    """The middle 95 % of a statistic's resampled values (D,); see `bootstrap_by_content` for when there is none."""
    defined = values[np.isfinite(values)]
    if num_contents < 2 or defined.size < 0.95 * values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap_by_content(
    a: Resampled, b: Resampled, content: Column, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference a - b and its 95 % interval: (delta, low, high), both seeing the same resamples."""
    once = np.ones((1, int(_codes(content).max()) + 1))
    low, high = bootstrap_by_content(lambda counts: a(counts) - b(counts), content, num_resamples, seed)
    return float((a(once) - b(once))[0]), low, high


def resampled_rows(function: Callable[[IntArray, IntArray], float], content: Column) -> Resampled:
    """Any statistic: `function(rows, contents)` gets the drawn row indices and, for each, a content number.

    The copies of a content drawn twice carry different numbers. The plain form of every `resampled_*` below.
    """
    rows_of = _rows_of(_codes(content))

    def value(count: FloatArray) -> float:
        drawn = [rows_of[c] for c in np.repeat(np.arange(len(rows_of)), count.astype(np.int64))]
        copies = np.repeat(np.arange(len(drawn)), [rows.size for rows in drawn])
        return function(np.concatenate(drawn), copies)

    return lambda counts: np.array([value(count) for count in counts])


def resampled_srcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """`srcc`: a row drawn k times weighs k, and its mean rank follows from the weights below it."""
    t, p = _checked(truth, pred)
    codes = _codes(content, t.size)
    sides = [_sorted_runs(t), _sorted_runs(p)]

    def block(counts: FloatArray) -> FloatArray:
        weight_Dn = counts[:, codes]
        half = weight_Dn.sum(axis=1, keepdims=True) / 2
        ranks = []
        for order, starts, run in sides:
            tied = np.add.reduceat(weight_Dn[:, order], starts, axis=1)
            ranks.append((np.cumsum(tied, axis=1) - tied / 2 - half)[:, run])  # less the mean of all ranks
        x, y = ranks
        xy, xx, yy = (np.einsum("dn,dn,dn->d", weight_Dn, u, v) for u, v in ((x, y), (x, x), (y, y)))
        return ratio(xy, np.sqrt(xx * yy))

    step = max(1, _CELLS_PER_BLOCK // t.size)
    return lambda counts: np.concatenate([block(counts[k : k + step]) for k in range(0, len(counts), step)])


def resampled_krcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """`krcc`: tau-b is a ratio of sums over pairs, so pairs of contents add their sums to C x C matrices.

    Over 2048 rows, both sides are first cut into 256 steps of equal size, whose cells are counted instead of rows;
    tau-b then is within .005.
    """
    t, p = _checked(truth, pred)
    codes = _codes(content, t.size)
    if t.size > _MAX_KRCC_MATRIX_ROWS:
        cells = _steps(t) * _KRCC_STEPS + _steps(p)
        return lambda counts: np.array([_krcc_of_cells(cells, count[codes]) for count in counts])
    order, starts, _ = _sorted_runs(codes)
    sign_t, sign_p = (np.sign(v[order, None] - v[None, order]) for v in (t, p))
    pairs = (sign_t * sign_p, np.abs(sign_t), np.abs(sign_p))
    matrices = [np.add.reduceat(np.add.reduceat(m, starts, axis=1), starts, axis=0) for m in pairs]

    def value(counts: FloatArray) -> FloatArray:
        agree, untied_t, untied_p = (np.einsum("dc,dc->d", counts @ m, counts) for m in matrices)
        return ratio(agree, np.sqrt(untied_t * untied_p))

    return value


def _steps(values: FloatArray) -> IntArray:
    """Which of the equally large steps each value's mean rank falls into, (n,)."""
    rank = (stats.rankdata(values) - 0.5) / values.size
    return np.asarray(np.minimum(rank * _KRCC_STEPS, _KRCC_STEPS - 1), np.int64)


def _krcc_of_cells(cells: IntArray, weight: FloatArray) -> float:
    table = np.bincount(cells, weight, _KRCC_STEPS**2).reshape(_KRCC_STEPS, _KRCC_STEPS)
    below = np.cumsum(table, axis=0) - table  # rows of lower truth, by step of the prediction
    left = np.cumsum(below, axis=1) - below  # ... and of lower prediction
    right = below.sum(axis=1, keepdims=True) - left - below
    untied = [table.sum() ** 2 - (table.sum(axis=axis) ** 2).sum() for axis in (0, 1)]
    return float(ratio(2 * (table * (left - right)).sum(), np.sqrt(untied[0] * untied[1])))


def resampled_plcc(truth: Column, pred: Column, content: Column) -> Resampled:
    """`plcc`, from the moments of each content."""
    t, p = _checked(truth, pred)
    moments = _moments(t, p, _codes(content, t.size))
    return lambda counts: _correlation(counts @ moments)[0]


def resampled_rmse(truth: Column, pred: Column, content: Column) -> Resampled:
    """`rmse`, from the squared error of each content."""
    t, p = _checked(truth, pred)
    codes = _codes(content, t.size)
    squares, sizes = np.bincount(codes, (t - p) ** 2), np.bincount(codes)
    return lambda counts: np.sqrt((counts @ squares) / (counts @ sizes))


def resampled_logistic4(
    truth: Column, pred: Column, content: Column, fitted: QualityMap | None = None
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    """`plcc_logistic4` and `rmse_logistic4` of each draw, both (D,), fitted anew in each.

    The fit of a draw is the best of 126 sigmoids, half of them near the fit to all rows (`fitted`, if it is known),
    of that fit and the line. PLCC above .5 is within .002 of a full search.
    """
    t, p = _checked(truth, pred)
    codes = _codes(content, t.size)
    mean, std, fitted = float(p.mean()), float(p.std()), fitted or fit_logistic4(t, p)
    grid = _logistic_grid()
    if fitted.kind == "logistic4":
        found = ((fitted.beta[2] - mean) / std, np.log2(fitted.beta[3] / std))
        grid = np.concatenate([grid, grid * (0.25, 0.375) + found + (0.0, 0.375)])

    def fit(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        best, spread = _correlation(counts @ _moments(t, p, codes))
        curves = [fitted(p)] if std == 0 else [fitted(p), *(_sigmoid(p, mean + std * c, std * 2.0**s) for c, s in grid)]
        for curve in curves:
            best = np.fmax(np.abs(best), np.abs(_correlation(counts @ _moments(t, curve, codes))[0]))
        return best, spread * np.sqrt(1 - np.nan_to_num(best) ** 2)

    return fit


def resampled_within_content_srcc(truth: Column, pred: Column, content: Column, min_count: int = 3) -> Resampled:
    """`within_content_srcc`: resampling contents only changes how often each one's z counts."""
    r, weight = _srccs(truth, pred, content, min_count)
    weighted_z = weight * np.arctanh(np.clip(r, -_MAX_R, _MAX_R))
    return lambda counts: np.tanh(ratio(counts @ weighted_z, counts @ weight))


def resampled_share(right: Column, total: Column) -> Resampled:
    """`pair_accuracy`, from what `pair_counts` returns."""
    return lambda counts: ratio(counts @ np.asarray(right), counts @ np.asarray(total))


def _checked(truth: Column, pred: Column) -> tuple[FloatArray, FloatArray]:
    t, p = np.asarray(truth, dtype=np.float64), np.asarray(pred, dtype=np.float64)
    if t.ndim != 1 or t.shape != p.shape or t.size < 2:
        raise ValueError(f"want two 1-D arrays of one length, 2 or more, got shapes {t.shape} and {p.shape}")
    if bad := int((~np.isfinite(t) | ~np.isfinite(p)).sum()):
        raise ValueError(f"{bad} of {t.size} rows hold a non-finite truth or prediction")
    return t, p


def _codes(content: Column, size: int | None = None) -> IntArray:
    labels: NDArray[Any] = np.asarray(content)
    if labels.ndim != 1 or labels.size == 0 or (size is not None and labels.size != size):
        raise ValueError(f"want one content label for each row, got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _rows_of(codes: IntArray) -> list[IntArray]:
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def _pearson(x: FloatArray, y: FloatArray) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    xy, xx, yy = (float(np.einsum("n,n", u, v)) for u, v in ((dx, dy), (dx, dx), (dy, dy)))
    constant = np.ptp(x) == 0 or np.ptp(y) == 0 or xx * yy == 0
    return float("nan") if constant else float(np.clip(xy / np.sqrt(xx * yy), -1, 1))


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    dx = x - x.mean()
    slope = 0.0 if np.ptp(x) == 0 else float(dx @ y / (dx @ dx))
    return slope, float(y.mean() - slope * x.mean())


def _sigmoid(x: FloatArray, center: float, scale: float) -> FloatArray:
    return 0.5 + 0.5 * np.tanh((x - center) / (2 * scale))  # unlike exp, cannot overflow


def _logistic_grid(per_std: int = 1) -> FloatArray:
    """Centers and log2 scales (k, 2) in standard deviations: steps, S, bows and near-lines."""
    centers, scales = np.linspace(-4, 4, 8 * per_std + 1), np.linspace(-4, 2, 6 * per_std + 1)
    return np.array([(c, s) for c in centers for s in scales])


def _srccs(truth: Column, pred: Column, content: Column, min_count: int) -> tuple[FloatArray, FloatArray]:
    """SRCC and weight of each content, both (C,); dropped contents have weight 0."""
    t, p = _checked(truth, pred)
    if min_count < 2:
        raise ValueError(f"min_count must be at least 2, got {min_count}")
    codes = _codes(content, t.size)
    sizes, keys = np.bincount(codes), (codes * t.size + _sorted_runs(v)[2] for v in (t, p))
    x, y = (stats.rankdata(key) - np.cumsum(sizes)[codes] for key in keys)  # of each content on its own
    r, spread = _correlation(_moments(x, y, codes))
    return np.nan_to_num(r), np.where((sizes >= min_count) & (spread > 0), sizes, 0.0)


def _sorted_runs(values: NDArray[Any]) -> tuple[IntArray, IntArray, IntArray]:
    """Sorting order (n,), where in it each run of equal values starts, and the run of each row (n,)."""
    run = np.unique(values, return_inverse=True)[1]
    order = np.argsort(run, kind="stable")
    return order, np.flatnonzero(np.diff(run[order], prepend=-1)), run


def _moments(t: FloatArray, x: FloatArray, codes: IntArray) -> FloatArray:
    """Sums (C, 6) of 1, t, x, tt, xx, tx about the overall means, which spares the digits."""
    t, x = t - t.mean(), x - x.mean()
    return np.stack([np.bincount(codes, v) for v in (np.ones_like(t), t, x, t * t, x * x, t * x)], axis=1)


def _correlation(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pearson correlation (D,) and standard deviation of the truth (D,) from sums (D, 6) of `_moments`."""
    n, t, x, tt, xx, tx = sums.T
    var_t, var_x = tt - t * t / n, xx - x * x / n
    # what rounding leaves of a constant's variance is not variance
    var_t, var_x = np.where(var_t > 1e-13 * tt, var_t, 0.0), np.where(var_x > 1e-13 * xx, var_x, 0.0)
    return np.clip(ratio(tx - t * x / n, np.sqrt(var_t * var_x)), -1, 1), np.sqrt(var_t / n)


def ratio(top: ArrayLike, bottom: ArrayLike) -> FloatArray:
    """top / bottom, and nan where bottom is not above 0."""
    a, b = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0))
