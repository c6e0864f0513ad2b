"""Parts of patches: what libvmaf says of each alone, in order, and of good and poor encodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rungwise.ladder.patch_parts import PARTS, patch_parts
from rungwise.media.ffmpeg import FfmpegError, run_ffmpeg

Pixels = NDArray[np.uint8]
PATCH_PX = 80
RNG = np.random.default_rng(3)


def master_views() -> Pixels:
    """Two views of two pairs and 2x2 patches, which move by a pixel inside a pair."""
    side = 2 * PATCH_PX
    smooth = Image.fromarray(RNG.integers(0, 256, (100, 100, 3), np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)
    scene = np.asarray(smooth)
    views = [[scene[y + t : y + t + side, x : x + side] for t in (0, 1, 17, 18)] for y, x in ((0, 0), (9, 20))]
    return np.array(views)


def blurred(pixels: Pixels, factor: int) -> Pixels:
    """Every frame at a fraction of its size and back."""
    side = pixels.shape[2]
    frames = [Image.fromarray(frame) for frame in pixels.reshape(-1, side, side, 3)]
    small = [frame.resize((side // factor, side // factor)).resize((side, side)) for frame in frames]
    return np.array(small).reshape(pixels.shape)


@pytest.fixture(scope="module")
def master() -> Pixels:
    return master_views()


def by_hand(encode_T: Pixels, master_T: Pixels, folder: Path) -> dict[str, float]:
    """libvmaf's log of the second frame of one pair of patches, mirrored to 320x320 by hand."""
    for name, frames in (("encode", encode_T), ("master", master_T)):
        wide = np.concatenate([frames, frames[:, :, ::-1]] * 2, 2)
        np.concatenate([wide, wide[:, ::-1]] * 2, 1).tofile(folder / f"{name}.rgb")
        size = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "320x320", "-i", f"{name}.rgb"]
        matrix = "scale=out_range=limited:out_color_matrix=bt709:flags=bicubic+accurate_rnd+bitexact+full_chroma_inp"
        run_ffmpeg([*size, "-vf", f"{matrix},format=yuv420p", "-y", f"{name}.y4m"], cwd=folder)
    libvmaf = "libvmaf=model=version=vmaf_v1.0.16_3d0h:log_fmt=json:log_path=log.json"
    run_ffmpeg(["-i", "encode.y4m", "-i", "master.y4m", "-lavfi", libvmaf, "-f", "null", "-"], cwd=folder)
    second: dict[str, float] = json.loads((folder / "log.json").read_text())["frames"][1]["metrics"]
    return second


def test_each_patch_has_what_libvmaf_says_of_it_alone(master: Pixels, tmp_path: Path) -> None:
    encode = blurred(master, 2)
    parts = patch_parts(encode, master, PATCH_PX)
    assert parts.shape == (2, 2, 4, len(PARTS))
    assert parts.dtype == np.float32
    for view, pair, (row, column) in ((0, 0, (0, 0)), (1, 1, (1, 0))):
        place = np.s_[view, 2 * pair : 2 * pair + 2, row * 80 : row * 80 + 80, column * 80 : column * 80 + 80]
        log = by_hand(encode[place], master[place], tmp_path)
        mine = dict(zip(PARTS, parts[view, pair, 2 * row + column], strict=True))
        assert mine["vmaf"] == pytest.approx(log["vmaf"], abs=1e-3)
        assert mine["motion3"] == pytest.approx(value_of(log, "integer_motion3"), abs=1e-4)
        assert mine["adm_scale3"] == pytest.approx(value_of(log, "integer_adm_scale3"), abs=1e-5)
        assert mine["adm3"] == pytest.approx(value_of(log, "integer_adm3"), abs=1e-5)
        assert mine["cambi"] == pytest.approx(value_of(log, "cambi"), abs=1e-4)
        assert mine["speed_chroma_uv"] == pytest.approx(value_of(log, "speed_chroma_uv"), abs=1e-3)
    assert (parts[..., [PARTS.index("motion3"), PARTS.index("speed_chroma_uv")]] > 0).all()


def value_of(log: dict[str, float], name: str) -> float:
    return next(value for key, value in log.items() if key.startswith(name))


def test_denominators_are_the_masters_detail_alone(master: Pixels) -> None:
    first, last = PARTS.index("adm_den_scale0"), PARTS.index("adm_den_scale3")
    of_sharp, of_poor = (
        patch_parts(pixels, master, PATCH_PX)[..., first : last + 1] for pixels in (master, master // 2)
    )
    np.testing.assert_allclose(of_sharp, of_poor, rtol=1e-4)
    assert (patch_parts(master, blurred(master, 5), PATCH_PX)[..., first] < of_sharp[..., 0]).all()


def test_identical_patches_have_100_and_poorer_ones_less(master: Pixels) -> None:
    scores = [
        patch_parts(pixels, master, PATCH_PX)[..., 0] for pixels in (master, blurred(master, 2), blurred(master, 5))
    ]
    np.testing.assert_allclose(scores[0], 100, atol=0.5)
    assert (scores[0] > scores[1]).all()
    assert (scores[1] > scores[2]).all()


@pytest.mark.parametrize("patch_px", [33, 160, 400])
def test_patches_of_any_size_are_compared(patch_px: int) -> None:
    encode, master = RNG.integers(0, 256, (2, 1, 2, patch_px, patch_px, 3), np.uint8)
    assert np.isfinite(patch_parts(encode, master, patch_px)).all()


def test_what_ffmpeg_reports_is_in_the_error(master: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rungwise.ladder.patch_parts.MODEL", "vmaf_of_tomorrow")
    with pytest.raises(FfmpegError, match="vmaf_of_tomorrow"):
        patch_parts(master, master, PATCH_PX)
