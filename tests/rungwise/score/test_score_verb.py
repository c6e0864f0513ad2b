"""`rungwise score`: inputs, outputs, gates, cache, and the same results however it is run."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import imageio_ffmpeg
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import rungwise.score.score_video
import rungwise.score.scorer
from rungwise.cli import app
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.score.inputs import find_inputs
from rungwise.score.scorer import Scorer

ROOT = Path(__file__).parents[3]


def score(model: Path, *arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, ["score", "-m", str(model), *map(str, arguments)], **options)


def lines(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of one scene, then three darker ones of another."""
    path = tmp_path_factory.mktemp("scenes") / "two scenes.mp4"
    sources = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=3", "-f", "lavfi", "-i", "mandelbrot=s=160x96:r=12"]
    joined = "[1:v]trim=duration=3,setpts=PTS-STARTPTS,eq=brightness=-0.3[b];[0:v][b]concat=n=2,format=yuv420p"
    run_ffmpeg([*sources, "-filter_complex", joined, "-c:v", "libx264", "-threads", "1", str(path)])
    return path


def test_files_globs_and_folders_give_each_video_once(odd_files: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.mp4", "deep/a.MKV", "deep/er/c.webm", "deep/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    names = [item.name for item in find_inputs([str(tmp_path)])]
    assert [Path(name).name for name in names] == ["b.mp4", "a.MKV", "c.webm"]
    assert [item.name for item in find_inputs([str(tmp_path / "b.mp4"), str(tmp_path / "*.mp4")])] == names[:1]
    assert {item.name for item in find_inputs([f"{tmp_path}/**/*.[mMw][pPkKe]*"])} == set(names)
    problems = [item.problem for item in find_inputs([f"{tmp_path}/*.avi", str(tmp_path / "deep" / "none")])]
    assert "no file matches" in problems[0]
    (tmp_path / "empty").mkdir()
    assert "no video in this folder" in next(find_inputs([str(tmp_path / "empty")])).problem
    bracketed = tmp_path / "take [1].mp4"
    bracketed.write_bytes(b"")
    assert next(find_inputs([str(bracketed)])).path == bracketed


def test_results_and_errors_are_in_input_order(model: Path, odd_files: Path) -> None:
    names = ["text.mp4", "plain.mp4", "pq.mkv", "ten_bit.mkv"]
    done = score(model, "--json", *(odd_files / name for name in names))
    assert done.exit_code == 1
    results = lines(done)
    assert [Path(result["path"]).name for result in results] == names
    assert [("error" in result) for result in results] == [True, False, True, False]
    fields = {
        "path",
        "score",
        "low",
        "high",
        "band",
        "display_height",
        "frames_used",
        "width",
        "height",
        "fps",
        "notes",
    }
    assert fields <= results[1].keys()
    listed = "".join(f"{odd_files / name}\n" for name in [*names, "plain.mp4"])
    again = score(model, "--from", "-", "--json", "--jobs", 3, input=listed)
    assert again.stdout == done.stdout
    assert score(model, odd_files / "plain.mp4").exit_code == 0


def test_csv_rows(model: Path, odd_files: Path) -> None:
    done = score(model, "--csv", odd_files / "text.mp4", odd_files / "interlaced.mp4")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert "not a video" in rows[0]["error"]
    assert (rows[0]["score"], rows[1]["error"]) == ("", "")
    assert float(rows[1]["score"]) == Scorer(model).score(odd_files / "interlaced.mp4").score
    assert rows[1]["notes"] == "interlaced: deinterlaced with bwdif"


def test_text_has_score_interval_band_and_video_format(model: Path, odd_files: Path) -> None:
    done = score(model, odd_files / "plain.mp4")
    for text in ("fair", "160x96, 12 fps, evaluated at 96p", "plain.mp4", "[38.1, 48.1]"):
        assert text in done.stdout


def test_libvmafs_layout(model: Path, long_clip: Path, odd_files: Path, tmp_path: Path) -> None:
    assert score(model, long_clip, "--vmaf-json", tmp_path / "log.json").exit_code == 0
    log = json.loads((tmp_path / "log.json").read_text())
    expected = Scorer(model).score(long_clip)
    assert {"version", "fps", "frames", "pooled_metrics", "aggregate_metrics"} <= log.keys()
    assert [frame["frameNum"] for frame in log["frames"]] == sorted(
        i for w in expected.windows for i in w.frame_indices
    )
    for name in ("rungwise", "vmaf"):
        pooled = log["pooled_metrics"][name]
        values = [frame["metrics"][name] for frame in log["frames"]]
        assert pooled["mean"] == expected.score
        assert (pooled["min"], pooled["max"]) == (min(values), max(values))
        assert min(values) <= pooled["harmonic_mean"] <= max(values)
    score(model, odd_files / "plain.mp4", odd_files / "bt601.mp4", "--vmaf-json", tmp_path / "logs")
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"plain.json", "bt601.json"}
    two = score(model, odd_files / "plain.mp4", odd_files / "bt601.mp4", "--vmaf-json", tmp_path / "one.json")
    assert two.exit_code == 1
    assert "give a folder" in two.stderr


def test_a_timeline_has_the_scene_cut_and_the_worst_windows(model: Path, two_scenes: Path, tmp_path: Path) -> None:
    done = score(model, two_scenes, "--timeline", 1, "--worst", 2, "--out", tmp_path, "--json")
    (result,) = lines(done)
    assert result["score"] == Scorer(model).score(two_scenes).score  # a timeline changes no score
    assert result["cuts_seconds"] == [3.0]
    assert [window["start_seconds"] for window in result["timeline"]] == [0, 1, 2, 3, 4, 5]
    scores = [window["score"] for window in result["timeline"]]
    assert [moment["score"] for moment in result["worst"]] == sorted(scores)[:2]
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".json", ".svg", ".png"}
    for moment in result["worst"]:
        assert moment["start_seconds"] <= moment["frame_seconds"] < moment["end_seconds"]
        with Image.open(moment["picture"]) as picture:
            assert picture.size == (160, 96)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "two scenes.timeline.csv").read_text())))
    assert [float(row["score"]) for row in rows] == scores
    assert [row["cuts"] for row in rows] == ["0", "0", "0", "1", "0", "0"]
    drawn = ElementTree.parse(tmp_path / "two scenes.timeline.svg")
    assert len(drawn.findall(".//*[@class='cut']")) == 1
    assert "two scenes.mp4" in "".join(drawn.getroot().itertext())
    assert json.loads((tmp_path / "two scenes.timeline.json").read_text())["cuts_seconds"] == [3.0]
    text = score(model, two_scenes, "--timeline", 2, "--worst", 1).stdout
    assert "0:02.000 to 0:04.000" in text
    assert "worst  0:04.000 to 0:06.000" in text


def test_a_failed_gate_exits_1_with_one_line(model: Path, two_scenes: Path, tmp_path: Path) -> None:
    scorer = Scorer(model)
    expected = scorer.score(two_scenes, timeline_seconds=1)
    worst = min(window.score for window in expected.timeline)
    assert score(model, two_scenes, "--fail-under", expected.score).exit_code == 0
    low = score(model, two_scenes, "--fail-under", expected.score + 0.1)
    assert (low.exit_code, len(low.stderr.splitlines())) == (1, 1)
    assert "is worse than --fail-under" in low.stderr
    assert score(model, two_scenes, "--timeline", 1, "--fail-under-worst", worst).exit_code == 0
    moment = score(model, two_scenes, "--timeline", 1, "--fail-under-worst", worst + 0.1)
    assert (moment.exit_code, len(moment.stderr.splitlines())) == (1, 1)
    assert "--fail-under-worst" in moment.stderr


def test_the_worst_score_is_the_highest_where_lower_is_better(
    two_scenes: Path, tmp_path: Path, model_maker: Callable[..., Path]
) -> None:
    model = model_maker(tmp_path / "lower.onnx", polarity="lower_is_better")
    expected = Scorer(model).score(two_scenes, timeline_seconds=1)
    worst = max(window.score for window in expected.timeline)
    (result,) = lines(score(model, two_scenes, "--timeline", 1, "--worst", 1, "--json"))
    assert result["worst"][0]["score"] == worst
    assert score(model, two_scenes, "--fail-under", expected.score + 0.1).exit_code == 0
    assert score(model, two_scenes, "--fail-under", expected.score - 0.1).exit_code == 1


def test_a_pipe_on_stdin_scores_like_its_file(model: Path, long_clip: Path, tmp_path: Path) -> None:
    options = ["--timeline", "2", "--worst", "1", "--json", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "rungwise", "score", "-m", str(model), "-", *options]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(long_clip), "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(ffmpeg, stdout=subprocess.PIPE) as pipe:
        done = subprocess.run(command, stdin=pipe.stdout, capture_output=True, check=True, cwd=ROOT)
    (from_file,) = lines(score(model, long_clip, *options))
    from_pipe = json.loads(done.stdout)
    del from_file["worst"][0]["picture"]
    assert from_pipe | {"path": str(long_clip)} == from_file
    assert (tmp_path / "stdin.timeline.svg").is_file()
    nothing = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, check=False)
    assert nothing.returncode == 1
    assert "it is empty" in nothing.stdout


def test_the_cache_key_is_content_model_and_options(
    model: Path, odd_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    real = rungwise.score.score_video.map_file_windows

    def counted(path: Path, *rest: Any) -> Any:
        calls.append(path)
        return real(path, *rest)

    monkeypatch.setattr(rungwise.score.scorer, "map_file_windows", counted)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((odd_files / "plain.mp4").read_bytes())
    arguments = ["--cache", tmp_path / "cache", "--json", "--timeline", 0.5]
    first = lines(score(model, odd_files / "plain.mp4", *arguments))
    second = lines(score(model, copy, *arguments))
    assert len(calls) == 1
    assert second[0] == first[0] | {"path": str(copy)}
    score(model, copy, *arguments, "--display-height", 48)
    assert len(calls) == 2
    for cached in (tmp_path / "cache").rglob("*.json"):
        cached.write_text("{half a li")
    assert lines(score(model, copy, *arguments)) == second
    assert len(calls) == 3


def test_usage_errors_exit_2(model: Path, odd_files: Path) -> None:
    assert CliRunner().invoke(app, ["score", "-m", str(model)]).exit_code == 2
    assert score(model, "--json", "--csv", odd_files / "plain.mp4").exit_code == 2
    assert score(model, "--from", "-", "-").exit_code == 2
    assert score(model, "--hdr", "bright", odd_files / "plain.mp4").exit_code == 2


def test_a_build_without_a_model_is_an_error(odd_files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rungwise.score.scorer, "SHIPPED_MODEL", tmp_path / "none.onnx")
    done = CliRunner().invoke(app, ["score", str(odd_files / "plain.mp4")])
    assert "this build ships no model" in str(done.exception)


def test_playlists_are_scored_by_variant_and_stay_in_their_folder(model: Path, long_clip: Path, tmp_path: Path) -> None:
    home = tmp_path / "title"
    home.mkdir()
    cut = ["-i", str(long_clip), "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod"]
    run_ffmpeg([*cut, str(home / "low.m3u8")])
    (home / "all.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlow.m3u8\n")
    (result,) = lines(score(model, home / "all.m3u8", "--json"))
    assert result["path"] == f"{home / 'all.m3u8'}#low.m3u8"
    assert result["score"] == Scorer(model).score(long_clip).score
    segment = next(home.glob("*.ts"))
    outside = segment.rename(tmp_path / "outside.ts")
    for text in ("../outside.ts", str(outside), "http://example.invalid/outside.ts"):
        playlist = home / "stray.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{text}\n#EXT-X-ENDLIST\n")
        (refused,) = lines(score(model, playlist, "--json"))
        assert "error" in refused
    segment.symlink_to(outside)
    (refused,) = lines(score(model, home / "low.m3u8", "--json"))
    assert "outside the playlist's own folder" in refused["error"]
