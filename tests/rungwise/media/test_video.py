"""Decoding and probing real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import first_frame, probe, rgb_frames
from rungwise.scenes import render


def test_probe(clip: Path) -> None:
    info = probe(clip)
    assert (info.codec, info.width, info.height, info.num_frames) == ("h264", 192, 108, 12)
    assert (info.fps, info.bit_depth, info.pixel_format) == (12.0, 8, "yuv420p")
    assert info.duration_seconds == pytest.approx(1.0, abs=1e-3)
    assert (info.color_space, info.color_range) == ("bt709", "limited")
    assert (info.rotation_degrees, info.variable_frame_rate, info.interlaced, info.hdr) == (
        0,
        False,
        False,
        "",
    )
    assert 0 < info.bitrate_kbps <= clip.stat().st_size * 8 / 1000


def test_rgb_of_a_lossless_master_matches_the_rendered_frames(master: Path) -> None:
    drawn = list(render("street_a", width=192, height=108, num_frames=12, fps=12.0))
    for index, frame in rgb_frames(master, [0, 7, 11]):
        # 4:2:0 halves the chroma resolution: single pixels differ, the mean color does not.
        assert np.abs(frame.mean((0, 1)) - drawn[index].mean((0, 1))).max() < 0.2
        assert np.corrcoef(frame.ravel(), drawn[index].ravel())[0, 1] > 0.97


def test_a_rotation_tag_is_applied(clip: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    run_ffmpeg(["-display_rotation", "90", "-i", str(clip), "-c", "copy", str(turned)])
    assert (probe(turned).width, probe(turned).height, probe(turned).rotation_degrees) == (108, 192, 90)
    (_, upright), (_, before) = next(rgb_frames(turned, [3])), next(rgb_frames(clip, [3]))
    np.testing.assert_array_equal(upright, np.rot90(before))


def test_probe_of_variable_frame_rate_and_hdr(clip: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven.mp4"
    run_ffmpeg(["-i", str(clip), "-vf", "setpts=N*N/(12*TB)/12", "-fps_mode", "passthrough", str(uneven)])
    assert probe(uneven).variable_frame_rate
    squares = [frame**2 / 144 for frame in range(12)]
    assert timestamps_seconds(uneven) == pytest.approx(squares, abs=1 / 24)  # ffmpeg rounds to twelfths of a second
    bright = tmp_path / "bright.mp4"
    tags = ["-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc"]
    parameters = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    run_ffmpeg(["-i", str(clip), "-vf", parameters, "-pix_fmt", "yuv420p10le", *tags, str(bright)])
    assert probe(bright).hdr.startswith("PQ")
    assert probe(bright).bit_depth == 10
    assert first_frame(bright)[0].dtype.itemsize == 2


def test_bad_files_raise_one_clear_line(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    with pytest.raises(ValueError, match=r"notes\.mp4: not a video"):
        probe(text)
    with pytest.raises(ValueError, match="no such file"):
        probe(tmp_path / "absent.mp4")
    with pytest.raises(ValueError, match="only 12 frames decode, frame 40 was requested"):
        list(rgb_frames(clip, [0, 40]))
