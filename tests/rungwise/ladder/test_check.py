"""The verb: sources, metrics, outputs, exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

import rungwise.ladder.qualities
from rungwise.cli.ladder_check import check
from rungwise.ladder.check import CheckRequest, check_source
from rungwise.ladder.compare import Report
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.ladder.encodes import find_encodes, leave_out_other_aspects
from rungwise.ladder.joint import joint_scores, missing_octaves
from rungwise.ladder.paired_views import Place, RungScores, choose_places, score_at
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import probe
from rungwise.score.scorer import SHIPPED_MODEL, Scorer

Rows = list[tuple[str, int, float, float]]
PLANTED = ("h264", 720, 5000.0, 78.0)


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(file: Path, rows: Rows, **columns: Any) -> Path:
    table = pd.DataFrame(rows, columns=["codec", "height", "bitrate_kbps", "vmaf"]).assign(**columns)
    if file.suffix == ".csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file, index=False)
    return file


@pytest.fixture(scope="module")
def folder(master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encodes of one title: 216 lines, so that VMAF v1 can see them at 216."""
    from rungwise.scenes import write_master

    folder = tmp_path_factory.mktemp("title")
    reference = folder / "master.mkv"
    write_master("street_a", reference, width=384, height=216, num_frames=8, fps=12.0)
    for codec, height, crf in (("h264", 216, 24), ("h264", 216, 40), ("h264", 108, 30), ("av1", 216, 40)):
        encode(reference, folder / f"{codec}-{height}-{crf}.mp4", EncodeSpec(codec, height, crf=crf))
    return folder


def test_a_table_with_a_quality_column(tmp_path: Path, sound: Rows) -> None:
    path = write(tmp_path / "t.csv", [*sound, PLANTED], clip=[f"c{i}" for i in range(13)])
    result = run(path, "--quality", "vmaf", "--json")
    assert result.exit_code == 0
    report = Report.model_validate_json(result.stdout)
    (metric,) = report.metrics
    assert {report.rungs[f.rungs[0]].name for f in metric.check.findings} == {"c12"}
    assert metric.name == "column vmaf"
    assert report.display_height is None
    assert [rung.codec for rung in report.rungs] == ["h264"] * 7 + ["hevc"] * 6
    text = run(path, "--quality", "vmaf").stdout
    assert "column vmaf: 1 of 13 rungs needs attention" in text
    assert "out of order     h264 720p at 5000 kbps: 720p at 4500 kbps scores 7.0 points higher" in text
    assert "hevc   vs h264   -30.0 %" in text
    assert "step 6 points (one just-noticeable difference)" in text
    rows = list(csv.DictReader(io.StringIO(run(path, "--quality", "vmaf", "--csv").stdout)))
    assert len(rows) == 13
    by_name = {row["name"]: row for row in rows}
    assert by_name["c12"]["flags"] == "unordered off-hull"
    assert (by_name["c0"]["keep"], by_name["c12"]["keep"]) == ("True", "False")


def test_exit_codes(tmp_path: Path, sound: Rows) -> None:
    good, bad = write(tmp_path / "g.csv", sound), write(tmp_path / "b.parquet", [*sound, PLANTED])
    gates = ["--quality", "vmaf", "--fail-on", "off-hull,unordered,gap>12"]
    assert run(good, *gates).exit_code == 0
    failed = run(bad, *gates)
    assert failed.exit_code == 1
    assert len(failed.stderr.strip().splitlines()) == 2
    assert "--fail-on off-hull: row 12: h264 720p at 5000 kbps" in failed.stderr
    assert run(bad, "--quality", "vmaf", "--fail-on", "gap>12").exit_code == 0
    for usage in (
        ["--quality", "vmaf", "--fail-on", "off-hul"],
        ["--truth", "vmaf", "--model", "m.onnx"],
        ["--quality", "vmaf", "--model", "m.onnx"],
        ["--quality", "vmaf", "--json", "--csv"],
        ["--quality", "vmaf", "--rungs", "0"],
    ):
        source = tmp_path if "--truth" in usage else good
        result = run(source, *usage)
        assert result.exit_code == 2, usage
    assert "the choices are off-hull," in " ".join(run(good, *gates[:3], "x").stderr.replace("│", "").split())


def test_outputs_tell_one_story(tmp_path: Path, sound: Rows) -> None:
    path, out = write(tmp_path / "t.csv", [*sound, PLANTED]), tmp_path / "out"
    result = run(path, "--quality", "vmaf", "--out", out, "--rungs", 3, "--cap", 3000)
    assert result.exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == ["check.csv", "check.html", "check.json", "check.txt"]
    report = json.loads((out / "check.json").read_text())
    assert report["count"] == 3
    assert (out / "check.txt").read_text() in result.stdout
    assert str(out / "check.html") in result.stdout
    assert len((out / "check.csv").read_text().splitlines()) == 14
    assert (out / "check.json").read_text() == run(
        path, "--quality", "vmaf", "--json", "--rungs", 3, "--cap", 3000
    ).stdout


def test_a_table_of_many_titles_wants_one_named(tmp_path: Path, sound: Rows) -> None:
    path = write(tmp_path / "t.csv", sound, content=["a"] * 6 + ["b"] * 6)
    with pytest.raises(ValueError, match="holds 2 contents; name one: --content a"):
        check_source(CheckRequest(path, quality="vmaf"))
    assert {r.codec for r in check_source(CheckRequest(path, quality="vmaf", content="b")).rungs} == {"hevc"}
    with pytest.raises(ValueError, match="has no content 'c'; it has a, b"):
        check_source(CheckRequest(path, quality="vmaf", content="c"))
    with pytest.raises(ValueError, match="has no column content"):
        check_source(CheckRequest(write(tmp_path / "u.csv", sound), quality="vmaf", content="c"))


def test_lower_is_better_is_never_misread(tmp_path: Path, sound: Rows) -> None:
    turned = [100 - row[3] for row in sound]
    named = write(tmp_path / "a.csv", sound, my_dmos=turned)
    with pytest.raises(ValueError, match="'my_dmos' looks lower-is-better by its name"):
        check_source(CheckRequest(named, quality="my_dmos", step=6))
    unnamed = write(tmp_path / "b.csv", sound, distance=turned)
    with pytest.raises(ValueError, match=r"gets worse as bitrate rises \(SRCC -1.00 within a codec\)"):
        check_source(CheckRequest(unnamed, quality="distance", step=6))
    with pytest.raises(ValueError, match="leave out --lower-is-better"):
        check_source(CheckRequest(unnamed, quality="vmaf", lower_is_better=True))
    report = check_source(CheckRequest(unnamed, quality="distance", step=6, lower_is_better=True))
    check = report.metrics[0].check
    assert (check.metric.negated, check.metric.name, check.findings) == (True, "column distance, negated", ())
    assert check.verdicts[0].quality == -60.0
    assert any("lower is better, so its values are negated" in note for note in report.notes)
    kinds = {"score": turned, "score_polarity": "lower_is_better", "score_kind": "dmos", "display_height": 720}
    scored = write(tmp_path / "c.csv", sound, **kinds)
    report = check_source(CheckRequest(scored, quality="score", step=6))
    assert (report.metrics[0].check.metric.negated, report.display_height) == (True, 720)
    with pytest.raises(ValueError, match="display height of 720, not 360"):
        check_source(CheckRequest(scored, quality="score", step=6, display_height=360))
    with pytest.raises(ValueError, match="quality is dmos, which has no default for one just-noticeable difference"):
        check_source(CheckRequest(scored, quality="score"))


def test_tables_that_cannot_be_used(tmp_path: Path, sound: Rows) -> None:
    path = write(tmp_path / "t.csv", sound)
    with pytest.raises(ValueError, match="no column 'mos'; its numeric ones are height, bitrate_kbps, vmaf"):
        check_source(CheckRequest(path, quality="mos"))
    mixed = write(tmp_path / "m.csv", sound, display_height=[360] * 6 + [720] * 6)
    with pytest.raises(ValueError, match="display_height holds 2 values"):
        check_source(CheckRequest(mixed, quality="vmaf"))
    pd.DataFrame({"codec": ["h264"], "vmaf": [1.0]}).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(ValueError, match="has no column height, bitrate_kbps"):
        check_source(CheckRequest(tmp_path / "n.csv", quality="vmaf"))
    (tmp_path / "x.bin").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder of encodes, or a file that ends in \.parquet"):
        check_source(CheckRequest(tmp_path / "x.bin", quality="vmaf"))


def test_rows_without_numbers_are_left_out_and_named(tmp_path: Path, sound: Rows) -> None:
    rows = [*sound, ("h264", 720, 9000.0, float("nan")), ("h264", 720, float("nan"), 50.0)]
    path = write(tmp_path / "t.csv", rows)
    result = run(path, "--quality", "vmaf")
    assert result.exit_code == 1
    assert "left out: row 12: has no vmaf in the table" in result.stderr
    assert "left out: row 13: bitrate_kbps is nan" in result.stderr
    assert "all 12 rungs are sound" in result.stdout


def test_a_column_beside_another_as_truth(tmp_path: Path, sound: Rows) -> None:
    rows = [*sound, PLANTED]
    path = write(tmp_path / "t.csv", rows, student=[q + 1 for *_, q in sound] + [86.5])
    report = check_source(CheckRequest(path, quality="student", truth="vmaf", step=6, tolerance=2))
    assert report.agreement is not None
    assert [metric.name for metric in report.metrics] == ["column student", "column vmaf"]
    (fault,) = report.agreement.faults
    assert (fault.by_first, fault.by_truth) == (("close",), ("unordered", "off-hull"))
    text = run(path, "--quality", "student", "--truth", "vmaf", "--step", "6").stdout
    assert "SRCC" in text
    assert "log-bitrate baseline" in text
    assert "too close by column student, out of order by column vmaf" in text


def test_a_folder_by_a_model_and_by_vmaf(tmp_path: Path, folder: Path, contrast_model: Path) -> None:
    title, out = tmp_path / "title", tmp_path / "out"
    shutil.copytree(folder, title)
    (title / "broken.mp4").write_bytes(b"no video")
    encode(folder / "h264-216-24.mp4", title / "short.mp4", EncodeSpec("h264", 216, crf=30))
    run_ffmpeg(["-y", "-i", str(folder / "h264-216-24.mp4"), "-frames:v", "5", str(title / "short.mp4")])
    result = run(
        title, "--model", contrast_model, "--truth", "vmaf", "--reference", title / "master.mkv", "--out", out, "--json"
    )
    assert result.exit_code == 1
    report = Report.model_validate_json(result.stdout)
    assert set(report.failures) == {"broken.mp4", "short.mp4"}
    assert "has 5 frames and" in report.failures["short.mp4"]
    assert report.display_height == 216
    assert {rung.name for rung in report.rungs} == {
        "h264-216-24.mp4", "h264-216-40.mp4", "h264-108-30.mp4", "av1-216-40.mp4"
    }  # fmt: skip
    by_model, by_vmaf = (metric.check for metric in report.metrics)
    assert (by_model.metric.source, by_vmaf.metric.name) == ("model", "vmaf_v1.0.16_3d0h")
    assert report.agreement is not None
    places = choose_places(Scorer(contrast_model), title / "h264-216-24.mp4", 8, 216)
    for rung, verdict in zip(report.rungs, by_model.verdicts, strict=True):
        assert verdict.quality == pytest.approx(
            np.mean(score_at(Scorer(contrast_model), title / rung.name, places).pixel)
        )
    assert any("durations" in note or "last from" in note for note in report.notes)
    assert any("master.mkv is the reference" in note for note in report.notes)
    scores = json.loads((out / "scores.json").read_text())
    assert len(scores) == 9  # 5 by the model, 4 by VMAF


def test_scores_are_kept_and_used_again(
    tmp_path: Path, folder: Path, contrast_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = CheckRequest(folder, model=contrast_model, out=tmp_path)
    first = check_source(request)
    calls: list[Path] = []
    monkeypatch.setattr(rungwise.ladder.qualities, "score_at", lambda scorer, path, places, **_: calls.append(path))
    assert check_source(request) == first
    assert not calls
    (tmp_path / "scores.json").write_text('{"cut')
    monkeypatch.undo()
    assert check_source(request) == first


def test_a_killed_run_keeps_what_was_scored(
    tmp_path: Path, folder: Path, contrast_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Path] = []

    def killed(scorer: Scorer, path: Path, places: list[Place], **options: Any) -> RungScores:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path)
        return score_at(scorer, path, places, **options)

    monkeypatch.setattr(rungwise.ladder.qualities, "score_at", killed)
    with pytest.raises(KeyboardInterrupt):
        check_source(CheckRequest(folder, model=contrast_model, out=tmp_path))
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 2


def test_a_model_where_lower_is_better_is_negated_and_said(
    folder: Path, contrast_model: Path, contrast_model_negated: Path
) -> None:
    up = check_source(CheckRequest(folder, model=contrast_model))
    down = check_source(CheckRequest(folder, model=contrast_model_negated, step=6))
    assert down.metrics[0].check.metric.name == "blur.onnx, negated"
    assert any("lower is better" in note for note in down.notes)
    pairs = zip(up.metrics[0].check.verdicts, down.metrics[0].check.verdicts, strict=True)
    assert all(a.quality == -b.quality for a, b in pairs)


def test_a_table_of_videos_is_scored(tmp_path: Path, folder: Path, contrast_model: Path) -> None:
    rows = [("h264", 216, 200.0, 80.0), ("h264", 216, 20.0, 40.0), ("h264", 108, 30.0, 45.0)]
    paths = ["h264-216-24.mp4", "h264-216-40.mp4", "gone.mp4"]
    path = write(folder / "t.csv", rows, path=paths, display_height=216)
    try:
        report = check_source(CheckRequest(path, model=contrast_model, truth="vmaf"))
    finally:
        path.unlink()
    assert [rung.name for rung in report.rungs] == ["h264-216-40.mp4", "h264-216-24.mp4"]
    assert [v.quality for v in report.metrics[1].check.verdicts] == [40.0, 80.0]
    assert "no such file" in report.failures["gone.mp4"]


def test_bitrates_are_of_the_video_stream(folder: Path, tmp_path: Path, contrast_model: Path) -> None:
    silent, with_audio = tmp_path / "silent.mp4", tmp_path / "with_audio.mkv"
    shutil.copy(folder / "h264-216-24.mp4", silent)
    sine = ["-f", "lavfi", "-i", "sine=d=0.6", "-map", "0:v", "-map", "1:a", "-c:a", "pcm_s16le"]
    run_ffmpeg(["-i", str(silent), *sine, "-c:v", "copy", str(with_audio)])
    report = check_source(CheckRequest(tmp_path, model=contrast_model, display_height=108))
    assert report.display_height == 108
    first, second = (rung.bitrate_kbps for rung in report.rungs)
    assert first == pytest.approx(second, rel=0.01)
    assert first == pytest.approx(silent.stat().st_size * 8e-3 / probe(silent).duration_seconds, rel=0.1)
    with pytest.raises(ValueError, match="only a table has columns"):
        check_source(CheckRequest(folder, quality="vmaf"))
    with pytest.raises(ValueError, match=r"--reference .*no such file"):
        check_source(CheckRequest(folder, truth="vmaf", reference=folder / "none.mkv"))


def test_a_rung_at_another_display_aspect_is_left_out(folder: Path, tmp_path: Path) -> None:
    for name in ("h264-216-24.mp4", "h264-216-40.mp4", "h264-108-30.mp4"):
        shutil.copy(folder / name, tmp_path / name)
    run_ffmpeg(["-i", str(folder / "h264-216-24.mp4"), "-c", "copy", "-aspect", "4:3", str(tmp_path / "squeezed.mp4")])
    title = find_encodes(tmp_path, tmp_path)
    leave_out_other_aspects(title)
    assert len(title.encodes) == 3
    assert title.failures == {
        "squeezed.mp4": "is shown at an aspect ratio of 1.33:1, the title's other rungs at 1.78:1"
    }


def test_interlaced_rungs_are_deinterlaced(folder: Path, tmp_path: Path, model: Path) -> None:
    path = tmp_path / "interlaced.mkv"
    run_ffmpeg(["-i", str(folder / "h264-216-24.mp4"), "-vf", "setfield=tff", "-c:v", "ffv1", str(path)])
    scorer = Scorer(model)
    scores = score_at(scorer, path, choose_places(scorer, path, 1, 216)).pixel
    assert scores[0] == pytest.approx(scorer.score(path, display_height=216).score)
    progressive = folder / "h264-216-24.mp4"
    assert scores != score_at(scorer, progressive, choose_places(scorer, progressive, 1, 216)).pixel


def test_rungs_are_looked_at_in_the_same_places(folder: Path, contrast_model: Path) -> None:
    scorer = Scorer(contrast_model)
    top, small = folder / "h264-216-24.mp4", folder / "h264-108-30.mp4"
    places = choose_places(scorer, top, 4, 216)
    scores = score_at(scorer, top, places).pixel
    assert scores[0] == pytest.approx(scorer.score(top, display_height=216).score)
    assert len(set(scores)) == 4
    assert score_at(scorer, small, places) == score_at(scorer, small, places)
    # So does the single score of another rung, in the first of those draws.
    assert score_at(scorer, small, places).pixel[0] == pytest.approx(scorer.score(small, display_height=216).score)
    later = [replace(place, view=place.view.model_copy(update={"timestamps_seconds": (0.1, 9.0)})) for place in places]
    with pytest.raises(ValueError, match=r"ends at 0\.58 s, the title's other rungs at 9\.00 s"):
        score_at(scorer, small, later)


def test_the_packaged_model_scores_rungs_hybrid_as_it_scores_one_video(folder: Path, tmp_path: Path) -> None:
    scorer, top = Scorer(), folder / "h264-216-24.mp4"
    places = choose_places(scorer, top, 8, 216)
    for path in (top, folder / "av1-216-40.mp4", folder / "h264-108-30.mp4"):
        scores, alone = score_at(scorer, path, places), scorer.score(path, display_height=216)
        assert scores.hybrid[0] == pytest.approx(alone.score, abs=0.01)
        assert scores.pixel[0] == pytest.approx(alone.pixel_score, abs=0.01)
        by_pixels = score_at(scorer, path, places, pixel_only=True)
        assert by_pixels.pixel == pytest.approx(scores.pixel, abs=0.01)
        assert by_pixels.hybrid == (None,) * 8
    for path in folder.glob("*.mp4"):
        shutil.copy(path, tmp_path)
    report = check_source(CheckRequest(tmp_path, model=SHIPPED_MODEL))
    assert report.metrics[0].name == "default.onnx, hybrid"
    by_rung = [score_at(scorer, folder / rung.name, places) for rung in report.rungs]
    hybrid = [float(np.mean([score for score in rung.hybrid if score is not None])) for rung in by_rung]
    levels = np.array([(rung.log2_bits, rung.log2_qstep) for rung in by_rung], float)
    heights, codecs = [rung.height for rung in report.rungs], [rung.codec for rung in report.rungs]
    missing = missing_octaves(levels[:, 0], levels[:, 1], heights, codecs)
    joint = joint_scores(hybrid, [np.mean(rung.pixel) for rung in by_rung], missing, heights, codecs)
    assert [verdict.quality for verdict in report.metrics[0].check.verdicts] == pytest.approx(joint)


def test_one_rung_without_qp_makes_the_whole_title_pixel_only(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in folder.glob("h264-216-*.mp4"):
        shutil.copy(path, tmp_path)
    request = CheckRequest(tmp_path, model=SHIPPED_MODEL, views=2)
    assert check_source(replace(request, pixel_only=True)).metrics[0].name == "default.onnx, pixel-only"
    run_ffmpeg(["-i", str(folder / "h264-216-24.mp4"), "-c:v", "ffv1", str(tmp_path / "lossless.mkv")])
    capsys.readouterr()
    report = check_source(request)
    line = (
        "all rungs are scored pixel-only, as one of them can't be scored hybrid: lossless.mkv: no QP in the bitstream"
    )
    assert line in report.notes
    assert capsys.readouterr().err.count(line) == 1
    metric = report.metrics[0]
    assert metric.name == "default.onnx, pixel-only"
    places = choose_places(Scorer(), tmp_path / "lossless.mkv", 2, 216)
    for rung, verdict in zip(report.rungs, metric.check.verdicts, strict=True):
        pixel = score_at(Scorer(), tmp_path / rung.name, places).pixel
        assert verdict.quality == pytest.approx(np.mean(pixel), abs=0.01)


def test_places_of_a_long_title_are_spread_over_its_windows(folder: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    loops = ["-stream_loop", "40", "-i", str(folder / "h264-216-24.mp4")]
    run_ffmpeg([*loops, "-c:v", "libx264", "-preset", "ultrafast", "-g", "24", str(long)])
    scorer = Scorer()
    places = choose_places(scorer, long, 3, 216)
    assert [place.start_seconds for place in places] == [4.0, 12.0, 20.0]
    for place in places:
        assert place.start_seconds <= place.view.timestamps_seconds[0]
        assert place.view.timestamps_seconds[-1] < place.end_seconds
    scores = score_at(scorer, long, places)
    windows = scorer.score(long).windows
    assert None not in scores.hybrid
    assert len(windows) > 3
