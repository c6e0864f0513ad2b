"""Views read from shards in the order of training and in the order on disk, none of them in the page cache.

    python benchmarks/shard_reading.py --work /tmp/shards --out benchmarks/results/shard_reading.json

Training shuffles the clips of the whole set and reads one view of each. If that were slower by much than reading in
order, shuffling would have to stay within a window of shards.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from distill.view_store import CLIPS_PER_SHARD
from rungwise.artifact import write_json
from teacher.shard_files import ShardedArray, map_tensor, shard_name, split_shards, write_whole

VIEWS_SHAPE = (2, 4, 400, 400, 3)  # two views of four frames of 5 x 5 patches of 80 pixels
ROUNDS = 3


def write_shards(folder: Path, num_clips: int) -> ShardedArray:
    """Shards of noise; finished ones stay."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    for number, rows in enumerate(split_shards(num_clips, CLIPS_PER_SHARD)):
        path = folder / shard_name(number)
        if not path.is_file():
            shape = (len(rows), *VIEWS_SHAPE)
            write_whole(path, {"pixels": torch.randint(256, shape, dtype=torch.uint8, generator=generator)})
    clips = np.arange(num_clips)
    names = [shard_name(clip // CLIPS_PER_SHARD) for clip in range(num_clips)]
    return ShardedArray(folder, "pixels", names, clips % CLIPS_PER_SHARD)


def drop_from_page_cache(folder: Path) -> None:
    """Forget what the system has in memory of the shards; mapped pages would stay."""
    map_tensor.cache_clear()
    for path in folder.glob("shard-*"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def megabytes_per_second(pixels: ShardedArray, order: Sequence[int]) -> float:
    """Rate at which one view of each clip comes into memory."""
    drop_from_page_cache(pixels.folder)
    started, size = time.monotonic(), 0
    for position, clip in enumerate(order):
        size += pixels[clip, position % 2].copy().nbytes
    return size / 1e6 / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; 4 GB on the disk to be measured")
    parser.add_argument("--clips", type=int, default=1024)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pixels = write_shards(options.work, options.clips)
    shuffled = np.random.default_rng(0).permutation(options.clips).tolist()
    in_order, in_random_order = [], []
    for _ in range(ROUNDS):  # in turn, as other programs use the disk too
        in_order.append(megabytes_per_second(pixels, range(options.clips)))
        in_random_order.append(megabytes_per_second(pixels, shuffled))
    results = {
        "clips": options.clips,
        "bytes_per_view": int(np.prod(VIEWS_SHAPE[1:])),
        "in order, MB/s": round(statistics.median(in_order), 1),
        "shuffled, MB/s": round(statistics.median(in_random_order), 1),
        "shuffled over in order": round(statistics.median(in_random_order) / statistics.median(in_order), 2),
    }
    write_json(options.out, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
