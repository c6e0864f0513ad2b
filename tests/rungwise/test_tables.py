"""Tables as spreadsheets write them, codec names, and input lists as editors write them."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.dataset_table import read_table
from rungwise.datasets.check import check_videos
from rungwise.ladder.encodes import find_encodes, read_column
from rungwise.media.codec_names import codec_name
from rungwise.metrics.scores import read_scores
from rungwise.tables import read_table_file

HEADER = ["name", "codec", "height", "bitrate_kbps", "vmaf"]
ROWS = [["a", "h264", "360", "300", "40.5"], ["b", "h264", "540", "1200", "70"], ["c", "hevc", "1080", "4800", "92.25"]]
VALUES = {"a": (300.0, 40.5), "b": (1200.0, 70.0), "c": (4800.0, 92.25)}


def write(path: Path, separator: str = ",", header: list[str] = HEADER, rows: list[list[str]] = ROWS) -> Path:
    path.write_text("\n".join(separator.join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def ladder(path: Path, quality: str = "vmaf") -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Name -> (kbps, quality) as read by `ladder check`, and its notes."""
    found = find_encodes(path, path.parent)
    assert found.table is not None
    values = read_column(found.table, quality, found.encodes).values
    return {e.rung.name: (e.rung.bitrate_kbps, values[e.row]) for e in found.encodes}, found.notes


@pytest.mark.parametrize(
    ("name", "separator", "word"), [("t.csv", ";", "semicolons"), ("t.csv", "\t", "tabs"), ("t.tsv", ",", "commas")]
)
@pytest.mark.parametrize("decimal", [".", ","])
def test_separators_and_decimal_commas(tmp_path: Path, name: str, separator: str, word: str, decimal: str) -> None:
    rows = [[cell.replace(".", decimal) for cell in row] for row in ROWS]
    rows = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
    path = write(tmp_path / name, separator, rows=rows)
    values, notes = ladder(path)
    assert values == VALUES
    assert any(word in note for note in notes)
    assert any("vmaf" in note and "decimal comma" in note for note in notes) == (decimal == ",")
    table, _, score_notes = read_scores(path, "vmaf", ["bitrate_kbps"])
    assert list(table["vmaf"]) == [40.5, 70.0, 92.25]
    assert any(word in note for note in score_notes)


def test_a_table_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    lines = ["Name; Codec ;Height;Bitrate (kbps);VMAF", "", "a;H.264;360p;300;40,5", ";;;;", "b;x264;540p;1.200;70"]
    path = tmp_path / "t.CSV"
    path.write_bytes(codecs.BOM_UTF8 + "\r\n".join([*lines, "c;hvc1;1080p;4.800;92,25", ""]).encode())
    values, _ = ladder(path)
    assert values == VALUES
    assert [e.rung.height for e in find_encodes(path, tmp_path).encodes] == [360, 540, 1080]


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (['"1,200.5"', '"300"', '"4,800"'], [1200.5, 300.0, 4800.0]),
        (["1 200", "300", "4 800"], [1200.0, 300.0, 4800.0]),
        (['"40,5"', '"40,125"', ""], [40.5, 40.125, None]),
        (['"1,200"', '"300"', '"4,800"'], None),  # 1.2 or 1200
        (['"40,5"', '"1,200.5"', "1"], None),
    ],
)
def test_thousands(tmp_path: Path, cells: list[str], numbers: list[float | None] | None) -> None:
    rows = [[name, cell] for name, cell in zip("abc", cells, strict=True)]
    column = read_table_file(write(tmp_path / "t.csv", header=["name", "rate"], rows=rows))["rate"]
    if numbers is None:
        assert column[0] == cells[0].strip('"')
    else:
        assert [None if value != value else value for value in column] == numbers


def test_a_cell_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", rows=[*ROWS, ["d", "h264", "1080", "9000", "good"]])
    with pytest.raises(ValueError, match=r"'vmaf' has 'good' in row"):
        ladder(path)


def test_repeated_rows_and_columns(tmp_path: Path) -> None:
    values, notes = ladder(write(tmp_path / "t.csv", rows=ROWS * 2))
    assert values == VALUES
    assert any(note.startswith("3 of 6 rows") for note in notes)
    with pytest.raises(ValueError, match="b at 1200 kbps appears more than once"):
        ladder(write(tmp_path / "t.csv", rows=[*ROWS, [*ROWS[1][:-1], "71"]]))
    twice = write(tmp_path / "t.csv", header=[*HEADER, " vmaf"], rows=[[*row, "1"] for row in ROWS])
    for read in (ladder, read_table, check_videos, lambda path: read_scores(path, "vmaf", [])):
        with pytest.raises(ValueError, match="2 columns called 'vmaf'"):
            read(twice)


def test_cells_that_hold_lists(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    numbers = [
        {"name": n, "codec": "h264", "height": 360, "bitrate_kbps": k, "vmaf": q} for n, (k, q) in VALUES.items()
    ]
    path.write_text(json.dumps([row | {"tags": ["x"]} for row in numbers]))
    assert ladder(path)[0] == VALUES


def test_another_text_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for encoding, word in (("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("latin-1", "UTF-8")):
        path.write_text("name,vmaf\né,1\n", encoding=encoding)
        for read in (ladder, read_table, check_videos):
            with pytest.raises(ValueError, match=word):
                read(path)


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("h264", "H.264 h264 AVC avc1 avc1.64001f avc3 x264 libx264 H264/AVC"),
        ("hevc", "H.265 H265 HEVC hvc1 hev1.1.6.L93.B0 x265 libx265"),
        ("av1", "AV1 AV01 av01.0.04M.08 SVT-AV1 libaom-av1"),
        ("vp9", "VP9 VP09 vp09.00.10.08 libvpx-vp9"),
        ("vvc", "H.266 VVC vvc1 vvenc"),
        ("dcvc", "dcvc"),
    ],
)
def test_codec_names(codec: str, names: str) -> None:
    assert {codec_name(name) for name in names.split()} == {codec}


def test_rungs_with_several_names_of_one_codec(tmp_path: Path) -> None:
    names = ("H.264", "avc1.64001f", "x264")
    rows = [[row[0], name, *row[2:]] for name, row in zip(names, ROWS, strict=True)]
    found = find_encodes(write(tmp_path / "t.csv", rows=rows), tmp_path)
    assert {encode.rung.codec for encode in found.encodes} == {"h264"}
    assert any("H.264 as h264" in note for note in found.notes)


def test_lists_of_inputs(odd_files: Path, tmp_path: Path, model: Path) -> None:
    video = odd_files / "plain.mp4"
    listed = tmp_path / "list.txt"
    text = f"# two names of one file\r\n\r\n  \r\n{video}\r\n{video}  \r\n"
    listed.write_bytes(codecs.BOM_UTF8 + text.encode())
    done = CliRunner().invoke(app, ["score", "-m", str(model), "--from", str(listed)])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 1)
    done = CliRunner().invoke(app, ["score", "-m", str(model), "--from", "-"], input=listed.read_bytes())
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 1)
    listed.write_bytes(codecs.BOM_UTF16_LE + text.encode("utf-16-le"))
    done = CliRunner().invoke(app, ["score", "-m", str(model), "--from", str(listed)])
    assert done.exit_code != 0
    assert "UTF-16" in str(done.exception)
