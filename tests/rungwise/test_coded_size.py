"""Frames are judged at the size at which they were coded; single fields are no frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rungwise.coded_size import CodedSize, SizeReader, size_ratios
from rungwise.encode import run_ffmpeg
from rungwise.scorer import Scorer
from rungwise.video import read_packets


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer(threads=1)


def make(path: Path, size: str, *options: str, seconds: int = 4) -> Path:
    run_ffmpeg(["-f", "lavfi", "-i", f"testsrc2=s={size}:r=12:d={seconds}", "-pix_fmt", "yuv420p", *options, str(path)])
    return path


def test_headers_are_followed_frame_by_frame() -> None:
    reader = SizeReader()
    sequence = [("max_frame_width_minus_1", 639), ("max_frame_height_minus_1", 359)]
    assert reader.take([*sequence, ("frame_size_override_flag", 0)]) == (640, 360, False)
    small = [("frame_size_override_flag", 1), ("frame_width_minus_1", 319), ("frame_height_minus_1", 179)]
    assert reader.take(small) == (320, 180, False)
    assert reader.take([("frame_size_override_flag", 1)]) == (320, 180, False)  # that of a reference
    assert reader.take([("frame_size_override_flag", 0), ("use_superres", 1)]) == (640, 360, True)
    assert SizeReader().take([("pic_width_in_mbs_minus1", 39), ("pic_height_in_map_units_minus1", 22)])[:2] == (
        640,
        368,
    )


def test_ratios_go_on_where_a_frame_says_no_size() -> None:
    sizes = [CodedSize(), CodedSize(640, 360), CodedSize(), CodedSize(320, 180), CodedSize(), CodedSize(640, 360, True)]
    assert size_ratios(sizes)[:5].tolist() == [[1, 1], [1, 1], [1, 1], [0.5, 0.5], [0.5, 0.5]]
    assert np.isnan(size_ratios(sizes)[5]).all()
    assert (size_ratios([CodedSize()] * 3) == 1).all()


@pytest.mark.parametrize("parameters", ["superres-mode=1:superres-denom=16", "resize-mode=1:resize-denom=16"])
def test_av1_coded_smaller_than_shown_is_judged_by_its_pixels(tmp_path: Path, shipped: Scorer, parameters: str) -> None:
    coding = ["-c:v", "libsvtav1", "-preset", "12", "-crf", "40", "-svtav1-params"]
    plain = make(tmp_path / "plain.mp4", "320x180", *coding, "lp=1", seconds=1)
    small = make(tmp_path / "small.mp4", "320x180", *coding, f"lp=1:{parameters}", seconds=1)
    assert shipped.score(plain).stream_used
    judged = shipped.score(small)
    assert not judged.stream_used
    assert judged.score == judged.pictures_score < shipped.score(plain).score
    assert any("coded size" in note for note in judged.notes)


@pytest.mark.parametrize(
    "coding",
    [
        ["-c:v", "libx264", "-threads", "1", "-crf", "28"],
        ["-c:v", "libx265", "-crf", "28", "-x265-params", "pools=none:frame-threads=1:log-level=error"],
        ["-c:v", "mpeg4", "-q:v", "5"],
    ],
    ids=["h264", "hevc", "mpeg4"],
)
def test_after_a_change_of_size_windows_are_judged_at_the_new_one(
    tmp_path: Path, shipped: Scorer, coding: list[str]
) -> None:
    parts = [make(tmp_path / f"{size}.part", size, *coding, "-f", "mpegts") for size in ("640x360", "320x180")]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    ratios = read_packets(joined, steps=True).size_ratios_N2
    assert ratios is not None
    assert ratios[0].tolist() == [1, 1]
    assert ratios[-1].tolist() == pytest.approx([0.5, 0.5], abs=0.03)  # H.264 codes whole macroblocks
    windows = shipped.score(joined).windows
    alone = [shipped.score(part, display_height=360).score for part in parts]
    assert [window.score for window in windows] == pytest.approx(alone, abs=6)


def test_single_fields_are_refused(tmp_path: Path, model: Path) -> None:
    parameters = "pools=none:frame-threads=1:log-level=error:interlace=tff"
    path = make(tmp_path / "fields.mkv", "160x96", "-c:v", "libx265", "-x265-params", parameters, seconds=1)
    with pytest.raises(ValueError, match="one field"):
        Scorer(model).score(path)
