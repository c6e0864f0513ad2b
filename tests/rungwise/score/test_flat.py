"""Single-color (flat) windows: how they are detected, and how scores, gates and files treat them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rungwise import Scorer
from rungwise.cli import app
from rungwise.ladder.check import CheckRequest, check_source
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.score.flat import is_flat_frame
from rungwise.score.result import Score
from rungwise.score.views import ViewRecipe
from rungwise.score.windows import content_frames

X264 = ["-c:v", "libx264", "-threads", "1", "-preset", "ultrafast", "-g", "24"]


def make(path: Path, *graphs: str, output: list[str] = X264, size: str = "96x64") -> Path:
    """Join lavfi sources of 12 fps, such as "color=c=black:d=4"."""
    inputs = [part for graph in graphs for part in ("-f", "lavfi", "-i", graph.replace("=", f"=s={size}:r=12:", 1))]
    joined = "".join(f"[{number}:v]" for number in range(len(graphs))) + f"concat=n={len(graphs)},format=yuv420p"
    run_ffmpeg([*inputs, "-filter_complex", joined, *output, str(path)])
    return path


def piped(scorer: Scorer, path: Path, **options: Any) -> Score:
    run_ffmpeg(["-i", str(path), "-strict", "-1", "-f", "yuv4mpegpipe", str(path.with_suffix(".y4m"))])
    with path.with_suffix(".y4m").open("rb") as stream:
        return scorer.score(stream, name=str(path), **options)


def run(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", "-m", str(model), *map(str, arguments)])


@pytest.fixture(scope="module")
def scene_then_black(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window of content and two of black."""
    return make(tmp_path_factory.mktemp("flat") / "scene.mkv", "testsrc2=d=4", "color=c=black:d=8")


def frame(luma: int, dot: int = 0, **planes: Any) -> av.VideoFrame:
    """A gray 48x32 frame with one pixel brighter by `dot`."""
    pixels = np.full((48, 32), 128, np.uint8)
    pixels[:32] = luma
    pixels[17, 5] += dot
    return av.VideoFrame.from_ndarray(pixels, "yuv420p")


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p12le", "nv12", "gray", "rgb24", "gbrp"])
def test_a_flat_frame_has_a_single_color_everywhere(pixel_format: str) -> None:
    for luma in (16, 90, 235):
        assert is_flat_frame(frame(luma).reformat(format=pixel_format))
    assert not is_flat_frame(frame(90, dot=40).reformat(format=pixel_format))


def test_a_difference_of_one_code_value_is_rounding_and_two_is_content() -> None:
    assert is_flat_frame(frame(90, dot=1))
    assert not is_flat_frame(frame(90, dot=2))
    deep = np.full((48, 32), 512, np.uint16)
    deep[3, 3] += 4
    assert is_flat_frame(av.VideoFrame.from_ndarray(deep, "yuv420p10le"))
    deep[3, 3] += 1
    assert not is_flat_frame(av.VideoFrame.from_ndarray(deep, "yuv420p10le"))
    tinted = np.full((48, 32), 128, np.uint8)
    tinted[-2, -3] = 140  # chroma only
    assert not is_flat_frame(av.VideoFrame.from_ndarray(tinted, "yuv420p"))


@pytest.mark.parametrize("color", ["black", "white", "0x3a7bd5"])
@pytest.mark.parametrize(
    "output", [X264, ["-c:v", "libvpx-vp9", "-crf", "50", "-b:v", "0"], ["-c:v", "mpeg2video", "-q:v", "20"]]
)
def test_a_single_color_video_has_the_best_score(model: Path, color: str, output: list[str], tmp_path: Path) -> None:
    path = make(tmp_path / "plain.mkv", f"color=c={color}:d=1", output=output)
    scorer = Scorer(model)
    score = scorer.score(path)
    assert (score.score, score.pixel_score, score.high) == (100, 100, 100)
    assert len(score.notes) == 1
    assert "flat" in score.notes[0]
    assert piped(scorer, path) == score


def test_the_best_score_is_the_lowest_where_lower_is_better(
    model_maker: Callable[..., Path], scene_then_black: Path, tmp_path: Path
) -> None:
    model = model_maker(tmp_path / "lower.onnx", polarity="lower_is_better")
    plain = make(tmp_path / "plain.mkv", "color=c=white:d=1")
    assert Scorer(model).score(plain).score == 0
    assert run(model, plain, scene_then_black, "--fail-under-worst", "99").exit_code == 0
    assert Scorer(model).score(scene_then_black).windows[2].score == 0


@pytest.mark.parametrize("pixel_only", [False, True])
def test_flat_windows_do_not_count(scene_then_black: Path, tmp_path: Path, pixel_only: bool) -> None:
    """With the shipped hybrid model: black windows have unsupported bitstream features and do not count either."""
    scorer = Scorer()
    score = scorer.score(scene_then_black, pixel_only=pixel_only, timeline_seconds=2)
    scene, *black = score.windows
    assert [window.flat for window in score.windows] == [False, True, True]
    assert [window.score for window in black] == [100, 100]
    assert score.score == scene.score != 100
    assert [window.flat for window in score.timeline] == [False] * 2 + [True] * 4
    assert score.bitstream_used is not pixel_only
    (note,) = [note for note in score.notes if "smaller than the model" not in note]
    assert "2 of 3 windows are flat" in note


def test_a_file_and_a_pipe_have_the_same_flat_windows(model: Path, scene_then_black: Path) -> None:
    scorer, frames = Scorer(model), []
    score = scorer.score(scene_then_black, timeline_seconds=1.5)
    assert piped(scorer, scene_then_black, timeline_seconds=1.5) == score
    again = scorer.score(scene_then_black, timeline_seconds=1.5, on_frame=lambda seconds, frame: frames.append(seconds))
    assert again == score
    assert len(frames) == 144  # once each, although flat windows are decoded again


@pytest.mark.parametrize("choice", ["uniform", "pairs"])
def test_content_between_the_chosen_frames_is_scored(
    model_maker: Callable[..., Path], tmp_path: Path, choice: str
) -> None:
    """The end of a fade and a brief caption: frames are chosen again among those with content."""
    recipe = ViewRecipe.model_validate({"num_frames": 2, "frame_choice": choice, "grid": 2, "patch_px": 32})
    scorer = Scorer(model_maker(tmp_path / "tiny.onnx", recipe))
    caption = "color=c=black:d=0.5,drawbox=x=40:y=30:w=3:h=2:c=white:t=fill"
    path = make(
        tmp_path / "a.mkv", "testsrc2=d=0.5", "color=c=black:d=3.5", "color=c=black:d=1.5", caption, "color=c=black:d=2"
    )
    score = scorer.score(path)
    assert [window.flat for window in score.windows] == [False, False]
    hits = [any(index in range(6) or index in range(66, 72) for index in w.frame_indices) for w in score.windows]
    assert hits == [True, True]
    assert not any("flat" in note for note in score.notes)
    assert piped(scorer, path) == score


def test_black_frames_in_a_window_do_not_count(model: Path, tmp_path: Path) -> None:
    """A cut to black within a window: frames are chosen before it."""
    path = make(tmp_path / "cut.mkv", "testsrc2=d=2.5", "color=c=black:d=1.5")
    (window,) = Scorer(model).score(path).windows
    assert not window.flat
    assert max(window.frame_indices) <= 30  # the first black frame may have residue of the frame before
    assert len(set(window.frame_indices)) == len(window.frame_indices)


def test_a_brief_caption_makes_a_window_not_flat(model: Path, tmp_path: Path) -> None:
    scorer = Scorer(model)
    path = make(tmp_path / "a.mkv", "color=c=black:d=3", "color=c=black:d=0.5,drawbox=x=40:y=30:w=3:h=2:c=white:t=fill")
    score = scorer.score(path)
    assert min(score.windows[0].frame_indices) >= 36
    assert not any("flat" in note for note in score.notes)
    assert piped(scorer, path) == score


def test_content_frames_chosen_by_difference() -> None:
    recipe = ViewRecipe(num_frames=2, frame_choice="difference", grid=1, patch_px=8)
    is_flat = [True, True, False, False, False, False, True]
    assert content_frames(recipe, is_flat, [0, 90, 0, 0, 5, 90]) == (5, 5)
    assert content_frames(recipe, is_flat, [0, 90, 5, 5, 5, 90]) == (3, 5)


def test_heavily_quantized_content_is_not_flat(model: Path, tmp_path: Path) -> None:
    """A dim scene at a very high QP decodes to blocks of different levels."""
    dim = "testsrc2=d=1,lutyuv=y=16+(val-16)/10:u=128:v=128"
    path = make(tmp_path / "dim.mkv", dim, output=[*X264, "-qp", "44"], size="160x96")
    score = Scorer(model).score(path)
    assert not score.windows[0].flat
    assert score.score < 50


def test_gates_and_files_ignore_flat_windows(model: Path, scene_then_black: Path, tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mkv", "color=c=black:d=1")
    assert run(model, plain, "--fail-under", "99", "--fail-under-worst", "99").exit_code == 0
    content = Scorer(model).score(scene_then_black).score
    gate = ["--fail-under-worst", str(content - 1), "--fail-under", str(content - 1)]
    options = ["--timeline", "4", "--out", tmp_path, "--worst", "3", "--vmaf-json", tmp_path / "v.json"]
    done = run(model, scene_then_black, *gate, *options, "--json", "--cache", tmp_path / "cache")
    assert done.exit_code == 0
    values = json.loads(done.stdout)
    assert values["num_flat_windows"] == 2
    assert [window["flat"] for window in values["timeline"]] == [False, True, True]
    assert [window["start_seconds"] for window in values["worst"]] == [0]
    table = list(csv.DictReader(io.StringIO((tmp_path / "scene.timeline.csv").read_text())))
    assert [row["flat"] for row in table] == ["0", "1", "1"]
    pooled = json.loads((tmp_path / "v.json").read_text())["pooled_metrics"]["vmaf"]
    assert pooled["mean"] == pytest.approx(content)
    assert pooled["max"] < 100
    again = run(model, scene_then_black, *options, "--json", "--cache", tmp_path / "cache")
    assert json.loads(again.stdout) == values
    text = run(model, scene_then_black, "--timeline", "4").stdout.splitlines()
    assert [line.endswith("flat") for line in text[1:]] == [False, True, True]


def test_a_ladder_of_a_flat_title(model: Path, tmp_path: Path) -> None:
    """Flat rungs score the same; a rung that lost its content does not get the best score."""
    folder = tmp_path / "title"
    folder.mkdir()
    make(folder / "top.mkv", "color=c=gray:d=1", size="128x96")
    make(folder / "low.mkv", "color=c=gray:d=1", size="96x72")
    request = CheckRequest(folder, model=model, views=1)
    report = check_source(request)
    assert [verdict.quality for verdict in report.metrics[0].check.verdicts] == [100, 100]
    assert any("plain color" in note for note in report.notes)
    (folder / "top.mkv").unlink()
    make(folder / "top.mkv", "testsrc2=d=1", size="128x96")
    report = check_source(replace(request, views=2))
    qualities = {
        rung.name: verdict.quality for rung, verdict in zip(report.rungs, report.metrics[0].check.verdicts, strict=True)
    }
    assert not any("plain color" in note for note in report.notes)
    assert qualities["low.mkv"] != 100
