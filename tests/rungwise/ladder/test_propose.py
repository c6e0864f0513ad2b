"""`rungwise ladder propose` on a small master: a ladder that `ladder check` finds sound."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import typer
from typer.testing import CliRunner, Result

from rungwise.cli.ladder_propose import propose
from rungwise.ladder.check import CheckRequest, check_source
from rungwise.ladder.propose import Proposal
from rungwise.media.ffmpeg import run_ffmpeg


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
    assert "preset is '8'" in str(run(street, "--codecs", "h264:8", "--cache", trial_cache).exception)
    assert run(street, "--heights", "x").exit_code == 2
