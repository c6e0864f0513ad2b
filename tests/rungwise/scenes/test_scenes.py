"""Procedural masters: reproducible pixels, natural-image statistics, motion, and tagged files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from rungwise import scenes
from rungwise.cli import app

SMALL = {"width": 128, "height": 72}


def clip(name: str, count: int = 3, **size: int) -> NDArray[np.uint8]:
    return np.stack(list(scenes.render(name, num_frames=count, **(size or SMALL))))


@pytest.fixture(scope="module")
def clips() -> dict[str, NDArray[np.uint8]]:
    return {name: clip(name) for name in scenes.SCENES}


def test_number_of_scenes_and_families() -> None:
    assert len(scenes.SCENES) >= 32
    assert {scene.family for scene in scenes.SCENES.values()} == set(scenes.FAMILIES)
    assert len(scenes.FAMILIES) >= 8
    assert all(name == scene.name for name, scene in scenes.SCENES.items())


def test_frames_vary_in_space_and_time(clips: dict[str, NDArray[np.uint8]]) -> None:
    for name, frames in clips.items():
        assert frames.shape == (3, 72, 128, 3), name
        assert frames.dtype == np.uint8, name
        luma = frames.astype(np.float64).mean(axis=3).reshape(3, -1)
        assert luma.std(axis=1).min() > 2, name
        for before, after in pairwise(luma):
            assert np.abs(after - before).max() > 0, name
            assert np.corrcoef(before, after)[0, 1] > 0.5, name


def test_borders_are_not_black(clips: dict[str, NDArray[np.uint8]]) -> None:
    for name, frames in clips.items():
        for edge in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]):
            assert edge.max() > 12, name


@pytest.mark.parametrize("family", scenes.FAMILIES)
def test_numbered_scenes_have_random_parameters(family: str) -> None:
    numbered = [scenes.find_scene(f"{family}_{number}") for number in range(1, 30)]
    assert {scene.family for scene in numbered} == {family}
    assert {scene.variant for scene in numbered} == {0, 1, 2, 3}
    assert len({(scene.seed, scene.detail, scene.contrast, scene.speed) for scene in numbered}) == 29
    assert min(scene.blur for scene in numbered) == min(scene.noise for scene in numbered) == 0
    assert clip(f"{family}_7", 1).std() > 2
    for unknown in (f"{family}_0", f"{family}_07", f"{family}_x", family, "sea_1"):
        with pytest.raises(ValueError, match=f"no scene '{unknown}'; names are FAMILY_a to"):
            scenes.find_scene(unknown)


def test_scenes_differ(clips: dict[str, NDArray[np.uint8]]) -> None:
    first_frames = {frames[0].tobytes() for frames in clips.values()}
    assert len(first_frames) == len(scenes.SCENES)


@pytest.mark.parametrize("family", scenes.FAMILIES)
def test_pixels_are_reproducible_and_independent_of_duration(family: str) -> None:
    name = f"{family}_b"
    first = clip(name, 3)
    assert np.array_equal(first, clip(name, 3))
    assert np.array_equal(first[:2], clip(name, 2))


@pytest.mark.parametrize("family", ["dead_leaves", "landscape", "street", "foliage", "fog"])
def test_natural_families_have_falling_power_spectra(family: str) -> None:
    h, w = 144, 256
    luma = clip(f"{family}_a", 1, width=w, height=h)[0].astype(np.float64).mean(axis=2)
    window = np.hanning(h)[:, None] * np.hanning(w)[None, :]
    power = np.abs(np.fft.fft2((luma - luma.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :])
    edges = np.geomspace(0.02, 0.35, 10)
    band = np.digitize(frequency.ravel(), edges)
    radial = (np.bincount(band, power.ravel()) / np.bincount(band))[1:10]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(radial), 1)[0]
    assert -3.5 < slope < -1.2  # about -2 for photographs, lower for soft ones


def test_master_has_its_color_tags(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mkv", tmp_path / "b.mkv"
    for path in (first, second):
        scenes.write_master("gradient_a", path, width=128, height=72, num_frames=5, fps=25.0)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]
    with av.open(str(first)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "ffv1"
        assert stream.average_rate == 25
        frames = list(container.decode(stream))
    assert len(frames) == 5
    for frame in frames:
        assert (frame.width, frame.height, frame.format.name) == (128, 72, "yuv420p")
        # H.273: matrix, primaries and transfer 1 are BT.709; range 1 is limited (MPEG)
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
    luma = frames[0].to_ndarray()[:72].astype(np.float64)
    rgb = clip("gradient_a", 1)[0].astype(np.float64)
    expected = 16 + 219 / 255 * (rgb @ [0.2126, 0.7152, 0.0722])
    assert np.abs(luma - expected).max() <= 1.01


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file or directory"):
        scenes.write_master("gradient_a", tmp_path / "no" / "a.mkv", width=128, height=72, num_frames=2, fps=24.0)
    assert not list(tmp_path.iterdir())


def test_invalid_arguments_raise_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"no scene 'nothing'.*night_city.*water"):
        scenes.render("nothing")
    with pytest.raises(ValueError, match="cannot render"):
        scenes.render("fog_a", num_frames=0)
    with pytest.raises(ValueError, match="cannot render"):
        scenes.render("fog_a", width=32)


def test_command_rejects_an_unknown_scene_before_rendering(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["masters", str(tmp_path / "out"), "fog_a", "nothing", "--frames", "1"])
    assert result.exit_code == 1
    assert "no scene 'nothing'" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_contact_sheet_has_one_row_per_scene(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    scenes.contact_sheet(["gradient_b", "screen_a"], path, width=128, height=72, num_frames=3)
    with Image.open(path) as sheet:
        assert sheet.size == (3 * 128, 2 * (72 + 18))
