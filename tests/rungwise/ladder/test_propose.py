"""`rungwise ladder propose` on a small master: a ladder that `ladder check` finds sound."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from rungwise.cli.ladder_propose import propose
from rungwise.ladder.check import CheckRequest, check_source
from rungwise.ladder.label import DEFAULT_MODELS, label
from rungwise.ladder.propose import Proposal
from rungwise.ladder.shots import cheapest
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.scenes import write_master


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(propose)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_proposed_ladder_is_sound_by_vmaf(street: Path, trial_cache: Path, tmp_path: Path) -> None:
    result = run(street, "--heights", "216,144", "--cache", trial_cache, "--json")
    assert result.exit_code == 0
    proposal = Proposal.model_validate_json(result.stdout)
    (ladder,) = proposal.ladders
    scores = [rung.vmaf for rung in ladder.rungs]
    assert len(scores) >= 3
    assert min(np.diff(scores)) >= 6
    assert scores[0] >= 50
    for rung in ladder.rungs:
        command = shlex.split(rung.command)
        run_ffmpeg([*command[1:-1], str(tmp_path / command[-1])])
    check = check_source(CheckRequest(tmp_path, truth="vmaf", reference=street)).metrics[0].check
    assert not check.findings
    again = Proposal.model_validate_json(run(street, "--heights", "216,144", "--cache", trial_cache, "--json").stdout)
    assert again.ladders == proposal.ladders
    assert set(again.runs.values()) == {0}


def test_the_encoded_ladder_is_sound_and_packaged(street: Path, trial_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ladder"
    options = ["--heights", "216,144", "--cache", trial_cache, "--encode", folder]
    result = run(street, *options)
    assert result.exit_code == 0, result.output
    assert f"encoded: {folder / 'manifest.mpd'}" in result.stdout
    check = check_source(CheckRequest(folder / "master.m3u8", truth="vmaf", reference=street)).metrics[0].check
    assert not check.findings
    assert {codec.codec for codec in check.codecs} == {"h264"}
    assert "not an empty folder" in str(run(street, *options).exception)
    assert "mpeg4 can't be packaged" in str(run(street, "--codecs", "mpeg4", "--encode", tmp_path / "new").exception)


def test_rungs_under_a_cap(street: Path, trial_cache: Path) -> None:
    (ladder,) = json.loads(run(street, "--heights", "216,144", "--cache", trial_cache, "--json").stdout)["ladders"]
    cap = ladder["rungs"][-1]["bitrate_kbps"] - 1
    options = ["--heights", "216,144", "--cap", cap, "--cache", trial_cache]
    (capped,) = json.loads(run(street, *options, "--rungs", 2, "--json").stdout)["ladders"]
    assert len(capped["rungs"]) == 2
    assert max(rung["bitrate_kbps"] for rung in capped["rungs"]) <= cap
    assert "12 rungs requested: from VMAF" in run(street, *options, "--rungs", 12).stdout
    empty = run(street, "--heights", "216,144", "--cap", "1", "--cache", trial_cache)
    assert empty.exit_code == 1
    assert "h264: no trial encode is under the cap" in empty.stderr


def test_wrong_options(street: Path, trial_cache: Path) -> None:
    result = run(street, "--heights", "432", "--cache", trial_cache)
    assert "--heights: 432 is above the master's 216" in str(result.exception)
    for options in (["--heights", "x"], ["--codecs", "xvid"], ["--codecs", "h264:8"]):
        assert run(street, *options).exit_code == 2


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless master of 384x216 with a cut after 14 of 26 frames, at 12 fps."""
    folder = tmp_path_factory.mktemp("two")
    for name, num_frames in (("street_a", 14), ("gradient_a", 12)):
        write_master(name, folder / f"{name}.mkv", width=384, height=216, num_frames=num_frames, fps=12.0)
    (folder / "list.txt").write_text("file street_a.mkv\nfile gradient_a.mkv\n")
    run_ffmpeg(["-f", "concat", "-i", str(folder / "list.txt"), "-c", "copy", str(folder / "two.mkv")])
    return folder / "two.mkv"


def test_each_shot_has_its_crf(two_scenes: Path, trial_cache: Path, tmp_path: Path) -> None:
    options = ["--heights", "216", "--rungs", "1", "--floor", "80", "--cache", trial_cache, "--per-shot"]
    result = run(two_scenes, *options, "--encode", tmp_path / "ladder", "--json")
    assert result.exit_code == 0, result.output
    proposal = Proposal.model_validate_json(result.stdout)
    assert proposal.shots == (0, 14)
    (rung,) = proposal.ladders[0].rungs
    shots = rung.per_shot
    assert shots is not None
    assert len(set(shots.crfs)) == 2
    assert shots.saved_percent > 0
    assert shots.vmaf > rung.vmaf - 0.5
    for manifest in proposal.manifests:
        joined = tmp_path / f"{Path(manifest).suffix}.mp4"
        run_ffmpeg(["-i", manifest, "-map", "0:v", "-c", "copy", str(joined)])
        labels = label(two_scenes, joined)
        assert labels.num_frames == 26
        assert labels.metrics[DEFAULT_MODELS[0]].mean == pytest.approx(shots.vmaf, abs=0.5)


def test_the_cheapest_choice_keeps_the_score() -> None:
    generator = np.random.default_rng(0)
    sizes = np.cumsum(generator.uniform(1, 9, (4, 5)), axis=1)[:, ::-1]
    scores = np.cumsum(generator.uniform(1, 9, (4, 5)), axis=1)[:, ::-1]
    columns = cheapest(sizes, scores, 2)
    rows = np.arange(4)
    assert scores[rows, columns].sum() >= scores[:, 2].sum()
    sums = [sizes[rows, row].sum() for row in np.ndindex(5, 5, 5, 5) if scores[rows, row].sum() >= scores[:, 2].sum()]
    assert sizes[rows, columns].sum() == pytest.approx(min(sums))
    assert (cheapest(sizes[:1], scores[:1], 2) == [2]).all()
