"""The whole road on six small scenes: every artifact, the second run, a kill in every stage, and the verbs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import distill.evaluating
import distill.exporting
import distill.students
import distill.train
import distill.view_store
import rungwise.ladder.make
import teacher.cache
from distill.checkpoint import load_checkpoint
from distill.data import read_data
from distill.pipeline import STAGES, Outcome, run
from rungwise.cli import app
from rungwise.config import RunConfig
from rungwise.score.scorer import Scorer

ROOT = Path(__file__).parents[2]


def test_every_stage_leaves_its_artifact(unbroken: tuple[Path, Outcome]) -> None:
    _, outcome = unbroken
    assert set(outcome.artifacts) == {"ladder", *(stage.name for stage in STAGES)} - {"pretrain", "parts"}
    assert outcome.failures == {}
    files = {stage: {path.name for path in artifact.path.iterdir()} for stage, artifact in outcome.artifacts.items()}
    assert {"report.html", "evaluation.json", "table.txt", "predictions.csv"} <= files["evaluate"]
    assert {"student.onnx", "student.fp16.onnx", "gates.json", "card.md"} <= files["export"]
    assert all("scratch" not in names and "manifest.json" in names for names in files.values())


def test_the_table_has_the_baseline_and_torch_equals_onnx(unbroken: tuple[Path, Outcome]) -> None:
    folder = unbroken[1].artifacts["evaluate"].path
    evaluation = json.loads((folder / "evaluation.json").read_text())
    names = [result["predictor"] for result in evaluation["predictors"]]
    assert set(names) == {"log-bitrate", "teacher", "student", "student-onnx"}
    predictions = pd.read_csv(folder / "predictions.csv")
    assert set(predictions["split"]) == {"test"}
    assert predictions["content"].nunique() == 2
    # One is judged from stored views, the other from the file: the view is replayed to the bit.
    np.testing.assert_allclose(predictions["student"], predictions["student-onnx"], atol=1e-3)


def test_no_content_is_in_two_splits_and_selection_sees_validation_alone(
    config: RunConfig, unbroken: tuple[Path, Outcome]
) -> None:
    artifacts = unbroken[1].artifacts
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    contents = {split: set(data.examples(split).contents) for split in ("train", "validation", "test")}
    assert [len(contents[split]) for split in ("train", "validation", "test")] == [3, 1, 2]
    assert len(set().union(*contents.values())) == 6


def test_a_second_run_hits_everything(config: RunConfig, unbroken: tuple[Path, Outcome]) -> None:
    runs, first = unbroken
    second = run(config, runs)
    assert all(artifact.hit for artifact in second.artifacts.values())
    assert second.artifacts.keys() == first.artifacts.keys()


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_a_run_killed_in_every_stage_ends_in_the_same_numbers(
    config: RunConfig, unbroken: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_at(call: int, module: object, name: str) -> None:
        real, calls = getattr(module, name), []

        def wrapper(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, wrapper)

    for call, module, name in (
        (9, rungwise.ladder.make, "label"),
        (7, distill.view_store, "read_views"),
        (2, distill.train, "make_batch"),  # teach, second epoch
        (2, teacher.cache, "write_whole"),
        (1, distill.students, "save_checkpoint"),  # distill, after its last epoch
        (1, distill.exporting, "parity"),
        (1, distill.evaluating, "write_report"),
    ):
        dies_at(call, module, name)
        with pytest.raises(Killed):
            run(config, tmp_path)
        monkeypatch.undo()
    outcome = run(config, tmp_path)
    for stage in ("ladder", "views", "teach", "cache", "distill", "export"):
        assert outcome.artifacts[stage].content_sha256 == unbroken[1].artifacts[stage].content_sha256, stage
    mine, theirs = ((end.artifacts["evaluate"].path / "predictions.csv").read_bytes() for end in (outcome, unbroken[1]))
    assert mine == theirs


def test_checkpoints_carry_their_contract(unbroken: tuple[Path, Outcome]) -> None:
    _, contract, _ = load_checkpoint(unbroken[1].artifacts["distill"].path / "student.safetensors")
    assert contract.scale.kind == "vmaf_v0.6.1"
    assert contract.training_id == unbroken[1].artifacts["distill"].id
    _, of_teacher, _ = load_checkpoint(unbroken[1].artifacts["teach"].path / "teacher.safetensors")
    assert of_teacher.model == "efficientnet_lite0"


def test_golden_reruns_the_student_and_the_export(unbroken: tuple[Path, Outcome], tmp_path: Path) -> None:
    folders = unbroken[1].artifacts
    files = [folders["distill"].path / "student.safetensors", folders["export"].path / "student.onnx"]
    done = CliRunner().invoke(app, ["golden", *map(str, files), "--json"])
    assert done.exit_code == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["output"], row["ok"]) for row in rows] == [("score", True)] * 2
    for name in ("absent.safetensors", "absent.onnx"):
        absent = CliRunner().invoke(app, ["golden", str(tmp_path / name)])
        assert absent.exit_code == 1
        assert "no such" in absent.stderr


def test_verbs_print_results_to_stdout_and_the_scored_number_is_the_scorers(
    config_path: Path, unbroken: tuple[Path, Outcome], clip: Path, small_clip: Path, tmp_path: Path
) -> None:
    runs, _ = unbroken
    runner = CliRunner()
    done = runner.invoke(app, ["quickstart", str(config_path), "--runs", str(runs)])
    assert done.exit_code == 0
    assert "log-bitrate" in done.stdout
    assert "report.html" in done.stdout
    assert "score --model" in done.stdout
    as_json = runner.invoke(app, ["quickstart", str(config_path), "--runs", str(runs), "--json"])
    facts = json.loads(as_json.stdout)
    scored = runner.invoke(app, ["score", "--model", facts["model"], "--json", str(clip)])
    assert json.loads(scored.stdout)["score"] == Scorer(facts["model"]).score(clip).score

    mixed = runner.invoke(app, ["score", "--model", facts["model"], str(clip), str(small_clip)])
    assert mixed.exit_code == 0
    assert "evaluated at 54p" in mixed.stdout
    assert "different display heights (54, 108)" in mixed.stderr
    agreed = runner.invoke(app, ["score", "-m", facts["model"], "--display-height", "108", str(clip), str(small_clip)])
    assert "different display heights" not in agreed.stderr

    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    partly = runner.invoke(app, ["score", "-m", facts["model"], "--json", str(bad), str(clip)])
    assert partly.exit_code == 1
    lines = [json.loads(line) for line in partly.stdout.splitlines()]
    assert "not a video" in lines[0]["error"]
    assert "score" in lines[1]
    for verb in ("ladder make", "teach", "cache make", "distill", "export", "evaluate"):
        assert runner.invoke(app, [*verb.split(), str(config_path), "--runs", str(runs), "--json"]).exit_code == 0


def test_probe_prints_what_it_sees(clip: Path) -> None:
    seen = CliRunner().invoke(app, ["probe", str(clip), "--json"])
    assert json.loads(seen.stdout)["codec"] == "h264"
    assert "192" in CliRunner().invoke(app, ["probe", str(clip)]).stdout


def run_verb(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{before}\nfrom rungwise.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)


def test_errors_are_one_line_and_a_traceback_only_under_debug(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.yaml")
    plain = run_verb("teach", absent)
    assert (plain.returncode, plain.stdout) == (1, "")
    assert "no such config" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in run_verb("--debug", "teach", absent).stderr
    assert run_verb("score").returncode == 2


def test_training_verbs_outside_a_checkout_say_so_in_one_line(
    tmp_path: Path, config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distill.pipeline", None)
    done = CliRunner().invoke(app, ["teach", str(config_path), "--runs", str(tmp_path)])
    assert isinstance(done.exception, ValueError)
    assert "needs a checkout" in str(done.exception)


@pytest.mark.parametrize(
    ("verb", "missing", "words"),
    [("ladder make", "yaml", "pip install 'rungwise[ladder]'"), ("teach", "torch", "needs a checkout")],
)
def test_a_missing_library_is_one_line_too(verb: str, missing: str, words: str) -> None:
    done = run_verb(*verb.split(), "run.yaml", before=f"import sys; sys.modules[{missing!r}] = None")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert words in done.stderr
