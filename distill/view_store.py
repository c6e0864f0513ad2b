"""The `views` stage: the views of every clip of a table, and their pixels decoded once.

`views.json` is the data that counts: clip -> views. `pixels.npy` (N, V, T, S, S, 3) uint8, in table order, follows
from it and is there because training reads every view many times.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from rungwise.artifact import SCRATCH, Artifact, StageKey, run_stage, write_json
from rungwise.config import Views
from rungwise.progress import track
from rungwise.score.views import VIEWS_VERSION, View, make_views, read_views

if TYPE_CHECKING:
    import pandas as pd


def make_pixels(table: pd.DataFrame, config: Views, runs: Path, *, dataset_sha256: str) -> Artifact:
    """Choose and decode `config.per_clip` views of every clip, shown at the table's display height.

    Raises:
        ValueError: a video can't be decoded; it is named.
    """
    key = StageKey("views", VIEWS_VERSION, config.model_dump(mode="json"), {"dataset": dataset_sha256})
    recipe = config.recipe
    shape = (len(table), config.per_clip, recipe.num_frames, recipe.size_px, recipe.size_px, 3)

    def build(folder: Path) -> None:
        done = folder / SCRATCH / "views"  # one small file a clip: what a killed run need not decode again
        done.mkdir(parents=True, exist_ok=True)
        path = folder / "pixels.npy"
        pixels = open_memmap(path, mode="r+" if path.is_file() else "w+", dtype=np.uint8, shape=shape)
        rows = [row for row in range(len(table)) if not (done / f"{row}.json").is_file()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for row, views in track(pool.map(partial(_decode, table, config, pixels), rows), "views", total=len(rows)):
                pixels.flush()
                write_json(done / f"{row}.json", [view.model_dump(mode="json") for view in views])
        chosen = {table["clip"].iloc[row]: json.loads((done / f"{row}.json").read_text()) for row in range(len(table))}
        write_json(folder / "views.json", chosen)

    return run_stage(runs, key, build)


def _decode(table: pd.DataFrame, config: Views, pixels: NDArray[np.uint8], row: int) -> tuple[int, list[View]]:
    clip = table.iloc[row]
    path, display_height = Path(clip["path"]), int(clip["display_height"])
    views = make_views(path, config.recipe, count=config.per_clip, display_height=display_height)
    pixels[row] = read_views(path, views)
    return row, views


def open_pixels(artifact: Artifact) -> NDArray[np.uint8]:
    """Memory map of pixels_NVTSSC uint8."""
    pixels: NDArray[np.uint8] = np.load(artifact.path / "pixels.npy", mmap_mode="r")
    return pixels


def read_view_lists(artifact: Artifact) -> dict[str, list[View]]:
    """Clip -> its views."""
    lists = json.loads((artifact.path / "views.json").read_text())
    return {clip: [View.model_validate(view) for view in views] for clip, views in lists.items()}
