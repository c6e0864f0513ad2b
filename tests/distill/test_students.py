"""Distillation beyond the quickstart: the other student, prompts, contrast, frozen stems, clips without a label."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from typer.testing import CliRunner

import distill.students
import distill.train
from distill.checkpoint import load_checkpoint
from distill.data import read_data
from distill.pipeline import Outcome, run
from distill.predict import predict
from distill.students import HELD_OUT, predict_held_out
from distill.training_state import TrainingState
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.cli import app
from rungwise.config import RunConfig, load_config
from rungwise.score.scorer import Scorer
from student.models import student_settings

ROOT = Path(__file__).parents[2]
SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window": 4, "feature_dim": 32}
EVERY_LOSS = {
    "label": 4.0, "plcc": 1.0, "rank": 1.0, "likelihood": 0.1,
    "score_target": 1.0, "soft_target": 1.0, "cosine_target": 1.0,
    "feature": 1.0, "feature_cosine": 1.0, "relation": 1.0, "coarse": 0.2, "fine": 1.0,
}  # fmt: skip


def changed(config_path: Path, **student: Any) -> dict[str, Any]:
    """The small config's values with another student section; `training` is merged."""
    values: dict[str, Any] = yaml.safe_load(config_path.read_text())
    values["student"]["training"] |= student.pop("training", {})
    values["student"] |= student
    return values


def swin(config_path: Path, **student: Any) -> dict[str, Any]:
    values = changed(config_path, model="swin", size=SWIN, **student)
    return values


def read(values: dict[str, Any], path: Path) -> RunConfig:
    path.write_text(yaml.safe_dump(values))
    return load_config(path)


@pytest.fixture(scope="module")
def moved(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """The Swin student by every loss there is, on the runs of the whole pipeline: its config and outcome."""
    values = swin(
        config_path,
        stem="frozen",
        prompts=4,
        aleatoric=True,
        bitrate_groups={"num_groups": 2, "temperature": "learned", "margin": 0.5},
        execution={"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True},
        training={
            "losses": EVERY_LOSS,
            "augment": {"sample_frames": 1, "sample_grid": None},
            "mix_codecs": True,
            "batches_per_step": 2,
        },
    )
    path = tmp_path_factory.mktemp("swin") / "swin.yaml"
    return path, run(read(values, path), unbroken[0])


def test_the_swin_student_goes_the_whole_road(moved: tuple[Path, Outcome], unbroken: tuple[Path, Outcome]) -> None:
    artifacts = moved[1].artifacts
    assert artifacts["cache"].hit
    history = json.loads((artifacts["distill"].path / "history.json").read_text())
    assert set(EVERY_LOSS) <= set(history[0])
    assert all(np.isfinite(value) for row in history for value in row.values())
    done = CliRunner().invoke(app, ["golden", str(artifacts["distill"].path / "student.safetensors"),
                                    str(artifacts["export"].path / "student.onnx")])  # fmt: skip
    assert done.exit_code == 0, done.output
    data = read_data(load_config(moved[0]), artifacts["ladder"], artifacts["views"])
    model, _, _ = load_checkpoint(artifacts["distill"].path / "student.safetensors")
    pixels = np.array(data.pixels[data.rows("test"), 0])
    onnx = Scorer(artifacts["export"].path / "student.onnx").predict(pixels)
    np.testing.assert_allclose(onnx, predict(model, pixels), atol=1e-3)


def test_a_frozen_stem_run_once_learns_what_it_learns_run_every_time(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    histories = []
    for keep in (False, True):
        values = swin(config_path, stem="frozen", training={"augment": {"sample_frames": 1, "sample_grid": None}})
        values["student"]["execution"]["keep_frozen"] = keep
        runs = tmp_path / str(keep)
        runs.mkdir()
        for stage in ("ladder", "views", "teach", "cache", "masters"):
            (runs / stage).symlink_to(unbroken[0] / stage)
        student = run(read(values, tmp_path / "run.yaml"), runs, until="distill").artifacts["distill"]
        assert not student.hit
        histories.append(json.loads((student.path / "history.json").read_text()))
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_prompts_alone_move_a_student_and_tensorboard_shows_it(
    moved: tuple[Path, Outcome], unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    start = moved[1].artifacts["distill"].path / "student.safetensors"
    arguments = ["distill", str(moved[0]), "--runs", str(unbroken[0]), "--tune", "styleprompt", "--start", str(start)]
    done = CliRunner().invoke(app, [*arguments, "--tensorboard", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    [events] = tmp_path.glob("distill-*/events*")
    assert b"validation_srcc" in events.read_bytes()
    assert b"PNG" in events.read_bytes()
    before, after = (load_checkpoint(path)[0].state_dict() for path in
                     (start, Path(json.loads(done.stdout)["path"]) / "student.safetensors"))  # fmt: skip
    changes = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changes == {"prompts", "head"}
    assert torch.equal(before["head.clip.1.weight"], after["head.clip.1.weight"])


def test_contrast_needs_no_labels_and_a_student_goes_on_from_it(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    values = changed(config_path)
    pretrain = values["student"]["training"] | {"losses": {"contrast": 1.0}, "epochs": 2, "clips_per_content": 5}
    config = read(values | {"student": values["student"] | {"pretrain": pretrain}}, tmp_path / "run.yaml")
    done = CliRunner().invoke(
        app, ["distill", str(tmp_path / "run.yaml"), "--runs", str(unbroken[0]), "--pretrain", "contrast", "--json"]
    )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["stage"] == "pretrain"
    history = json.loads((Path(facts["path"]) / "history.json").read_text())
    assert set(history[-1]) == {"contrast", "gradient_norm"}
    assert history[-1]["contrast"] < history[0]["contrast"]
    student = run(config, unbroken[0], until="distill").artifacts["distill"]
    assert student.id != unbroken[1].artifacts["distill"].id
    assert set(student.key.inputs) == {"cache", "dataset", "views", "pretrain"}
    without = CliRunner().invoke(
        app, ["distill", str(config_path), "--runs", str(unbroken[0]), "--pretrain", "contrast"]
    )
    assert "student.pretrain: is null" in str(without.exception)


@pytest.mark.slow
def test_clips_without_a_label_teach_the_teachers_view_of_them(
    config_path: Path, clip: Path, small_clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    for path in (clip, small_clip):
        (folder / f"found_{path.name}").symlink_to(path)
    (folder / "broken.mp4").write_text("no video")
    values = changed(
        config_path,
        bitrate_groups={"num_groups": 2, "temperature": 0.1, "margin": 0.5},
        training={
            "losses": {"label": 1.0, "plcc": 1.0, "soft_target": 1.0, "score_target": 1.0, "fine": 1.0, "coarse": 0.1}
        },
    )
    values["sources"]["unlabelled"] = str(folder)
    outcome = run(read(values, tmp_path / "run.yaml"), tmp_path / "runs", until="distill")
    assert list(outcome.failures) == ["broken"]
    data = read_data(load_config(tmp_path / "run.yaml"), outcome.artifacts["ladder"], outcome.artifacts["views"])
    table = data.table.set_index("clip")
    row = table.loc[["found_clip"]]
    assert row[["split", "codec", "rate_control"]].to_numpy().tolist() == [["train", "h264", ""]]
    assert row["score"].isna().all()
    assert len(data.examples("train", labeled=False)) == len(data.examples("train")) + 2
    train = data.examples("train", labeled=False, num_groups=2)
    assert train.groups[np.isnan(train.scores)].tolist() == [-1, -1]
    assert not list(outcome.artifacts["ladder"].path.glob("encodes/broken*"))
    history = json.loads((outcome.artifacts["distill"].path / "history.json").read_text())
    assert all(np.isfinite(value) for row in history for value in row.values())


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ({"tune": "styleprompt"}, "needs `start`"),
        ({"tune": "head"}, "needs `start`"),
        ({"training": {"losses": {"coarse": 1.0}}}, "go together"),
        ({"training": {"losses": {"contrast": 1.0}}}, "is for teach and pretrain, not for distill"),
        ({"training": {"losses": {"label": 0.0}}}, "nothing would train"),
        ({"aleatoric": True}, "go together"),
        ({"training": {"losses": {"patch": 1.0}}}, r"losses\.patch needs `patch_scores: true`"),
        ({"patch_scores": True, "training": {"losses": {"stream_patch": 1.0}}}, r"needs losses\.stream"),
        ({"size": "pooled"}, "needs `patch_scores: true`"),
        ({"execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True}}, "stem: frozen"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(
    config_path: Path, tmp_path: Path, student: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read(changed(config_path, **student), tmp_path / "run.yaml")


def test_patch_scores_are_in_no_id_while_they_are_off(config_path: Path, tmp_path: Path) -> None:
    plain, on = load_config(config_path), read(changed(config_path, patch_scores=True), tmp_path / "run.yaml")
    for config, is_on in ((plain, False), (on, True)):
        section = config.student.model_dump()
        assert ("patch_scores" in section, "patch" in section["training"]["losses"]) == (is_on, False)
        settings = student_settings(config.student, config.views.recipe)
        assert settings.get("patch_px") == (config.views.recipe.patch_px if is_on else None)
    values = on.student.model_dump(mode="json") | {"reencoded_weight": 0.5}
    values["training"]["losses"] = {"label": 1.0, "stream_smooth": 1.0}
    hybrid = type(on.student).model_validate(values)
    assert student_settings(hybrid, on.views.recipe)["hybrid"]
    pretrain = {"pretrain": on.student.training.model_dump(mode="json") | {"losses": {"contrast": 1.0}}}
    with pytest.raises(ValueError, match="views at half their size"):
        read(changed(config_path, patch_scores=True, **pretrain), tmp_path / "run.yaml")


def test_a_student_of_patches_goes_through_the_pipeline(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    done = run(read(changed(config_path, patch_scores=True), tmp_path / "run.yaml"), unbroken[0], until="export")
    assert done.artifacts["cache"].hit
    assert not done.failures
    scorer = Scorer(done.artifacts["export"].path / "student.onnx")
    config = load_config(tmp_path / "run.yaml")
    data = read_data(config, done.artifacts["ladder"], done.artifacts["views"])
    pixels = np.array(data.pixels[data.rows("test"), 0])
    [patch_scores] = scorer.run(["patch_scores"], pixels, None)
    assert patch_scores.shape == (len(pixels), config.views.recipe.num_frames, config.views.recipe.grid**2)
    losses = {"losses": {"label": 1.0, "patch": 1.0}}
    dense = read(changed(config_path, patch_scores=True, training=losses), tmp_path / "dense.yaml")
    with pytest.raises(ValueError, match="no teacher patch_scores"):
        run(dense, unbroken[0], until="distill")


def test_a_student_of_another_kind_is_no_start(moved: tuple[Path, Outcome], config_path: Path, tmp_path: Path) -> None:
    start = moved[1].artifacts["distill"].path / "student.safetensors"
    config = read(changed(config_path, start=str(start)), tmp_path / "run.yaml")
    with pytest.raises(ValueError, match=r"student\.start: .* lacks 'patch_embed"):
        run(config, moved[1].artifacts["ladder"].path.parents[1], until="distill")
    absent = read(changed(config_path, start="absent.safetensors"), tmp_path / "run.yaml")
    with pytest.raises(ValueError, match="is not a file"):
        run(absent, moved[1].artifacts["ladder"].path.parents[1], until="distill")


def test_info_adds_up(moved: tuple[Path, Outcome], config_path: Path) -> None:
    for path in (config_path, moved[1].artifacts["distill"].path / "student.safetensors"):
        done = CliRunner().invoke(app, ["student", "info", str(path), "--json"])
        facts = json.loads(done.stdout)
        assert facts["total"]["macs"] == sum(part["macs"] for part in facts["parts"]) > 1e6
        assert "stages.0" in CliRunner().invoke(app, ["student", "info", str(path)]).stdout


@pytest.mark.distributed
def test_two_processes_share_a_swin_students_batches(moved: tuple[Path, Outcome], tmp_path: Path) -> None:
    values = yaml.safe_load(moved[0].read_text())
    histories = []
    for zero_stage, launch in ((None, []), (0, ["-m", "torch.distributed.run", "--nproc_per_node", "2"])):
        values["student"]["execution"] |= {"zero_stage": zero_stage, "keep_frozen": False}
        runs = tmp_path / str(zero_stage)
        runs.mkdir()
        for stage in ("ladder", "views", "teach", "cache", "masters"):
            (runs / stage).symlink_to(moved[1].artifacts["ladder"].path.parents[1] / stage)
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        environment = os.environ | {"DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *launch, "-m", "rungwise", "distill", str(path), "--runs", str(runs), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        histories.append(json.loads(next((runs / "distill").glob("*/history.json")).read_text()))
    for ours, theirs in zip(*histories, strict=True):
        # DeepSpeed's norm, and its clipping, take in what only the losses need; plain PyTorch's the student alone.
        assert ours.pop("gradient_norm") == pytest.approx(theirs.pop("gradient_norm"), rel=0.05)
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_killed_run_that_gathers_gradients_goes_on_to_the_same_bits(
    moved: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("ladder", "views", "teach", "cache", "masters"):
        (tmp_path / stage).symlink_to(moved[1].artifacts["ladder"].path.parents[1] / stage)
    config = load_config(moved[0])
    real, calls = TrainingState.save, []

    def dies(*arguments: Any) -> None:
        real(*arguments)
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, until="distill")
    monkeypatch.undo()
    again = run(config, tmp_path, until="distill").artifacts["distill"]
    assert again.content_sha256 == moved[1].artifacts["distill"].content_sha256


def test_a_refit_learns_from_validation_contents_too_and_is_judged_by_what_was_said_before(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    outcome = run(read(changed(config_path, refit=True), tmp_path / "run.yaml"), unbroken[0], until="export")
    once, again = unbroken[1].artifacts, outcome.artifacts
    data = read_data(load_config(config_path), once["ladder"], once["views"])
    pixels = np.array(data.pixels[data.rows("validation"), 0])
    before, after = (predict(load_checkpoint(stage["distill"].path / "student.safetensors")[0], pixels)
                     for stage in (once, again))  # fmt: skip
    held_out = load_file(again["distill"].path / HELD_OUT)
    np.testing.assert_array_equal(held_out["scores"], before)
    assert np.abs(after - before).max() > 1e-3
    history = json.loads((again["distill"].path / "history.json").read_text())
    assert ["validation_srcc" in row for row in history] == [True, True, False, False]
    contracts = [Scorer(stage["export"].path / "student.onnx").contract for stage in (once, again)]
    assert contracts[1].calibration == contracts[0].calibration
    card = (again["export"].path / "card.md").read_text()
    assert "| | before retraining | log-bitrate |" in card
    assert "trained on the validation contents too" in card

    validation = data.examples("validation")
    terms = np.zeros((len(validation), BITSTREAM_INPUT_DIM), np.float32)
    terms[0] = np.nan

    class Said(torch.nn.Module):
        def forward(self, pixels: torch.Tensor, terms: torch.Tensor) -> SimpleNamespace:
            assert torch.isfinite(terms).all()
            return SimpleNamespace(score=torch.full((len(pixels),), 10.0), fused=torch.full((len(pixels),), 20.0))

    fused = predict_held_out(Said(), validation, terms)["fused"]
    assert fused.tolist() == [10] + [20] * (len(validation) - 1)


def test_with_folds_every_train_and_validation_clip_is_scored_by_a_student_that_never_saw_its_content(
    config_path: Path, unbroken: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    fit = distill.train.fit

    def watched(model: Any, train: Any, *rest: Any, **options: Any) -> Any:
        trained.append(set(train.contents))
        return fit(model, train, *rest, **options)

    monkeypatch.setattr(distill.students, "fit", watched)
    outcome = run(read(changed(config_path, refit=True, folds=2), tmp_path / "run.yaml"), unbroken[0], until="export")
    artifacts = outcome.artifacts
    data = read_data(load_config(config_path), artifacts["ladder"], artifacts["views"])
    held_out = load_file(artifacts["distill"].path / HELD_OUT)
    own = data.rows("train", "validation")
    assert sorted(held_out["rows"]) == sorted(own)
    *of_folds, of_all = trained
    scored = [set(data.table["content"].iloc[own]) - contents for contents in of_folds]
    assert scored[0].isdisjoint(scored[1])
    assert scored[0] | scored[1] == of_all == set(data.table["content"].iloc[own])
    calibration = Scorer(artifacts["export"].path / "student.onnx").contract.calibration
    assert calibration is not None
    assert calibration.num_contents == len(of_all)
    with pytest.raises(ValueError, match="`folds` needs `refit: true`"):
        read(changed(config_path, folds=2), tmp_path / "wrong.yaml")
