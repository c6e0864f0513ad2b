"""Rate-quality curves: Pareto front, convex hull, crossovers and BD-rate.

Bitrates are in kbps and above 0. Qualities are finite, and higher is better. Functions take 1-D arrays of the same
length, in any order, and return row indices or numbers. Invalid arrays raise ValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_BD_POINTS = 4  # as in Bjontegaard (VCEG-M33); three points leave the shape of the curve undetermined


class BDRate(NamedTuple):
    """Mean bitrate difference in percent at equal quality (negative is a saving), or None and the reason."""

    percent: float | None
    reason: str = ""


class Crossing(NamedTuple):
    """Bitrates, in ascending order, at which the better of two curves changes.

    `better` is the better curve above the last of them: "low" or "high" (resolution). It is None if the curves share
    no bitrate or are identical.
    """

    bitrates_kbps: tuple[float, ...]
    better: str | None


def pareto_front(bitrate_kbps: ArrayLike, quality: ArrayLike) -> NDArray[np.int64]:
    """Rows not dominated in bitrate and quality, by ascending bitrate (and hence ascending quality)."""
    rate, q = _checked(bitrate_kbps, quality)
    order = np.lexsort((-q, rate))
    best = np.maximum.accumulate(q[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]])
    return np.asarray(order[rises], np.int64)


def convex_hull(bitrate_kbps: ArrayLike, quality: ArrayLike) -> NDArray[np.int64]:
    """Rows on the upper convex hull of quality against bitrate, by ascending bitrate up to the best quality.

    A row below the hull costs more than a mix of its two neighbors on the hull. Bitrate is linear, not logarithmic,
    because the bits of the parts of a title add up. Rows on a straight segment of the hull are included.
    """
    rate, q = _checked(bitrate_kbps, quality)
    hull: list[int] = []
    for row in pareto_front(rate, q):
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], row, rate, q):
            hull.pop()
        hull.append(int(row))
    return np.asarray(hull, np.int64)


def hull_quality(bitrate_kbps: ArrayLike, quality: ArrayLike, at_kbps: ArrayLike) -> NDArray[np.float64]:
    """Quality of the convex hull of (bitrate, quality) at given bitrates; constant beyond both ends."""
    rate, q = _checked(bitrate_kbps, quality)
    hull = convex_hull(rate, q)
    return np.asarray(np.interp(np.asarray(at_kbps, np.float64), rate[hull], q[hull]), np.float64)


def hull_bitrate(bitrate_kbps: ArrayLike, quality: ArrayLike, at_quality: ArrayLike) -> NDArray[np.float64]:
    """Bitrate at which the convex hull of (bitrate, quality) reaches given qualities; constant beyond both ends."""
    rate, q = _checked(bitrate_kbps, quality)
    hull = convex_hull(rate, q)
    return np.asarray(np.interp(np.asarray(at_quality, np.float64), q[hull], rate[hull]), np.float64)


def crossovers(low_kbps: ArrayLike, low_quality: ArrayLike, high_kbps: ArrayLike, high_quality: ArrayLike) -> Crossing:
    """Bitrates where the better of two curves changes, over their common bitrate range.

    Each curve is the Pareto front of its rows, interpolated linearly over log bitrate. Curves that only touch do not
    cross.
    """
    curves = []
    for bitrate, quality in ((low_kbps, low_quality), (high_kbps, high_quality)):
        rate, q = _checked(bitrate, quality)
        front = pareto_front(rate, q)
        curves.append((np.log(rate[front]), q[front]))
    (x_low, q_low), (x_high, q_high) = curves
    first, last = max(x_low[0], x_high[0]), min(x_low[-1], x_high[-1])
    if first >= last:
        return Crossing((), None)
    knots = np.unique(np.concatenate([x_low, x_high]))
    x = np.concatenate([[first], knots[(knots > first) & (knots < last)], [last]])
    lead = np.interp(x, x_high, q_high) - np.interp(x, x_low, q_low)
    x, lead = x[lead != 0], lead[lead != 0]
    turns = np.flatnonzero(np.sign(lead[1:]) != np.sign(lead[:-1]))
    fraction = lead[turns] / (lead[turns] - lead[turns + 1])
    bitrates = np.exp(x[turns] + fraction * (x[turns + 1] - x[turns]))
    better = None if not lead.size else ("high" if lead[-1] > 0 else "low")
    return Crossing(tuple(float(rate) for rate in bitrates), better)


def _turns_up(a: int, b: int, c: int, rate: NDArray[np.float64], q: NDArray[np.float64]) -> bool:
    """Whether row b lies below the line from a to c; slopes are compared without a division."""
    slopes = (q[b] - q[a]) * (rate[c] - rate[a]), (q[c] - q[a]) * (rate[b] - rate[a])
    return bool(slopes[0] < slopes[1] - 1e-12 * max(abs(slopes[0]), abs(slopes[1])))


def bd_rate(anchor_kbps: ArrayLike, anchor_quality: ArrayLike, test_kbps: ArrayLike, test_quality: ArrayLike) -> BDRate:
    """BD-rate of test against anchor: Akima interpolation of log bitrate over their common quality range.

    Only the Pareto front of each curve counts, because interpolation needs one bitrate per quality. With fewer than 4
    points, or no common quality, the result is None with the reason.
    """
    curves = []
    for name, bitrate, quality in (("anchor", anchor_kbps, anchor_quality), ("test", test_kbps, test_quality)):
        rate, q = _checked(bitrate, quality)
        front = pareto_front(rate, q)
        if front.size < MIN_BD_POINTS:
            dominated = f" ({rate.size - front.size} dominated)" if front.size < rate.size else ""
            return BDRate(None, f"{name}: {front.size} of at least {MIN_BD_POINTS} points{dominated}")
        curves.append((rate[front], q[front]))
    (rate_a, q_a), (rate_t, q_t) = curves
    if min(q_a[-1], q_t[-1]) <= max(q_a[0], q_t[0]):
        return BDRate(None, "the curves share no quality range")
    try:
        from bjontegaard import bd_rate as akima_bd_rate
    except ModuleNotFoundError:  # installed without the ladder extra
        return BDRate(None, "BD-rate needs the ladder extra: pip install 'rungwise[ladder]'")
    with np.errstate(over="ignore"):  # nearly flat curves differ by huge bitrate ratios
        percent = float(
            akima_bd_rate(rate_a, q_a, rate_t, q_t, method="akima", require_matching_points=False, min_overlap=0)
        )
    return BDRate(percent) if np.isfinite(percent) else BDRate(None, "the interpolation is not finite")


def _checked(bitrate_kbps: ArrayLike, quality: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rate, q = np.asarray(bitrate_kbps, np.float64), np.asarray(quality, np.float64)
    if rate.ndim != 1 or rate.shape != q.shape or not rate.size:
        raise ValueError(f"expected 1-D bitrates and qualities of one length, got shapes {rate.shape} and {q.shape}")
    if not (np.isfinite(rate) & (rate > 0) & np.isfinite(q)).all():
        raise ValueError("bitrates must be above 0 and finite, and qualities finite")
    return rate, q
