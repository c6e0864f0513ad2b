"""Shards and their index: what is kept of each clip, and rows indexed as numpy would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rungwise.artifact import Artifact, StageKey
from rungwise.score.views import View, ViewRecipe, place_view
from teacher.shard_files import ShardedArray, read_index, shard_name, split_shards, write_index, write_whole

RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=8)
SIZES = ((64, 36), (96, 54))
CLIPS = [f'clip "{number}"' for number in range(40)]


def views_of(number: int) -> list[View]:
    return [place_view(RECIPE, view, SIZES[number % 2], (0, 3), {0: 0.0, 3: 0.5}) for view in range(2)]


def test_equal_views_are_parsed_and_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    validate = View.model_validate

    def counted(value: object) -> View:
        parsed.append(value)
        return validate(value)

    monkeypatch.setattr(View, "model_validate", counted)
    lists = {clip: views_of(number) for number, clip in enumerate(CLIPS)}
    table = pd.DataFrame({"clip": CLIPS, "path": CLIPS, "video_sha256": CLIPS})
    write_index(tmp_path, table, lists, clips_per_shard=8)
    entries = read_index(Artifact(tmp_path, StageKey("views", 1, {}, {}), "", 0.0, hit=True))
    assert {clip: entry.views for clip, entry in entries.items()} == lists
    assert len(parsed) == 2 * len(SIZES)  # not two of each of 40 clips
    texts = pd.read_parquet(tmp_path / "index.parquet")["views"]
    assert [json.loads(text) for text in texts] == [[view.model_dump(mode="json") for view in lists[c]] for c in CLIPS]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
def test_rows_in_shards_are_indexed_as_an_array(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(10 * 3 * 2).reshape(10, 3, 2).to(dtype)
    shards = split_shards(10, 4)
    for number, rows in enumerate(shards):
        write_whole(tmp_path / shard_name(number), {"x": whole[rows.start : rows.stop].clone()})
    order = np.array([9, 0, 3, 4, 8, 7, 1, 2, 6, 5])
    array = ShardedArray(tmp_path, "x", [shard_name(row // 4) for row in order], order % 4)
    expected = (whole.float() if dtype != torch.uint8 else whole).numpy()[order]
    assert (array.shape, array.dtype, len(array)) == (expected.shape, expected.dtype, 10)
    indices: list[Any] = [
        3,
        (3, 1),
        np.s_[2:5],
        np.s_[:, 0],
        np.s_[:3, :1],
        [4, 4, 0],
        ([1, 2], [0, 2]),
        ([1, 2], 1),
        [],
    ]
    for index in indices:
        np.testing.assert_array_equal(array[index], expected[index])
