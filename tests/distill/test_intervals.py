"""Intervals around scores, and the folds that their errors come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distill.data import Data, read_data
from distill.folds import HELD_OUT_SPLIT, assign_folds, leave_out
from distill.intervals import MIN_CONTENTS, calibrate
from distill.pipeline import Outcome
from rungwise.config import RunConfig
from rungwise.score.contract import Calibration, Scale

SCALE = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)


def calibrated(errors: NDArray[np.float64], contents: list[str], coverage: float, scores: float = 50) -> Calibration:
    given = np.full(len(errors), scores, np.float32)
    return calibrate(given, given + errors, contents, coverage, SCALE)


def test_half_widths_by_hand() -> None:
    # Nine contents of two clips: each clip weighs 1 / 20. The 18th error reaches 0.9, the 10th 0.5.
    errors, contents = np.arange(1.0, 19), [f"{clip // 2}" for clip in range(18)]
    of_nine = calibrated(errors, contents, 0.9)
    assert of_nine.half_width == pytest.approx(18)
    assert (of_nine.slope, of_nine.promised) == (0, 0.9)
    assert calibrated(errors, contents, 0.5).half_width == pytest.approx(10)
    of_four = calibrated(errors[:8], contents[:8], 0.9)  # four contents can promise 4 of 5
    assert of_four.half_width == pytest.approx(8)
    assert of_four.promised == 0.8
    # A content of many clips weighs no more than one of few.
    assert calibrated(np.array([1.0] * 6 + [9]), ["a"] * 6 + ["b"], 0.6).half_width == pytest.approx(9)


def test_the_interval_widens_where_errors_grow_and_covers_new_contents() -> None:
    rng, covered, half_widths = np.random.default_rng(0), [], []
    for _ in range(100):
        scores = rng.uniform(30, 100, (MIN_CONTENTS + 1, 6)).astype(np.float32)
        content_error = rng.normal(0, 0.7, (MIN_CONTENTS + 1, 1))
        labels = scores + (content_error + rng.normal(0, 0.7, scores.shape)) * (1 + 0.2 * (100 - scores))
        names = np.repeat(np.arange(MIN_CONTENTS), 6).astype(str)
        found = calibrate(scores[:-1].ravel(), labels[:-1].ravel(), list(names), 0.9, SCALE)
        ends = [found.interval(float(score), SCALE) for score in scores[-1]]
        in_scale = np.clip(labels[-1], 0, 100)
        covered.append(np.mean([low <= label <= high for (low, high), label in zip(ends, in_scale, strict=True)]))
        half_widths.append((found.half_width, found.half_width + 60 * found.slope))
    assert 0.86 < np.mean(covered) < 0.97
    at_best, at_forty = np.mean(half_widths, 0)
    assert at_forty > 4 * at_best


def test_intervals_end_with_the_scale_and_open_away_from_its_best_end() -> None:
    interval = Calibration(coverage=0.9, half_width=2, slope=0.1, num_clips=9).interval
    assert interval(90, SCALE) == pytest.approx((87, 93))
    assert interval(99, SCALE)[1] == 100
    lower = SCALE.model_copy(update={"polarity": "lower_is_better"})
    assert interval(90, lower) == pytest.approx((79, 100))


def test_folds_split_source_groups_and_leave_the_test_split_closed(
    config: RunConfig, unbroken: tuple[Path, Outcome]
) -> None:
    artifacts = unbroken[1].artifacts
    data: Data = read_data(config, artifacts["ladder"], artifacts["views"])
    table = data.table
    fold_N = assign_folds(data, 2, seed=0)
    assert set(fold_N[table["split"] == "test"]) == {-1}
    assert all(len(set(fold_N[rows])) == 1 for rows in table.groupby("group").indices.values())
    scored = []
    for number in range(2):
        part = leave_out(data, fold_N, number)
        contents = [set(part.table["content"].iloc[part.rows(split)]) for split in ("train", HELD_OUT_SPLIT)]
        assert contents[0].isdisjoint(contents[1])
        assert contents[0] | contents[1] == set(table["content"][table["split"] != "test"])
        assert list(part.rows("test")) == list(data.rows("test"))
        scored += list(part.rows(HELD_OUT_SPLIT))
    assert sorted(scored) == sorted(data.rows("train", "validation"))
    with pytest.raises(ValueError, match=r"student.folds: 99 folds of \d+ source groups"):
        assign_folds(data, 99, seed=0)
