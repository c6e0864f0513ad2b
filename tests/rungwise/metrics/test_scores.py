"""Score tables from other sources: reading, noted assumptions and errors; and `rungwise metrics`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rungwise import cli
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import Evaluation
from rungwise.metrics.scores import read_scores, score_videos
from rungwise.score import scorer
from rungwise.tables import read_table_file

run = CliRunner()


def external_table(seed: int = 0) -> pd.DataFrame:
    """A published table: other column names, a lower-is-better metric, an unlabeled row, a missing prediction."""
    rng = np.random.default_rng(seed)
    rows = []
    for scene in range(5):
        for encoder in ("x264", "x265"):
            for step in range(6):
                mos = 1 + 0.6 * step + rng.normal(0, 0.3)
                rows.append((f"s{scene}", encoder, 300.0 * 2**step, mos, mos + rng.normal(0, 0.4), 6 - mos))
    table = pd.DataFrame(rows, columns=["scene", "encoder", "kbps", "mos", "good", "niqe"])
    table.loc[3, "mos"] = np.nan
    table.loc[5, "good"] = np.nan
    return table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    external_table().to_csv(tmp_path / "external.csv", index=False)
    return tmp_path / "external.csv"


COLUMNS = {"content": "scene", "codec": "encoder", "bitrate_kbps": "kbps"}


def test_external_table(path: Path) -> None:
    table, names, notes = read_scores(path, "mos", ["good", "niqe"], columns=COLUMNS, lower_is_better=["niqe"])
    assert names == ["good", "niqe"]
    assert len(table) == 59
    assert table["content"].nunique() == 5
    assert (table["niqe"] < 0).all()
    assert (table["score_min"].iloc[0], table["score_max"].iloc[0]) == (table["mos"].min(), table["mos"].max())
    assert [note.split(":")[0] for note in notes] == [
        "The table does not state the polarity of 'mos'",
        "The table does not state the range of 'mos'",
        "1 of 60 rows have no mos and are left out",
        "Negated because lower is better",
    ]
    results = evaluate_predictors(table, names, truth="mos", num_resamples=20).predictors
    assert [(r.predictor, r.n) for r in results] == [("good", 58), ("niqe", 59), ("log-bitrate", 59)]
    assert (results[1].srcc.value or 0) > 0.99


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".txt", ".parquet", ".json"])
def test_every_file_format(tmp_path: Path, ending: str) -> None:
    table, path = external_table(), tmp_path / f"t{ending}"
    if ending == ".parquet":
        table.to_parquet(path)
    elif ending == ".json":
        path.write_text(json.dumps(table.where(table.notna(), None).to_dict("records")).replace("NaN", "null"))
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_table_file(path), table, check_dtype=False)


def test_dmos_needs_a_polarity(path: Path) -> None:
    table = pd.read_csv(path)
    table.assign(DMOS=100 - table["mos"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="'DMOS' looks like a DMOS, whose polarity varies"):
        read_scores(path, "DMOS", ["good"])
    lower, _, notes = read_scores(path, "DMOS", ["good"], polarity="lower", columns=COLUMNS)
    assert set(lower["score_polarity"]) == {"lower_is_better"}
    assert not any("polarity" in note for note in notes)
    upside_down, names, _ = read_scores(path, "DMOS", ["good"], polarity="higher", columns=COLUMNS)
    notes = list(evaluate_predictors(upside_down, names, truth="DMOS", num_resamples=20).notes)
    assert any("check the polarity" in note for note in notes)
    assert any(note.startswith("Predictions fall as quality rises: good") for note in notes)


def test_rungwise_table_states_its_polarity(path: Path) -> None:
    own = pd.read_csv(path).rename(columns={"mos": "score", "scene": "content"})
    own = own.assign(score_polarity="lower_is_better", score_min=0.0, score_max=9.0)
    own.to_csv(path, index=False)
    table, _, notes = read_scores(path, "score", ["good"])
    assert set(table["score_polarity"]) == {"lower_is_better"}
    assert [note for note in notes if "does not state" in note] == []
    with pytest.raises(ValueError, match="score_polarity is lower_is_better, which contradicts higher_is_better"):
        read_scores(path, "score", ["good"], polarity="higher")


def test_without_contents_every_row_is_its_own(path: Path) -> None:
    table, _, notes = read_scores(path, "mos", ["good"])
    assert table["content"].nunique() == len(table)
    assert any("every row counts as its own content" in note for note in notes)


def test_patterns_match_unused_numeric_columns(path: Path) -> None:
    assert read_scores(path, "mos", ["*"], columns=COLUMNS)[1] == ["good", "niqe"]
    assert read_scores(path, "mos", ["n?qe", "*"], columns=COLUMNS)[1] == ["niqe", "good"]


def test_columns_can_swap_names(path: Path) -> None:
    pd.read_csv(path).rename(columns={"encoder": "content", "scene": "codec"}).to_csv(path, index=False)
    table, _, _ = read_scores(path, "mos", ["good"], columns={"content": "codec", "codec": "content"})
    assert set(table["codec"]) == {"x264", "x265"}
    assert table["content"].nunique() == 5
    twice, _, _ = read_scores(path, "mos", ["good"], columns={"codec": "content", "preset": "content"})
    assert (twice["codec"] == twice["preset"]).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"truth": "MOS"}, "no column 'MOS'; the table has scene, encoder, kbps, mos, good, niqe"),
        ({"predictors": ["vmaf"]}, "no column 'vmaf'; numeric columns are kbps, good, niqe"),
        ({"predictors": ["vmaf*"]}, "no column 'vmaf\\*'"),
        ({"columns": {"content": "clip"}}, "no column 'clip'"),
        ({"lower_is_better": ["niqe"]}, "'niqe' is declared lower-is-better but is not a predictor"),
        ({"predictors": ["encoder"]}, "'encoder' has 'x264' in row 1, which is not a number \\(60 such rows\\)"),
        ({"value_range": (1.0, 2.0)}, "44 of 60 values of 'mos' are outside"),
    ],
)
def test_invalid_arguments_raise(path: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_scores(path, **({"truth": "mos", "predictors": ["good"]} | kwargs))


@pytest.mark.parametrize(("name", "text"), [("t.xlsx", ""), ("none.csv", None), ("t.json", "{broken"), ("t.csv", "")])
def test_unreadable_files_raise(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read_table_file(tmp_path / name)


class FakeScorer:
    """Returns the file size as score and counts calls; files named "bad" fail to decode."""

    calls = 0

    def __init__(self, path: Path) -> None:
        scale = type("Scale", (), {"polarity": "higher_is_better"})
        self.contract = type("Contract", (), {"scale": scale})

    def score(self, path: Path, *, display_height: int | None) -> Any:
        FakeScorer.calls += 1
        if path.stem == "bad":
            raise ValueError(f"{path}: broken while decoding")
        return type("Score", (), {"score": float(path.stat().st_size + (display_height or 0))})


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 7 encodes with its table, the fifth broken and the sixth missing, and a model file."""
    monkeypatch.setattr(scorer, "Scorer", FakeScorer)
    FakeScorer.calls = 0
    rows = []
    for i, name in enumerate(["a", "b", "c", "d", "bad", "gone", "e"]):
        if name != "gone":
            (tmp_path / f"{name}.mp4").write_bytes(b"x" * (10 + i))
        rows.append({"clip": name, "path": f"{name}.mp4", "content": name[0], "bitrate_kbps": 100.0 + i})
    table = pd.DataFrame(rows).assign(score=range(7), display_height=[np.nan] + [100.0] * 6)
    table = table.assign(score_polarity="higher_is_better", score_min=0.0, score_max=9.0)
    table.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "student.onnx").write_bytes(b"model")
    return tmp_path


def test_interrupted_run_resumes_and_a_broken_clip_is_left_out(videos: Path) -> None:
    table, keep = pd.read_csv(videos / "data.csv"), videos / "scores.jsonl"
    scores, failures = score_videos(table, videos / "student.onnx", videos, keep=keep)
    assert scores[:4] == [10, 111, 112, 113]
    assert np.isnan(scores[4:6]).all()
    assert set(failures) == {"bad", "gone"}
    assert FakeScorer.calls == 6
    keep.write_text(keep.read_text() + '["half a li')
    again, _ = score_videos(table, videos / "student.onnx", videos, keep=keep)
    assert FakeScorer.calls == 7  # the broken file is tried again
    np.testing.assert_array_equal(again, scores)
    (videos / "a.mp4").write_bytes(b"another")
    score_videos(table, videos / "student.onnx", videos, keep=keep)
    assert FakeScorer.calls == 9  # a changed file is scored again
    (videos / "student.onnx").write_bytes(b"another")
    score_videos(table, videos / "student.onnx", videos, keep=keep)
    assert FakeScorer.calls == 15  # a changed model scores all again


def test_evaluate_a_model_on_a_dataset(videos: Path) -> None:
    out = videos / "out"
    arguments = ["metrics", str(videos / "data.csv"), "--model", str(videos / "student.onnx")]
    result = run.invoke(cli.app, [*arguments, "--out", str(out), "--resamples", "20", "--json"])
    assert result.exit_code == 1  # two videos have no score
    evaluation = Evaluation.model_validate_json(result.stdout)
    student = evaluation.predictors[0]
    assert (student.predictor, student.n, student.missing) == ("student", 5, 2)
    assert "2 rows have no student" in " ".join(evaluation.notes)
    assert sorted(p.name for p in out.iterdir()) == [
        "evaluation.csv", "evaluation.json", "predictions.csv", "report.html", "scores.jsonl", "table.txt",
    ]  # fmt: skip
    assert Evaluation.model_validate_json((out / "evaluation.json").read_text()) == evaluation


def test_evaluate_a_table(path: Path) -> None:
    arguments = ["metrics", str(path), "--truth", "mos", "--pred", "good,niqe", "--lower-is-better", "niqe"]
    arguments += ["--content", "scene", "--bitrate", "kbps", "--column", "codec=encoder", "--resamples", "20"]
    more = ["--protocol", "pooled,msu", "--by", "codec", "--against", "niqe", "--ladders"]
    text = run.invoke(cli.app, [*arguments, *more])
    assert text.exit_code == 0, text.output
    for words in ("log-bitrate", "Protocol msu", "SRCC by codec", "good - niqe", "Ladder fidelity", "BD-rates used"):
        assert words in text.stdout
    lines = list(csv.DictReader(io.StringIO(run.invoke(cli.app, [*arguments, *more, "--csv"]).stdout)))
    assert {line["part"] for line in lines} == {"predictor", "difference", "protocol", "slice", "ladder"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["t.csv", "--pred", "a", "--polarity", "up"],
        ["t.csv", "--pred", "a", "--range", "5"],
        ["t.csv", "--pred", "a", "--column", "shape=b"],
        ["t.csv", "--pred", "a", "--pairs", "points:5"],
        ["t.csv", "--pred", "a", "--json", "--csv"],
    ],
)
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    assert run.invoke(cli.app, ["metrics", *arguments]).exit_code == 2


def test_baseline_only(path: Path, tmp_path: Path) -> None:
    arguments = ["metrics", str(path), "--truth", "mos", "--resamples", "20"]
    columns = ["--content", "scene", "--bitrate", "kbps"]
    result = run.invoke(cli.app, [*arguments, *columns, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "this is the baseline alone" in result.stdout
    assert "log-bitrate" in (tmp_path / "out" / "report.html").read_text()
    no_bitrate = run.invoke(cli.app, arguments)
    assert no_bitrate.exit_code == 1
    assert "nothing to evaluate" in str(no_bitrate.exception)


@pytest.mark.data
def test_published_values_of_an_ultra_hd_study(outside_data: Callable[[str], Path]) -> None:
    path = outside_data("data/mos/avt_nvc/results.json")
    columns = {"content": "source", "bitrate_kbps": "bitrate", "score_ci95": "ci"}
    names = ["vmaf", "dover", "musiq", "fastvqa", "qalign"]
    table, names, _ = read_scores(path, "mos", names, columns=columns, value_range=(1, 5))
    evaluation = evaluate_predictors(table, names, truth="mos", num_resamples=20)
    srccs = {r.predictor: round(r.srcc.value or 0, 3) for r in evaluation.predictors}
    assert srccs == {
        "vmaf": 0.907, "dover": 0.598, "musiq": 0.683, "fastvqa": 0.401, "qalign": 0.263, "log-bitrate": 0.75,
    }  # fmt: skip
    assert round(evaluation.predictors[-1].within_content_srcc.value or 0, 3) == 0.93
    assert evaluation.pair_rule == "interval"
