"""What every process keeps or does for each clip: counted, so that 100,000 clips need no more of it than they must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import rungwise.score.views
from distill import view_store
from distill.batches import epoch_batches
from distill.pipeline import Outcome
from distill.stage import Inputs
from distill.view_store import build_views, open_pixels
from rungwise.artifact import SCRATCH, Artifact, StageKey
from rungwise.config import RunConfig
from rungwise.score.views import View
from teacher.shard_files import StoredRows


@pytest.fixture
def build(unbroken: tuple[Path, Outcome], config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make the views of 30 clips, in eight shards, in a folder."""
    monkeypatch.setattr(view_store, "CLIPS_PER_SHARD", 4)
    inputs = Inputs(StageKey("views", 0, {}, {}), {"dataset": unbroken[1].artifacts["ladder"]}, unbroken[0])

    def build(folder: Path) -> None:
        (folder / SCRATCH).mkdir(parents=True, exist_ok=True)
        build_views(folder, config, inputs)

    return build


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*")}


def test_several_processes_share_the_shards_of_views_and_a_half_written_one_is_made_again(
    build: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "alone")
    alone = shard_bytes(tmp_path / "alone")
    assert len(alone) == 8
    decoded: list[Path] = []
    read = rungwise.score.views.read_views

    def counted(path: Path, views: Sequence[View]) -> NDArray[np.uint8]:
        decoded.append(path)
        return read(path, views)

    monkeypatch.setattr(view_store, "read_views", counted)
    together = tmp_path / "together"
    (together / SCRATCH).mkdir(parents=True)
    for number in range(2):  # of a run that was killed: one shard whole, one cut short
        name = f"shard-{number:05d}.safetensors"
        (together / name).write_bytes(alone[name][: len(alone[name]) - 9 * number])
    with ThreadPoolExecutor(2) as pool:
        for build_of_a_process in [pool.submit(build, together) for _ in range(2)]:
            build_of_a_process.result()
    assert shard_bytes(together) == alone
    assert len(decoded) == len(set(decoded)) == 30 - 4


def test_pixels_of_training_are_read_from_the_shards_that_are_indexed_alone(
    build: Callable[[Path], None], unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    build(tmp_path)
    for number in range(2, 7):
        (tmp_path / f"shard-{number:05d}.safetensors").unlink()
    pixels = open_pixels(Artifact(tmp_path, StageKey("views", 0, {}, {}), "", 0.0, hit=True))
    whole = np.asarray(open_pixels(unbroken[1].artifacts["views"]))
    rows = StoredRows(pixels, np.array([29, 4, 7]))  # of shards 1 and 7
    np.testing.assert_array_equal(rows[[2, 0], [1, 0]], whole[[7, 29], [1, 0]])
    np.testing.assert_array_equal(rows.first_views[0:2], whole[[29, 4], 0])
    assert rows.first_views.shape == (3, *whole.shape[2:])


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
