"""What a file is: which stream is shown, in what colors, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from rungwise.container import open_video, video_stream
from rungwise.encode import run_ffmpeg
from rungwise.scorer import Scorer
from rungwise.tracks import video_tracks
from rungwise.video import probe, rgb_frames

SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=1"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-pix_fmt", "yuv420p"]
SILENT = ["-bsf:v", "h264_metadata=transfer_characteristics=2:matrix_coefficients=2:colour_primaries=2"]


@pytest.fixture(scope="module")
def scorer(model: Path) -> Scorer:
    return Scorer(model)


@pytest.fixture(scope="module")
def unsaid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 whose bitstream says nothing of its colors."""
    path = tmp_path_factory.mktemp("kinds") / "unsaid.mp4"
    run_ffmpeg([*SOURCE, *X264, *SILENT, str(path)])
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")])
def test_hdr_that_the_container_alone_states_is_refused_or_tone_mapped(
    scorer: Scorer, unsaid: Path, tmp_path: Path, suffix: str, transfer: str, name: str
) -> None:
    path = tmp_path / f"hdr{suffix}"
    stated = ["-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc"]
    run_ffmpeg(["-i", str(unsaid), "-c", "copy", *stated, "-movflags", "+write_colr", str(path)])
    assert name in probe(path).hdr
    with pytest.raises(ValueError, match=name):
        scorer.score(path)
    mapped = scorer.score(path, hdr="tonemap")
    assert mapped.score != scorer.score(unsaid).score
    assert any(name in note for note in mapped.notes)


def test_the_containers_matrix_holds_where_the_bitstream_has_none(unsaid: Path, tmp_path: Path) -> None:
    path, tagged = tmp_path / "bt601.mp4", tmp_path / "tagged.mp4"
    run_ffmpeg(["-i", str(unsaid), "-c", "copy", "-colorspace", "smpte170m", "-movflags", "+write_colr", str(path)])
    run_ffmpeg(["-i", str(unsaid), "-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=6", str(tagged)])
    (_, of_container), (_, of_stream), (_, plain) = (next(rgb_frames(p, [0])) for p in (path, tagged, unsaid))
    assert np.array_equal(of_container, of_stream)
    assert not np.array_equal(of_container, plain)


def _with_box(path: Path, out: Path, box: bytes, coding: bytes | None = None) -> Path:
    """A copy of an MP4 with one more box in its sample entry, sizes of all boxes around it made right."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    data[end:end] = box
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(name, data.index(b"moov")) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    if coding:
        data[entry + 4 : entry + 8] = coding
    out.write_bytes(bytes(data))
    return out


def test_dolby_vision_without_a_base_layer_is_refused(scorer: Scorer, unsaid: Path, tmp_path: Path) -> None:
    for profile, is_refused in ((5, True), (8, False)):
        box = struct.pack(">I4s4B20x", 32, b"dvcC", 1, 0, profile << 1, 0)
        path = _with_box(unsaid, tmp_path / f"dv{profile}.mp4", box)
        assert [track.dolby_vision_profile for track in video_tracks(path)] == [profile]
        if is_refused:
            with pytest.raises(ValueError, match="profile 5"):
                scorer.score(path, hdr="tonemap")
            assert "profile 5" in probe(path).hdr
        else:
            assert scorer.score(path).score == scorer.score(unsaid).score


def test_an_encrypted_file_is_called_encrypted(scorer: Scorer, unsaid: Path, tmp_path: Path) -> None:
    key = ["-encryption_key", "0" * 32, "-encryption_kid", "1" * 32]
    whole, pieces = tmp_path / "cenc.mp4", tmp_path / "pieces.mp4"
    run_ffmpeg(["-i", str(unsaid), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, str(whole)])
    fragments = ["-movflags", "frag_keyframe+empty_moov"]
    run_ffmpeg(["-i", str(unsaid), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, *fragments, str(pieces)])
    for path in (whole, pieces):
        for look in (scorer.score, probe):
            with pytest.raises(ValueError, match="encrypted"):
                look(path)


def test_a_matrix_that_cannot_be_converted_is_refused(scorer: Scorer, unsaid: Path, tmp_path: Path) -> None:
    for number, name in ((8, "ycgco"), (14, "ictcp")):
        path = tmp_path / f"{name}.mp4"
        run_ffmpeg(
            ["-i", str(unsaid), "-c", "copy", "-bsf:v", f"h264_metadata=matrix_coefficients={number}", str(path)]
        )
        assert probe(path).color_space == name
        with pytest.raises(ValueError, match=name):
            scorer.score(path)


def test_a_cover_before_the_video_is_passed_over(scorer: Scorer, unsaid: Path, tmp_path: Path) -> None:
    path = tmp_path / "cover.mkv"
    cover = ["-f", "lavfi", "-i", "color=c=red:s=640x640:r=1:d=1"]
    coding = ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-c:v:1", "copy"]
    run_ffmpeg([*cover, "-i", str(unsaid), "-map", "0:v", "-map", "1:v", *coding, str(path)])
    judged = scorer.score(path)
    assert judged.score == scorer.score(unsaid).score
    assert (judged.width, judged.height) == (160, 96)


def test_of_several_videos_the_default_one_is_looked_at_and_the_others_are_named(
    scorer: Scorer, unsaid: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.mkv"
    other = ["-f", "lavfi", "-i", "mandelbrot=s=320x192:r=12", "-t", "1"]
    maps = ["-map", "0:v", "-map", "1:v", *X264, "-disposition:v:0", "0", "-disposition:v:1", "default"]
    run_ffmpeg([*other[:4], "-i", str(unsaid), *maps[:4], "-t", "1", *maps[4:], str(path)])
    seen, judged = probe(path), scorer.score(path)
    assert (seen.width, seen.height) == (160, 96)
    assert (judged.width, judged.height) == (160, 96)
    assert any("2 video streams" in note for note in judged.notes)
    assert any("2 video streams" in note for note in seen.notes)


def test_a_still_beside_the_video_is_not_taken_for_it(unsaid: Path, tmp_path: Path) -> None:
    path = tmp_path / "motion_photo.mp4"
    still = ["-f", "lavfi", "-i", "color=c=red:s=640x384:r=1:d=1"]
    run_ffmpeg([*still, "-i", str(unsaid), "-map", "0:v", "-map", "1:v", *X264, str(path)])
    with open_video(path) as container:
        assert video_stream(container).codec_context.width == 160


def test_a_crop_that_the_container_asks_for_is_said(scorer: Scorer, unsaid: Path, tmp_path: Path) -> None:
    clap = struct.pack(">I4s8I", 40, b"clap", 128, 1, 72, 1, 0, 1, 0, 1)
    path = _with_box(unsaid, tmp_path / "clap.mp4", clap)
    assert any("128x72" in note for note in scorer.score(path).notes)
    assert any("128x72" in note for note in probe(path).notes)


def test_a_raw_stream_says_that_its_rate_is_assumed(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "raw.hevc"
    run_ffmpeg([*SOURCE, "-r", "25", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
                "log-level=error:pools=none:frame-threads=1", str(path)])  # fmt: skip
    assert any("25 frames a second" in note for note in scorer.score(path).notes)
