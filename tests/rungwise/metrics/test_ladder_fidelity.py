"""Ladder fidelity: a perfect judge, a reversed one, log-bitrate, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rungwise.metrics.curves import bd_rate, convex_hull
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import LadderFidelity


def make_table(num_rates: int = 5) -> pd.DataFrame:
    """Per content two codecs, two heights; codec "b" needs between 50 and 90 % of the bitrate of "a"."""
    rows = []
    for content in range(6):
        for codec, factor in (("a", 1.0), ("b", 0.5 + 0.08 * content)):
            for height, best in ((360, 80.0), (720, 100.0)):
                for rung in range(num_rates):
                    kbps = 100 * 2.0**rung * (height / 360)
                    quality = best * (1 - 1.2 / (1 + (kbps / factor / 100) * (360 / height)))
                    rows.append((f"c{content}", codec, height, kbps, quality))
    table = pd.DataFrame(rows, columns=["content", "codec", "height", "bitrate_kbps", "score"])
    return table.assign(score_polarity="higher_is_better", score_min=-100.0, score_max=100.0, width=640)


def judged(table: pd.DataFrame, **predictors: np.ndarray) -> dict[str, LadderFidelity]:
    table = table.assign(**predictors)
    evaluation = evaluate_predictors(table, list(predictors), num_resamples=60, ladders=True)
    return {f.predictor: f for f in evaluation.fidelity}


def test_a_perfect_judge() -> None:
    table = make_table()
    found = judged(table, same=table["score"].to_numpy())["same"]
    assert found.bd_median_error.value == 0
    assert (found.bd_same_sign.value, found.bd_same_sign.pairs) == (1, 6)
    assert found.bd_srcc.value == pytest.approx(1)
    assert (found.hull_agreement.value, found.hull_agreement.pairs) == (1, 12)
    assert (found.steps_in_order.value, found.steps_in_order.pairs) == (1, 96)
    assert found.steps_rising == found.truth_steps_rising == 1


def test_bd_pairs_are_bd_rate_on_all_rungs_of_a_codec() -> None:
    table = make_table()
    found = judged(table, metric=np.sqrt(table["score"].to_numpy() + 100))["metric"]
    rows = table[table["content"] == "c2"]
    a, b = (rows[rows["codec"] == codec] for codec in "ab")
    wanted = bd_rate(a["bitrate_kbps"], a["score"], b["bitrate_kbps"], b["score"])
    pair = next(p for p in found.bd_pairs if p.content == "c2")
    assert (pair.anchor, pair.test, pair.truth_percent) == ("a", "b", wanted.percent)
    assert pair.truth_percent is not None
    assert pair.truth_percent < -20
    errors = [abs((p.predictor_percent or 0) - (p.truth_percent or 0)) for p in found.bd_pairs]
    assert found.bd_median_error.value == pytest.approx(np.median(errors))
    assert found.bd_median_error.low is not None


def test_log_bitrate_sees_no_savings_and_only_rising_steps() -> None:
    found = judged(make_table(), same=make_table()["score"].to_numpy())["log-bitrate"]
    assert found.bd_same_sign.value == 0.5  # it names no winner
    assert found.steps_in_order.value == 1
    assert (found.hull_agreement.value or 1) < 1


def test_a_reversed_judge() -> None:
    table = make_table()
    found = judged(table, reverse=-table["score"].to_numpy())["reverse"]
    assert found.steps_in_order.value == 0
    assert found.steps_rising == 0
    assert found.bd_median_error.value is None
    assert found.bd_refused == {"prediction: fewer than 4 points on a front": 6}
    assert found.bd_pairs[0].refused == "prediction: anchor: 1 points, want 4 (9 dominated)"


def test_hull_agreement_is_shared_by_all() -> None:
    table = make_table().query("content == 'c0' and codec == 'a'").reset_index(drop=True)
    metric = table["score"].to_numpy().copy()
    metric[8] -= 30
    found = judged(table, metric=metric)["metric"]
    truth, pred = (set(convex_hull(table["bitrate_kbps"], v).tolist()) for v in (table["score"], metric))
    assert 0 < len(truth & pred) < len(truth | pred)
    assert found.hull_agreement.value == len(truth & pred) / len(truth | pred)
    assert found.bd_pairs == ()
    assert found.bd_srcc.value is None


def test_short_ladders_are_refused_with_a_reason() -> None:
    table = make_table(num_rates=3)
    table = table[table["height"] == 360]
    found = judged(table, same=table["score"].to_numpy())["same"]
    assert found.bd_refused == {"truth: fewer than 4 points on a front": 6}
    assert found.bd_median_error.value is None
    assert found.steps_in_order.pairs == 24
