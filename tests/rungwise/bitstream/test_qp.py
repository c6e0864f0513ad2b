"""Qstep read from the bitstream equals the QP that the encoder was given."""

from __future__ import annotations

import gc
import math
import struct
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av.logging
import numpy as np
import pytest

from rungwise.bitstream import qp
from rungwise.bitstream.qp import (
    QstepReader,
    av1_log2_qstep,
    block_log2_qstep,
    jpeg_log2_qstep,
    log2_qstep_of_qp,
    mpeg2_log2_qstep,
    theora_log2_qstep,
    vp8_log2_qstep,
)
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.score.scorer import Scorer

NOISE = ["-f", "lavfi", "-i", "nullsrc=s=160x96:r=12:d=1,geq=random(1)*255:128:128"]
# codec -> (options for a constant QP, expected log2 qstep of every frame)
CONSTANT = {
    "h264": (["-c:v", "libx264", "-qp", "30", "-x264-params", "ipratio=1:pbratio=1:aq-mode=0"], log2_qstep_of_qp(30)),
    "hevc": (
        ["-c:v", "libx265", "-x265-params", "qp=33:ipratio=1:pbratio=1:aq-mode=0:log-level=none"],
        log2_qstep_of_qp(33),
    ),
    "vp8": (["-c:v", "libvpx", "-qmin", "40", "-qmax", "40", "-b:v", "1M", "-auto-alt-ref", "0"], None),
    "mpeg4": (["-c:v", "mpeg4", "-q:v", "9", "-bf", "0"], math.log2(18)),
    "mpeg2": (["-c:v", "mpeg2video", "-q:v", "9", "-r", "24"], mpeg2_log2_qstep(9, linear=True)),
    **{
        codec: (["-c:v", codec.replace("flv1", "flv"), "-q:v", "9", "-s", "352x288", "-r", "24"], math.log2(18))
        for codec in ("mpeg1video", "h263", "flv1", "wmv1", "wmv2", "msmpeg4v2")
    },
    "theora": (["-c:v", "libtheora", "-q:v", "6"], theora_log2_qstep(bytes([37]))),
    "mjpeg": (["-c:v", "mjpeg", "-q:v", "9", "-strict", "unofficial"], math.log2((3 * 18 + 2 * 21 + 4 * 24) / 9)),
    "vp9": (["-c:v", "libvpx-vp9", "-qmin", "40", "-qmax", "40", "-b:v", "1M", "-auto-alt-ref", "0"], None),
}


def make(path: Path, options: list[str]) -> Path:
    run_ffmpeg([*NOISE, *options, "-pix_fmt", "yuv420p", str(path)])
    return path


def test_qsteps_by_hand() -> None:
    assert log2_qstep_of_qp(4) == 0  # a qstep of one code value
    assert log2_qstep_of_qp(28) == 4
    assert av1_log2_qstep(1) == 0  # 8 eighths
    # Entries of AV1's 8-bit AC table, some between knots.
    for index, eighths in ((9, 16), (57, 64), (95, 102), (108, 128), (137, 203), (169, 359), (198, 615), (230, 1129)):
        assert av1_log2_qstep(index) == pytest.approx(math.log2(eighths / 8), abs=0.05)
    assert av1_log2_qstep(255) == pytest.approx(math.log2(1828 / 8))
    for index, halves in ((0, 4), (40, 44), (70, 90), (90, 137), (110, 205), (120, 249)):  # VP8's
        assert vp8_log2_qstep(index) == pytest.approx(math.log2(halves / 2), abs=0.02)
    for code, scale in ((1, 1), (8, 8), (12, 16), (20, 40), (31, 112)):  # MPEG-2's two scales
        assert mpeg2_log2_qstep(code, linear=False) == math.log2(scale)
        assert mpeg2_log2_qstep(code, linear=True) == math.log2(2 * code)
    for index, scale in ((0, 500), (12, 185), (24, 100), (40, 49), (50, 30), (63, 10)):  # Theora, matrix entry 20
        assert theora_log2_qstep(bytes([index])) == pytest.approx(math.log2(scale / 5), abs=0.1)
        assert theora_log2_qstep(bytes([0x40 + index])) == theora_log2_qstep(bytes([index]))  # a key frame or not
    assert all(math.isnan(theora_log2_qstep(data)) for data in (b"", b"\x80theora"))
    table = b"\xff\xd8 any \xff\xdb\x00\x43\x00" + bytes([99, *range(1, 64)])
    assert jpeg_log2_qstep(table) == math.log2(5)
    sixteen, cut = table.replace(b"\x43\x00", b"\x43\x10"), table[:15]
    assert all(math.isnan(jpeg_log2_qstep(data)) for data in (b"", sixteen, cut))


@pytest.mark.parametrize("codec", CONSTANT)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_constant_qp_is_read_from_every_frame(codec: str, suffix: str, tmp_path: Path) -> None:
    options, expected = CONSTANT[codec]
    if suffix == ".mp4" and codec not in ("h264", "hevc", "mpeg4", "mpeg2", "vp9", "mjpeg"):
        suffix = {"vp8": ".webm", "theora": ".ogv", "flv1": ".flv"}.get(codec, ".avi")
    packets = read_packets(make(tmp_path / f"clip{suffix}", options), QstepReader)
    assert packets.log2_qsteps_N is not None
    assert packets.log2_qsteps_N.shape == packets.sizes_N.shape
    if expected is None:  # libvpx has its own table of 64 indices
        expected = packets.log2_qsteps_N[0]
        low, high = (
            (av1_log2_qstep(120), av1_log2_qstep(200)) if codec == "vp9" else (vp8_log2_qstep(50), vp8_log2_qstep(90))
        )
        assert low < expected < high
    # libav exports no block QP for the last MPEG-1 frame.
    exported = packets.log2_qsteps_N[: -1 if codec == "mpeg1video" else None]
    np.testing.assert_allclose(exported, expected)


@pytest.mark.parametrize(
    "options",
    [["-c:v", "libx264"], ["-c:v", "libx265", "-x265-params", "log-level=none"], ["-c:v", "libsvtav1"],
     ["-c:v", "libvpx-vp9", "-b:v", "0"]],
    ids=["h264", "hevc", "av1", "vp9"],
)  # fmt: skip
def test_a_higher_crf_has_a_larger_qstep(options: list[str], tmp_path: Path) -> None:
    means = []
    for crf in (20, 32, 44):
        steps = read_packets(make(tmp_path / f"{crf}.mp4", [*options, "-crf", str(crf)]), QstepReader).log2_qsteps_N
        assert steps is not None
        assert not np.isnan(steps).all()
        means.append(np.nanmean(steps))
    assert means[0] + 0.5 < means[1] < means[2] - 0.5


@pytest.mark.parametrize(("codec", "qp"), [("h264", 18), ("hevc", 33)])  # x264's 10-bit QP starts at -12
def test_10_bit_qsteps_are_on_the_8_bit_scale(codec: str, qp: int, tmp_path: Path) -> None:
    run_ffmpeg([*NOISE, *CONSTANT[codec][0], "-pix_fmt", "yuv420p10le", str(tmp_path / "ten.mp4")])
    steps = read_packets(tmp_path / "ten.mp4", QstepReader).log2_qsteps_N
    assert steps is not None
    np.testing.assert_allclose(steps, log2_qstep_of_qp(qp))


class EncParams(bytes):
    """Stand-in for a frame's VIDEO_ENC_PARAMS side data: its blocks."""

    blocks_offset, block_size = 0, 20
    codec_type: int
    qp: int

    @property
    def nb_blocks(self) -> int:
        return len(self) // self.block_size


def enc_params(codec_type: int, frame_qp: int, *block_deltas: int) -> EncParams:
    """Side data of a frame with this QP and these block deltas."""
    params = EncParams(b"".join(struct.pack("5i", 0, 0, 16, 16, delta) for delta in block_deltas))
    params.codec_type, params.qp = codec_type, frame_qp
    return params


def test_block_qsteps_by_hand() -> None:
    def qstep(bits: int, side_data: EncParams | None = None) -> float:
        frame: Any = SimpleNamespace(format=SimpleNamespace(components=[SimpleNamespace(bits=bits)]))
        frame.side_data = {} if side_data is None else {"VIDEO_ENC_PARAMS": side_data}
        frame.reformat = lambda **_: frame
        return block_log2_qstep(frame)

    # H.264: qsteps 1, 4 and 4, at 10 bits 12 QP higher. MPEG: the doubled scale itself.
    assert qstep(8, enc_params(1, 10, -6, 6, 6)) == pytest.approx(math.log2(math.sqrt((1 + 16 + 16) / 3)))
    assert qstep(10, enc_params(1, 22, -6, 6, 6)) == pytest.approx(math.log2(math.sqrt((1 + 16 + 16) / 3)))
    assert qstep(8, enc_params(2, 0, 6, 8)) == pytest.approx(math.log2(math.sqrt((36 + 64) / 2)))
    missing = qstep(8), qstep(8, enc_params(1, 10)), qstep(8, enc_params(2, 0, 0))
    assert all(math.isnan(each) for each in missing)


STILL = ["-f", "lavfi", "-i", "testsrc=s=320x240:r=24,noise=alls=20,trim=end_frame=1,loop=23:1,setpts=N/24/TB"]


def test_block_qp_overrides_the_frame_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "still.mp4"
    run_ffmpeg([*STILL, "-c:v", "libx264", "-crf", "33", "-pix_fmt", "yuv420p", str(path)])
    reads = [read_packets(path, QstepReader).log2_qsteps_N for _ in range(5)]
    assert all(np.array_equal(qsteps, reads[0]) for qsteps in reads)  # type: ignore[arg-type]
    monkeypatch.setattr(qp, "BLOCK_QP_CODECS", ())
    headers = read_packets(path, QstepReader).log2_qsteps_N
    assert reads[0] is not None
    assert headers is not None
    differs = np.abs(reads[0] - headers) > 0.3  # textured blocks are quantized more coarsely
    assert differs[0]
    assert 0 < differs.sum() < 10  # B frames are not decoded


def test_decoded_frames_are_freed_at_once(tmp_path: Path) -> None:
    run_ffmpeg([*STILL, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(tmp_path / "a.mp4")])
    gc.collect()
    gc.disable()
    try:
        read_packets(tmp_path / "a.mp4", QstepReader)
        alive = [each for each in gc.get_objects() if type(each) is av.VideoFrame and each.width == 320]
    finally:
        gc.enable()
    assert len(alive) <= 2


def test_a_raw_stream_has_the_same_qsteps_as_its_mp4(tmp_path: Path) -> None:
    run_ffmpeg([*STILL, "-c:v", "libx264", "-crf", "28", "-pix_fmt", "yuv420p", str(tmp_path / "a.mp4")])
    run_ffmpeg(["-i", str(tmp_path / "a.mp4"), "-c", "copy", str(tmp_path / "a.264")])
    packed, raw = (read_packets(tmp_path / f"a.{suffix}", QstepReader) for suffix in ("mp4", "264"))
    assert packed.log2_qsteps_N is not None
    assert raw.log2_qsteps_N is not None
    assert raw.ticks_N is None  # coded order
    np.testing.assert_array_equal(np.sort(raw.log2_qsteps_N), np.sort(packed.log2_qsteps_N))


def test_an_unsupported_codec_has_no_qsteps_and_a_broken_file_is_no_error(tmp_path: Path) -> None:
    steps = read_packets(make(tmp_path / "clip.avi", ["-c:v", "ffv1"]), QstepReader).log2_qsteps_N
    assert steps is not None
    assert np.isnan(steps).all()
    whole = make(tmp_path / "clip.264", ["-c:v", "libx264"]).read_bytes()
    broken = bytearray(whole)
    for place in range(len(whole) // 2, len(whole), 7):
        broken[place] ^= 0x55
    (tmp_path / "broken.264").write_bytes(bytes(broken))
    steps = read_packets(tmp_path / "broken.264", QstepReader).log2_qsteps_N
    assert steps is not None
    assert not np.isnan(steps).all()


def test_libav_logging_settings_are_restored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    read_packets(make(tmp_path / "clip.mp4", ["-c:v", "libx264"]), QstepReader)
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before
    assert capfd.readouterr() == ("", "")


def test_threads_read_the_same_qsteps(clip: Path) -> None:
    expected, scores = Scorer().score(clip), []
    threads = [threading.Thread(target=lambda: scores.append(Scorer().score(clip))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [expected] * 4
