"""Masters to a labeled table: resumable, and one failure loses nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import rungwise.ladder.make
from rungwise.artifact import open_artifact
from rungwise.config import Ladder, Sources
from rungwise.ladder.encode import EncodeError, EncodeSpec
from rungwise.ladder.make import (
    Rung,
    Shard,
    chosen_rungs,
    clip_name,
    ladder_rungs,
    make_ladder,
    read_failures,
    read_ladder,
)
from rungwise.ladder.sources import Master, make_masters
from rungwise.media.video import probe

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


def test_a_folder_becomes_a_table_of_labeled_encodes(folder: Path, tmp_path: Path) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    artifact = make_ladder(LADDER, masters, tmp_path)
    table = read_ladder(artifact).set_index("clip")
    assert len(table) == 2 * 5
    assert read_failures(artifact) == {}
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
    real, done = rungwise.ladder.make.encode, []

    def encode(source: Path, destination: Path, spec: EncodeSpec) -> list[str]:
        if destination.stem == "one-h264-54p-crf25-ultrafast":
            raise EncodeError(spec, "the disk is on fire")
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(destination.stem)
        return real(source, destination, spec)

    monkeypatch.setattr(rungwise.ladder.make, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        make_ladder(LADDER, masters, tmp_path, workers=1)
    assert not [path for path in (tmp_path / "ladder").iterdir() if path.suffix != ".partial"]
    done.append("past the kill")
    artifact = make_ladder(LADDER, masters, tmp_path, workers=1)
    assert len(done) == len(set(done)) == 9 + 1  # nothing was encoded twice
    assert len(read_ladder(artifact)) == 9
    assert list(read_failures(artifact)) == ["one-h264-54p-crf25-ultrafast"]
    assert "the disk is on fire" in read_failures(artifact)["one-h264-54p-crf25-ultrafast"]


def test_rungs_taller_than_the_master_are_left_out_and_none_comes_twice() -> None:
    rungs = [rung for entry in ladder_rungs(LADDER.rungs, 108) for rung in entry]
    assert len(rungs) == len(set(rungs)) == 5
    assert {rung.spec.height for rung in rungs} == {108, 54}
    assert {rung.spec.height for entry in ladder_rungs(LADDER.rungs, 271) for rung in entry} == {270, 134, 108}
    assert clip_name("a", rungs[0]) == "a-h264-108p-crf25-ultrafast"


def test_a_wrong_rung_is_named_before_any_work(tmp_path: Path) -> None:
    rungs = {"codec": "h264", "preset": "warp", "scales": [1.0], "crf": [30]}
    with pytest.raises(ValueError, match="preset is 'warp'"):
        make_ladder(LADDER.model_validate(LADDER.model_dump() | {"rungs": [rungs]}), [], tmp_path)


RICH = LADDER.model_validate(
    {
        "label": "vmaf_v0.6.1",
        "extra_labels": [],
        "sample": {"masters": 3, "others": 2},
        "rungs": [
            {"codec": "h264", "preset": "ultrafast", "scales": [0.5], "crf": [25, 45], "scalers": ["lanczos", "area"]},
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [20, 30], "bit_depth": 10},
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [24, 34], "first_crf": 40},
        ],
    }
)


def test_a_sample_holds_a_rung_of_each_entry_and_is_the_same_ever_after(tmp_path: Path) -> None:
    def chosen(content: str, origin: str) -> list[Rung]:
        return chosen_rungs(RICH, Master(content, content, tmp_path, "", origin), 108)

    rungs = chosen("one", "master")
    assert len(rungs) == 3
    assert {(rung.spec.bit_depth, rung.first is not None) for rung in rungs} == {(8, False), (10, False), (8, True)}
    assert chosen("one", "master") == rungs
    assert len({tuple(chosen(str(number), "master")) for number in range(20)}) > 10
    assert len(chosen("one", "crop mirror")) == 2


def test_rungs_beside_are_drawn_for_themselves(tmp_path: Path) -> None:
    beside = {
        "sample": {"masters": 2, "others": 1},
        "rungs": [
            {"codec": "vp8", "preset": "5", "scales": [1.0], "crf": [10, 40]},
            {"codec": "mpeg4", "preset": "simple", "scales": [1.0], "crf": [4, 12]},
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [24], "first_crf": 40},
        ],
    }
    tuned = {
        "sample": {"masters": 1, "others": 1},
        "rungs": [{"codec": "h264", "preset": "ultrafast", "tune": "psnr", "scales": [1.0], "crf": [30, 40]}],
    }
    both, three = (RICH.model_validate(RICH.model_dump() | {"beside": kinds}) for kinds in ([beside], [beside, tuned]))
    for name in "abcdef":
        master = Master(name, name, tmp_path, "", "master")
        own, more = chosen_rungs(RICH, master, 108), chosen_rungs(both, master, 108)
        assert more[: len(own)] == own
        assert len(set(more)) == len(more) <= len(own) + 2  # one drawn twice is there once
        assert len(chosen_rungs(both, Master(name, name, tmp_path, "", "crop"), 108)) <= 3
        last = chosen_rungs(three, master, 108)[len(more) :]
        assert [rung.spec.tune for rung in last] == ["psnr"]
        assert chosen_rungs(three, master, 108)[: len(more)] == more
        assert clip_name("a", last[0]) == f"a-h264-108p-crf{last[0].spec.crf}-ultrafast-psnr"
    for change, words in (
        ({"preset": "warp"}, "preset is 'warp'"),
        ({"tune": "psnr"}, "tune is 'psnr'; for vp8 .* out"),
    ):
        wrong = {"codec": "vp8", "preset": "5", "scales": [1.0], "crf": [30]} | change
        config = RICH.model_validate(RICH.model_dump() | {"beside": [beside | {"rungs": [wrong]}]})
        with pytest.raises(ValueError, match=words):
            make_ladder(config, [], tmp_path)


def test_scaler_depth_and_a_first_generation_reach_the_encode(folder: Path, tmp_path: Path) -> None:
    config = RICH.model_copy(update={"sample": None})
    [master, _] = make_masters(Sources(folder=folder), tmp_path)
    table = read_ladder(make_ladder(config, [master], tmp_path)).set_index("clip")
    assert len(table) == 8
    lanczos, area = (table.loc[f"one-h264-54p-crf25-ultrafast-{scaler}"] for scaler in ("lanczos", "area"))
    assert lanczos["video_sha256"] != area["video_sha256"]
    assert (lanczos["scaler"], area["scaler"]) == ("lanczos", "area")
    deep = table.loc["one-h264-108p-crf20-ultrafast-10bit"]
    assert (deep["bit_depth"], probe(Path(deep["path"])).bit_depth) == (10, 10)
    again, plain = table.loc["one-h264-108p-crf24-ultrafast-after40"], deep
    assert again["first_crf"] == 40
    assert again["score"] < plain["score"] - 3  # it can be no better than the encode it was made from


def test_shards_merge_to_the_very_ladder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    whole = make_ladder(LADDER, masters, tmp_path / "alone")
    for number in (1, 2, 3):
        make_ladder(LADDER, masters, tmp_path / f"host{number}", shard=Shard(number, 3))
    farm = tmp_path / "farm"
    for number in (1, 2, 3):
        shutil.copytree(tmp_path / f"host{number}" / "ladder-shard", farm / "ladder-shard", dirs_exist_ok=True)
    assert sorted(len(read_ladder(open_artifact(path))) for path in (farm / "ladder-shard").iterdir()) == [3, 3, 4]

    def encode(*_: object) -> None:
        raise AssertionError("a shard holds it")

    monkeypatch.setattr(rungwise.ladder.make, "encode", encode)
    merged = make_ladder(LADDER, masters, farm)
    assert merged.id == whole.id
    assert merged.content_sha256 == whole.content_sha256


def test_a_shard_whose_bytes_changed_is_refused_and_one_of_another_ladder_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    shard = make_ladder(LADDER, masters, tmp_path, shard=Shard(1, 3))
    other = LADDER.model_copy(update={"label": "vmaf_v0.6.1neg"})
    assert len(read_ladder(make_ladder(other, masters, tmp_path))) == 10
    assert "a shard of another ladder" in capsys.readouterr().err
    next((shard.path / "encodes").glob("*.mp4")).write_bytes(b"half")
    with pytest.raises(ValueError, match="bytes differ from the manifest"):
        make_ladder(LADDER, masters, tmp_path)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "/"])
def test_a_share_is_two_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="no share"):
        Shard.parse(text)
    assert Shard.parse("2/8") == Shard(2, 8)
