"""Safetensors shards in a stage's folder, and their index: filled by any number of processes, read row by row.

A shard is locked while it is made, written beside and renamed, so a half-written one is never taken for whole, and a
dead process's shard is free again. Its rows are mapped from disk: what is not indexed is not read.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rungwise.artifact import SCRATCH, Artifact, canonical_json
from rungwise.score.views import View

MAPPED_TENSORS = 1024  # that stay mapped; each is address space, not memory


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def split_shards(num_clips: int, clips_per_shard: int) -> list[range]:
    """Rows of each shard."""
    starts = range(0, num_clips, clips_per_shard)
    return [range(start, min(start + clips_per_shard, num_clips)) for start in starts]


def missing_shards(folder: Path, count: int, whole: set[int] | None = None) -> list[int]:
    """Shards that are not written yet; none once the first process has finished the artifact.

    A file that a crash of the machine cut short counts as missing. `whole` remembers those already looked into.
    """
    if not (folder / SCRATCH).is_dir():
        return []
    whole = set() if whole is None else whole
    whole |= {number for number in range(count) if number not in whole and is_whole(folder / shard_name(number))}
    return [number for number in range(count) if number not in whole]


def is_whole(path: Path) -> bool:
    """Opening reads the header and holds it against the file's size."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def take_shard(folder: Path, number: int) -> FileLock | None:
    """The lock of a shard that is neither written nor another's; it lives until it is released or the process ends."""
    if not (folder / SCRATCH).is_dir():  # the artifact is finished and renamed; FileLock would make the folder
        return None
    lock = FileLock(folder / SCRATCH / f"{number}.lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:  # another's
        return None
    if is_whole(folder / shard_name(number)):
        lock.release()
        return None
    return lock


def write_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a shard on disk whole or not at all."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    save_file(dict(tensors), partial, None if metadata is None else dict(metadata))
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


@contextmanager
def open_shard(path: Path) -> Iterator[Any]:
    """A shard's reader.

    Raises:
        ValueError: it is not whole.
    """
    try:
        with safe_open(path, framework="pt") as reader:
            yield reader
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a whole shard ({error}); delete {path.parent} and run its stage again"
        ) from error


@functools.lru_cache(maxsize=MAPPED_TENSORS)
def map_tensor(path: Path, name: str) -> Tensor:
    """A shard's tensor; nothing of it is read yet."""
    with open_shard(path) as reader:
        tensor: Tensor = reader.get_tensor(name)
    return tensor


def write_index(folder: Path, table: pd.DataFrame, views: Mapping[str, list[View]], *, clips_per_shard: int) -> None:
    """Where each clip's row lies, with its views and the hash of the file that they are of.

    Args:
        table: `clip`, `path` (relative to the ladder's artifact) and `video_sha256`, in the order of the shards.
    """
    texts: dict[int, str] = {}  # by list: clips with equal views share one
    for clip in table["clip"]:
        if id(views[clip]) not in texts:
            texts[id(views[clip])] = canonical_json([view.model_dump(mode="json") for view in views[clip]])
    index = pd.DataFrame(
        {
            "clip": table["clip"],
            "path": table["path"],
            "video_sha256": table["video_sha256"],
            "shard": [shard_name(row // clips_per_shard) for row in range(len(table))],
            "row": [row % clips_per_shard for row in range(len(table))],
            "views": [texts[id(views[clip])] for clip in table["clip"]],
        }
    )
    index.to_parquet(folder / "index.parquet", index=False)


@dataclass(frozen=True)
class Entry:
    """One clip of an index."""

    clip: str
    path: str
    video_sha256: str
    shard: str
    row: int
    views: list[View]


def read_index(artifact: Artifact) -> dict[str, Entry]:
    """Clip -> entry. Clips with equal views share one list."""
    table = pd.read_parquet(artifact.path / "index.parquet")
    lists = {text: [View.model_validate(view) for view in json.loads(text)] for text in table["views"].unique()}
    columns = (table[name] for name in ("clip", "path", "video_sha256", "shard", "row"))
    return {
        clip: Entry(clip, path, digest, shard, int(row), lists[text])
        for clip, path, digest, shard, row, text in zip(*columns, table["views"], strict=True)
    }


@dataclass(frozen=True)
class ShardedArray:
    """A tensor whose rows lie in shards, indexed as an array is. Floats come out as float32."""

    folder: Path
    name: str
    shards: Sequence[str]  # file of each row, (N,)
    rows: NDArray[np.int64]  # its row there, (N,)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the whole array."""
        return (len(self), *self._row(0).shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what comes out."""
        return np.dtype(np.float32 if self._row(0).is_floating_point() else np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Rows, and parts of them. A list beside a list of rows has an entry for each of them, as in numpy."""
        row, *more = index if isinstance(index, tuple) else (index,)
        chosen = np.arange(len(self))[row]
        if chosen.ndim == 0:
            return self._read(int(chosen), *more)
        parts = [
            self._read(number, *(part if isinstance(part, int | slice) else int(part[place]) for part in more))
            for place, number in enumerate(chosen.tolist())
        ]
        return np.stack(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _row(self, row: int) -> Tensor:
        return map_tensor(self.folder / self.shards[row], self.name)[int(self.rows[row])]

    def _read(self, row: int, *more: Any) -> NDArray[Any]:
        part = self._row(row)
        part = part[tuple(more)] if more else part
        values: NDArray[Any] = (part.float() if part.is_floating_point() else part).numpy()
        return values


@dataclass(frozen=True)
class StoredRows:
    """Some rows of an array on disk, indexed as an array is; what is asked for is read, the rest stays there."""

    values: NDArray[Any] | ShardedArray  # a memory map, or shards
    rows: NDArray[np.int64]
    view: int | None = None  # of each row, where it is this one alone

    def __getitem__(self, index: Any) -> NDArray[Any]:
        row, *more = index if isinstance(index, tuple) else (index,)
        view = [] if self.view is None else [self.view]
        part: NDArray[Any] = self.values[(self.rows[row], *view, *more)]
        return part

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def first_views(self) -> StoredRows:
        """The first view of each row; nothing is read."""
        return StoredRows(self.values, self.rows, view=0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array of these rows."""
        return (len(self.rows), *self.values.shape[1 if self.view is None else 2 :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the whole array."""
        return self.values.dtype
