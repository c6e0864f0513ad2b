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
from rungwise.ladder.propose import Proposal
from rungwise.media.ffmpeg import run_ffmpeg


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rungwise.scenes import write_master

    path = tmp_path_factory.mktemp("clip") / "street.mkv"
    write_master("street_a", path, width=384, height=216, num_frames=8, fps=12.0)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(propose)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_proposed_ladder_is_sound_by_vmaf(clip: Path, cache: Path, tmp_path: Path) -> None:
    result = run(clip, "--heights", "216,144", "--cache", cache, "--json")
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
    check = check_source(CheckRequest(tmp_path, truth="vmaf", reference=clip)).metrics[0].check
    assert not check.findings
    again = Proposal.model_validate_json(run(clip, "--heights", "216,144", "--cache", cache, "--json").stdout)
    assert again.ladders == proposal.ladders
    assert set(again.runs.values()) == {0}


def test_rungs_under_a_cap(clip: Path, cache: Path) -> None:
    (ladder,) = json.loads(run(clip, "--heights", "216,144", "--cache", cache, "--json").stdout)["ladders"]
    cap = ladder["rungs"][-1]["bitrate_kbps"] - 1
    options = ["--heights", "216,144", "--cap", cap, "--cache", cache]
    (capped,) = json.loads(run(clip, *options, "--rungs", 2, "--json").stdout)["ladders"]
    assert len(capped["rungs"]) == 2
    assert max(rung["bitrate_kbps"] for rung in capped["rungs"]) <= cap
    assert "rungs requested, but only" in run(clip, *options, "--rungs", 12).stdout
    empty = run(clip, "--heights", "216,144", "--cap", "1", "--cache", cache)
    assert empty.exit_code == 1
    assert "h264: no trial encode is under the cap" in empty.stderr


def test_wrong_options(clip: Path, cache: Path) -> None:
    result = run(clip, "--heights", "432", "--cache", cache)
    assert "--heights: 432 is above the master's 216" in str(result.exception)
    assert "preset is '8'" in str(run(clip, "--codecs", "h264:8", "--cache", cache).exception)
    assert run(clip, "--heights", "x").exit_code == 2
