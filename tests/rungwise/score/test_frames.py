"""Decoding selected frames gives the same pixels as decoding all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rungwise.media.container import decode_all, open_video
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.media.video import rgb
from rungwise.score.frames import DecodeMismatch, InterlacedFrame, decode_runs, deinterlace, read_frames
from rungwise.score.patch_crop import PatchCropper

GOP = ["-threads", "1", "-g", "30"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"]
ENCODES = {  # name -> (encoder, whether its key frames are seekable)
    "h264.mp4": (["-c:v", "libx264", "-bf", "3", *GOP], True),
    "h264.mkv": (["-c:v", "libx264", "-bf", "3", *GOP], True),
    "h264.ts": (["-c:v", "libx264", "-bf", "3", *GOP], False),
    "h264_open.mp4": (["-c:v", "libx264", "-bf", "3", *GOP, "-x264-params", "open-gop=1"], False),
    "h264_refresh.ts": (["-c:v", "libx264", *GOP, "-x264-params", "intra-refresh=1"], False),
    "hevc.mp4": ([*X265, "open-gop=0:keyint=30:pools=none:log-level=error"], True),
    "hevc_open.mkv": ([*X265, "open-gop=1:keyint=30:pools=none:log-level=error"], True),
    "av1.mp4": (["-c:v", "libsvtav1", "-preset", "13", "-g", "30", "-svtav1-params", "lp=1"], True),
    "av1_open.mkv": (
        ["-c:v", "libsvtav1", "-preset", "13", "-g", "30", "-svtav1-params", "lp=1:irefresh-type=1"],
        False,
    ),
    "vp9.webm": (["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime", "-auto-alt-ref", "1", *GOP], True),
    "mpeg2.mpg": (["-c:v", "mpeg2video", "-bf", "2", "-g", "15"], False),
    "mpeg4.avi": (["-c:v", "mpeg4", "-bf", "2", *GOP], False),
    "prores.mov": (["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"], True),
    "raw.y4m": ([], True),
    "vfr.mp4": (
        ["-vf", "setpts=N*(N+30)/(600*TB)", "-fps_mode", "passthrough", "-c:v", "libx264", "-bf", "3", *GOP],
        True,
    ),
}
REQUESTED = ([0, 10, 20, 50, 75, 115, 119], [0, 33, 34, 59, 60, 62, 119], list(range(0, 120, 7)), [0, 31], [90])


@pytest.mark.parametrize("name", ENCODES)
def test_seeking_and_skipping_give_the_same_pixels(name: str, tmp_path: Path) -> None:
    options, seeks = ENCODES[name]
    path = tmp_path / name
    source = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=4"]
    run_ffmpeg([*source, "-pix_fmt", "yuv420p", *options, str(path)])
    with open_video(path) as container:
        all_frames = [rgb(frame) for frame in decode_all(container, path)]
    packets = read_packets(path)
    assert len(all_frames) == len(packets.is_key_N) == 120
    assert (len(list(decode_runs(packets, REQUESTED[0]))) > 1) == seeks
    for requested in REQUESTED:
        for seek, threads in ((True, 1), (True, 2), (False, 1)):
            frames = list(read_frames(path, packets, requested, seek=seek, threads=threads))
            assert [index for index, _ in frames] == requested
            for index, frame in frames:
                np.testing.assert_array_equal(rgb(frame), all_frames[index])


def test_a_file_without_times_is_a_mismatch(tmp_path: Path) -> None:
    path = tmp_path / "bare.h264"
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=1", "-c:v", "libx264", str(path)])
    packets = read_packets(path)
    assert packets.ticks_N is None
    assert packets.times_N[-1] == pytest.approx(29 / 30)
    with pytest.raises(DecodeMismatch):
        next(read_frames(path, packets, [0]))


def test_interlaced_frames_raise_and_deinterlacing_keeps_their_number(odd_files: Path) -> None:
    path = odd_files / "interlaced.mp4"
    with pytest.raises(InterlacedFrame):
        next(read_frames(path, read_packets(path), [0]))
    with open_video(path) as container:
        before = [(frame.pts, rgb(frame)) for frame in decode_all(container, path)]
    with open_video(path) as container:
        after = list(deinterlace(decode_all(container, path)))
    assert [frame.pts for frame in after] == [pts for pts, _ in before]
    assert not any(frame.interlaced_frame for frame in after)
    assert any((rgb(frame) != pixels).any() for frame, (_, pixels) in zip(after, before, strict=True))
    plain = odd_files / "plain.mp4"
    with open_video(plain) as container:
        untouched = [rgb(frame) for frame in deinterlace(decode_all(container, plain))]
    with open_video(plain) as container:
        for frame, expected in zip(decode_all(container, plain), untouched, strict=True):
            np.testing.assert_array_equal(rgb(frame), expected)


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "ten_bit.mkv",
        "twelve_bit_422.mkv",
        "full_444.mkv",
        "bt601.mp4",
        "bt2020_sdr.mkv",
        "gray.mkv",
        "rgb.mkv",
    ],
)
def test_a_patch_cropped_before_conversion_matches_the_whole_frame(odd_files: Path, name: str) -> None:
    path = odd_files / name
    with open_video(path) as container:
        frame = next(decode_all(container, path))
    whole, cropper = rgb(frame), PatchCropper()
    assert cropper.can_crop(frame, (160, 96), 32)
    corners = [(y, x) for y in (*range(0, 64, 6), 63, 64) for x in (*range(0, 128, 10), 127, 128)]
    for y, x in corners:
        np.testing.assert_array_equal(cropper.patch(frame, y, x, 32), whole[y : y + 32, x : x + 32])
    assert not cropper.can_crop(frame, (320, 192), 32)
    assert not cropper.can_crop(frame, (160, 96), 97)


@pytest.mark.parametrize("name", ["odd_size.mkv", "rotated.mp4", "alpha.mov"])
def test_frames_that_are_converted_whole(odd_files: Path, name: str) -> None:
    path = odd_files / name
    with open_video(path) as container:
        frame = next(decode_all(container, path))
    assert not PatchCropper().can_crop(frame, (frame.width, frame.height), 32)
