"""The soft-target cache: resume by shard, replayed views, mismatches by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rungwise.artefact import Artefact, StageKey, run_stage
from rungwise.views import View
from teacher.cache import read_cache, write_cache

CLIPS = [f"clip{number}" for number in range(5)]
PIXELS = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 1, 2, 2, 1)
VIEWS = {
    clip: [
        View(
            display_width=64,
            display_height=36,
            frame_indices=(0,),
            timestamps_seconds=(0.0,),
            patch_px=8,
            corners_yx=((number, 0),),
            seed=f"{clip}{number}",
        )
        for number in range(2)
    ]
    for clip in CLIPS
}


def judge(pixels: np.ndarray) -> dict[str, np.ndarray]:
    scores = pixels.reshape(len(pixels), 2, -1).mean(-1).astype(np.float32)
    return {
        "scores": scores,
        "levels": scores[..., None].repeat(3, -1),
        "features": scores[..., None].astype(np.float16),
    }


def build(runs: Path, judge=judge) -> Artefact:  # type: ignore[no-untyped-def]
    key = StageKey("cache", 1, {"clips_per_shard": 2}, {})
    return run_stage(runs, key, lambda folder: write_cache(folder, CLIPS, VIEWS, PIXELS, judge, clips_per_shard=2))


def test_targets_come_back_in_the_order_asked(tmp_path: Path) -> None:
    cache = build(tmp_path)
    assert sorted(path.name for path in cache.path.glob("shard*")) == [f"shard-0000{n}.safetensors" for n in range(3)]
    targets = read_cache(cache, ["clip3", "clip0"], VIEWS)
    np.testing.assert_array_equal(targets["scores"], judge(PIXELS)["scores"][[3, 0]])
    assert targets["levels"].shape == (2, 2, 3)
    assert targets["features"].dtype == np.float32


def test_a_killed_cache_goes_on_at_the_next_shard_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    calls = []

    def dies_in_the_second_shard(pixels: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(pixels))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(pixels)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "killed", dies_in_the_second_shard)
    (partial,) = (tmp_path / "killed" / "cache").glob("*.partial")
    (partial / "shard-00001.safetensors.partial").write_bytes(b"half")
    resumed = build(tmp_path / "killed", dies_in_the_second_shard)
    assert calls == [2, 2, 2, 1]  # the first shard once, the second twice
    assert resumed.content_sha256 == build(tmp_path / "whole").content_sha256


def test_another_view_is_named(tmp_path: Path) -> None:
    cache = build(tmp_path)
    other = VIEWS | {"clip3": [VIEWS["clip3"][0], VIEWS["clip3"][1].model_copy(update={"display_height": 72})]}
    with pytest.raises(ValueError, match=r"clip 'clip3', view 1: display_height: cached 36, wanted 72"):
        read_cache(cache, CLIPS, other)


def test_a_clip_the_teacher_never_saw_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 clips are not in this cache, the first 'new'"):
        read_cache(build(tmp_path), ["clip0", "new"], VIEWS)
