"""The `views` stage: the views of every clip of a table, and their pixels decoded once.

`index.parquet` is the data that counts: clip -> views, and where their pixels lie. The shards hold the pixels, as
training reads every view many times; all processes and nodes make them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from distill.stage import Artifacts, Inputs
from rungwise.artifact import POLL_SECONDS, Artifact, canonical_json
from rungwise.config import RunConfig, Views
from rungwise.ladder.make import read_ladder
from rungwise.progress import run_jobs
from rungwise.ranks import ranks
from rungwise.ray_pool import RayPool
from rungwise.score.views import VIEWS_VERSION, View, make_views, read_views
from teacher.shard_files import (
    ShardedArray,
    missing_shards,
    open_shard,
    read_index,
    shard_name,
    split_shards,
    take_shard,
    write_index,
    write_whole,
)

if TYPE_CHECKING:
    import pandas as pd

CLIPS_PER_SHARD: Final = 16  # a job, and what a core has in memory: 60 MB of views of 400 x 400 pixels


def view_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the result."""
    return config.views.model_dump(mode="json") | {"views_version": VIEWS_VERSION}


def build_views(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Choose and decode `views.per_clip` views of every clip, shown at the table's display height.

    Raises:
        ValueError: a video can't be decoded; it is named.
    """
    table = read_ladder(inputs["dataset"])
    clips = [(Path(path), int(height)) for path, height in zip(table["path"], table["display_height"], strict=True)]
    shards, whole = split_shards(len(clips), CLIPS_PER_SHARD), set[int]()
    while missing := missing_shards(folder, len(shards), whole):
        jobs = {
            shard_name(number): partial(
                make_shard, folder, number, [clips[row] for row in shards[number]], config.views
            )
            for number in missing
        }
        with ThreadPoolExecutor(ranks().workers) if inputs.ray is None else RayPool(inputs.ray) as pool:
            for _, error in run_jobs(pool, jobs, "shards of views"):
                if error is not None:
                    raise error
        time.sleep(POLL_SECONDS)  # others' shards: if their process died, they are free now
    if ranks().rank == 0:
        relative = table.assign(path=[str(Path(path).relative_to(inputs["dataset"].path)) for path in table["path"]])
        write_index(folder, relative, _read_views(folder, table, len(shards)), clips_per_shard=CLIPS_PER_SHARD)


def make_shard(folder: Path, number: int, clips: Sequence[tuple[Path, int]], config: Views) -> None:
    """Write the views of some clips, given as path and display height, unless another process does."""
    lock = take_shard(folder, number)
    if lock is None:
        return
    with lock:
        views_of_clips, pixels = [], []
        for path, display_height in clips:
            views = make_views(path, config.recipe, count=config.per_clip, display_height=display_height)
            views_of_clips.append(canonical_json([view.model_dump(mode="json") for view in views]))
            pixels.append(read_views(path, views))
        pixels_NVTSSC = torch.from_numpy(np.stack(pixels))
        write_whole(folder / shard_name(number), {"pixels": pixels_NVTSSC}, {"views": json.dumps(views_of_clips)})


def _read_views(folder: Path, table: pd.DataFrame, num_shards: int) -> dict[str, list[View]]:
    """Clip -> its views, of the shards. Clips with equal views share one list."""
    texts: list[str] = []
    for number in range(num_shards):
        with open_shard(folder / shard_name(number)) as reader:
            texts += json.loads(reader.metadata()["views"])
    lists = {text: [View.model_validate(view) for view in json.loads(text)] for text in set(texts)}
    return {clip: lists[text] for clip, text in zip(table["clip"], texts, strict=True)}


def open_pixels(artifact: Artifact) -> ShardedArray:
    """pixels_NVTSSC uint8 in table order, read as they are indexed."""
    entries = read_index(artifact).values()
    rows = np.array([entry.row for entry in entries], dtype=np.int64)
    return ShardedArray(artifact.path, "pixels", [entry.shard for entry in entries], rows)


def read_view_lists(artifact: Artifact) -> dict[str, list[View]]:
    """Clip -> its views. Clips with equal views share one list."""
    return {clip: entry.views for clip, entry in read_index(artifact).items()}
