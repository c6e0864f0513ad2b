"""The `views` stage: the views of every clip of a table, and their pixels decoded once.

`views.json` is the data that counts: clip -> views. `pixels.npy` (N, V, T, S, S, 3) uint8, in table order, follows
from it and is there because training reads every view many times.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from distill.stage import Artifacts, Inputs
from rungwise.artifact import SCRATCH, Artifact, write_json
from rungwise.config import RunConfig, Views
from rungwise.ladder.make import read_ladder
from rungwise.progress import track
from rungwise.ranks import cores
from rungwise.score.views import View, make_views, read_views

if TYPE_CHECKING:
    import pandas as pd


def view_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the result."""
    return config.views.model_dump(mode="json")


def build_views(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Choose and decode `views.per_clip` views of every clip, shown at the table's display height.

    Raises:
        ValueError: a video can't be decoded; it is named.
    """
    table, recipe = read_ladder(inputs["dataset"]), config.views.recipe
    shape = (len(table), config.views.per_clip, recipe.num_frames, recipe.size_px, recipe.size_px, 3)
    done = folder / SCRATCH / "views"  # one small file a clip: what a killed run need not decode again
    done.mkdir(parents=True, exist_ok=True)
    path = folder / "pixels.npy"
    pixels = open_memmap(path, mode="r+" if path.is_file() else "w+", dtype=np.uint8, shape=shape)
    rows = [row for row in range(len(table)) if not (done / f"{row}.json").is_file()]
    with ThreadPoolExecutor(cores()) as pool:
        decode = partial(_decode, table, config.views, pixels)
        for row, views in track(pool.map(decode, rows), "views", total=len(rows)):
            pixels.flush()
            write_json(done / f"{row}.json", [view.model_dump(mode="json") for view in views])
    write_view_lists(folder, {clip: done / f"{row}.json" for row, clip in enumerate(table["clip"])})


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


def write_view_lists(folder: Path, paths: Mapping[str, Path]) -> None:
    """Write `views.json` of one file a clip. Only one clip's views are in memory; the bytes are `write_json`'s."""
    partial = folder / "views.json.partial"
    with partial.open("w", encoding="utf-8") as stream:
        for number, clip in enumerate(sorted(paths)):
            entry = {clip: json.loads(paths[clip].read_text())}
            text = json.dumps(entry, indent=2, sort_keys=True, allow_nan=False)
            stream.write(("{\n" if number == 0 else ",\n") + text.removeprefix("{\n").removesuffix("\n}"))
        stream.write("\n}\n")
    os.replace(partial, folder / "views.json")


def read_view_lists(artifact: Artifact) -> dict[str, list[View]]:
    """Clip -> its views. Clips with equal views share one list; one clip's text is in memory at a time."""
    shared: dict[str, list[View]] = {}
    lists: dict[str, list[View]] = {}
    lines: list[str] = []
    with (artifact.path / "views.json").open(encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("  ]"):  # the end of a clip
                clip, text = json.loads(lines[1].rpartition(":")[0]), "".join(lines[2:])
                if text not in shared:
                    shared[text] = [View.model_validate(view) for view in json.loads(f"[{text}]")]
                lists[clip], lines = shared[text], [""]
            else:
                lines.append(line)
    return lists
