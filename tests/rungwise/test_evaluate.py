"""Evaluation of a table: figures equal the statistics they name, and nothing is swallowed."""

import csv
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rungwise import evaluate as ev
from rungwise import statistics as st

pytestmark = pytest.mark.filterwarnings("error")


def make_table(num_contents: int = 6, seed: int = 0) -> pd.DataFrame:
    """Ladders of two codecs and two heights; the student sees quality, the bitrate only through it."""
    rng = np.random.default_rng(seed)
    rows = []
    for content in range(num_contents):
        hardness, offset = rng.normal(0, 1), rng.normal(0, 5)
        for codec, gain in (("x264", 0.0), ("svt-av1", 1.0)):
            for height in (240, 360):
                for rung in range(4):
                    bitrate = 80 * 2 ** (rung + hardness) * (height / 240)
                    score = 100 / (1 + np.exp(1.5 - rung - gain)) - rng.uniform(0, 3)
                    rows.append(
                        {
                            "clip": f"c{content}_{codec}_{height}_{rung}",
                            "content": f"c{content}",
                            "codec": codec,
                            "width": height * 16 // 9,
                            "height": height,
                            "bitrate_kbps": bitrate,
                            "score": score,
                            "student": 0.8 * score + 10 + offset + rng.normal(0, 2),
                            "teacher": score + rng.normal(0, 2),
                        }
                    )
    return pd.DataFrame(rows).assign(score_polarity="higher_is_better", score_min=0.0, score_max=100.0)


def test_figures_are_the_statistics() -> None:
    table = make_table()
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=50)
    result = evaluation.predictors[0]
    truth, pred, content = (
        table["score"].to_numpy(),
        table["student"].to_numpy(),
        table["content"].to_numpy(str),
    )
    codec = table["codec"].to_numpy(str)
    assert (result.n, result.contents, evaluation.pair_gap) == (96, 6, 5)
    assert result.srcc.value == st.srcc(truth, pred)
    assert result.krcc.value == st.krcc(truth, pred)
    assert result.plcc.value == st.plcc_logistic4(truth, pred)
    assert result.plcc_linear.value == st.plcc(truth, pred)
    assert result.rmse.value == st.rmse_logistic4(truth, pred)
    assert result.rmse_raw is not None
    assert result.rmse_raw.value == st.rmse(truth, pred)
    assert result.within_content_srcc.value == st.within_content_srcc(truth, pred, content).value
    crossed = st.pair_accuracy(truth, pred, content, lambda i, j: codec[i] != codec[j], 5)
    assert result.pairs_cross_codec.value == crossed
    assert (
        result.pairs_cross_codec.pairs + result.pairs_same_codec.pairs
        == st.pair_counts(truth, pred, content, None, 5)[1].sum()
    )
    assert (result.srcc.low, result.srcc.high) == st.bootstrap_by_content(
        st.resampled_srcc(truth, pred, content), content, 50
    )


def test_log_bitrate_is_always_there_and_differences_against_it() -> None:
    evaluation = ev.evaluate_predictors(make_table(), ["student", "teacher"], num_resamples=50)
    assert [r.predictor for r in evaluation.predictors] == ["student", "teacher", ev.PREDICTOR_LOG_BITRATE]
    assert evaluation.predictors[-1].rmse_raw is None
    pairs = [(d.predictor, d.against) for d in evaluation.differences]
    assert pairs == [("student", "log-bitrate"), ("teacher", "log-bitrate"), ("teacher", "student")]
    for d in evaluation.differences:
        value = {r.predictor: r.srcc.value or 0 for r in evaluation.predictors}
        assert d.srcc.value == pytest.approx(value[d.predictor] - value[d.against])


def test_without_bitrates() -> None:
    table = make_table().drop(columns="bitrate_kbps")
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=20)
    assert [r.predictor for r in evaluation.predictors] == ["student"]
    assert evaluation.differences == ()
    assert any("No bitrates" in note for note in evaluation.notes)


def test_missing_bitrates_leave_the_baseline_alone_with_fewer_rows() -> None:
    table = make_table()
    table.loc[:9, "bitrate_kbps"] = np.nan
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=20)
    assert [r.n for r in evaluation.predictors] == [96, 86]
    assert evaluation.differences[0].n == 86
    assert any("10 rows have no bitrate" in note for note in evaluation.notes)


def test_lower_is_better_is_turned_once() -> None:
    table = make_table()
    turned = table.assign(score=100 - table["score"], score_polarity="lower_is_better")
    a = ev.evaluate_predictors(table, ["student"], num_resamples=50)
    b = ev.evaluate_predictors(turned, ["student"], num_resamples=50)
    assert b.truth_negated
    assert any("negated" in note for note in b.notes)
    for left, right in zip(a.predictors, b.predictors, strict=True):
        assert right.rmse_raw is None
        for name in ("srcc", "krcc", "plcc", "rmse", "within_content_srcc", "pairs_cross_codec"):
            assert getattr(right, name).value == pytest.approx(getattr(left, name).value)
            assert getattr(right, name).low == pytest.approx(getattr(left, name).low)


def test_non_finite_prediction_is_named() -> None:
    table = make_table()
    table.loc[[3, 5], "student"] = [np.nan, np.inf]
    with pytest.raises(ValueError, match="'student' is not finite in 2 of 96 rows, first c0_x264_240_3"):
        ev.evaluate_predictors(table, ["student"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"score_polarity": ["lower_is_better"] + ["higher_is_better"] * 95},
            "score_polarity must be one value",
        ),
        ({"score_polarity": "up"}, "want one of"),
        ({"score_min": 100.0}, "score_min < score_max"),
        ({"bitrate_kbps": 0.0}, "bitrate_kbps must be finite and above 0"),
        ({"score": np.nan}, "'score' is not finite in 96"),
        ({"content": None}, "content is missing in 96"),
    ],
)
def test_bad_tables(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ev.evaluate_predictors(make_table().assign(**change), ["student"])


@pytest.mark.parametrize("predictors", [["student", "student"], ["score"], ["nobody"]])
def test_bad_predictors(predictors: list[str]) -> None:
    with pytest.raises(ValueError, match=r"name each predictor once|missing columns"):
        ev.evaluate_predictors(make_table(), predictors)


def test_constant_prediction_is_null_not_nan() -> None:
    evaluation = ev.evaluate_predictors(make_table().assign(flat=1.0), ["flat"], num_resamples=20)
    result = evaluation.predictors[0]
    assert result.srcc.value is None
    assert result.within_content_srcc.value == 0
    assert result.pairs_same_codec.value == 0.5
    assert "NaN" not in ev.to_json(evaluation)


def test_json_and_csv_hold_the_same_figures() -> None:
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=50)
    text = ev.to_json(evaluation)
    assert ev.Evaluation.model_validate_json(text) == evaluation
    assert json.loads(text)["predictors"][1]["rmse_raw"] is None
    lines = {
        (line["predictor"], line["against"], line["statistic"]): line
        for line in csv.DictReader(io.StringIO(ev.to_csv(evaluation)))
    }
    assert float(lines["student", "", "srcc"]["low"]) == evaluation.predictors[0].srcc.low
    assert lines["log-bitrate", "", "rmse_raw"]["value"] == ""
    assert float(lines["student", "log-bitrate", "srcc"]["value"]) == evaluation.differences[0].srcc.value


def test_table_of_text() -> None:
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=50)
    text = ev.format_table(evaluation)
    assert ev.format_interval(evaluation.predictors[0].srcc, "srcc") in text
    assert "log-bitrate" in text
    assert "student - log-bitrate" in text
    assert "more than 5 apart" in text
    assert "With 6 contents the intervals are rough" in text
    figure = ev.Interval(value=0.9312, low=0.9018, high=0.9551)
    assert ev.format_interval(figure, "srcc") == ".931 [.902, .955]"
    assert ev.format_interval(ev.Interval(value=1.0), "srcc") == "1.000"
    assert ev.format_interval(ev.Interval(value=-0.00004), "srcc") == ".000"
    assert ev.format_interval(ev.Interval(value=-0.25), "srcc") == "-.250"
    assert ev.format_interval(None, "rmse_raw") == "-"


def test_same_seed_same_figures() -> None:
    table = make_table()
    first, second = (ev.evaluate_predictors(table, ["student"], num_resamples=50, seed=s) for s in (3, 3))
    assert first == second
    shuffled = table.sample(frac=1, random_state=1)
    assert ev.evaluate_predictors(shuffled, ["student"], num_resamples=50, seed=3).predictors[
        0
    ].srcc.low == pytest.approx(first.predictors[0].srcc.low)


def test_fewer_resamples_on_a_large_table_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ev.affordable_resamples(150, 2000) == 2000
    assert ev.affordable_resamples(100_000, 2000) == 100
    assert ev.affordable_resamples(10**9, 50) == 50
    monkeypatch.setattr(ev, "_MAX_DRAWN_ROWS", 1)
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=200)
    assert (evaluation.resamples, evaluation.resamples_wanted) == (100, 200)
    assert any("200 resamples were asked for" in note for note in evaluation.notes)
