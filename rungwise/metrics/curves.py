"""Rate-quality curves: the Pareto front, the convex hull, where two curves cross, and BD-rate.

Bitrates are kbps above 0, qualities any finite numbers, higher better. Functions take plain 1-D arrays of one
length, in any order, and return row indices or numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_BD_POINTS = 4  # Bjontegaard's own number; three points leave the curve between them to chance


class BDRate(NamedTuple):
    """Mean extra bitrate in percent at equal quality (negative saves), or None and the reason why there is none."""

    percent: float | None
    reason: str = ""


class Crossing(NamedTuple):
    """Bitrates at which the better of two curves changes, rising, and which is better after the last of them.

    `better` is "low", "high", or None where the two have no bitrate in common or are one curve.
    """

    bitrates_kbps: tuple[float, ...]
    better: str | None


def pareto_front(bitrate_kbps: ArrayLike, quality: ArrayLike) -> NDArray[np.int64]:
    """Rows that no cheaper or equally dear row matches in quality, by rising bitrate and (then) quality."""
    rate, q = _checked(bitrate_kbps, quality)
    order = np.lexsort((-q, rate))
    best = np.maximum.accumulate(q[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]])
    return np.asarray(order[rises], np.int64)


def convex_hull(bitrate_kbps: ArrayLike, quality: ArrayLike) -> NDArray[np.int64]:
    """Rows on the upper convex hull of quality against bitrate, by rising bitrate up to the best quality.

    What lies between two of them can be had more cheaply by mixing the two. Bitrate is taken as it is, not its
    logarithm: bits spent on parts of a title add up, their logarithms do not. Rows on a straight piece count.
    """
    rate, q = _checked(bitrate_kbps, quality)
    hull: list[int] = []
    for row in pareto_front(rate, q):
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], row, rate, q):
            hull.pop()
        hull.append(int(row))
    return np.asarray(hull, np.int64)


def hull_quality(bitrate_kbps: ArrayLike, quality: ArrayLike, at_kbps: ArrayLike) -> NDArray[np.float64]:
    """Quality of the convex hull of (bitrate, quality) at other bitrates; flat beyond both of its ends."""
    rate, q = _checked(bitrate_kbps, quality)
    hull = convex_hull(rate, q)
    return np.asarray(np.interp(np.asarray(at_kbps, np.float64), rate[hull], q[hull]), np.float64)


def hull_bitrate(bitrate_kbps: ArrayLike, quality: ArrayLike, at_quality: ArrayLike) -> NDArray[np.float64]:
    """Least bitrate at which the convex hull of (bitrate, quality) has given qualities; flat beyond both ends."""
    rate, q = _checked(bitrate_kbps, quality)
    hull = convex_hull(rate, q)
    return np.asarray(np.interp(np.asarray(at_quality, np.float64), q[hull], rate[hull]), np.float64)


def crossovers(low_kbps: ArrayLike, low_quality: ArrayLike, high_kbps: ArrayLike, high_quality: ArrayLike) -> Crossing:
    """Where the better of two curves changes, over the bitrates that both reach.

    The curves are the Pareto rows of each, straight in log bitrate between them. Where they only touch, nothing
    changes.
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
    share = lead[turns] / (lead[turns] - lead[turns + 1])
    found = np.exp(x[turns] + share * (x[turns + 1] - x[turns]))
    better = None if not lead.size else ("high" if lead[-1] > 0 else "low")
    return Crossing(tuple(float(rate) for rate in found), better)


def _turns_up(a: int, b: int, c: int, rate: NDArray[np.float64], q: NDArray[np.float64]) -> bool:
    rise = (q[b] - q[a]) * (rate[c] - rate[a]), (q[c] - q[a]) * (rate[b] - rate[a])
    return bool(rise[0] < rise[1] - 1e-12 * max(abs(rise[0]), abs(rise[1])))


def bd_rate(anchor_kbps: ArrayLike, anchor_quality: ArrayLike, test_kbps: ArrayLike, test_quality: ArrayLike) -> BDRate:
    """BD-rate of test against anchor, Akima interpolation of log bitrate over the qualities that both reach.

    Only Pareto rows of each curve count, as a curve that turns back has no bitrate for a quality. Fewer than 4 of
    them, or no common quality, is refused with its reason.
    """
    curves = []
    for name, bitrate, quality in (("anchor", anchor_kbps, anchor_quality), ("test", test_kbps, test_quality)):
        rate, q = _checked(bitrate, quality)
        front = pareto_front(rate, q)
        if front.size < MIN_BD_POINTS:
            lost = f" ({rate.size - front.size} dominated)" if front.size < rate.size else ""
            return BDRate(None, f"{name}: {front.size} points, want {MIN_BD_POINTS}{lost}")
        curves.append((rate[front], q[front]))
    (rate_a, q_a), (rate_t, q_t) = curves
    if min(q_a[-1], q_t[-1]) <= max(q_a[0], q_t[0]):
        return BDRate(None, "the curves have no quality in common")
    try:
        from bjontegaard import bd_rate as akima_bd_rate
    except ModuleNotFoundError:  # a scorer-only install
        return BDRate(None, "BD-rate needs more than the scorer: pip install 'rungwise[ladder]'")
    with np.errstate(over="ignore"):  # nearly flat curves are worlds apart in bitrate
        percent = float(
            akima_bd_rate(rate_a, q_a, rate_t, q_t, method="akima", require_matching_points=False, min_overlap=0)
        )
    return BDRate(percent) if np.isfinite(percent) else BDRate(None, "the interpolation has no finite value")


def _checked(bitrate_kbps: ArrayLike, quality: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rate, q = np.asarray(bitrate_kbps, np.float64), np.asarray(quality, np.float64)
    if rate.ndim != 1 or rate.shape != q.shape or not rate.size:
        raise ValueError(f"want bitrates and qualities, 1-D, one length, got shapes {rate.shape} and {q.shape}")
    if not (np.isfinite(rate) & (rate > 0) & np.isfinite(q)).all():
        raise ValueError("want bitrates above 0 and finite qualities")
    return rate, q
