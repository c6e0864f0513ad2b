"""Agreement between true and predicted quality: SRCC, KRCC, PLCC, RMSE and the logistic mapping.

All functions are pure and take 1-D arrays of one value per encode. They raise ValueError for arrays that are not
1-D, differ in length, are shorter than 2, or hold a non-finite value. An undefined statistic (a constant prediction
has no correlation) is nan and raises no warning.

Shapes: n rows (encodes), C contents in the order of np.unique(content), D bootstrap draws.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Column = ArrayLike
"""One value per row, (n,)."""

MAX_R = 0.99  # Fisher's z of a correlation of 1 is infinite
_MAX_SIGN_ROWS = 64  # up to here n x n signs are faster than scipy's sort
_FLAT = 1e-6  # span of a sigmoid over the predictions, below which it is not fitted


def srcc(truth: Column, pred: Column) -> float:
    """Spearman rank correlation in [-1, 1], with tied values at their mean rank; nan if either side is constant."""
    t, p = checked_columns(truth, pred)
    return _pearson(stats.rankdata(t), stats.rankdata(p))


def krcc(truth: Column, pred: Column) -> float:
    """Kendall's tau-b in [-1, 1]; nan if either side is constant."""
    t, p = checked_columns(truth, pred)
    if np.ptp(t) == 0 or np.ptp(p) == 0:
        return float("nan")
    if t.size > _MAX_SIGN_ROWS:
        return float(stats.kendalltau(t, p).statistic)
    x, y = (np.sign(v[:, None] - v[None, :]) for v in (t, p))
    return float(np.clip((x * y).sum() / np.sqrt(np.abs(x).sum() * np.abs(y).sum()), -1, 1))


def plcc(truth: Column, pred: Column) -> float:
    """Pearson linear correlation in [-1, 1]; nan if either side is constant."""
    return _pearson(*checked_columns(truth, pred))


def rmse(truth: Column, pred: Column) -> float:
    """Root mean squared error, in the units of the truth."""
    t, p = checked_columns(truth, pred)
    return float(np.sqrt(np.mean((t - p) ** 2)))


@dataclass(frozen=True)
class QualityMap:
    """A monotonic map from predictions to the label scale.

    "logistic4": beta = (b1, b2, b3, b4) of b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)), falling if b1 < b2.
    "linear": beta = (slope, intercept), used where no logistic fits better than the straight line.
    """

    kind: Literal["logistic4", "linear"]
    beta: tuple[float, ...]

    def __call__(self, pred: ArrayLike) -> FloatArray:
        """Mapped predictions, in the shape of `pred` and the units of the truth."""
        x = np.asarray(pred, dtype=np.float64)
        if self.kind == "linear":
            return self.beta[0] * x + self.beta[1]
        b1, b2, b3, b4 = self.beta
        return b2 + (b1 - b2) * sigmoid(x, b3, abs(b4))


def fit_logistic4(truth: Column, pred: Column) -> QualityMap:
    """Least-squares fit of the VQEG 4-parameter logistic, rising or falling as the data do.

    b1 and b2 enter linearly, so the best b3 and b4 are those whose sigmoid correlates most with the truth. The search
    is therefore two-dimensional and starts from a grid instead of a guess. Center and scale stay within 6 and
    [1/16, 16] standard deviations of the predictions. If the search does not converge, or finds nothing better than a
    line, the line is returned with kind "linear".
    """
    t, p = checked_columns(truth, pred)
    mean, std = float(p.mean()), float(p.std())

    def shortfall(theta: FloatArray) -> float:
        curve = sigmoid(p, mean + std * theta[0], std * 2.0 ** theta[1])
        r = _pearson(t, curve)
        # Of a curve so flat only the last digits differ, and b1 - b2 would multiply them by more than numbers hold.
        return 1.0 if np.isnan(r) or np.ptp(curve) < _FLAT else 1.0 - abs(r)

    if np.ptp(t) == 0 or np.unique(p).size < 4:
        return QualityMap("linear", _fit_line(p, t))
    grid = logistic_grid()
    start = grid[int(np.argmin([shortfall(theta) for theta in grid]))]
    simplex = start + np.vstack([np.zeros(2), np.diag(np.where(start > 0, -0.5, 0.5))])
    options = {"xatol": 1e-6, "fatol": 1e-12, "initial_simplex": simplex}
    box = [(-6.0, 6.0), (-4.0, 4.0)]
    fit = optimize.minimize(shortfall, start, method="Nelder-Mead", bounds=box, options=options)
    if not fit.success or fit.fun > 1.0 - abs(_pearson(t, p)) - 1e-9:
        return QualityMap("linear", _fit_line(p, t))
    center, scale = mean + std * float(fit.x[0]), std * 2.0 ** float(fit.x[1])
    slope, intercept = _fit_line(sigmoid(p, center, scale), t)
    return QualityMap("logistic4", (intercept + slope, intercept, center, scale))


def plcc_logistic4(truth: Column, pred: Column) -> float:
    """Pearson correlation after `fit_logistic4`, in [0, 1] because the fit takes either polarity, or nan."""
    t, p = checked_columns(truth, pred)
    return float("nan") if np.ptp(p) == 0 else _pearson(t, fit_logistic4(t, p)(p))


def rmse_logistic4(truth: Column, pred: Column) -> float:
    """Root mean squared error after `fit_logistic4`, in the units of the truth."""
    return rmse(truth, fit_logistic4(truth, pred)(pred))


class WithinContent(NamedTuple):
    """A mean over contents in [-1, 1] (nan if no content counts), and the number of contents used and dropped."""

    value: float
    used: int
    dropped: int


def fisher_z_mean(correlations: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean of correlations in [-1, 1] by Fisher's z = arctanh(r); nan if all weights are 0.

    |r| is clipped to .99, because arctanh(1) is infinite. Replacing only |r| = 1 would rank a perfect order below
    an almost perfect one.

    Raises:
        ValueError: a correlation is outside [-1, 1], or the weights are negative or not as many.
    """
    r = np.asarray(correlations, dtype=np.float64)
    w = np.ones_like(r) if weights is None else np.asarray(weights, dtype=np.float64)
    if r.ndim != 1 or r.shape != w.shape or not np.all((np.abs(r) <= 1) & np.isfinite(w) & (w >= 0)):
        raise ValueError(f"expected correlations in [-1, 1] and as many weights >= 0, got {r} and {w}")
    return float(np.tanh(ratio(w @ np.arctanh(np.clip(r, -MAX_R, MAX_R)), w.sum())))


def within_content_srcc(truth: Column, pred: Column, content: Column, min_count: int = 3) -> WithinContent:
    """Per-content SRCC: the Fisher z mean over contents, weighted by their rows.

    Contents with fewer than `min_count` rows or a constant truth are dropped. A constant prediction counts as 0,
    because dropping it would evaluate predictors on different contents.
    """
    r, weight = content_srccs(truth, pred, content, min_count)
    return WithinContent(fisher_z_mean(r, weight), int((weight > 0).sum()), int((weight == 0).sum()))


def content_srccs(truth: Column, pred: Column, content: Column, min_count: int) -> tuple[FloatArray, FloatArray]:
    """SRCC and weight of each content, both (C,); dropped contents have weight 0."""
    t, p = checked_columns(truth, pred)
    if min_count < 2:
        raise ValueError(f"min_count must be at least 2, got {min_count}")
    codes = label_codes(content, t.size)
    sizes, keys = np.bincount(codes), (codes * t.size + sorted_runs(v)[2] for v in (t, p))
    x, y = (stats.rankdata(key) - np.cumsum(sizes)[codes] for key in keys)  # ranks inside each content
    r, truth_std = correlation_of_moments(moments(x, y, codes))
    return np.nan_to_num(r), np.where((sizes >= min_count) & (truth_std > 0), sizes, 0.0)


def checked_columns(truth: Column, pred: Column) -> tuple[FloatArray, FloatArray]:
    """Both columns as float64 (n,), or the ValueError that this module's functions share."""
    t, p = np.asarray(truth, dtype=np.float64), np.asarray(pred, dtype=np.float64)
    if t.ndim != 1 or t.shape != p.shape or t.size < 2:
        raise ValueError(f"expected two 1-D arrays of the same length, 2 or more, got shapes {t.shape} and {p.shape}")
    if bad := int((~np.isfinite(t) | ~np.isfinite(p)).sum()):
        raise ValueError(f"{bad} of {t.size} rows hold a non-finite truth or prediction")
    return t, p


def label_codes(labels: Column, size: int | None = None) -> IntArray:
    """Labels (n,) as numbers from 0 in the order of np.unique; ValueError if there are not `size` of them."""
    values: NDArray[Any] = np.asarray(labels)
    if values.ndim != 1 or values.size == 0 or (size is not None and values.size != size):
        raise ValueError(f"expected one content label per row, got shape {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def rows_by_code(codes: IntArray) -> list[IntArray]:
    """Row indices of each code, from 0."""
    return np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])


def sorted_runs(values: NDArray[Any]) -> tuple[IntArray, IntArray, IntArray]:
    """Sort order (n,), the start of each run of equal values in that order, and the run of each row (n,)."""
    run = np.unique(values, return_inverse=True)[1]
    order = np.argsort(run, kind="stable")
    return order, np.flatnonzero(np.diff(run[order], prepend=-1)), run


def moments(t: FloatArray, x: FloatArray, codes: IntArray) -> FloatArray:
    """Sums (C, 6) of 1, t, x, tt, xx, tx about the overall means, which preserves precision."""
    t, x = t - t.mean(), x - x.mean()
    return np.stack([np.bincount(codes, v) for v in (np.ones_like(t), t, x, t * t, x * x, t * x)], axis=1)


def correlation_of_moments(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pearson correlation (D,) and standard deviation of the truth (D,) from sums (D, 6) of `moments`."""
    n, t, x, tt, xx, tx = sums.T
    var_t, var_x = tt - t * t / n, xx - x * x / n
    # Rounding leaves a constant with a tiny variance, which must count as 0.
    var_t, var_x = np.where(var_t > 1e-13 * tt, var_t, 0.0), np.where(var_x > 1e-13 * xx, var_x, 0.0)
    return np.clip(ratio(tx - t * x / n, np.sqrt(var_t * var_x)), -1, 1), np.sqrt(var_t / n)


def sigmoid(x: FloatArray, center: float, scale: float) -> FloatArray:
    """Logistic function in (0, 1); tanh, unlike exp, cannot overflow."""
    return 0.5 + 0.5 * np.tanh((x - center) / (2 * scale))


def logistic_grid(per_std: int = 1) -> FloatArray:
    """Centers and log2 scales (k, 2) in standard deviations: from a step to nearly a line."""
    centers, scales = np.linspace(-4, 4, 8 * per_std + 1), np.linspace(-4, 2, 6 * per_std + 1)
    return np.array([(c, s) for c in centers for s in scales])


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """numerator / denominator, nan where the denominator is not above 0."""
    a, b = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0))


def _pearson(x: FloatArray, y: FloatArray) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    xy, xx, yy = (float(np.einsum("n,n", u, v)) for u, v in ((dx, dy), (dx, dx), (dy, dy)))
    constant = np.ptp(x) == 0 or np.ptp(y) == 0 or xx * yy == 0
    return float("nan") if constant else float(np.clip(xy / np.sqrt(xx * yy), -1, 1))


def _fit_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope and intercept of the least-squares line; slope 0 if x is constant."""
    dx = x - x.mean()
    slope = 0.0 if np.ptp(x) == 0 else float(dx @ y / (dx @ dx))
    return slope, float(y.mean() - slope * x.mean())
