"""Pareto fronts and hulls match their definitions; BD-rate matches known shifts of a curve."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from rungwise.metrics.curves import bd_rate, convex_hull, crossovers, hull_bitrate, hull_quality, pareto_front

RATES, QUALITIES = [100.0, 200.0, 400.0, 800.0, 1600.0], [30.0, 50.0, 65.0, 74.0, 80.0]


def test_pareto_front_matches_its_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rate, q = rng.integers(1, 12, 14).astype(float), rng.integers(0, 10, 14).astype(float)
        front = pareto_front(rate, q)
        front_points = {(rate[i], q[i]) for i in front}
        expected = {
            (rate[i], q[i])
            for i in range(14)
            if not any((rate[j] <= rate[i] and q[j] > q[i]) or (rate[j] < rate[i] and q[j] == q[i]) for j in range(14))
        }
        assert front_points == expected
        assert len(front) == len(front_points)
        assert (np.diff(rate[front]) > 0).all()
        assert (np.diff(q[front]) > 0).all()


def test_hull_bounds_all_rows_and_is_concave() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        rate, q = rng.uniform(100, 5000, 12), rng.uniform(0, 100, 12)
        hull = convex_hull(rate, q)
        at_hull = np.interp(rate, rate[hull], q[hull])
        inside = rate >= rate[hull[0]]
        assert (q[inside] <= at_hull[inside] + 1e-9).all()
        for a, b, c in itertools.combinations(hull, 3):
            assert q[b] >= q[a] + (q[c] - q[a]) * (rate[b] - rate[a]) / (rate[c] - rate[a]) - 1e-9


def test_rows_on_a_straight_segment_are_on_the_hull() -> None:
    assert convex_hull([3, 1, 2], [30, 10, 20]).tolist() == [1, 2, 0]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25])
def test_bd_rate_of_a_curve_scaled_in_bitrate(factor: float) -> None:
    result = bd_rate(RATES, QUALITIES, [rate * factor for rate in RATES], QUALITIES)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_bd_rate_ignores_row_order_and_dominated_rows() -> None:
    rates, qualities = [*RATES[::-1], 900.0], [*QUALITIES[::-1], 60.0]
    assert bd_rate(rates, qualities, RATES, QUALITIES).percent == pytest.approx(0, abs=1e-9)


def test_bd_rate_gives_the_reason_if_undefined() -> None:
    few = bd_rate(RATES[:3], QUALITIES[:3], RATES, QUALITIES)
    assert few == (None, "anchor: 3 of at least 4 points")
    turned = bd_rate(RATES, QUALITIES, RATES, [30, 50, 20, 74, 10])
    assert turned == (None, "test: 3 of at least 4 points (2 dominated)")
    apart = bd_rate(RATES, QUALITIES, RATES, [q + 60 for q in QUALITIES])
    assert apart == (None, "the curves share no quality range")


@pytest.mark.parametrize(("rates", "qualities"), [([0, 1], [1, 2]), ([1, 2], [1, float("nan")]), ([1], [1, 2])])
def test_invalid_arrays_raise(rates: list[float], qualities: list[float]) -> None:
    with pytest.raises(ValueError, match="bitrates"):
        pareto_front(rates, qualities)


def test_hull_interpolates_between_rows_and_is_constant_beyond() -> None:
    rate, q = [100.0, 300.0, 200.0], [10.0, 30.0, 12.0]
    assert hull_quality(rate, q, [50.0, 200.0, 300.0, 900.0]).tolist() == [10.0, 20.0, 30.0, 30.0]
    assert hull_bitrate(rate, q, [5.0, 20.0, 99.0]).tolist() == [100.0, 200.0, 300.0]


def test_crossover_is_interpolated_in_log_bitrate() -> None:
    crossing = crossovers([100, 400], [40.0, 50.0], [100, 400], [30.0, 60.0])
    assert crossing.bitrates_kbps == pytest.approx((200.0,))
    assert crossing.better == "high"
    twice = crossovers([100, 200, 400], [40.0, 50.0, 60.0], [100, 200, 400], [30.0, 55.0, 56.0])
    assert len(twice.bitrates_kbps) == 2
    assert twice.better == "low"


def test_curves_without_a_crossover() -> None:
    assert crossovers([100, 400], [40.0, 50.0], [200, 800], [60.0, 70.0]) == ((), "high")
    assert crossovers([100, 200], [40.0, 50.0], [200, 800], [60.0, 70.0]) == ((), None)
    assert crossovers([100, 200], [40.0, 50.0], [100, 200], [40.0, 50.0]) == ((), None)
    touching = crossovers([100, 200, 400], [40.0, 50.0, 60.0], [100, 200, 400], [30.0, 50.0, 55.0])
    assert touching == ((), "low")


def test_crossovers_are_symmetric() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        curves = [(rng.uniform(100, 3000, 6), rng.uniform(0, 100, 6)) for _ in range(2)]
        forward, backward = crossovers(*curves[0], *curves[1]), crossovers(*curves[1], *curves[0])
        assert forward.bitrates_kbps == pytest.approx(backward.bitrates_kbps)
        assert {forward.better, backward.better} in ({"low", "high"}, {None})


def test_bd_rate_without_the_ladder_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    result = bd_rate([1, 2, 4, 8], [20, 40, 60, 80], [1, 2, 4, 8], [22, 42, 62, 82])
    assert result.percent is None
    assert "rungwise[ladder]" in result.reason
