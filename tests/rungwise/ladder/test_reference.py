"""`ladder check --truth vmaf` against a reference: encodes that don't fit it are left out, the others are judged."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rungwise.cli.ladder_check import check
from rungwise.ladder.check import CheckRequest, check_source
from rungwise.ladder.pairing import Crop
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.scenes import write_master

X264 = ["-c:v", "libx264", "-threads", "1", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A master of 320x180 with bars of 10 lines above and below."""
    path = tmp_path_factory.mktemp("reference") / "reference.mkv"
    picture = path.with_name("picture.mkv")
    write_master("street_a", picture, width=320, height=160, num_frames=6, fps=12.0)
    run_ffmpeg(["-i", str(picture), "-vf", "pad=320:180:0:10", "-c:v", "ffv1", str(path)])
    return path


@pytest.fixture
def title(reference: Path, tmp_path: Path) -> Path:
    """Two encodes of the reference."""
    for crf in (24, 40):
        add(tmp_path, reference, f"{crf}.mp4", "null", crf)
    return tmp_path


def add(title: Path, reference: Path, name: str, chain: str, crf: int = 24) -> None:
    run_ffmpeg(["-i", str(reference), "-vf", chain, *X264, "-crf", str(crf), str(title / name)])


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, ["--truth", "vmaf", *(str(argument) for argument in arguments)])


def test_an_encode_of_another_shape_is_left_out(title: Path, reference: Path) -> None:
    alone = check_source(CheckRequest(title, truth="vmaf", reference=reference))
    add(title, reference, "padded.mp4", "pad=320:182")
    add(title, reference, "cropped.mp4", "crop=320:160")
    report = check_source(CheckRequest(title, truth="vmaf", reference=reference))
    assert set(report.failures) == {"padded.mp4", "cropped.mp4"}
    for name, size in (("padded.mp4", "320x182"), ("cropped.mp4", "320x160")):
        assert size in report.failures[name]
        assert "320x180" in report.failures[name]
    assert report.display_height == 180  # not the padded encode's
    assert report.metrics == alone.metrics
    result = run(title, "--reference", reference)
    assert result.exit_code == 1
    assert "24.mp4" in result.stdout


def test_no_encode_fits(title: Path, reference: Path) -> None:
    picture = reference.with_name("picture.mkv")
    with pytest.raises(ValueError, match=r"320x180 .*320x160"):
        check_source(CheckRequest(title, truth="vmaf", reference=picture))


def test_cropped_encodes_of_a_reference_with_bars(tmp_path: Path, reference: Path) -> None:
    for crf in (24, 40):
        add(tmp_path, reference, f"{crf}.mp4", "crop=320:160", crf)
    add(tmp_path, reference, "whole.mp4", "null")
    picture = reference.with_name("picture.mkv")
    cropped = check_source(CheckRequest(tmp_path, truth="vmaf", reference=reference, crop=Crop.parse("320:160")))
    assert set(cropped.failures) == {"whole.mp4"}
    assert cropped.metrics == check_source(CheckRequest(tmp_path, truth="vmaf", reference=picture)).metrics
    assert cropped.display_height == 160
    (tmp_path / "whole.mp4").unlink()
    result = run(tmp_path, "--reference", reference, "--crop", "320:160:0:10", "--csv")
    assert result.exit_code == 0
    qualities = [float(row["quality"]) for row in csv.DictReader(io.StringIO(result.stdout))]
    assert qualities == [verdict.quality for verdict in cropped.metrics[0].check.verdicts]


def test_scores_are_kept_apart_by_crop(tmp_path: Path, title: Path, reference: Path) -> None:
    out = tmp_path / "out"
    whole = check_source(CheckRequest(title, truth="vmaf", reference=reference, out=out))
    add(title, reference, "cropped.mp4", "crop=320:160")
    part = CheckRequest(title, truth="vmaf", reference=reference, crop=Crop.parse("320:160"), out=out)
    assert [rung.name for rung in check_source(part).rungs] == ["cropped.mp4"]
    (title / "cropped.mp4").unlink()
    assert check_source(CheckRequest(title, truth="vmaf", reference=reference, out=out)).metrics == whole.metrics


@pytest.mark.parametrize(
    "arguments", [["--crop", "320x160"], ["--crop", "320:161"], ["--crop", "0:160"], ["--crop", ""]]
)
def test_a_crop_that_is_none_is_a_usage_error(arguments: list[str], title: Path, reference: Path) -> None:
    result = run(title, "--reference", reference, *arguments)
    assert result.exit_code == 2
    assert "--crop" in result.stderr


def test_a_crop_needs_a_reference(title: Path) -> None:
    app = typer.Typer()
    app.command()(check)
    assert CliRunner().invoke(app, [str(title), "--crop", "320:160"]).exit_code == 2


def test_conversions_and_frame_rates_are_noted(title: Path, reference: Path) -> None:
    full = "scale=out_range=full,format=yuvj420p,setfield=tff"
    run_ffmpeg(["-i", str(reference), "-vf", full, *X264[:-2], "-flags", "+ilme+ildct", str(title / "full.mp4")])
    run_ffmpeg(["-r", "15", "-i", str(reference), *X264, str(title / "fast.mp4")])
    notes = check_source(CheckRequest(title, truth="vmaf", reference=reference)).notes
    assert any("full range" in note and "full.mp4" in note for note in notes)
    assert any("interlaced" in note and "full.mp4" in note for note in notes)
    assert any("fast.mp4 has 15 frames per second" in note and "12" in note for note in notes)


def test_a_top_rung_of_odd_height(tmp_path: Path, reference: Path) -> None:
    run_ffmpeg(["-i", str(reference), "-vf", "scale=318:179,format=yuv444p", *X264[:-2], str(tmp_path / "odd.mp4")])
    report = check_source(CheckRequest(tmp_path, truth="vmaf", reference=reference))
    assert report.failures == {}
    assert report.display_height == 179
