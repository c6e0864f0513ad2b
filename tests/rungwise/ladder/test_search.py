"""The search itself, on curves of quality against CRF."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rungwise.ladder.encode import CODECS
from rungwise.ladder.search import Curve, bitrate_axis, crf_axis, find_place


def curve_of(codec: str, level: float, slope: float, floor: float) -> tuple[Curve, list[float]]:
    """A codec's curve and its true scores: the loss doubles every `slope` typical doublings, above a `floor`."""
    axis = crf_axis(codec, CODECS[codec].crf_range)
    places = np.arange(len(axis.values))
    loss = floor + 7 * 2 ** ((places - axis.start - level * axis.doubling) / (slope * axis.doubling))
    return Curve(axis), (100 - np.minimum(loss, 95)).tolist()


def test_the_cheapest_crf_is_found_in_few_runs() -> None:
    runs = []
    for codec, floor, level, slope, target in itertools.product(
        ("h264", "av1"), (0.0, 3.0, 9.0), (-1.5, 0.0, 1.5), (0.8, 1.0, 1.3), (80.0, 87.5, 93.0)
    ):
        curve, scores = curve_of(codec, level, slope, floor)
        biased = [score - 4 for score in scores]
        best = max((place for place, score in enumerate(scores) if score >= target), default=None)
        place = find_place(curve, target, 0.0, biased.__getitem__, scores.__getitem__)
        assert (place is None) == (best is None)
        if place is None or best is None:
            continue
        assert target <= scores[place] <= scores[best] + 1.5
        runs.append(len(curve.measured))
    assert np.mean(runs) < 3
    assert max(runs) <= 6


def unused(place: int) -> float:
    raise AssertionError(f"place {place} is scored again")


def test_targets_share_what_is_measured() -> None:
    curve, scores = curve_of("h264", 0.5, 1.0, 1.0)
    first = find_place(curve, 93, 0.0, scores.__getitem__, scores.__getitem__)
    count = len(curve.measured)
    assert find_place(curve, 93, 0.0, unused, unused) == first
    find_place(curve, 90, 0.0, scores.__getitem__, scores.__getitem__)
    assert len(curve.measured) <= count + 3


def test_a_target_out_of_reach_and_one_below_all() -> None:
    curve, scores = curve_of("av1", 0.0, 1.0, 9.0)
    assert find_place(curve, 95, 0.0, scores.__getitem__, scores.__getitem__) is None
    assert min(curve.measured) == 0
    curve, scores = curve_of("av1", 5.0, 1.0, 0.0)
    assert find_place(curve, 90, 0.0, scores.__getitem__, scores.__getitem__) == len(scores) - 1


def test_a_score_within_the_tolerance_ends_the_search() -> None:
    curve, scores = curve_of("av1", 0.0, 1.0, 0.0)
    wide = find_place(curve, 93, 5.0, None, scores.__getitem__)
    assert wide is not None
    assert len(curve.measured) == 1
    assert 93 <= scores[wide] <= 98


def test_the_tolerance_doubles_with_each_run_after_the_first() -> None:
    values = iter([90.0, 93.9, 93.0])  # a miss, then 0.9 above, with places between them
    curve, _ = curve_of("av1", 0.0, 1.0, 0.0)
    place = find_place(curve, 93, 0.5, None, lambda _: next(values))
    assert place is not None
    assert curve.measured[place] == 93.9


def test_an_estimate_goes_through_the_scores_and_falls() -> None:
    curve, scores = curve_of("h264", 0.3, 1.2, 2.0)
    places = list(range(len(scores)))
    assert (np.diff(curve.estimate(places)) < 0).all()
    curve.rough[20] = 80.0
    assert curve.estimate(20) == pytest.approx(80.0)
    curve.rough[30] = 70.0
    curve.measured[20] = 90.0  # half of the rough loss
    assert curve.estimate([20, 30]) == pytest.approx([90.0, 85.0])
    curve.measured |= {place: scores[place] for place in (18, 20, 27, 40)}
    assert curve.estimate([18, 27, 40]) == pytest.approx([scores[place] for place in (18, 27, 40)])
    assert (np.diff(curve.estimate(places)) <= 0).all()
    assert curve.estimate(30) == pytest.approx(scores[30], abs=1.0)


def test_bitrates_fall_by_equal_steps() -> None:
    axis = bitrate_axis(1920, 1080, 24.0)
    assert list(axis.values) == sorted(axis.values, reverse=True)
    assert axis.values[0] == pytest.approx(4 * 1920 * 1080 * 24 / 1000, rel=0.01)
    assert axis.values[0] / axis.values[32] == pytest.approx(2, rel=0.01)
    assert axis.values[axis.start] == pytest.approx(0.06 * 1920 * 1080 * 24 / 1000, rel=0.02)
