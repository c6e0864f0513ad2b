from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.ladder.label import MIN_CHROMA_PX, Pooled, RawVideo, label
from rungwise.media.ffmpeg import run_ffmpeg

V0 = "vmaf_v0.6.1"
V1 = "vmaf_v1.0.16_3d0h"


def write_clip(path: Path, frames: int = 12, width: int = 288, height: int = 162) -> Path:
    """A y4m clip of a moving textured gradient."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(-40, 40, (height // 4 + 1, (width + 3 * frames) // 4)).repeat(4, 0).repeat(4, 1)[:height]
    canvas = np.clip(np.linspace(60, 190, coarse.shape[1]) + coarse, 16, 235).astype(np.uint8)
    chroma = np.tile(np.linspace(100, 150, width // 2).astype(np.uint8), (2 * ((height + 1) // 2), 1))  # U above V
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420mpeg2\n".encode())
        for index in range(frames):
            file.write(b"FRAME\n" + canvas[:, 3 * index : 3 * index + width].tobytes() + chroma.tobytes())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A master and three encodes: two rates at the same height, and a lower height."""
    path = tmp_path_factory.mktemp("ladder")
    master = write_clip(path / "master.y4m")
    encode(master, path / "fine.mp4", EncodeSpec("h264", height=162, crf=24))
    encode(master, path / "coarse.mp4", EncodeSpec("h264", height=162, crf=38))
    encode(master, path / "low.mp4", EncodeSpec("h264", height=80, crf=20))
    return path


@pytest.mark.data
@pytest.mark.parametrize(
    ("pair", "raw", "expected"),
    [
        (
            ("src01_hrc00_576x324.yuv420p10le.yuv", "src01_hrc01_576x324.yuv420p10le.yuv"),
            RawVideo(576, 324, "yuv420p10le", 24),
            82.564225,
        ),
        (
            ("sparks_ref_480x270.yuv42010le.yuv", "sparks_dis_480x270.yuv42010le.yuv"),
            RawVideo(480, 270, "yuv420p10le", 24),
            97.9006316,
        ),
    ],
)
def test_reference_values_of_netflix(
    pair: tuple[str, str], raw: RawVideo, expected: float, outside_data: Callable[[str], Path]
) -> None:
    reference, distorted = (outside_data(f"data/vmaf_pairs/{name}") for name in pair)
    assert label(reference, distorted, models=[V0], raw=raw).metrics[V0].mean == pytest.approx(expected, abs=1e-4)


def test_identical_video(folder: Path) -> None:
    labels = label(folder / "master.y4m", folder / "master.y4m", models=[V0, V1])
    assert list(labels.metrics) == [V0, V1, "psnr", "ssim"]
    assert labels.metrics[V0].mean > 97
    assert labels.metrics[V1].mean > 97
    assert labels.metrics["psnr"] == Pooled(60, 60, 60)
    assert labels.metrics["ssim"] == Pooled(1, 1, 1)
    assert (labels.num_frames, labels.display_height) == (12, 162)


def test_harder_compression_scores_lower(folder: Path) -> None:
    fine, coarse = (label(folder / "master.y4m", folder / f"{name}.mp4") for name in ("fine", "coarse"))
    for name in (V1, "psnr", "ssim"):
        assert coarse.metrics[name].mean < fine.metrics[name].mean
        for labels in (fine, coarse):
            pooled = labels.metrics[name]
            assert pooled.min <= pooled.harmonic_mean <= pooled.mean


def test_rung_is_scaled_to_the_reference(folder: Path) -> None:
    full = label(folder / "master.y4m", folder / "fine.mp4")
    low = label(folder / "master.y4m", folder / "low.mp4")
    assert low.display_height == 162
    assert 10 < low.metrics["psnr"].mean < full.metrics["psnr"].mean


def test_both_are_scaled_to_the_display_height(folder: Path) -> None:
    small = label(folder / "master.y4m", folder / "low.mp4", display_height=80, models=[V0])
    assert small.display_height == 80
    assert small.metrics["psnr"].mean > label(folder / "master.y4m", folder / "low.mp4").metrics["psnr"].mean
    same = label(folder / "master.y4m", folder / "low.mp4", display_height=162)
    assert same == label(folder / "master.y4m", folder / "low.mp4")


def test_timestamps_do_not_affect_pairing(folder: Path) -> None:
    retimed = folder / "retimed.mkv"  # two thirds of the frame rate and a later start
    copy = ["-i", str(folder / "coarse.mp4"), "-c", "copy", "-bsf:v", "setts=pts=PTS*3/2:dts=DTS*3/2"]
    run_ffmpeg([*copy, "-output_ts_offset", "0.713", str(retimed)])
    assert label(folder / "master.y4m", retimed) == label(folder / "master.y4m", folder / "coarse.mp4")


def test_equal_color_tags_do_not_change_scores(folder: Path) -> None:
    retagged = folder / "retagged.mp4"
    tags = "h264_metadata=video_full_range_flag=0:colour_primaries=1:matrix_coefficients=1"
    run_ffmpeg(["-i", str(folder / "coarse.mp4"), "-c", "copy", "-bsf:v", tags, str(retagged)])
    assert label(folder / "master.y4m", retagged) == label(folder / "master.y4m", folder / "coarse.mp4")


def test_threads_do_not_change_scores(folder: Path) -> None:
    single, double = (label(folder / "master.y4m", folder / "low.mp4", num_threads=n) for n in (1, 2))
    assert single == double


def test_ten_bit_reference_is_compared_at_ten_bit(folder: Path) -> None:
    ten = folder / "ten.mkv"
    run_ffmpeg(["-i", str(folder / "master.y4m"), "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", str(ten)])
    assert label(ten, ten).metrics["psnr"].mean == 72
    assert label(folder / "master.y4m", ten).metrics["psnr"].mean == 60


def test_frame_counts_must_agree(folder: Path) -> None:
    shorter = write_clip(folder / "shorter.y4m", frames=11)
    with pytest.raises(ValueError, match=r"shorter\.y4m' has 11 frames .*master\.y4m' has 12"):
        label(folder / "master.y4m", shorter)
    with pytest.raises(ValueError, match=r"master\.y4m' has 12 frames .*shorter\.y4m' has 11"):
        label(shorter, folder / "master.y4m")


def test_unreadable_files_raise(folder: Path) -> None:
    broken = folder / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"broken\.mp4.*Invalid data found when processing input"):
        label(folder / "master.y4m", broken)
    with pytest.raises(ValueError, match=r"absent\.y4m.*no such file"):
        label(folder / "absent.y4m", folder / "fine.mp4")


def test_small_pictures_and_vmaf_v1(folder: Path) -> None:
    for display_height in (80, 144):  # libvmaf lacks a feature at 80 and crashes at 144
        with pytest.raises(ValueError, match=f"x{display_height}, too small .* raise display_height"):
            label(folder / "master.y4m", folder / "low.mp4", display_height=display_height)


@pytest.mark.parametrize("height", [MIN_CHROMA_PX - 2, MIN_CHROMA_PX])
def test_vmaf_v1_sees_chroma_from_a_size_on(height: int, tmp_path: Path) -> None:
    rng, width, scores = np.random.default_rng(0), 480, []

    def smooth(height: int, width: int) -> NDArray[np.float64]:
        small = rng.integers(40, 216, (height // 8 + 1, width // 8), np.uint8)
        return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), float)

    luma, chroma = smooth(height, width), smooth(height, width // 2)
    noisy = luma + rng.normal(0, 12, luma.shape)  # without it the score is 100 at any chroma
    for saturation in (1.0, 0.5):
        for name, planes in (("reference", (luma, chroma)), ("distorted", (noisy, 128 + saturation * (chroma - 128)))):
            frame = b"".join(plane.clip(16, 235).astype(np.uint8).tobytes() for plane in planes)
            (tmp_path / f"{name}.yuv").write_bytes(2 * frame)
        raw = RawVideo(width, height, "yuv420p")
        labels = label(tmp_path / "reference.yuv", tmp_path / "distorted.yuv", raw=raw)
        scores.append(labels.metrics["vmaf_v1.0.16_3d0h"].mean)
    assert (scores[1] < scores[0] - 5) == (height >= MIN_CHROMA_PX)


def test_invalid_arguments_raise(folder: Path) -> None:
    master = folder / "master.y4m"
    with pytest.raises(ValueError, match=r"vmaf_v9\.9\.9.*use others, such as vmaf_v0\.6\.1"):
        label(master, master, models=["vmaf_v9.9.9"])
    for models in ([], [V0, V0], ["psnr"], [f"{V0}:x"]):
        with pytest.raises(ValueError, match="different libvmaf models"):
            label(master, master, models=models)
    with pytest.raises(ValueError, match="display_height is 1"):
        label(master, master, display_height=1)
    with pytest.raises(ValueError, match="num_threads is 0"):
        label(master, master, num_threads=0)
    with pytest.raises(ValueError, match="pass raw="):
        label(folder / "clip.yuv", master)
