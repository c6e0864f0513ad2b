"""Scoring real-world video, and the same score from file, pipe and other containers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from rungwise import Scorer
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.score.result import Score, band
from rungwise.score.tally import WeightedMean
from rungwise.score.views import ViewRecipe, make_views, read_views

ROOT = Path(__file__).parents[3]


def piped(scorer: Scorer, path: Path, **options: Any) -> Score:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-strict", "-1"]
    with subprocess.Popen([*command, "-f", "yuv4mpegpipe", "-"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        return scorer.score(process.stdout, **options)


EXPECTED_NOTES = {  # file name -> text of a note, None for no notes
    "plain.mp4": None,
    "anamorphic.mp4": "sample aspect ratio 1.333:1: evaluated at 213x96",
    "odd_size.mkv": None,
    "tiny.mkv": "smaller than the model's 64-pixel view",
    "one_frame.mp4": None,
    "vfr.mp4": "variable frame rate",
    "interlaced.mp4": "deinterlaced with bwdif",
    "ten_bit.mkv": None,
    "twelve_bit_422.mkv": None,
    "full_444.mkv": None,
    "bt601.mp4": None,
    "bt2020_sdr.mkv": None,
    "alpha.mov": "alpha is ignored",
    "alpha_rgba.mov": "alpha is ignored",
    "gray.mkv": None,
    "rgb.mkv": None,
    "8k.mkv": None,
    "rotated.mp4": "rotated by 90 degrees",
    "two_sizes.ts": "frame size changes to 96x64 at 0.583 s; all frames are evaluated at 160x96",
    "late.ts": "6 of 8 frames decode",
    "truncated.mkv": "the container states 1.000 s, its video ends at 0.583",
}
EXPECTED_ERRORS = {
    "pq.mkv": "HDR video .PQ",
    "hlg.mkv": "HDR video .HLG",
    "text.mp4": "not a video that can be opened",
    "empty.mp4": "not a video that can be opened",
    "truncated.mp4": "not a video that can be opened",
    "sound.m4a": "has no video stream",
    "cover.m4a": "has no video stream",
    "list.mp4": "not a video but a playlist",
    "absent.mp4": "no such file",
}


@pytest.mark.parametrize("name", EXPECTED_NOTES)
def test_unusual_files_are_scored_with_a_note(model: Path, odd_files: Path, name: str) -> None:
    scorer = Scorer(model)
    first = scorer.score(odd_files / name)
    assert first == scorer.score(odd_files / name)
    assert 0 < first.score < 100
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.score < first.high
    note = EXPECTED_NOTES[name]
    assert first.notes == () if note is None else note in "; ".join(first.notes)


@pytest.mark.parametrize("name", EXPECTED_ERRORS)
def test_a_file_that_can_not_be_scored_gives_the_reason(model: Path, odd_files: Path, name: str) -> None:
    with pytest.raises(ValueError, match=EXPECTED_ERRORS[name]) as refusal:
        Scorer(model).score(odd_files / name)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_metadata_of_unusual_files(model: Path, odd_files: Path) -> None:
    scorer = Scorer(model)
    scores = {
        name: scorer.score(odd_files / name) for name in ("odd_size.mkv", "one_frame.mp4", "rotated.mp4", "vfr.mp4")
    }
    assert [(score.width, score.height) for score in scores.values()] == [(161, 97), (160, 96), (96, 160), (160, 96)]
    assert (scores["one_frame.mp4"].frames_used, scores["one_frame.mp4"].fps) == (1, 12.0)
    assert scores["rotated.mp4"].display_height == 160


@pytest.mark.parametrize("name", ["pq.mkv", "hlg.mkv"])
def test_hdr_is_tone_mapped_on_request_only(model: Path, odd_files: Path, name: str) -> None:
    score = Scorer(model).score(odd_files / name, hdr="tonemap")
    assert "tone-mapped from" in score.notes[0]


def test_a_short_video_uses_the_same_view_as_training(model: Path, odd_files: Path) -> None:
    scorer = Scorer(model)
    for name in ("plain.mp4", "ten_bit.mkv", "rotated.mp4", "vfr.mp4", "anamorphic.mp4"):
        views = make_views(odd_files / name, scorer.contract.view, display_height=120)
        expected = float(scorer.predict(read_views(odd_files / name, views))[0])
        score = scorer.score(odd_files / name, display_height=120)
        assert score.score == expected
        assert score.windows[0].frame_indices == views[0].frame_indices
        assert score.windows[0].score == pytest.approx(np.mean(score.windows[0].frame_scores), rel=1e-5)


@pytest.mark.parametrize(
    "name",
    ["plain.mp4", "odd_size.mkv", "tiny.mkv", "one_frame.mp4", "ten_bit.mkv", "twelve_bit_422.mkv", "full_444.mkv"],
)
def test_a_pipe_scores_exactly_like_its_file(model: Path, odd_files: Path, name: str) -> None:
    scorer = Scorer(model)
    from_pipe, from_file = piped(scorer, odd_files / name), scorer.score(odd_files / name)
    assert from_pipe.windows == from_file.windows
    assert (from_pipe.score, from_pipe.path) == (from_file.score, "-")


@pytest.mark.parametrize("choice", ["uniform", "difference"])
def test_a_pipe_has_the_same_windows_as_its_file(
    choice: str, long_clip: Path, tmp_path: Path, model_maker: Callable[..., Path]
) -> None:
    recipe = ViewRecipe.model_validate({"num_frames": 4, "frame_choice": choice, "grid": 2, "patch_px": 32})
    scorer = Scorer(model_maker(tmp_path / "tiny.onnx", recipe))
    options: dict[str, Any] = {"timeline_seconds": 1.5, "display_height": 144}
    from_file, from_pipe = scorer.score(long_clip, **options), piped(scorer, long_clip, **options)
    assert from_file.windows == from_pipe.windows
    assert from_file.timeline == from_pipe.timeline
    assert [(w.start_seconds, w.end_seconds) for w in from_file.windows] == [(0, 4), (4, 8), (8, 11)]
    assert len(from_file.timeline) == 7  # the last half second is too short for a window and joins the one before
    assert from_file.timeline[-1].end_seconds == 11
    y4m, matroska = tmp_path / "long.y4m", tmp_path / "long.mkv"
    run_ffmpeg(["-i", str(long_clip), str(y4m)])
    run_ffmpeg(["-i", str(long_clip), "-c", "copy", str(matroska)])
    assert scorer.score(y4m, **options).timeline == from_file.timeline
    assert scorer.score(matroska, **options).timeline == from_file.timeline


def test_threads_and_frame_callbacks_do_not_change_the_score(model: Path, long_clip: Path) -> None:
    score = Scorer(model).score(long_clip)
    assert Scorer(model, threads=2).score(long_clip) == score
    times: list[float] = []
    assert Scorer(model).score(long_clip, on_frame=lambda seconds, frame: times.append(seconds)) == score
    assert len(times) == 264


def test_the_score_is_the_mean_of_its_windows_weighted_by_duration() -> None:
    one, two = WeightedMean(), WeightedMean()
    one.add(4, 0.1)
    assert one.mean == 0.1
    two.add(4, 50)
    two.add(6, 100)
    assert two.mean == 80


def test_bands_are_fifths_of_the_scale() -> None:
    assert [band(score, 0, 100, "higher_is_better") for score in (0, 20, 59.9, 60, 100, -3)] == [
        *("bad", "poor", "fair", "good", "excellent", "bad"),
    ]
    assert band(1, 0, 10, "lower_is_better") == "excellent"


def test_an_unavailable_device_is_an_error(model: Path) -> None:
    with pytest.raises(ValueError, match=r"--device directml.* has cpu"):
        Scorer(model, device="directml")
    with pytest.raises(ValueError, match=r"--device gpu: no such device; .*cpu"):
        Scorer(model, device="gpu")


def test_window_length_must_be_positive(model: Path, long_clip: Path) -> None:
    with pytest.raises(ValueError, match="window length is 0 s; it must be above 0"):
        Scorer(model).score(long_clip, window_seconds=0)
    assert len(list(Scorer(model).windows(long_clip, 3))) == 4
    assert Scorer(model).score(long_clip, window_seconds=20).windows[0].end_seconds == 11


def test_scoring_imports_no_slow_package(model: Path, odd_files: Path) -> None:
    script = (
        "import json, sys; from rungwise.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    command = [sys.executable, "-c", script, "score", "-m", str(model), str(odd_files / "plain.mp4")]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    line, modules = done.stdout.splitlines()
    assert float(line.split()[0]) > 0
    loaded = set(json.loads(modules))
    assert {"av", "numpy", "onnxruntime"} <= loaded
    assert not {"matplotlib", "onnx", "pandas", "pyarrow", "scipy", "torch", "transformers", "yaml"} & loaded


def test_scoring_needs_neither_torch_nor_pandas(model: Path, odd_files: Path) -> None:
    script = (
        "import sys; from rungwise import Scorer; assert 'onnxruntime' not in sys.modules or True; "
        f"Scorer({str(model)!r}).score({str(odd_files / 'pq.mkv')!r}, hdr='tonemap'); "
        "assert not {'torch', 'pandas', 'scipy', 'yaml', 'imageio_ffmpeg', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
