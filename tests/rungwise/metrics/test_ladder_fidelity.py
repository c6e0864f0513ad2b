"""Ladder fidelity of a perfect predictor, a reversed one and log-bitrate, and undefined BD-rates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rungwise.metrics.curves import bd_rate, convex_hull
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import LadderFidelity


def make_table(num_rates: int = 5) -> pd.DataFrame:
    """Two codecs and two heights per content; codec "b" needs between 50 and 90 % of the bitrate of "a"."""
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


def fidelity_by_predictor(table: pd.DataFrame, **predictors: np.ndarray) -> dict[str, LadderFidelity]:
    table = table.assign(**predictors)
    evaluation = evaluate_predictors(table, list(predictors), num_resamples=60, ladders=True)
    return {f.predictor: f for f in evaluation.fidelity}


def test_perfect_predictor() -> None:
    table = make_table()
    fidelity = fidelity_by_predictor(table, same=table["score"].to_numpy())["same"]
    assert fidelity.bd_median_error.value == 0
    assert (fidelity.bd_same_sign.value, fidelity.bd_same_sign.pairs) == (1, 6)
    assert fidelity.bd_srcc.value == pytest.approx(1)
    assert (fidelity.hull_agreement.value, fidelity.hull_agreement.pairs) == (1, 12)
    assert (fidelity.steps_in_order.value, fidelity.steps_in_order.pairs) == (1, 96)
    assert fidelity.steps_rising == fidelity.truth_steps_rising == 1


def test_bd_pairs_use_the_hull_of_all_rungs_of_a_codec() -> None:
    table = make_table()
    fidelity = fidelity_by_predictor(table, metric=np.sqrt(table["score"].to_numpy() + 100))["metric"]
    rows = table[table["content"] == "c2"]
    a, b = (rows[rows["codec"] == codec] for codec in "ab")
    a, b = (rung.iloc[convex_hull(rung["bitrate_kbps"], rung["score"])] for rung in (a, b))
    expected = bd_rate(a["bitrate_kbps"], a["score"], b["bitrate_kbps"], b["score"])
    pair = next(p for p in fidelity.bd_pairs if p.content == "c2")
    assert (pair.anchor, pair.test, pair.truth_percent) == ("a", "b", expected.percent)
    assert pair.truth_percent is not None
    assert pair.truth_percent < -20
    errors = [abs((p.predictor_percent or 0) - (p.truth_percent or 0)) for p in fidelity.bd_pairs]
    assert fidelity.bd_median_error.value == pytest.approx(np.median(errors))
    assert fidelity.bd_median_error.low is not None


def test_log_bitrate_predicts_no_savings() -> None:
    fidelity = fidelity_by_predictor(make_table(), same=make_table()["score"].to_numpy())["log-bitrate"]
    assert fidelity.bd_same_sign.value == 0.5  # all ties
    assert fidelity.steps_in_order.value == 1
    assert (fidelity.hull_agreement.value or 1) < 1


def test_reversed_predictor() -> None:
    table = make_table()
    fidelity = fidelity_by_predictor(table, reverse=-table["score"].to_numpy())["reverse"]
    assert fidelity.steps_in_order.value == 0
    assert fidelity.steps_rising == 0
    assert fidelity.bd_median_error.value is None
    assert fidelity.bd_refused == {"prediction: fewer than 4 points on a convex hull": 6}
    assert fidelity.bd_pairs[0].refused == "prediction: anchor: 1 of at least 4 points"


def test_hull_agreement_is_intersection_over_union() -> None:
    table = make_table().query("content == 'c0' and codec == 'a'").reset_index(drop=True)
    metric = table["score"].to_numpy().copy()
    metric[8] -= 30
    fidelity = fidelity_by_predictor(table, metric=metric)["metric"]
    truth, pred = (set(convex_hull(table["bitrate_kbps"], v).tolist()) for v in (table["score"], metric))
    assert 0 < len(truth & pred) < len(truth | pred)
    assert fidelity.hull_agreement.value == len(truth & pred) / len(truth | pred)
    assert fidelity.bd_pairs == ()
    assert fidelity.bd_srcc.value is None


def test_short_ladders_have_no_bd_rate() -> None:
    table = make_table(num_rates=3)
    table = table[table["height"] == 360]
    fidelity = fidelity_by_predictor(table, same=table["score"].to_numpy())["same"]
    assert fidelity.bd_refused == {"truth: fewer than 4 points on a convex hull": 6}
    assert fidelity.bd_median_error.value is None
    assert fidelity.steps_in_order.pairs == 24
