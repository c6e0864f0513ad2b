"""Masters to a labelled table: resumable, and one failure loses nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rungwise.ladder
from rungwise.config import Ladder, Sources
from rungwise.encode import EncodeError, EncodeSpec
from rungwise.ladder import (
    clip_name,
    find_unlabelled,
    ladder_specs,
    make_ladder,
    make_masters,
    read_failures,
    read_ladder,
)
from rungwise.video import rgb_frames, timestamps_seconds

LADDER = Ladder.model_validate(
    {
        "label": "vmaf_v0.6.1",
        "extra_labels": [],
        "rungs": [
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0, 0.5], "crf": [25, 45]},
            {"codec": "h264", "preset": "ultrafast", "heights": [108, 1080], "bitrate_kbps": [200]},
        ],
    }
)


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    """A user's folder with two masters."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(master, folder / "one.mkv")
    shutil.copy(master, folder / "two.mkv")
    return folder


def test_a_folder_becomes_a_table_of_labelled_encodes(folder: Path, tmp_path: Path) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    artefact = make_ladder(LADDER, masters, tmp_path)
    table = read_ladder(artefact).set_index("clip")
    assert len(table) == 2 * 5
    assert read_failures(artefact) == {}
    assert all(Path(path).is_file() for path in table["path"])
    better, worse = table.loc["one-h264-108p-crf25-ultrafast"], table.loc["one-h264-108p-crf45-ultrafast"]
    assert better["score"] > worse["score"]
    assert better["psnr_mean"] > worse["psnr_mean"]
    assert better["ssim_mean"] > worse["ssim_mean"]
    assert better["bitrate_kbps"] > worse["bitrate_kbps"]
    half = table.loc["two-h264-54p-crf25-ultrafast"]
    assert (half["width"], half["height"], half["display_height"]) == (96, 54, 108)
    assert half["score_min_frame"] <= half["score_harmonic_mean"] <= half["score"]
    assert table.loc["two-h264-108p-200k-ultrafast", "rate_control"] == "bitrate=200k"
    kept = json.loads(Path(better["path"]).with_suffix(".json").read_text())
    assert "-crf" in kept["command"]
    assert "{source}" in kept["command"]
    assert make_ladder(LADDER, masters, tmp_path).hit


def test_a_failed_encode_is_named_and_a_killed_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    real, done = rungwise.ladder.encode, []

    def encode(source: Path, destination: Path, spec: EncodeSpec) -> list[str]:
        if destination.stem == "one-h264-54p-crf25-ultrafast":
            raise EncodeError(spec, "the disk is on fire")
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(destination.stem)
        return real(source, destination, spec)

    monkeypatch.setattr(rungwise.ladder, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        make_ladder(LADDER, masters, tmp_path, workers=1)
    assert not [path for path in (tmp_path / "ladder").iterdir() if path.suffix != ".partial"]
    done.append("past the kill")
    artefact = make_ladder(LADDER, masters, tmp_path, workers=1)
    assert len(done) == len(set(done)) == 9 + 1  # nothing was encoded twice
    assert len(read_ladder(artefact)) == 9
    assert list(read_failures(artefact)) == ["one-h264-54p-crf25-ultrafast"]
    assert "the disk is on fire" in read_failures(artefact)["one-h264-54p-crf25-ultrafast"]


def test_rungs_taller_than_the_master_are_left_out_and_none_comes_twice() -> None:
    specs = ladder_specs(LADDER, 108)
    assert len(specs) == len(set(specs)) == 5
    assert {spec.height for spec in specs} == {108, 54}
    assert {spec.height for spec in ladder_specs(LADDER, 271)} == {270, 134, 108}
    assert clip_name("a", specs[0]) == "a-h264-108p-crf25-ultrafast"


def test_mistakes_in_sources_and_rungs_are_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        make_masters(Sources(folder=tmp_path / "absent"), tmp_path)
    with pytest.raises(ValueError, match="holds no video"):
        make_masters(Sources(folder=tmp_path), tmp_path)
    size = {"width": 64, "height": 64, "num_frames": 2, "fps": 10.0}
    with pytest.raises(ValueError, match="no scene 'nowhere'"):
        make_masters(Sources(builtin=("nowhere",), **size), tmp_path)
    rungs = {"codec": "h264", "preset": "warp", "scales": [1.0], "crf": [30]}
    with pytest.raises(ValueError, match="preset is 'warp'"):
        make_ladder(LADDER.model_validate(LADDER.model_dump() | {"rungs": [rungs]}), [], tmp_path)


def test_builtin_masters_are_an_artefact(tmp_path: Path) -> None:
    sources = Sources(builtin=("screen_a", "fog_a"), width=64, height=64, num_frames=2, fps=10.0)
    first = make_masters(sources, tmp_path)
    assert [master.content for master in first] == ["screen_a", "fog_a"]
    assert make_masters(sources, tmp_path) == first
    assert len(list((tmp_path / "masters").iterdir())) == 1


def test_a_run_killed_while_rendering_leaves_no_lock_behind(tmp_path: Path) -> None:
    size = {"width": 64, "height": 64, "num_frames": 400, "fps": 10.0}
    script = (
        "import sys; from pathlib import Path; from rungwise.config import Sources; "
        "from rungwise.ladder import make_masters; "
        f"make_masters(Sources(builtin=('screen_a', 'fog_a'), **{size}), Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment, start_new_session=True)
    while not list((tmp_path / "masters").glob("*.partial/*.partial.mkv")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    masters = make_masters(Sources(builtin=("screen_a", "fog_a"), **size), tmp_path)
    assert [path.name for path in masters[0].path.parent.iterdir()].count("manifest.json") == 1


def test_groups_keep_contents_that_share_footage_together(folder: Path, tmp_path: Path) -> None:
    masters = make_masters(Sources(folder=folder, groups={"pair": ("one", "two")}), tmp_path)
    assert [(master.content, master.group) for master in masters] == [("one", "pair"), ("two", "pair")]
    with pytest.raises(ValueError, match=r"groups\.pair: no content 'three' among the 2 masters"):
        make_masters(Sources(folder=folder, groups={"pair": ("one", "three")}), tmp_path)
    with pytest.raises(ValueError, match=r"groups\.b: 'one' is in two groups"):
        make_masters(Sources(folder=folder, groups={"a": ("one",), "b": ("one",)}), tmp_path)


def test_masters_cut_to_their_first_frames_lose_nothing_else(folder: Path, master: Path, tmp_path: Path) -> None:
    cut = make_masters(Sources(folder=folder, num_frames=5), tmp_path)
    assert [path.content for path in cut] == ["one", "two"]
    whole = dict(rgb_frames(master, range(5)))
    short = dict(rgb_frames(cut[0].path, range(5)))
    assert len(timestamps_seconds(cut[0].path)) == 5
    assert all((whole[index] == short[index]).all() for index in range(5))


def test_an_unlabelled_video_may_not_be_called_like_a_master(folder: Path, clip: Path, tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    (found / "one.mp4").symlink_to(clip)
    sources = Sources(folder=folder, unlabelled=found)
    with pytest.raises(ValueError, match="'one' is a master's name too"):
        find_unlabelled(sources, make_masters(sources, tmp_path))
    with pytest.raises(ValueError, match=r"sources\.unlabelled: .* is not a folder"):
        find_unlabelled(Sources(folder=folder, unlabelled=tmp_path / "absent"), [])
