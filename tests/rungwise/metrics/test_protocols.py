"""Protocols match plain implementations of their definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rungwise.metrics import statistics as st
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import ProtocolResult


def make_table(seed: int = 0) -> pd.DataFrame:
    """8 contents with 16 rows of preset "slow" and 7 of "fast"; one content has only 4 of "fast"."""
    rng, rows = np.random.default_rng(seed), []
    for content in range(8):
        for preset, size in (("slow", 16), ("fast", 4 if content == 3 else 7)):
            for rung in range(size):
                rows.append((f"c{content}", preset, rung + rng.normal(0, 1.5), rung + rng.normal(0, 1.5)))
    table = pd.DataFrame(rows, columns=["content", "preset", "score", "metric"])
    return table.assign(score_polarity="higher_is_better", score_min=-9.0, score_max=30.0)


def protocol_result(table: pd.DataFrame, protocol: str) -> ProtocolResult:
    (result,) = evaluate_predictors(table, ["metric"], num_resamples=60, protocols=[protocol]).protocols
    return result


def test_msu_matches_its_definition() -> None:
    table = make_table()
    result = protocol_result(table, "msu")
    for function, min_rows, mean in ((st.srcc, 15, result.srcc), (st.krcc, 6, result.krcc)):
        groups = [g for _, g in table.groupby(["content", "preset"]) if len(g) >= min_rows]
        z = [np.arctanh(function(g["score"], g["metric"])) for g in groups]
        assert mean.value == pytest.approx(np.tanh(np.average(z, weights=[len(g) for g in groups])), abs=1e-12)
        assert mean.low is not None
        assert mean.low < (mean.value or 0) < (mean.high or 0)
    assert (result.groups, result.rows, result.plcc) == (8, 128, None)
    assert result.dropped == {f"c{c} fast": 4 if c == 3 else 7 for c in range(8)}


def test_msu_replaces_only_correlations_of_1() -> None:
    rising = np.arange(16.0)
    nearly = rising.copy()
    nearly[[0, 1]] = nearly[[1, 0]]
    table = make_table().iloc[:32].assign(content=["a"] * 16 + ["b"] * 16, preset="x", score=[*rising, *rising])
    table["metric"] = [*rising, *nearly]
    r = st.srcc(rising, nearly)
    assert r > 0.99
    assert protocol_result(table, "msu").srcc.value == pytest.approx(np.tanh((np.arctanh(0.99) + np.arctanh(r)) / 2))


def test_msu_without_presets_groups_by_content() -> None:
    result = protocol_result(make_table().drop(columns="preset"), "msu")
    assert (result.groups, result.rows) == (8, 16 * 8 + 7 * 7 + 4)
    assert result.dropped == {}


def test_within_content_matches_the_statistic() -> None:
    table = make_table()
    result = protocol_result(table, "within-content")
    expected = st.within_content_srcc(table["score"], table["metric"], table["content"]).value
    assert result.srcc.value == pytest.approx(expected)
    contents = [g for _, g in table.groupby("content")]
    plcc = st.fisher_z_mean([st.plcc(g["score"], g["metric"]) for g in contents], [len(g) for g in contents])
    assert result.plcc is not None
    assert result.plcc.value == pytest.approx(plcc)


def test_pooled_matches_the_predictor_result() -> None:
    evaluation = evaluate_predictors(make_table(), ["metric"], num_resamples=60, protocols=["pooled"])
    (pooled,), (first,) = evaluation.protocols, evaluation.predictors
    assert (pooled.srcc, pooled.krcc, pooled.plcc) == (first.srcc, first.krcc, first.plcc)


def test_split_median_splits_by_content_and_is_seeded() -> None:
    table = make_table()
    result = protocol_result(table, "split-median:5")
    rng, srccs = np.random.default_rng(0), []
    for _ in range(5):
        test = {f"c{c}" for c in rng.permutation(8)[:2]}
        part = table[table["content"].isin(test)]
        srccs.append(st.srcc(part["score"], part["metric"]))
    assert result.srcc.value == pytest.approx(np.median(srccs))
    assert result.groups == 5
    assert protocol_result(table, "split-median").groups == 10


@pytest.mark.parametrize("name", ["best", "msu:3", "split-median:0", "split-median:x"])
def test_unknown_protocols_raise(name: str) -> None:
    with pytest.raises(ValueError, match=f"protocol is {name!r}; it must be one of pooled, within-content, msu"):
        protocol_result(make_table(), name)


def test_constant_prediction_counts_as_0() -> None:
    result = protocol_result(make_table().assign(metric=1.0), "msu")
    assert (result.srcc.value, result.krcc.value) == (0, 0)
