"""Bitstream features use each frame's coded size; field-coded pictures are refused."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rungwise.bitstream.coded_size import CodedSize, SizeReader, frame_pixels, jpeg_size
from rungwise.bitstream.features import bitstream_features, features_from_packets
from rungwise.bitstream.qp import QstepReader
from rungwise.ladder.encodes import find_encodes
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.media.video import probe
from rungwise.score.scorer import Scorer


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer(threads=1)


X265 = "pools=none:frame-threads=1:log-level=error"
CODING = {  # encoder options, and a container that allows size changes
    "h264": (["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"], ".ts"),
    "hevc": (["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", X265], ".hevc"),
    "vp8": (["-c:v", "libvpx", "-threads", "1", "-deadline", "realtime", "-cpu-used", "8"], ".mkv"),
    "vp9": (["-c:v", "libvpx-vp9", "-threads", "1", "-deadline", "realtime", "-cpu-used", "8"], ".mkv"),
    "mpeg4": (["-c:v", "mpeg4", "-q:v", "5"], ".ts"),
    "mjpeg": (["-c:v", "mjpeg", "-q:v", "9", "-strict", "unofficial"], ".mkv"),
}


def make(path: Path, size: str, *options: str, seconds: int = 4) -> Path:
    run_ffmpeg(["-f", "lavfi", "-i", f"testsrc2=s={size}:r=12:d={seconds}", "-pix_fmt", "yuv420p", *options, str(path)])
    return path


def test_av1_sizes_through_references_and_super_resolution() -> None:
    reader = SizeReader()
    new, sized = ("show_existing_frame", 0), ("frame_size_override_flag", 0)
    sequence = [("max_frame_width_minus_1", 639), ("max_frame_height_minus_1", 359)]
    assert reader.read_packet([*sequence, new, sized]) == (640, 360, 640)  # a key frame: in every slot
    own = [("frame_size_override_flag", 1), ("frame_width_minus_1", 319), ("frame_height_minus_1", 179)]
    assert reader.read_packet([new, ("refresh_frame_flags", 0b10), *own]) == (320, 180, 320)
    references = [("ref_frame_idx", 0), ("ref_frame_idx", 1)]
    inherited = [new, ("refresh_frame_flags", 0), *references, ("frame_size_override_flag", 1)]
    assert reader.read_packet([*inherited, ("found_ref", 1)]) == (640, 360, 640)
    assert reader.read_packet([*inherited, ("found_ref", 0), ("found_ref", 1)]) == (320, 180, 320)
    superres = [("use_superres", 1), ("coded_denom", 7)]
    assert reader.read_packet([new, ("refresh_frame_flags", 0b100), sized, *superres]) == (640, 360, 320)
    assert reader.read_packet([new, ("refresh_frame_flags", 0), sized, ("use_superres", 0)]) == (640, 360, 640)
    again = [("show_existing_frame", 1), ("frame_to_show_map_idx", 1)]
    assert reader.read_packet(again) == (320, 180, 320)
    assert reader.read_packet([again[0], ("frame_to_show_map_idx", 2)]) == (640, 360, 320)


@pytest.mark.parametrize("named", ["slice_pic_parameter_set_id", "ph_pic_parameter_set_id"])
def test_frames_have_the_size_of_their_parameter_set(named: str) -> None:
    def sequence(number: int, width: int, height: int, bottom: int) -> list[tuple[str, int]]:
        size = [("pic_width_in_luma_samples", width), ("pic_height_in_luma_samples", height)]
        return [
            ("sps_seq_parameter_set_id", number),
            ("chroma_format_idc", 1),
            *size,
            ("conf_win_bottom_offset", bottom),
        ]

    def picture(number: int, of: int) -> list[tuple[str, int]]:
        return [("pps_pic_parameter_set_id", number), ("pps_seq_parameter_set_id", of)]

    reader = SizeReader()
    reader.read_packet([*sequence(0, 640, 360, 0), *sequence(1, 320, 184, 2), *picture(0, 0), *picture(3, 1)])
    assert reader.read_packet([(named, 0)]) == (640, 360, 640)
    assert reader.read_packet([(named, 3)]) == (320, 180, 320)
    assert reader.read_packet([]) == (320, 180, 320)


def test_a_frame_of_unknown_size_gets_that_of_the_frame_before() -> None:
    sizes = [CodedSize(), CodedSize(64, 36, 64), CodedSize(), CodedSize(32, 18, 32), CodedSize(), CodedSize(64, 36, 40)]
    assert frame_pixels(sizes)[:, 0].tolist() == [2304, 2304, 2304, 576, 576, 1440]
    assert frame_pixels(sizes)[:, 1].tolist() == [2304, 2304, 2304, 576, 576, 2304]
    assert (frame_pixels([CodedSize()] * 3) == 1).all()
    assert jpeg_size(b"\xff\xd8\xff\xc0\x00\x11\x08\x00\xb4\x01\x40") == (320, 180, 320)
    assert jpeg_size(b"") == (0, 0, 0)


def test_features_use_each_frames_own_size() -> None:
    bytes_N, log2_qsteps_N = np.array([4000, 100, 100, 100]), np.full(4, 4.0)
    large, small = (
        bitstream_features(bytes_N, log2_qsteps_N, 640 * scale * 360 * scale, 360 * scale, 720) for scale in (2, 1)
    )
    assert bitstream_features(bytes_N, log2_qsteps_N, 1280 * 720, 720, 720, np.full(4, 0.25)) == pytest.approx(small)
    mixed = bitstream_features(bytes_N, log2_qsteps_N, 1280 * 720, 720, 720, np.array([1, 0.25, 0.25, 0.25]))
    assert mixed[:2] == pytest.approx([large[0], small[1]])
    assert small[2] < mixed[2] < large[2]


def test_av1_sizes_are_those_of_decoded_frames(tmp_path: Path) -> None:
    coding = ["-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "50", "-threads", "1", "-aom-params", "resize-mode=2"]
    path = make(tmp_path / "random.mkv", "160x90", *coding, seconds=1)  # a new size every frame
    with av.open(str(path)) as container:
        pixels = [frame.width * frame.height for frame in container.decode(video=0)]
    pixels_N2 = read_packets(path, QstepReader).pixels_N2
    assert pixels_N2 is not None
    assert len(set(pixels)) > 2
    assert pixels_N2[:, 1].tolist() == pixels


@pytest.mark.parametrize("parameters", ["superres-mode=1:superres-denom=16", "resize-mode=1:resize-denom=16"])
def test_av1_with_reduced_coded_size_scores_lower(tmp_path: Path, shipped: Scorer, parameters: str) -> None:
    coding = ["-c:v", "libsvtav1", "-preset", "12", "-crf", "40", "-svtav1-params"]
    plain = make(tmp_path / "plain.mp4", "320x180", *coding, "lp=1", seconds=1)
    small = make(tmp_path / "small.mp4", "320x180", *coding, f"lp=1:{parameters}", seconds=1)
    score = shipped.score(small)
    assert score.bitstream_used
    assert score.score < shipped.score(plain).score - 3
    pixels_N2 = read_packets(small, QstepReader).pixels_N2
    assert pixels_N2 is not None
    ratios = pixels_N2[:, 0] / pixels_N2[0, 1]
    assert ratios[-1] == (0.5 if "superres" in parameters else 0.25)
    packets = read_packets(small, QstepReader)
    features = features_from_packets(packets, 320 * 180, 180, 180)
    assert features[2] == pytest.approx(np.log2(np.sqrt(ratios).mean()))


@pytest.mark.parametrize("sizes", [("322x182", "160x90"), ("160x90", "322x182")], ids=["down", "up"])
@pytest.mark.parametrize("codec", CODING)
def test_frames_after_a_size_change_have_the_new_size(tmp_path: Path, codec: str, sizes: tuple[str, str]) -> None:
    coding, suffix = CODING[codec]
    parts = [make(tmp_path / f"{size}{suffix}", size, *coding, seconds=1) for size in sizes]
    joined = tmp_path / f"joined{suffix}"
    if suffix == ".mkv":
        listed = tmp_path / "parts.txt"
        listed.write_text("".join(f"file '{part}'\n" for part in parts))
        run_ffmpeg(["-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(joined)])
    else:
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    pixels_N2 = read_packets(joined, QstepReader).pixels_N2
    assert pixels_N2 is not None
    ratios = pixels_N2[:, 0] / (322 * 182)
    first, second = (1.0 if size == "322x182" else 160 * 90 / (322 * 182) for size in sizes)
    half = len(ratios) // 2
    assert ratios == pytest.approx([first] * half + [second] * (len(ratios) - half))


def test_windows_after_a_size_change_score_like_the_part_alone(tmp_path: Path, shipped: Scorer) -> None:
    coding = ["-c:v", "libx264", "-threads", "1", "-crf", "28"]
    parts = [make(tmp_path / f"{size}.ts", size, *coding) for size in ("640x360", "320x180")]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    windows = shipped.score(joined).windows
    alone = [shipped.score(part, display_height=360).score for part in parts]
    assert [window.score for window in windows] == pytest.approx(alone, abs=2)  # patches are at other places


def test_field_coded_pictures_are_refused(tmp_path: Path, model: Path) -> None:
    parameters = "pools=none:frame-threads=1:log-level=error:interlace=tff"
    path = make(tmp_path / "fields.mkv", "160x96", "-c:v", "libx265", "-x265-params", parameters, seconds=1)
    with pytest.raises(ValueError, match="one field"):
        Scorer(model).score(path)
    assert any("one field" in line for line in probe(path).notes)


def test_a_ladder_skips_field_coded_rungs(tmp_path: Path) -> None:
    coding = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"]
    make(tmp_path / "frames.mkv", "160x96", *coding, X265, seconds=1)
    make(tmp_path / "fields.mkv", "160x96", *coding, f"{X265}:interlace=tff", seconds=1)
    found = find_encodes(tmp_path, tmp_path / "scratch")
    assert [encode.rung.name for encode in found.encodes] == ["frames.mkv"]
    assert "one field" in found.failures["fields.mkv"]
