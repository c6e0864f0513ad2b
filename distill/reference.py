"""The `parts` stage, of teachers that see the master: each patch of every view compared with the master's, once.

`parts.npy` (N, V, U, P, F) float32 is in table order; rungwise/ladder/patch_parts.py says what a patch's parts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from distill.examples import Examples
from distill.stage import Artifacts, Inputs
from distill.view_store import open_pixels, read_view_lists
from rungwise.artifact import SCRATCH, Artifact, read_facts, sha256_file
from rungwise.config import RunConfig
from rungwise.ladder.make import read_ladder
from rungwise.ladder.patch_parts import PARTS, patch_parts
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.progress import track
from rungwise.ranks import cores
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import View, read_views
from teacher.shard_files import ShardedArray

if TYPE_CHECKING:
    import pandas as pd


def parts_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What changes the parts beside the encodes' views: the masters, as the ladder identifies them, and libvmaf."""
    return {"masters": dict(artifacts["dataset"].key.inputs), "ffmpeg": ffmpeg_version()}


def build_parts(folder: Path, config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Compare the views of every clip with its master's; the manifest names the masters' files.

    Raises:
        ValueError: a clip has no master.
    """
    table, views, pixels = (
        read_ladder(inputs["dataset"]),
        read_view_lists(inputs["views"]),
        open_pixels(inputs["views"]),
    )
    masters = {master.content: master.path for master in inputs.masters}
    orphans = [clip for clip, content in zip(table["clip"], table["content"], strict=True) if content not in masters]
    if orphans:
        raise ValueError(
            f"teacher.model: {config.teacher.model} compares every clip with its master, and {len(orphans)} clips have "
            f"none, the first {orphans[0]!r}"
        )
    done = folder / SCRATCH / "parts"  # one small file a clip: what a killed run need not compare again
    done.mkdir(parents=True, exist_ok=True)
    rows_by_content = {str(content): rows for content, rows in table.groupby("content").indices.items()}
    with ThreadPoolExecutor(cores()) as pool:
        compare = partial(_compare_content, table, views, pixels, config.views.recipe.patch_px, masters, done)
        for _ in track(pool.map(compare, *zip(*rows_by_content.items(), strict=True)), "parts", total=len(masters)):
            pass
    first = np.load(done / "0.npy")
    parts = open_memmap(folder / "parts.npy", mode="w+", dtype=first.dtype, shape=(len(table), *first.shape))
    for row in range(len(table)):
        parts[row] = np.load(done / f"{row}.npy")
    parts.flush()
    return {"masters": {content: _relative(masters[content], inputs.runs) for content in sorted(rows_by_content)}}


def _compare_content(
    table: pd.DataFrame,
    views: dict[str, list[View]],
    pixels: ShardedArray,
    patch_px: int,
    masters: dict[str, Path],
    done: Path,
    content: str,
    rows: Sequence[int],
) -> None:
    """Write the parts of one content's clips; its master is decoded once for each display size."""
    master_pixels: dict[tuple[View, ...], NDArray[np.uint8]] = {}
    for row in rows:
        path = done / f"{row}.npy"
        if path.is_file():
            continue
        places = tuple(views[table["clip"].iloc[row]])
        if places not in master_pixels:
            master_pixels[places] = read_needed_pixels(masters[content], places)
        partial_path = done / f"{row}.partial.npy"
        np.save(partial_path, patch_parts(np.asarray(pixels[row]), master_pixels[places], patch_px))
        partial_path.replace(path)


def open_parts(artifact: Artifact) -> NDArray[np.float32]:
    """Memory map of parts_NVUPF."""
    parts: NDArray[np.float32] = np.load(artifact.path / "parts.npy", mmap_mode="r")
    return parts


def with_patches(train: Examples, per_clip: int, seed: int) -> Examples:
    """Clips of parts_NVUPF and, for each, some of its patches as clips of this one patch, labeled by its VMAF v1.

    A patch's score is the same function of its parts as a frame's of pooled ones, and patches are many.
    """
    parts_NVUPF = np.asarray(train.inputs)
    generator = np.random.default_rng(seed)
    clips = np.repeat(np.arange(len(train)), per_clip)
    places = (generator.integers(size, size=len(clips)) for size in parts_NVUPF.shape[1:4])
    chosen_MF = parts_NVUPF[(clips, *places)]
    patches_MVUPF = np.broadcast_to(chosen_MF[:, None, None, None], (len(clips), *parts_NVUPF.shape[1:]))
    rows = np.concatenate([np.arange(len(train)), clips])
    return replace(
        train,
        inputs=np.concatenate([parts_NVUPF, patches_MVUPF]),
        scores=np.concatenate([train.scores, chosen_MF[:, PARTS.index("vmaf")]]),
        contents=tuple(train.contents[row] for row in rows),
        codecs=tuple(train.codecs[row] for row in rows),
        **{name: getattr(train, name)[rows] for name in ("classes", "groups", "stream", "stream_weights")},
    )


def find_master(artifact: Artifact, content: str, runs: Path) -> Path:
    """The master of a content, as the parts were made from it.

    Raises:
        ValueError: the file is gone or has other bytes.
    """
    path = runs / str(read_facts(artifact)["masters"][content])
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the teacher needs the master of {content!r}")
    if not artifact.key.params["masters"][content].startswith(sha256_file(path)):
        raise ValueError(f"{path}: content: not the bytes that the teacher was given; the master was changed")
    return path


def read_beside_master(path: Path, master: Path, views: Sequence[View]) -> NDArray[np.uint8]:
    """Pixels of an encode's views, with its master's of the same views as channels 4 to 6."""
    return np.concatenate([read_views(path, views), read_views(master, views)], -1)


def _relative(path: Path, runs: Path) -> str:
    """The path inside the runs folder where it lies there, so that the folder may move."""
    absolute, root = path.resolve(), runs.resolve()
    return str(absolute.relative_to(root) if absolute.is_relative_to(root) else absolute)
