"""Stream selection, color description, and files that are refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rungwise.ladder.pairing import check_pair, read_format
from rungwise.media.container import open_video, video_stream
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.tracks import video_tracks
from rungwise.media.video import probe, rgb_frames
from rungwise.score.scorer import Scorer

SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=1"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-pix_fmt", "yuv420p"]
NO_COLOR_DESCRIPTION = ["-bsf:v", "h264_metadata=transfer_characteristics=2:matrix_coefficients=2:colour_primaries=2"]


@pytest.fixture(scope="module")
def scorer(model: Path) -> Scorer:
    return Scorer(model)


@pytest.fixture(scope="module")
def untagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 without a color description in the bitstream."""
    path = tmp_path_factory.mktemp("kinds") / "untagged.mp4"
    run_ffmpeg([*SOURCE, *X264, *NO_COLOR_DESCRIPTION, str(path)])
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")])
def test_hdr_stated_only_by_the_container_is_refused_or_tone_mapped(
    scorer: Scorer, untagged: Path, tmp_path: Path, suffix: str, transfer: str, name: str
) -> None:
    path = tmp_path / f"hdr{suffix}"
    stated = ["-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc"]
    run_ffmpeg(["-i", str(untagged), "-c", "copy", *stated, "-movflags", "+write_colr", str(path)])
    assert name in probe(path).hdr
    with pytest.raises(ValueError, match=name):
        scorer.score(path)
    mapped = scorer.score(path, hdr="tonemap")
    assert mapped.score != scorer.score(untagged).score
    assert any(name in note for note in mapped.notes)


def test_the_containers_matrix_is_used_if_the_bitstream_has_none(untagged: Path, tmp_path: Path) -> None:
    path, tagged = tmp_path / "bt601.mp4", tmp_path / "tagged.mp4"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-colorspace", "smpte170m", "-movflags", "+write_colr", str(path)])
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=6", str(tagged)])
    (_, by_container), (_, by_bitstream), (_, plain) = (next(rgb_frames(p, [0])) for p in (path, tagged, untagged))
    assert np.array_equal(by_container, by_bitstream)
    assert not np.array_equal(by_container, plain)


def test_dolby_vision_without_a_base_layer_is_refused(
    scorer: Scorer, untagged: Path, tmp_path: Path, with_box: Callable[..., Path]
) -> None:
    for profile, is_refused in ((5, True), (8, False)):
        box = struct.pack(">I4s4B20x", 32, b"dvcC", 1, 0, profile << 1, 0)
        path = with_box(untagged, tmp_path / f"dv{profile}.mp4", box)
        assert [track.dolby_vision_profile for track in video_tracks(path)] == [profile]
        if is_refused:
            with pytest.raises(ValueError, match="profile 5"):
                scorer.score(path, hdr="tonemap")
            assert "profile 5" in probe(path).hdr
        else:
            assert scorer.score(path).score == scorer.score(untagged).score


def test_an_encrypted_mp4_is_refused(scorer: Scorer, untagged: Path, tmp_path: Path) -> None:
    key = ["-encryption_key", "0" * 32, "-encryption_kid", "1" * 32]
    whole, pieces = tmp_path / "cenc.mp4", tmp_path / "pieces.mp4"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, str(whole)])
    fragments = ["-movflags", "frag_keyframe+empty_moov"]
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, *fragments, str(pieces)])
    for path in (whole, pieces):
        for read in (scorer.score, probe):
            with pytest.raises(ValueError, match="encrypted"):
                read(path)


def test_an_unsupported_matrix_is_refused(scorer: Scorer, untagged: Path, tmp_path: Path) -> None:
    for number, name in ((8, "ycgco"), (14, "ictcp")):
        path = tmp_path / f"{name}.mp4"
        run_ffmpeg(
            ["-i", str(untagged), "-c", "copy", "-bsf:v", f"h264_metadata=matrix_coefficients={number}", str(path)]
        )
        assert probe(path).color_space == name
        with pytest.raises(ValueError, match=name):
            scorer.score(path)


def test_cover_art_before_the_video_is_ignored(scorer: Scorer, untagged: Path, tmp_path: Path) -> None:
    path = tmp_path / "cover.mkv"
    cover = ["-f", "lavfi", "-i", "color=c=red:s=640x640:r=1:d=1"]
    coding = ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-c:v:1", "copy"]
    run_ffmpeg([*cover, "-i", str(untagged), "-map", "0:v", "-map", "1:v", *coding, str(path)])
    result = scorer.score(path)
    assert result.score == scorer.score(untagged).score
    assert (result.width, result.height) == (160, 96)


def test_the_default_of_several_video_streams_is_scored_with_a_note(
    scorer: Scorer, untagged: Path, tmp_path: Path
) -> None:
    path = tmp_path / "two.mkv"
    other = ["-f", "lavfi", "-i", "mandelbrot=s=320x192:r=12", "-t", "1"]
    maps = ["-map", "0:v", "-map", "1:v", *X264, "-disposition:v:0", "0", "-disposition:v:1", "default"]
    run_ffmpeg([*other[:4], "-i", str(untagged), *maps[:4], "-t", "1", *maps[4:], str(path)])
    info, result = probe(path), scorer.score(path)
    assert (info.width, info.height) == (160, 96)
    assert (result.width, result.height) == (160, 96)
    assert any("2 video streams" in note for note in result.notes)
    assert any("2 video streams" in note for note in info.notes)


def test_a_still_next_to_the_video_is_ignored(untagged: Path, tmp_path: Path) -> None:
    path = tmp_path / "motion_photo.mp4"
    still = ["-f", "lavfi", "-i", "color=c=red:s=640x384:r=1:d=1"]
    run_ffmpeg([*still, "-i", str(untagged), "-map", "0:v", "-map", "1:v", *X264, str(path)])
    with open_video(path) as container:
        assert video_stream(container).codec_context.width == 160


def test_a_container_crop_gives_a_note(
    scorer: Scorer, untagged: Path, tmp_path: Path, with_box: Callable[..., Path]
) -> None:
    clap = struct.pack(">I4s8I", 40, b"clap", 128, 1, 72, 1, 0, 1, 0, 1)
    path = with_box(untagged, tmp_path / "clap.mp4", clap)
    assert any("128x72" in note for note in scorer.score(path).notes)
    assert any("128x72" in note for note in probe(path).notes)


def test_an_assumed_frame_rate_gives_a_note(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "raw.hevc"
    run_ffmpeg([*SOURCE, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
                "log-level=error:pools=none:frame-threads=1:vui-timing-info=0", str(path)])  # fmt: skip
    assert any("25 fps assumed" in note for note in probe(path).notes)
    assert any("25 fps assumed" in note for note in scorer.score(path).notes)


def test_an_encrypted_mp4_with_a_clear_lead_is_refused(
    untagged: Path, tmp_path: Path, with_box: Callable[..., Path]
) -> None:
    scheme = struct.pack(">I4sI4sI", 20, b"schm", 0, b"cenc", 0x10000)
    protection = struct.pack(">I4sI4s4s", 20 + len(scheme), b"sinf", 12, b"frma", b"avc1") + scheme
    entry = struct.pack(">I4s", 8 + 78 + len(protection), b"encv") + bytes(78) + protection
    path = with_box(untagged, tmp_path / "lead.mp4", entry)
    _count_as_entry(path, entry)
    with pytest.raises(ValueError, match=r"encrypted \(cenc\)"):
        probe(path)


def _count_as_entry(path: Path, entry: bytes) -> None:
    """Make the box that `with_box` put into an MP4's first sample entry its second entry."""
    data = bytearray(path.read_bytes())
    table = data.index(b"stsd")
    size = int.from_bytes(data[table + 12 : table + 16], "big")  # of the first entry
    data[table + 12 : table + 16] = (size - len(entry)).to_bytes(4, "big")
    data[table + 8 : table + 12] = (2).to_bytes(4, "big")
    path.write_bytes(bytes(data))


def _element(name: int, contents: bytes) -> bytes:
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(contents) | 1 << 56).to_bytes(8, "big") + contents


def test_an_encrypted_matroska_track_is_refused(untagged: Path, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.webm", tmp_path / "encrypted.webm"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-f", "matroska", str(plain)])
    data = plain.read_bytes()
    header = data[: data.index(b"\x18\x53\x80\x67")]
    encryption = _element(0x5035, _element(0x47E1, b"\x05"))  # ContentEncAlgo: AES
    encodings = _element(0x6D80, _element(0x6240, _element(0x5033, b"\x01") + encryption))
    entry = _element(0xD7, b"\x01") + _element(0x83, b"\x01") + _element(0x86, b"V_VP9") + encodings
    entry += _element(0xE0, _element(0xB0, b"\xa0") + _element(0xBA, b"\x60"))
    cluster = _element(0x1F43B675, _element(0xE7, b"\x00") + _element(0xA3, b"\x81\0\0\x80" + bytes(range(64))))
    path.write_bytes(header + _element(0x18538067, _element(0x1654AE6B, _element(0xAE, entry)) + cluster))
    for read in (probe, open_video):
        with pytest.raises(ValueError, match="encrypted"):
            read(path)


def _packets(data: bytes) -> list[bytearray]:
    return [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]


def _checksum(section: bytes) -> bytes:
    """CRC of a program table (ISO/IEC 13818-1, annex A)."""
    value = 0xFFFFFFFF
    for byte in section:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


@pytest.mark.parametrize(("scheme", "m2ts"), [("SAMPLE-AES", False), ("scrambled", False), ("scrambled", True)])
def test_an_encrypted_transport_stream_is_refused(
    scorer: Scorer, untagged: Path, tmp_path: Path, scheme: str, m2ts: bool
) -> None:
    plain, path = tmp_path / "plain.ts", tmp_path / "encrypted.ts"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-f", "mpegts", str(plain)])
    assert probe(plain).num_frames == 12
    packets = _packets(plain.read_bytes())
    for packet in packets:
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if scheme == "scrambled" and pid == 0x100:
            packet[3] |= 0x80
        if scheme == "SAMPLE-AES" and pid == 0x1000:
            end = 5 + 3 + int.from_bytes(packet[6:8], "big") % 4096 - 4
            packet[17] = 0xDB
            packet[end : end + 4] = _checksum(bytes(packet[5:end]))
    path.write_bytes(b"".join((bytes(4) if m2ts else b"") + bytes(packet) for packet in packets))
    for read in (scorer.score, probe):
        with pytest.raises(ValueError, match=f"encrypted.*{scheme}"):
            read(path)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_full_range_stated_only_by_the_container_is_used_for_hevc(tmp_path: Path, suffix: str) -> None:
    plain, stated, tagged = tmp_path / "plain.mp4", tmp_path / f"stated{suffix}", tmp_path / "tagged.mp4"
    options = ["-pix_fmt", "yuv420p", "-c:v", "libx265", "-preset", "ultrafast"]
    run_ffmpeg([*SOURCE, *options, "-x265-params", "log-level=error:pools=none:frame-threads=1", str(plain)])
    copied = ["-i", str(plain), "-c", "copy", "-color_range", "pc", "-movflags", "+write_colr", "-colorspace", "bt709"]
    run_ffmpeg([*copied, str(stated)])
    run_ffmpeg(["-i", str(plain), "-c", "copy", "-bsf:v", "hevc_metadata=video_full_range_flag=1", str(tagged)])
    assert probe(stated).color_range == "full"
    assert probe(plain).color_range == "limited"
    (_, by_container), (_, by_bitstream) = (next(rgb_frames(p, [0])) for p in (stated, tagged))
    assert np.array_equal(by_container, by_bitstream)


def test_other_matrices_are_not_converted_as_bt709(untagged: Path, tmp_path: Path) -> None:
    fcc, constant_luminance = tmp_path / "fcc.mp4", tmp_path / "bt2020c.mp4"
    for path, number in ((fcc, 4), (constant_luminance, 10)):
        bits = f"h264_metadata=matrix_coefficients={number}"
        run_ffmpeg(["-i", str(untagged), "-c", "copy", "-bsf:v", bits, str(path)])
    (_, by_fcc), (_, by_bt709) = (next(rgb_frames(path, [0])) for path in (fcc, untagged))
    assert not np.array_equal(by_fcc, by_bt709)
    with pytest.raises(ValueError, match="bt2020c"):
        next(rgb_frames(constant_luminance, [0]))


def test_an_unsupported_matrix_does_not_pair_with_an_untagged_reference(untagged: Path, tmp_path: Path) -> None:
    path = tmp_path / "ycgco.mp4"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=8", str(path)])
    with pytest.raises(ValueError, match="ycgco"):
        check_pair(read_format(path), read_format(untagged))
    check_pair(read_format(path), read_format(path))


def test_dolby_vision_without_a_base_layer_does_not_pair_with_an_sdr_reference(
    untagged: Path, tmp_path: Path, with_box: Callable[..., Path]
) -> None:
    box = struct.pack(">I4s4B20x", 32, b"dvcC", 1, 0, 5 << 1, 0)
    path = with_box(untagged, tmp_path / "dv5.mp4", box)
    with pytest.raises(ValueError, match="profile 5"):
        check_pair(read_format(path), read_format(untagged))


def test_a_raw_stream_has_the_rate_in_its_bitstream(scorer: Scorer, untagged: Path, tmp_path: Path) -> None:
    path = tmp_path / "stated.h264"
    run_ffmpeg(["-i", str(untagged), "-c", "copy", str(path)])
    assert probe(path).fps == 12
    assert probe(path).duration_seconds == 1
    assert not any("assumed" in note for note in (*probe(path).notes, *scorer.score(path).notes))


def test_animated_webp_is_refused(tmp_path: Path) -> None:
    moving, still = tmp_path / "moving.webp", tmp_path / "still.webp"
    run_ffmpeg([*SOURCE, "-c:v", "libwebp_anim", str(moving)])
    run_ffmpeg([*SOURCE, "-c:v", "libwebp", "-frames:v", "1", str(still)])
    with pytest.raises(ValueError, match="animated WebP"):
        probe(moving)
    assert probe(still).num_frames == 1


def test_the_still_of_an_animated_avif_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "moving.avif"
    run_ffmpeg([*SOURCE, "-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p",
                "-frames:v", "4", str(path)])  # fmt: skip
    info = probe(path)
    assert info.num_frames == 4
    assert any("still" in note for note in info.notes)
    assert not any("2 video streams" in note for note in info.notes)


def test_empty_frames_of_an_avi_are_named(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "packed.avi"
    run_ffmpeg([*SOURCE, "-c:v", "libxvid", "-bf", "2", "-g", "20", "-pix_fmt", "yuv420p", str(path)])
    assert probe(path).num_frames == 10
    for notes in (probe(path).notes, scorer.score(path).notes):
        assert any("empty frames: 2" in note for note in notes)


def test_alpha_beside_the_pictures_is_said_to_be_left_out(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "alpha.webm"
    run_ffmpeg([*SOURCE, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuva420p",
                str(path)])  # fmt: skip
    assert any("alpha" in note for note in scorer.score(path).notes)
