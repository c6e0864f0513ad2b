"""`rungwise crf-search` on small masters: results, cache, exit codes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from rungwise.cli.crf_search import crf_search
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.ladder.label import label
from rungwise.ladder.trials import SAMPLE_SECONDS, Trials, cut_sample, sample_starts
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import probe

VMAF = "vmaf_v1.0.16_3d0h"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(crf_search)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def search(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_the_crf_is_confirmed_by_vmaf_and_the_next_one_misses(street: Path, trial_cache: Path, tmp_path: Path) -> None:
    report = search(street, "--target", "85", "--tolerance", "0", "--cache", trial_cache)
    (choice,) = report["choices"]
    assert choice["reached"]
    scores = {}
    for crf in (choice["crf"], choice["crf"] + 1):
        encode(street, tmp_path / "e.mp4", EncodeSpec("h264", 216, crf=crf))
        scores[crf] = label(street, tmp_path / "e.mp4").metrics[VMAF].mean
        (tmp_path / "e.mp4").unlink()
    assert choice["score"] == pytest.approx(scores[choice["crf"]])
    assert scores[choice["crf"]] >= 85 > scores[choice["crf"] + 1]
    assert report["runs"]["rough"] == report["runs"]["model"] == 0
    assert report["runs"]["vmaf"] <= 5
    assert choice["predicted_bytes"] == pytest.approx(choice["measured_kbps"] * 1000 / 8 * 8 / 12, rel=0.01)
    command = shlex.split(choice["command"])
    assert command[:3] == ["ffmpeg", "-i", str(street)]
    run_ffmpeg([*command[1:-1], str(tmp_path / command[-1])])
    assert label(street, tmp_path / command[-1]).metrics[VMAF].mean == pytest.approx(choice["score"], abs=0.2)


def test_a_second_run_is_all_from_the_cache_and_a_copy_too(street: Path, trial_cache: Path, tmp_path: Path) -> None:
    first = search(street, "--target", "85,70", "--cache", trial_cache)
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(street.read_bytes())
    again = search(copy, "--target", "85,70", "--cache", trial_cache)
    assert set(again["runs"].values()) == {0}
    assert [c["crf"] for c in again["choices"]] == [c["crf"] for c in first["choices"]]
    text = run(street, "--target", "85,70", "--cache", trial_cache).stdout
    assert "all from the cache" in text
    assert f"crf {first['choices'][0]['crf']}" in text


def test_what_a_damaged_cache_lacks_is_run_again(street: Path, trial_cache: Path) -> None:
    first = search(street, "--target", "85", "--cache", trial_cache)
    for path in trial_cache.rglob("*.json"):
        if not path.read_text().startswith("{"):  # sizes stay, scores go
            path.write_text('{"cut')
    again = search(street, "--target", "85", "--cache", trial_cache)
    assert again["runs"]["vmaf"] > 0
    assert again["choices"] == first["choices"]


def test_a_target_that_cannot_be_met_exits_1(street: Path, trial_cache: Path) -> None:
    result = run(street, "--target", "99.9", "--height", "108", "--cache", trial_cache, "--json")
    assert result.exit_code == 1
    (choice,) = json.loads(result.stdout)["choices"]
    assert not choice["reached"]
    assert f"target 99.9 can't be met at 108p: crf {choice['crf']} reaches" in result.stderr


def test_bitrates_and_no_reference(street: Path, trial_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rungwise.ladder.trials.label", pytest.fail)
    result = run(street, "--bitrate", "--no-reference", "--target", "60", "--cache", trial_cache, "--json")
    assert result.exit_code == 0
    assert "VMAF did not confirm them" in result.stderr
    report = json.loads(result.stdout)
    (choice,) = report["choices"]
    assert (report["reference"], report["metric"], report["runs"]["vmaf"]) == (False, "default.onnx", 0)
    assert choice["crf"] is None
    assert choice["score"] >= 60
    assert f"-b:v {choice['bitrate_kbps']}k" in choice["command"]


def test_wrong_options_are_usage_errors(street: Path, trial_cache: Path) -> None:
    for options in (["--target", "x"], ["--codec", "xvid"], ["--preset", "8"]):
        assert run(street, *options).exit_code == 2
    result = run(street, "--cache", trial_cache, "--height", "432")
    assert isinstance(result.exception, ValueError)  # the master's height is known when it has been read


def test_a_long_master_is_sampled(street: Path, trial_cache: Path, tmp_path: Path) -> None:
    assert sample_starts(30.0, None) == ()
    assert sample_starts(60.0, None) == [6.0, 26.0, 46.0]
    assert len(sample_starts(7200.0, None)) == 12
    assert sample_starts(60.0, 1) == [26.0]
    long = tmp_path / "long.mp4"
    loops = ["-stream_loop", "30", "-i", str(street), "-c:v", "libx264", "-preset", "ultrafast", "-g", "12"]
    run_ffmpeg([*loops, str(long)])
    sample = probe(cut_sample(long, tmp_path / "sample.mkv", 5.0))
    assert sample.duration_seconds == pytest.approx(SAMPLE_SECONDS, abs=1.1)
    trials = Trials(long, tmp_path, trial_cache, num_samples=1)
    spec = EncodeSpec("h264", 108, crf=40)
    assert trials.encoding(spec).num_bytes > 0
    assert trials.sampled_seconds() == pytest.approx(SAMPLE_SECONDS, abs=1.1)
    assert trials.info.duration_seconds > 15
    assert trials.rough_trials is None
    whole = Trials(long, tmp_path, trial_cache)
    assert whole.rough_trials is not None
    assert 0 < whole.rough_trials.vmaf(replace(spec, height=216)) < 100
    assert whole.rough_trials.samples[0][1].num_frames == 48
    assert whole.counts.runs == {"rough": 1, "encode": 0, "model": 0, "vmaf": 0}
