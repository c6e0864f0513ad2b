"""Videos of rated data sets: matching, hashing and checking; and the commands of `rungwise dataset`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from rungwise.artifact import sha256_file
from rungwise.cli import app
from rungwise.dataset_table import read_table, write_table
from rungwise.datasets import import_dataset
from rungwise.datasets.catalog import CATALOG
from rungwise.datasets.check import check_videos
from rungwise.datasets.videos import find_video


@pytest.fixture
def folder_of_videos(clip: Path, small_clip: Path, tmp_path: Path) -> Path:
    """Five labeled videos: two valid, one missing, one a text file, one raw YUV."""
    folder = tmp_path / "KoNViD_1k" / "KoNViD_1k_videos"
    folder.mkdir(parents=True)
    shutil.copy(clip, folder / "1.mp4")
    shutil.copy(small_clip, folder / "2.MKV")
    (folder / "4.mp4").write_text("no video")
    (folder / "5.yuv").write_bytes(b"0" * 100)
    lines = "".join(f"KoNViD_1k_videos/{n}.mp4, 1.0, 12.0, 3.{n}\n" for n in range(1, 6))
    (folder.parent / "labels.txt").write_text(lines)
    return folder.parent


def test_videos_are_matched_hashed_and_probed(folder_of_videos: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables" / "konvid.parquet"
    # The folder of the videos works as the root too, because paths are matched by their last parts.
    report = import_dataset("konvid_1k", folder_of_videos / "KoNViD_1k_videos", out, labels=folder_of_videos)
    assert {reason: len(names) for reason, names in report.refused.items()} == {
        "missing video": 1,
        "raw YUV, convert it to .y4m or .mkv": 1,
        "unreadable video": 1,
    }
    assert report.refused["missing video"] == ["KoNViD_1k_videos/3.mp4"]
    assert "4.mp4" in report.refused["unreadable video"][0]
    table = read_table(out)
    first, second = table.iloc[0], table.iloc[1]
    assert (first["width"], first["height"], first["codec"], first["fps"]) == (192, 108, "h264", 12)
    assert first["duration_seconds"] == 1.0
    assert first["display_height"] == 108
    assert first["bitrate_kbps"] > 0
    assert first["video_sha256"] == sha256_file(clip)
    assert (out.parent / first["path"]).resolve() == (folder_of_videos / "KoNViD_1k_videos" / "1.mp4").resolve()
    assert (second["height"], Path(second["path"]).name) == (54, "2.MKV")


def test_duplicate_videos_are_noted(folder_of_videos: Path, clip: Path) -> None:
    shutil.copy(clip, folder_of_videos / "KoNViD_1k_videos" / "3.mp4")
    report = import_dataset("konvid_1k", folder_of_videos, folder_of_videos / "t.parquet")
    assert report.imported == 3
    assert report.notes[-1] == "1 videos are byte-identical to another; `rungwise dataset check` lists them"


def test_find_video() -> None:
    root = Path("/data/set")
    index = {"1": [root / "a/1.mp4", root / "b/1.mp4", root / "c/1.yuv"], "2": [root / "a/2.mkv", root / "a/2.mp4"]}
    assert find_video(index, "b/1.mp4") == root / "b/1.mp4"
    assert find_video(index, "1.mp4") == "several matching videos"
    assert find_video(index, "a/2.mkv") == root / "a/2.mkv"
    assert find_video(index, "a/2.avi") == "several matching videos"
    assert find_video(index, "set/a/1.avi") == root / "a/1.mp4"
    assert find_video(index, "d/1.mp4") == "missing video"
    assert find_video(index, "../a/1.mp4") == "missing video"
    assert find_video(index, "c/1.mp4").startswith("raw YUV")  # type: ignore[union-attr]
    assert find_video(index, "") == "no video name in the label file"


def test_check_lists_the_problems(folder_of_videos: Path, clip: Path, tmp_path: Path) -> None:
    out = folder_of_videos / "t.parquet"
    import_dataset("konvid_1k", folder_of_videos, out)
    assert check_videos(out) == ({}, 2)

    table = read_table(out)
    rows = [
        table.iloc[0].to_dict() | {"clip": name}
        for name in ("good", "duplicate", "missing", "truncated", "other", "no_path")
    ]
    rows[2]["path"] = "missing.mp4"
    truncated = folder_of_videos / "truncated.mp4"
    truncated.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    rows[3]["path"] = "truncated.mp4"
    rows[4] |= {"width": 640.0, "fps": 25.0, "duration_seconds": 9.0, "video_sha256": "0" * 64, "display_height": 54.0}
    rows[5]["path"] = ""
    table = pd.DataFrame(rows)
    write_table(out, table)
    table.loc[0, "score"] = 99.0
    table.to_parquet(out)
    problems, clips = check_videos(out)
    assert clips == 6
    assert problems["good"] == ["score 99 outside 1..5"]
    assert problems["duplicate"] == ["same bytes as good"]
    assert problems["missing"][0].startswith("missing: ")
    assert problems["no_path"] == ["no path"]
    assert any(problem.startswith("unreadable: ") for problem in problems["truncated"])
    other = "; ".join(problems["other"])
    for part in ("hash differs", "size differs: 192x108, the table has 640x108", "fps differs: 12", "duration differs"):
        assert part in other
    assert "scores outside their range" in problems[str(out)][0]

    table.to_csv(folder_of_videos / "t.csv", index=False)
    assert set(check_videos(folder_of_videos / "t.csv")[0]) - {str(folder_of_videos / "t.csv")} == set(problems) - {
        str(out)
    }
    with pytest.raises(ValueError, match="missing column 'path'"):
        check_videos(_csv(tmp_path / "x.csv", "clip\na\n"))
    with pytest.raises(ValueError, match="no such file"):
        check_videos(tmp_path / "no.parquet")
    with pytest.raises(ValueError, match="as a table"):
        check_videos(_csv(tmp_path / "x.parquet", "clip\na\n"))


def _csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_commands(folder_of_videos: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    result = run(app, ["dataset", "list"])
    assert result.exit_code == 0
    assert "bvi_hd" in result.stdout
    assert "lower is better" in result.stdout
    lines = [json.loads(line) for line in run(app, ["dataset", "list", "--json"]).stdout.splitlines()]
    assert {line["name"] for line in lines} == set(CATALOG)

    out = tmp_path / "t.parquet"
    result = run(app, ["dataset", "import", "konvid_1k", str(folder_of_videos), "--out", str(out)])
    assert result.exit_code == 1  # three videos are refused, the others are in the table
    assert "5 read, 2 imported, 3 refused" in result.stdout
    assert "missing video: 1: KoNViD_1k_videos/3.mp4" in result.stdout
    assert len(read_table(out)) == 2
    assert run(app, ["dataset", "check", str(out)]).stdout.endswith("2 of 2 clips are as the table says\n")

    arguments = ["dataset", "import", "konvid_1k", str(folder_of_videos), "--out", str(out), "--no-videos", "--json"]
    result = run(app, arguments)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["imported"], facts["refused"], facts["clean"]) == (5, {}, True)
    result = run(app, ["dataset", "check", str(out), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"].keys() == {f"KoNViD_1k_videos/{n}" for n in (2, 3, 4, 5)}


def test_long_lists_of_names_are_shortened(tmp_path: Path) -> None:
    rows = "".join(f"test/{n:04d}.mp4,\n" for n in range(1, 9))
    _csv(tmp_path / "test_data.csv", "filename,score\n" + rows)
    _csv(tmp_path / "train_data.csv", "filename,score\ntrain/0001.mp4,3\n")
    result = CliRunner().invoke(
        app, ["dataset", "import", "kvq", str(tmp_path), "--out", str(tmp_path / "t.csv"), "--no-videos"]
    )
    assert result.exit_code == 1
    assert "no score: 8: test/0001, test/0002, test/0003, test/0004, test/0005 and 3 more" in result.stdout
