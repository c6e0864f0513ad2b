"""What every process keeps or does for each clip: counted, so that 100,000 clips need no more of it than they must."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import save_file

import teacher.cache
from distill.batches import epoch_batches
from distill.examples import StoredRows
from distill.view_store import read_view_lists, write_view_lists
from rungwise.artifact import Artifact, StageKey, write_json
from rungwise.score.views import View, ViewRecipe, place_view
from teacher.cache import read_cache, read_index, write_index

RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=8)
SIZES = ((64, 36), (96, 54))
CLIPS = [f'clip "{number}"' for number in range(40)]


def views_of(number: int) -> list[View]:
    return [place_view(RECIPE, view, SIZES[number % 2], (0, 3), {0: 0.0, 3: 0.5}) for view in range(2)]


def artifact(folder: Path) -> Artifact:
    return Artifact(folder, StageKey("views", 1, {}, {}), "", 0.0, hit=True)


@pytest.fixture
def views(tmp_path: Path) -> Artifact:
    """The `views.json` of 40 clips of two sizes."""
    paths = {}
    for number, clip in enumerate(CLIPS):
        paths[clip] = tmp_path / "done" / f"{number}.json"
        write_json(paths[clip], [view.model_dump(mode="json") for view in views_of(number)])
    write_view_lists(tmp_path, paths)
    return artifact(tmp_path)


def test_views_are_written_clip_by_clip_in_the_bytes_of_one_json(views: Artifact, tmp_path: Path) -> None:
    values = {clip: [view.model_dump(mode="json") for view in views_of(number)] for number, clip in enumerate(CLIPS)}
    write_json(tmp_path / "whole.json", values)
    assert (views.path / "views.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_equal_views_are_parsed_and_kept_once(views: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    validate = View.model_validate

    def counted(value: object) -> View:
        parsed.append(value)
        return validate(value)

    monkeypatch.setattr(View, "model_validate", counted)
    lists = read_view_lists(views)
    assert lists == {clip: views_of(number) for number, clip in enumerate(CLIPS)}
    assert len(parsed) == 2 * len(SIZES)  # not two of each of 40 clips
    table = pd.DataFrame({"clip": CLIPS, "path": CLIPS, "video_sha256": CLIPS})
    write_index(views.path, table, lists, clips_per_shard=8)
    entries = read_index(views)
    assert {clip: entry.views for clip, entry in entries.items()} == lists
    assert len(parsed) == 2 * 2 * len(SIZES)
    texts = pd.read_parquet(views.path / "index.parquet")["views"]
    assert [json.loads(text) for text in texts] == [[view.model_dump(mode="json") for view in lists[c]] for c in CLIPS]


def test_one_shard_of_the_cache_is_in_memory_at_a_time(views: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = read_view_lists(views)
    write_index(views.path, pd.DataFrame({"clip": CLIPS, "path": CLIPS, "video_sha256": CLIPS}), lists,
                clips_per_shard=8)  # fmt: skip
    scores = torch.arange(80.0).reshape(40, 2).half()
    for number in range(5):
        part = scores[8 * number : 8 * number + 8].clone()
        save_file({"scores": part}, views.path / f"shard-{number:05d}.safetensors")
    shards: list[weakref.ref[torch.Tensor]] = []
    read_shard = teacher.cache.read_shard

    def one_alive(path: Path) -> dict[str, torch.Tensor]:
        assert len([ref for ref in shards if ref() is not None]) <= 1  # the last one's, until it is replaced
        fields = read_shard(path)
        shards.extend(weakref.ref(value) for value in fields.values())
        return fields

    monkeypatch.setattr(teacher.cache, "read_shard", one_alive)
    order = [*range(39, -1, -1)]
    targets = read_cache(views, [CLIPS[row] for row in order], lists)
    assert len(shards) == 5
    np.testing.assert_array_equal(targets["scores"], scores[order].float().numpy())


def test_validation_views_stay_on_disk(tmp_path: Path) -> None:
    pixels = open_memmap(tmp_path / "pixels.npy", mode="w+", dtype=np.uint8, shape=(6, 2, 4))
    pixels[:] = np.arange(48).reshape(pixels.shape)
    rows = StoredRows(pixels, np.array([4, 1]))
    assert np.shares_memory(rows.first_views.values, pixels)
    np.testing.assert_array_equal(rows.first_views[0:2], pixels[[4, 1], 0])
    assert len(rows.first_views) == 2


def test_planning_an_epoch_takes_work_in_proportion_to_its_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        """A generator that adds up how many items it permutes."""

        def __init__(self, seed: list[int]) -> None:
            self.real = real(seed)

        def permutation(self, items: object) -> object:
            permuted.append(items if isinstance(items, int) else len(items))  # type: ignore[arg-type]
            return self.real.permutation(items)  # type: ignore[call-overload]

    real, permuted = np.random.default_rng, list[int]()
    monkeypatch.setattr("numpy.random.default_rng", Counting)

    def work(num_contents: int) -> int:
        permuted.clear()
        contents = [f"c{number % num_contents}" for number in range(2 * num_contents)]
        batches = epoch_batches(contents, contents_per_batch=8, clips_per_content=1, seed=0, epoch=0)
        assert sorted(row for batch in batches for row in batch) == list(range(2 * num_contents))
        assert all(len({row % num_contents for row in batch}) == 8 for batch in batches)
        return sum(permuted)

    assert work(16 * 1024) <= 17 * work(1024)  # by the square: 256 times
