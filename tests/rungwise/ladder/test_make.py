"""Ladders from masters: labels, resuming, failures, samples and shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import rungwise.ladder.encode
import rungwise.ladder.make
from rungwise.config import Ladder, Sources
from rungwise.ladder.encode import EncodeError, EncodeSpec
from rungwise.ladder.make import (
    Rung,
    clip_name,
    ladder_rungs,
    make_ladder,
    missing_shards,
    read_failures,
    read_ladder,
    rungs_of_master,
)
from rungwise.ladder.shards import Shard
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


def test_ladder_of_a_folder(folder: Path, tmp_path: Path) -> None:
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
    record = json.loads(Path(better["path"]).with_suffix(".json").read_text())
    assert "-crf" in record["command"]
    assert "{source}" in record["command"]
    assert make_ladder(LADDER, masters, tmp_path).hit


def test_failed_encode_is_reported_and_interrupted_run_resumes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)
    original_encode, encoded = rungwise.ladder.encode.encode, list[str]()

    def encode(source: Path, destination: Path, spec: EncodeSpec) -> list[str]:
        if destination.stem == "one-h264-54p-crf25-ultrafast":
            raise EncodeError(spec, "encoder crashed")
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(destination.stem)
        return original_encode(source, destination, spec)

    monkeypatch.setattr(rungwise.ladder.make, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        make_ladder(LADDER, masters, tmp_path, workers=1)
    assert not [path for path in (tmp_path / "ladder").iterdir() if path.suffix != ".partial"]
    encoded.append("resumed")
    artifact = make_ladder(LADDER, masters, tmp_path, workers=1)
    assert len(encoded) == len(set(encoded)) == 9 + 1  # nothing was encoded twice
    assert len(read_ladder(artifact)) == 9
    assert list(read_failures(artifact)) == ["one-h264-54p-crf25-ultrafast"]
    assert "encoder crashed" in read_failures(artifact)["one-h264-54p-crf25-ultrafast"]


def test_encodes_too_small_for_all_of_vmaf_v1_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ((1280, 720, 720), (640, 360, 318), (360, 640, 570), (180, 320, 570))  # the last two are 320 wide
    rows = [
        {"width": width, "height": height, "display_height": lines, "score": 80.0} for width, height, lines in sizes
    ]
    rungwise.ladder.make.warn_of_small_pictures("vmaf_v1.0.16_3d0h", [*rows, rows[1] | {"score": None}])
    assert "1 of 4 encodes" in capsys.readouterr().err
    rungwise.ladder.make.warn_of_small_pictures("vmaf_v0.6.1", rows)
    assert not capsys.readouterr().err


def test_rungs_are_unique_and_not_taller_than_the_master() -> None:
    rungs = [rung for rungs in ladder_rungs(LADDER.rungs, 108) for rung in rungs]
    assert len(rungs) == len(set(rungs)) == 5
    assert {rung.spec.height for rung in rungs} == {108, 54}
    assert {rung.spec.height for rungs in ladder_rungs(LADDER.rungs, 271) for rung in rungs} == {270, 134, 108}
    assert clip_name("a", rungs[0]) == "a-h264-108p-crf25-ultrafast"


def test_invalid_rung_raises_before_any_work(tmp_path: Path) -> None:
    rungs = {"codec": "h264", "preset": "warp", "scales": [1.0], "crf": [30]}
    with pytest.raises(ValueError, match="preset is 'warp'"):
        make_ladder(LADDER.model_validate(LADDER.model_dump() | {"rungs": [rungs]}), [], tmp_path)


SAMPLED_LADDER = LADDER.model_validate(
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


def test_sample_covers_all_rung_lists_and_is_reproducible(tmp_path: Path) -> None:
    def sampled(content: str, origin: str) -> list[Rung]:
        return rungs_of_master(SAMPLED_LADDER, Master(content, content, tmp_path, "", origin), 108)

    rungs = sampled("one", "master")
    assert len(rungs) == 3
    assert {(rung.spec.bit_depth, rung.first is not None) for rung in rungs} == {(8, False), (10, False), (8, True)}
    assert sampled("one", "master") == rungs
    assert len({tuple(sampled(str(number), "master")) for number in range(20)}) > 10
    assert len(sampled("one", "crop mirror")) == 2


def test_rungs_beside_are_sampled_separately(tmp_path: Path) -> None:
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
    one_sample, two_samples = (
        SAMPLED_LADDER.model_validate(SAMPLED_LADDER.model_dump() | {"beside": kinds})
        for kinds in ([beside], [beside, tuned])
    )
    for name in "abcdef":
        master = Master(name, name, tmp_path, "", "master")
        base, extended = rungs_of_master(SAMPLED_LADDER, master, 108), rungs_of_master(one_sample, master, 108)
        assert extended[: len(base)] == base
        assert len(set(extended)) == len(extended) <= len(base) + 2  # a rung sampled twice is kept once
        assert len(rungs_of_master(one_sample, Master(name, name, tmp_path, "", "crop"), 108)) <= 3
        last = rungs_of_master(two_samples, master, 108)[len(extended) :]
        assert [rung.spec.tune for rung in last] == ["psnr"]
        assert rungs_of_master(two_samples, master, 108)[: len(extended)] == extended
        assert clip_name("a", last[0]) == f"a-h264-108p-crf{last[0].spec.crf}-ultrafast-psnr"
    for change, words in (
        ({"preset": "warp"}, "preset is 'warp'"),
        ({"tune": "psnr"}, "tune is 'psnr'; for vp8 .* out"),
    ):
        invalid = {"codec": "vp8", "preset": "5", "scales": [1.0], "crf": [30]} | change
        config = SAMPLED_LADDER.model_validate(
            SAMPLED_LADDER.model_dump() | {"beside": [beside | {"rungs": [invalid]}]}
        )
        with pytest.raises(ValueError, match=words):
            make_ladder(config, [], tmp_path)


def test_scaler_bit_depth_and_first_encode_are_applied(folder: Path, tmp_path: Path) -> None:
    config = SAMPLED_LADDER.model_copy(update={"sample": None})
    [master, _] = make_masters(Sources(folder=folder), tmp_path)
    table = read_ladder(make_ladder(config, [master], tmp_path)).set_index("clip")
    assert len(table) == 8
    lanczos, area = (table.loc[f"one-h264-54p-crf25-ultrafast-{scaler}"] for scaler in ("lanczos", "area"))
    assert lanczos["video_sha256"] != area["video_sha256"]
    assert (lanczos["scaler"], area["scaler"]) == ("lanczos", "area")
    ten_bit = table.loc["one-h264-108p-crf20-ultrafast-10bit"]
    assert (ten_bit["bit_depth"], probe(Path(ten_bit["path"])).bit_depth) == (10, 10)
    re_encode = table.loc["one-h264-108p-crf24-ultrafast-after40"]
    assert re_encode["first_crf"] == 40
    assert re_encode["score"] < ten_bit["score"] - 3  # limited by the quality of the first encode


def test_merged_shards_equal_the_ladder_and_missing_ones_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = make_masters(Sources(folder=folder), tmp_path)[:1]
    unsharded = make_ladder(LADDER, masters, tmp_path / "unsharded")
    farm = tmp_path / "farm"  # shared by all tasks
    parts = [make_ladder(LADDER, masters, farm, shard=Shard(number, 3)) for number in (1, 3)]
    assert missing_shards(LADDER, masters, farm, 3) == [1]
    parts.append(make_ladder(LADDER, masters, farm, shard=Shard(2, 3)))
    assert missing_shards(LADDER, masters, farm, 3) == []
    clips = [path.stem for part in parts for path in (part.path / "encodes").glob("*.json")]
    assert sorted(clips) == sorted(read_ladder(unsharded)["clip"])

    renamed_soon = parts[0].path.with_name("0.partial")
    shutil.copytree(parts[0].path, renamed_soon)
    next((renamed_soon / "encodes").glob("*.mp4")).unlink()

    def encode(*_: object) -> None:
        raise AssertionError("a shard has this clip")

    monkeypatch.setattr(rungwise.ladder.make, "encode", encode)
    merged = make_ladder(LADDER, masters, farm)
    assert merged.id == unsharded.id
    assert merged.content_sha256 == unsharded.content_sha256


def test_shards_serve_ladders_with_other_rungs_but_not_other_labels_and_changed_bytes_raise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = make_masters(Sources(folder=folder), tmp_path)
    shard = make_ladder(LADDER, [one], tmp_path, shard=Shard(1, 1))
    encoded: list[str] = []
    original_encode = rungwise.ladder.encode.encode

    def encode(source: Path, destination: Path, spec: EncodeSpec) -> list[str]:
        encoded.append(destination.stem)
        return original_encode(source, destination, spec)

    monkeypatch.setattr(rungwise.ladder.make, "encode", encode)
    rungs = {"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [25, 30]}
    changed = LADDER.model_validate(LADDER.model_dump() | {"rungs": [rungs]})
    make_ladder(changed, [one], tmp_path)
    assert encoded == ["one-h264-108p-crf30-ultrafast"]
    other_bytes = Master("one", "one", one.path, "0" * 64)
    make_ladder(changed, [other_bytes], tmp_path, shard=Shard(1, 1))
    assert len(encoded) == 1 + 2
    make_ladder(changed.model_copy(update={"label": "vmaf_v0.6.1neg"}), [one], tmp_path)
    assert len(encoded) == 1 + 2 + 2
    assert "a shard of another ladder" in capsys.readouterr().err
    for pattern in ("*.mp4", "*.json"):
        next((shard.path / "encodes").glob(pattern)).write_bytes(b"{")  # of a copy that was cut short
        with pytest.raises(ValueError, match="bytes differ from the manifest"):
            make_ladder(LADDER, [one], tmp_path)
