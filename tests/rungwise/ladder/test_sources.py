"""All origins of masters: cut, rendered, varied, and pan/zoom clips from stills; all reproducible."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rungwise.config import Sources
from rungwise.ladder.sources import find_unlabelled, make_masters
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import probe, rgb_frames
from rungwise.scenes.camera import pan_zoom_frames
from rungwise.scenes.variants import draw_variant

SIZE: dict[str, Any] = {"width": 64, "height": 64, "num_frames": 2, "fps": 10.0}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with one still."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC).save(folder / "hill.png")
    return folder


def test_invalid_sources_raise_before_any_work(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is not a folder"):
        make_masters(Sources(folder=tmp_path / "absent"), tmp_path)
    with pytest.raises(ValueError, match="has no video"):
        make_masters(Sources(folder=tmp_path / "empty"), tmp_path)
    with pytest.raises(ValueError, match="has no picture"):
        make_masters(Sources(photographs=tmp_path / "empty", shots=((64, 64),), **SIZE), tmp_path)
    with pytest.raises(ValueError, match="no scene 'nowhere'"):
        make_masters(Sources(builtin=("nowhere",), **SIZE), tmp_path)
    with pytest.raises(ValueError, match="600x400, smaller than the video, 640x360"):
        list(pan_zoom_frames(pictures / "hill.png", 0, width=640, height=360, num_frames=1, fps=24))
    (pictures / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match="not a picture"):
        list(pan_zoom_frames(pictures / "text.jpg", 0, width=64, height=64, num_frames=1, fps=24))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "give `builtin`, `more_scenes`, `folder`, `photographs` or `dataset`"),
        ({"photographs": "x", **SIZE}, "`photographs` and `shots` go together"),
        ({"photographs": "x", "shots": [[64, 64]]}, "photographs need num_frames, fps"),
        ({"builtin": "all", "num_frames": 2}, "built-in scenes need width, height, fps"),
        ({"builtin": "all", "variants": 2, **SIZE}, "`variants` need `folder` and `num_frames`"),
    ],
)
def test_missing_settings_raise(sources: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sources.model_validate(sources)


def test_all_origins_in_one_run(folder: Path, pictures: Path, tmp_path: Path) -> None:
    sources = Sources(folder=folder, photographs=pictures, shots=((64, 64), (64, 64)), builtin=("fog_a",), **SIZE)
    masters = make_masters(sources, tmp_path)
    assert [(master.content, master.group, master.origin) for master in masters] == [
        ("one", "one", "master"),
        ("two", "two", "master"),
        ("fog_a", "fog_a", "builtin"),
        ("hill~1", "hill", "photograph"),
        ("hill~2", "hill", "photograph"),
    ]
    assert make_masters(sources, tmp_path) == masters
    for master in masters[2:]:
        video = probe(master.path)
        assert (video.width, video.height, len(timestamps_seconds(master.path))) == (64, 64, 2)
    assert masters[3].sha256 != masters[4].sha256
    grouped = make_masters(sources.model_copy(update={"groups": {"mine": ("one", "hill")}}), tmp_path)
    assert {master.content for master in grouped if master.group == "mine"} == {"one", "hill~1", "hill~2"}
    (pictures / "fog_a.png").symlink_to(pictures / "hill.png")
    shutil.copy(folder / "one.mkv", folder / "fog_a.mkv")
    with pytest.raises(ValueError, match="two masters are named 'fog_a'"):
        make_masters(sources, tmp_path)


def test_stills_smaller_than_a_clip_are_skipped(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(pictures / "hill.png") as hill:
        exif = hill.getexif()
        exif[0x0112] = 6  # rotated by 90 degrees: 400x600
        hill.convert("RGB").save(pictures / "tall.jpg", exif=exif)
    sources = Sources(photographs=pictures, shots=((64, 64), (480, 270)), num_frames=2, fps=12)
    masters = make_masters(sources, tmp_path)
    sizes = {master.content: (probe(master.path).width, probe(master.path).height) for master in masters}
    assert sizes == {"hill~1": (64, 64), "hill~2": (480, 270), "tall~1": (64, 64)}
    assert "no tall~2: the still is 400x600, the clip 480x270" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"every still of .* is smaller than all sizes in sources.shots"):
        make_masters(sources.model_copy(update={"shots": ((1920, 1080),)}), tmp_path)


def test_a_still_little_larger_than_the_clip_is_filmed(tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    Image.new("RGB", (64, 29)).save(still)  # 29 / 27 * 27 is a little above 29
    assert len(list(pan_zoom_frames(still, 0, width=48, height=27, num_frames=2, fps=24))) == 2


def test_camera_moves_and_is_reproducible(pictures: Path) -> None:
    def shot(seed: int) -> list[np.ndarray]:
        return list(pan_zoom_frames(pictures / "hill.png", seed, width=64, height=48, num_frames=3, fps=10))

    shots = [shot(seed) for seed in range(12)]
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frames in shots for frame in frames)
    assert all((a == b).all() for a, b in zip(shots[3], shot(3), strict=True))
    is_static = [bool((frames[0] == frames[-1]).all()) for frames in shots]
    assert not all(is_static)


def test_variants_share_the_group_of_their_master_and_exclude_held_out_ones(folder: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for name in ("one", "two"):
        command = [sys.executable, "-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"]
        ffmpeg = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        options = f"-v error -f lavfi -i testsrc2=s=320x240:r=12:d=2 -c:v ffv1 {large / name}.mkv"
        subprocess.run([ffmpeg, *options.split()], check=True)
    sources = Sources(folder=large, num_frames=6, variants=3)
    masters = make_masters(sources, tmp_path, held_out=["two"])
    assert [master.content for master in masters] == ["one", "two", "one~1", "one~2", "one~3"]
    varied = masters[2:]
    assert {master.group for master in varied} == {"one"}
    assert all(master.origin.startswith("crop") for master in varied)
    assert len({master.sha256 for master in varied}) == 3
    for master in varied:
        video = probe(master.path)
        assert 256 <= video.width <= 320
        assert 200 <= video.height <= 240
        assert len(timestamps_seconds(master.path)) == 6
    assert make_masters(sources, tmp_path, held_out=["two"]) == masters
    grouped = sources.model_copy(update={"groups": {"pair": ("one", "two")}})
    assert (
        len(make_masters(grouped, tmp_path, held_out=["two"])) == 2
    )  # the group of a held-out content gets no variants


def test_all_kinds_of_variants_occur_and_short_masters_are_not_sped_up() -> None:
    variants = [draw_variant(seed, width=640, height=360, available=100, num_frames=40) for seed in range(80)]
    kinds = [set(variant.kinds.split()) for variant in variants]
    assert set().union(*kinds) == {"crop", "fast", "mirror", "reverse", "grade", "blur", "grain", "enlarged"}
    assert all("crop" in names for names in kinds)
    for variant in variants:  # crop, then enlarge, then grain, so that grain is not enlarged
        names = [part.partition("=")[0] for part in variant.filters.split(",")]
        assert ("scale" in names) == ("enlarged" in variant.kinds)
        if "scale" in names:
            assert names.index("scale") == names.index("crop") + 1
            width, height = map(int, variant.filters.partition("scale=")[2].split(":")[:2])
            assert width % 2 == height % 2 == 0
            assert height <= 1080
    short = [draw_variant(seed, width=640, height=360, available=41, num_frames=40) for seed in range(80)]
    assert not any("fast" in variant.kinds for variant in short)


def test_builtin_masters_are_an_artifact(tmp_path: Path) -> None:
    sources = Sources(builtin=("screen_a", "fog_a"), width=64, height=64, num_frames=2, fps=10.0)
    first = make_masters(sources, tmp_path)
    assert [master.content for master in first] == ["screen_a", "fog_a"]
    assert make_masters(sources, tmp_path) == first
    assert len(list((tmp_path / "masters").iterdir())) == 1


def test_more_scenes_of_a_family(tmp_path: Path) -> None:
    size: dict[str, Any] = {"width": 64, "height": 64, "num_frames": 2, "fps": 10.0}
    masters = make_masters(Sources(builtin=("fog_a", "water_2"), more_scenes={"water": 2}, **size), tmp_path)
    assert [(master.content, master.origin) for master in masters] == [
        ("fog_a", "builtin"), ("water_2", "builtin"), ("water_1", "builtin")
    ]  # fmt: skip
    assert len({master.sha256 for master in masters}) == 3
    with pytest.raises(ValueError, match=r"sources\.more_scenes: no family 'sea'; the families are dead_leaves"):
        make_masters(Sources(more_scenes={"sea": 2}, **size), tmp_path)
    with pytest.raises(ValueError, match="built-in scenes need width, height, num_frames, fps"):
        Sources(more_scenes={"water": 2})


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_rendering_leaves_no_lock_and_no_worker(tmp_path: Path) -> None:
    size: dict[str, Any] = {"width": 64, "height": 64, "num_frames": 400, "fps": 10.0}
    script = (
        "import sys; from pathlib import Path; from rungwise.config import Sources; "
        "from rungwise.ladder.sources import make_masters; "
        f"make_masters(Sources(builtin=('screen_a', 'fog_a'), **{size}), Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment, start_new_session=True)
    while not list((tmp_path / "masters").glob("*.partial/*.partial.mkv")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(600):
        if not group_is_alive(process.pid):
            break
        time.sleep(0.1)
    assert not group_is_alive(process.pid)
    masters = make_masters(Sources(builtin=("screen_a", "fog_a"), **size), tmp_path)
    assert [path.name for path in masters[0].path.parent.iterdir()].count("manifest.json") == 1


def test_groups_of_contents(folder: Path, tmp_path: Path) -> None:
    masters = make_masters(Sources(folder=folder, groups={"pair": ("one", "two")}), tmp_path)
    assert [(master.content, master.group) for master in masters] == [("one", "pair"), ("two", "pair")]
    with pytest.raises(ValueError, match=r"groups\.pair: no content 'three' among the 2 masters"):
        make_masters(Sources(folder=folder, groups={"pair": ("one", "three")}), tmp_path)
    with pytest.raises(ValueError, match=r"groups\.b: 'one' is in two groups"):
        make_masters(Sources(folder=folder, groups={"a": ("one",), "b": ("one",)}), tmp_path)


def test_cut_masters_are_lossless(folder: Path, master: Path, tmp_path: Path) -> None:
    cut = make_masters(Sources(folder=folder, num_frames=5), tmp_path)
    assert [path.content for path in cut] == ["one", "two"]
    original = dict(rgb_frames(master, range(5)))
    shortened = dict(rgb_frames(cut[0].path, range(5)))
    assert len(timestamps_seconds(cut[0].path)) == 5
    assert all((original[index] == shortened[index]).all() for index in range(5))


def test_unlabelled_video_with_the_name_of_a_master_raises(folder: Path, clip: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "one.mp4").symlink_to(clip)
    sources = Sources(folder=folder, unlabelled=videos)
    with pytest.raises(ValueError, match="'one' is also the name of a master"):
        find_unlabelled(sources, make_masters(sources, tmp_path))
    with pytest.raises(ValueError, match=r"sources\.unlabelled: .* is not a folder"):
        find_unlabelled(Sources(folder=folder, unlabelled=tmp_path / "absent"), [])
