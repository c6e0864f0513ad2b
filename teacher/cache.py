"""The soft-target cache: what the teacher said of every view, in sharded safetensors with a Parquet index.

Per clip and view: score (fp32), level distribution (fp32) and pooled feature (fp16), beside the view itself, which
the student replays. A shard is written beside and renamed, so a half-written one is never taken for whole; a killed
run goes on at the next shard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from rungwise.artefact import Artefact, canonical_json
from rungwise.progress import track
from rungwise.views import View

CACHE_VERSION = 1
FIELDS = ("scores", "levels", "features")

# pixels_MVTSSC uint8 -> {"scores": (M, V) fp32, "levels": (M, V, K) fp32, "features": (M, V, D) fp16}
Judge = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.generic]]]


def write_cache(
    folder: Path,
    clips: Sequence[str],
    views: dict[str, list[View]],
    pixels: NDArray[np.uint8],
    judge: Judge,
    *,
    clips_per_shard: int,
) -> None:
    """Fill a stage folder with shards and their index; finished shards of a killed run are kept.

    Args:
        clips: names, in the order of `pixels`.
        pixels: (N, V, T, S, S, 3) uint8.
        judge: the teacher.
    """
    starts = range(0, len(clips), clips_per_shard)
    for start in track(starts, "cache", total=len(starts)):
        path = folder / _shard_name(start // clips_per_shard)
        if path.is_file():
            continue
        judged = judge(pixels[start : start + clips_per_shard])
        tensors = {name: np.ascontiguousarray(value) for name, value in judged.items()}
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(save(tensors))
        partial.replace(path)
    index = pd.DataFrame(
        {
            "clip": list(clips),
            "shard": [_shard_name(row // clips_per_shard) for row in range(len(clips))],
            "row": [row % clips_per_shard for row in range(len(clips))],
            "views": [canonical_json([view.model_dump(mode="json") for view in views[clip]]) for clip in clips],
        }
    )
    index.to_parquet(folder / "index.parquet", index=False)


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def read_cache(cache: Artefact, clips: Sequence[str], views: dict[str, list[View]]) -> dict[str, NDArray[np.float32]]:
    """The teacher's targets of the named clips, in their order, as fp32 arrays by field.

    Raises:
        ValueError: a clip is not in the cache, or was seen in another view than the one to be replayed.
    """
    table = pd.read_parquet(cache.path / "index.parquet")
    index = {row["clip"]: row for row in table.to_dict("records")}
    missing = [clip for clip in clips if clip not in index]
    if missing:
        raise ValueError(f"{cache.path}: {len(missing)} clips are not in this cache, the first {missing[0]!r}")
    shards = {name: load_file(cache.path / name) for name in sorted({index[clip]["shard"] for clip in clips})}
    for clip in clips:
        seen = [View.model_validate(view) for view in json.loads(index[clip]["views"])]
        for number, (have, want) in enumerate(zip(seen, views[clip], strict=True)):
            if have != want:
                fields = [name for name in View.model_fields if getattr(have, name) != getattr(want, name)]
                raise ValueError(
                    f"{cache.path}: clip {clip!r}, view {number}: {fields[0]}: cached "
                    f"{getattr(have, fields[0])}, wanted {getattr(want, fields[0])}"
                )
    rows = [(index[clip]["shard"], index[clip]["row"]) for clip in clips]
    return {field: np.stack([shards[shard][field][row] for shard, row in rows]).astype(np.float32) for field in FIELDS}
