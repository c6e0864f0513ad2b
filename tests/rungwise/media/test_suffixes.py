"""Which files of a folder are videos, and which are reported as skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from rungwise.ladder.encodes import find_encodes
from rungwise.score.inputs import find_inputs


def test_every_command_reads_the_same_files_and_names_the_others(
    odd_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = (odd_files / "plain.mp4").read_bytes()
    names = ["a.mp4", "b.F4V", "c.asf", "d.m2v", "e.mk3d", "f.3g2"]
    for name in (*names, "rung.xyz", "noending"):
        (tmp_path / name).write_bytes(video)
    for name in ("notes.txt", "stats.json", "sub.srt", "README.md", ".DS_Store", "x.m3u8", "poster.jpg", "seg.m4s"):
        (tmp_path / name).write_bytes(b"")
    assert [encode.rung.name for encode in find_encodes(tmp_path, tmp_path).encodes] == names
    (ladder_note,) = capsys.readouterr().err.splitlines()
    assert [Path(item.name).name for item in find_inputs([str(tmp_path)])] == names
    (score_note,) = capsys.readouterr().err.splitlines()
    assert score_note == ladder_note
    assert ladder_note.endswith("noending, rung.xyz")
    for number in range(20):
        (tmp_path / f"{number:02}.raw").write_bytes(b"")
    find_encodes(tmp_path, tmp_path)
    (short,) = capsys.readouterr().err.splitlines()
    assert "17 more" in short
