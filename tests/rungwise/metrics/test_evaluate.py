"""Evaluation of a table: results equal the statistics they name, and every omission is reported."""

import csv
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rungwise.metrics import bootstrap, pairs, slices
from rungwise.metrics import evaluate as ev
from rungwise.metrics import evaluation_result as er
from rungwise.metrics import statistics as st
from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE

pytestmark = pytest.mark.filterwarnings("error")


def make_table(num_contents: int = 6, seed: int = 0) -> pd.DataFrame:
    """Ladders of two codecs and two heights; student and teacher are noisy copies of the label."""
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


def test_results_are_the_statistics() -> None:
    table = make_table()
    rule = pairs.PairRule("label-range", 0.05)
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=50, pair_rule=rule)
    result = evaluation.predictors[0]
    truth, pred, content = (
        table["score"].to_numpy(),
        table["student"].to_numpy(),
        table["content"].to_numpy(str),
    )
    codec = table["codec"].to_numpy(str)
    assert (result.n, result.contents, evaluation.pair_rule) == (96, 6, "label-range:0.05")
    assert result.srcc.value == st.srcc(truth, pred)
    assert result.krcc.value == st.krcc(truth, pred)
    assert result.plcc.value == st.plcc_logistic4(truth, pred)
    assert result.plcc_linear.value == st.plcc(truth, pred)
    assert result.rmse.value == st.rmse_logistic4(truth, pred)
    assert result.rmse_raw is not None
    assert result.rmse_raw.value == st.rmse(truth, pred)
    assert result.within_content_srcc.value == st.within_content_srcc(truth, pred, content).value
    cross_codec = pairs.pair_accuracy(truth, pred, content, lambda i, j: codec[i] != codec[j], 5)
    assert result.pairs_cross_codec.value == cross_codec
    assert (
        result.pairs_cross_codec.pairs + result.pairs_same_codec.pairs
        == pairs.pair_counts(truth, pred, content, None, 5)[1].sum()
    )
    assert (result.srcc.low, result.srcc.high) == bootstrap.bootstrap_by_content(
        bootstrap.resampled_srcc(truth, pred, content), content, 50
    )


def test_log_bitrate_is_added_and_compared() -> None:
    evaluation = ev.evaluate_predictors(make_table(), ["student", "teacher"], num_resamples=50)
    assert [r.predictor for r in evaluation.predictors] == ["student", "teacher", PREDICTOR_LOG_BITRATE]
    assert evaluation.predictors[-1].rmse_raw is None
    compared = [(d.predictor, d.against) for d in evaluation.differences]
    assert compared == [("student", "log-bitrate"), ("teacher", "log-bitrate"), ("teacher", "student")]
    for d in evaluation.differences:
        value = {r.predictor: r.srcc.value or 0 for r in evaluation.predictors}
        assert d.srcc.value == pytest.approx(value[d.predictor] - value[d.against])


def test_without_bitrates() -> None:
    table = make_table().drop(columns="bitrate_kbps")
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=20)
    assert [r.predictor for r in evaluation.predictors] == ["student"]
    assert evaluation.differences == ()
    assert any("No bitrates" in note for note in evaluation.notes)


def test_missing_bitrates_reduce_the_rows_of_the_baseline_only() -> None:
    table = make_table()
    table.loc[:9, "bitrate_kbps"] = np.nan
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=20)
    assert [r.n for r in evaluation.predictors] == [96, 86]
    assert evaluation.differences[0].n == 86
    assert any("10 rows have no bitrate" in note for note in evaluation.notes)


def test_lower_is_better_labels_are_negated() -> None:
    table = make_table()
    negated = table.assign(score=100 - table["score"], score_polarity="lower_is_better")
    a = ev.evaluate_predictors(table, ["student"], num_resamples=50)
    b = ev.evaluate_predictors(negated, ["student"], num_resamples=50)
    assert b.truth_negated
    assert any("negated" in note for note in b.notes)
    for left, right in zip(a.predictors, b.predictors, strict=True):
        assert right.rmse_raw is None
        for name in ("srcc", "krcc", "plcc", "rmse", "within_content_srcc", "pairs_cross_codec"):
            assert getattr(right, name).value == pytest.approx(getattr(left, name).value)
            assert getattr(right, name).low == pytest.approx(getattr(left, name).low)


def test_infinite_prediction_raises_with_the_clip() -> None:
    table = make_table()
    table.loc[[3, 5], "student"] = np.inf
    with pytest.raises(ValueError, match="'student' is infinite in 2 of 96 rows, first c0_x264_240_3"):
        ev.evaluate_predictors(table, ["student"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"score_polarity": ["lower_is_better"] + ["higher_is_better"] * 95},
            "score_polarity must be one value",
        ),
        ({"score_polarity": "up"}, "must be one of"),
        ({"score_min": 100.0}, "score_min < score_max"),
        ({"bitrate_kbps": 0.0}, "bitrate_kbps must be finite and above 0"),
        ({"score": np.nan}, "'score' is not finite in 96"),
        ({"content": None}, "content is missing in 96"),
    ],
)
def test_invalid_tables_raise(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ev.evaluate_predictors(make_table().assign(**change), ["student"])


@pytest.mark.parametrize("predictors", [["student", "student"], ["score"], ["nobody"]])
def test_invalid_predictors_raise(predictors: list[str]) -> None:
    with pytest.raises(ValueError, match=r"name each predictor once|missing columns"):
        ev.evaluate_predictors(make_table(), predictors)


def test_constant_prediction_is_null_not_nan() -> None:
    evaluation = ev.evaluate_predictors(make_table().assign(flat=1.0), ["flat"], num_resamples=20)
    result = evaluation.predictors[0]
    assert result.srcc.value is None
    assert result.within_content_srcc.value == 0
    assert result.pairs_same_codec.value == 0.5
    assert "NaN" not in er.to_json(evaluation)


def test_json_and_csv_hold_the_same_values() -> None:
    rule = pairs.PairRule("label-range", 0.05)
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=50, pair_rule=rule)
    text = er.to_json(evaluation)
    assert er.Evaluation.model_validate_json(text) == evaluation
    assert json.loads(text)["predictors"][1]["rmse_raw"] is None
    lines = {
        (line["predictor"], line["against"], line["statistic"]): line
        for line in csv.DictReader(io.StringIO(er.to_csv(evaluation)))
    }
    assert float(lines["student", "", "srcc"]["low"]) == evaluation.predictors[0].srcc.low
    assert lines["log-bitrate", "", "rmse_raw"]["value"] == ""
    assert float(lines["student", "log-bitrate", "srcc"]["value"]) == evaluation.differences[0].srcc.value


def test_text_table() -> None:
    rule = pairs.PairRule("label-range", 0.05)
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=50, pair_rule=rule)
    text = er.format_table(evaluation)
    assert er.format_interval(evaluation.predictors[0].srcc, "srcc") in text
    assert "log-bitrate" in text
    assert "student - log-bitrate" in text
    assert "differ by more than 5" in text
    assert "With only 6 contents the intervals are rough" in text
    figure = er.Interval(value=0.9312, low=0.9018, high=0.9551)
    assert er.format_interval(figure, "srcc") == ".931 [.902, .955]"
    assert er.format_interval(er.Interval(value=1.0), "srcc") == "1.000"
    assert er.format_interval(er.Interval(value=-0.00004), "srcc") == ".000"
    assert er.format_interval(er.Interval(value=-0.25), "srcc") == "-.250"
    assert er.format_interval(None, "rmse_raw") == "-"


def test_same_seed_gives_the_same_results() -> None:
    table = make_table()
    first, second = (ev.evaluate_predictors(table, ["student"], num_resamples=50, seed=s) for s in (3, 3))
    assert first == second
    shuffled = table.sample(frac=1, random_state=1)
    assert ev.evaluate_predictors(shuffled, ["student"], num_resamples=50, seed=3).predictors[
        0
    ].srcc.low == pytest.approx(first.predictors[0].srcc.low)


def test_fewer_resamples_on_a_large_table_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ev.affordable_resamples(150, 2000) == 2000
    assert ev.affordable_resamples(100_000, 2000) == 100
    assert ev.affordable_resamples(10**9, 50) == 50
    monkeypatch.setattr(ev, "_MAX_RESAMPLED_ROWS", 1)
    evaluation = ev.evaluate_predictors(make_table(), ["student"], num_resamples=200)
    assert (evaluation.resamples, evaluation.resamples_requested) == (100, 200)
    assert any("200 resamples were requested" in note for note in evaluation.notes)


def test_rows_without_a_prediction_are_omitted_and_counted() -> None:
    table = make_table()
    whole = ev.evaluate_predictors(table.iloc[10:], ["student", "teacher"], num_resamples=50)
    table.loc[:9, "teacher"] = np.nan
    evaluation = ev.evaluate_predictors(table, ["student", "teacher"], num_resamples=50)
    student, teacher, _ = evaluation.predictors
    assert (student.n, student.missing, teacher.n, teacher.missing) == (96, 0, 86, 10)
    assert any("10 rows have no teacher" in note for note in evaluation.notes)
    difference, expected = evaluation.differences[-1], whole.differences[-1]
    assert (difference.predictor, difference.against, difference.n) == ("teacher", "student", 86)
    assert (difference.srcc, difference.within_content_srcc) == (expected.srcc, expected.within_content_srcc)
    assert teacher.pairs_cross_codec.value == whole.predictors[1].pairs_cross_codec.value
    assert teacher.pairs_cross_codec.pairs == whole.predictors[1].pairs_cross_codec.pairs


def test_differences_match_the_paired_bootstrap() -> None:
    table = make_table()
    evaluation = ev.evaluate_predictors(table, ["student", "teacher"], num_resamples=60, against=["teacher"])
    assert [(d.predictor, d.against) for d in evaluation.differences] == [
        ("student", "teacher"),
        ("log-bitrate", "teacher"),
    ]
    truth, content = table["score"].to_numpy(), table["content"].to_numpy(str)
    student, teacher = (
        bootstrap.resampled_srcc(truth, table[name].to_numpy(), content) for name in ("student", "teacher")
    )
    expected = bootstrap.paired_bootstrap_by_content(student, teacher, content, 60)
    d = evaluation.differences[0].srcc
    assert (d.value, d.low, d.high) == pytest.approx(expected)
    with pytest.raises(ValueError, match="against: no predictor 'nobody' among student, log-bitrate"):
        ev.evaluate_predictors(table, ["student"], against=["nobody"])


def test_pair_rules() -> None:
    table = make_table()
    truth, content = table["score"].to_numpy(), table["content"].to_numpy(str)
    codec, pred = table["codec"].to_numpy(str), table["student"].to_numpy()
    by_content = table.groupby("content")["score"]
    width = (by_content.transform("max") - by_content.transform("min")).to_numpy()
    ci = np.linspace(0.5, 8, len(table))
    for rule, text, gap in (
        (
            None,
            "content-range:0.1",
            lambda i, j: 0.1 * width[i] + 0 * width[j],
        ),
        (pairs.PairRule("interval"), "interval", lambda i, j: np.sqrt(ci[i] ** 2 + ci[j] ** 2)),
    ):
        columns = {} if rule is None else {"score_ci95": ci}
        evaluation = ev.evaluate_predictors(table.assign(**columns), ["student"], num_resamples=20, pair_rule=rule)
        result = evaluation.predictors[0].pairs_same_codec
        correct, total = pairs.pair_counts(truth, pred, content, lambda i, j: codec[i] == codec[j], gap)
        assert (evaluation.pair_rule, result.pairs) == (text, int(total.sum()))
        assert result.value == correct.sum() / total.sum()
    intervals = table.assign(score_ci95=1.0)
    assert ev.evaluate_predictors(intervals, ["student"], num_resamples=20).pair_rule == "interval"
    with pytest.raises(ValueError, match="pair rule interval needs score_ci95"):
        ev.evaluate_predictors(table, ["student"], pair_rule=pairs.PairRule("interval"))
    assert pairs.parse_pair_rule("content-range:0.2") == ("content-range", 0.2)
    for invalid in ("points", "interval:3", "content-range", "label-range:x", "label-range:1"):
        with pytest.raises(ValueError, match="pair rule is"):
            pairs.parse_pair_rule(invalid)


def test_outlier_ratio() -> None:
    table = make_table()
    assert ev.evaluate_predictors(table, ["student"], num_resamples=20).predictors[0].outlier_ratio is None
    truth, pred = table["score"].to_numpy(), table["student"].to_numpy()
    error = np.abs(st.fit_logistic4(truth, pred)(pred) - truth)
    cases: list[tuple[dict[str, Any], float, str]] = [
        ({"score_ci95": 3.0}, 3.0, "95 % interval"),
        ({"score_std": 6.0, "score_raters": 16}, 1.959963984540054 * 6 / 4, "95 % interval"),
        ({"score_std": 2.0}, 4.0, "two standard deviations"),
    ]
    for columns, allowed, words in cases:
        evaluation = ev.evaluate_predictors(table.assign(**columns), ["student"], num_resamples=50)
        ratio = evaluation.predictors[0].outlier_ratio
        assert ratio is not None
        assert ratio.value == (error > allowed).mean()
        assert ratio.low is not None
        assert ratio.value is not None
        assert ratio.high is not None
        assert ratio.low < ratio.value < ratio.high
        assert any(words in note for note in evaluation.notes if note.startswith("Outliers"))


def test_slices_match_evaluations_of_their_rows() -> None:
    table = make_table()
    by = ["codec", slices.RESOLUTION, slices.BITRATE_BAND]
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=50, by=by)
    groups = {(s.by, s.group) for s in evaluation.slices}
    assert groups == {
        ("codec", "svt-av1"), ("codec", "x264"), ("resolution", "240p"), ("resolution", "360p"),
        ("bitrate-band", "low"), ("bitrate-band", "middle"), ("bitrate-band", "high"),
    }  # fmt: skip
    alone = ev.evaluate_predictors(table[table["codec"] == "x264"], ["student"], num_resamples=50).predictors[0]
    part = next(s for s in evaluation.slices if (s.group, s.predictor) == ("x264", "student"))
    for key in ("srcc", "krcc", "plcc", "rmse"):
        assert getattr(part, key) == getattr(alone, key)
    assert part.within_content_srcc.value == alone.within_content_srcc.value
    bands = [s for s in evaluation.slices if s.by == "bitrate-band" and s.predictor == "student"]
    assert [(s.group, s.n) for s in bands] == [("low", 30), ("middle", 30), ("high", 36)]
    odd = table.assign(lens=["wide", "wide", *["long"] * 94])
    evaluation = ev.evaluate_predictors(odd, ["student"], num_resamples=20, by=["lens"])
    assert {s.group for s in evaluation.slices} == {"long"}
    assert "By lens: 1 groups with fewer than 3 rows are left out: wide." in evaluation.notes
    with pytest.raises(ValueError, match="by 'lens': the table has no column 'lens'"):
        ev.evaluate_predictors(table, ["student"], by=["lens"])
    with pytest.raises(ValueError, match="by 'clip': 96 groups, at most 50"):
        ev.evaluate_predictors(table, ["student"], by=["clip"])


def test_every_part_reaches_json_csv_and_text() -> None:
    evaluation = ev.evaluate_predictors(
        make_table(), ["student"], num_resamples=30, by=["codec"], protocols=["pooled", "msu"], ladders=True
    )
    assert er.Evaluation.model_validate_json(er.to_json(evaluation)) == evaluation
    lines = list(csv.DictReader(io.StringIO(er.to_csv(evaluation))))
    assert {line["part"] for line in lines} == {"predictor", "difference", "protocol", "slice", "ladder"}
    line = next(line for line in lines if (line["against"], line["statistic"]) == ("codec=x264", "srcc"))
    assert float(line["value"]) == evaluation.slices[2].srcc.value
    text = er.format_table(evaluation)
    for words in ("Protocol msu", "SRCC by codec", "Ladder fidelity", "Convex hull agreement", "svt-av1"):
        assert words in text


def test_many_predictors_are_rows() -> None:
    table = make_table()
    names = [f"metric{i}" for i in range(6)]
    for name in names:
        table[name] = table["student"]
    lines = er.format_table(ev.evaluate_predictors(table, names, num_resamples=20)).splitlines()
    assert lines[0].split()[:3] == ["Encodes", "/", "contents"]
    assert [line.split()[0] for line in lines[1:8]] == [*names, "log-bitrate"]


def test_codec_and_resolution_can_be_unknown() -> None:
    table = make_table().drop(columns=["codec", "width", "height"])
    result = ev.evaluate_predictors(table, ["student"], num_resamples=20).predictors[0]
    assert (result.pairs_cross_codec.pairs, result.pairs_cross_codec.value) == (0, None)
    empty_codec = ev.evaluate_predictors(make_table().assign(codec=""), ["student"], num_resamples=20).predictors[0]
    assert (empty_codec.pairs_same_codec.pairs, empty_codec.pairs_cross_codec.pairs) == (0, 0)
    with pytest.raises(ValueError, match="ladders: the table has no column 'codec'"):
        ev.evaluate_predictors(table, ["student"], ladders=True)
