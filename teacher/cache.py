"""The soft-target cache: the teacher's outputs for every view, in sharded safetensors with a Parquet index.

Per clip and view: score, level distribution and, where the teacher gives them, patch scores (fp32), pooled feature and
chosen layers' features (fp16 or bf16), beside the view itself, which the student replays. Any number of processes on
any hosts that share the folder fill it: each takes the next free shard (teacher/shard_files.py).

Shapes: M clips of a batch, V views, T frames, S pixels, K levels, D features.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import BaseFileLock
from numpy.typing import NDArray
from torch import Tensor

from rungwise.artifact import POLL_SECONDS, Artifact, mismatches, open_artifact
from rungwise.progress import track
from rungwise.score.views import View
from teacher.shard_files import (
    ShardedArray,
    missing_shards,
    open_shard,
    read_index,
    shard_name,
    split_shards,
    take_shard,
    write_whole,
)

CACHE_VERSION = 2  # 2: layers, content hashes, batches cut inside shards

Fields = dict[str, Tensor]  # "scores" (M, V), "levels" (M, V, K), "features" (M, V, D), "layer.NAME" (M, V, D')
# and "patch_scores" (M, V, U, P) of U pairs of frames and P patches where the teacher gives them
Judge = Callable[[Tensor], Fields]  # pixels_MVTSSC uint8 on the device -> fields on the device
Read = Callable[[int], NDArray[Any]]  # row -> pixels_VTSSC; or both of what frozen layers gave of them


@dataclass
class Clock:
    """Seconds the judging thread spent waiting for pixels, copying, and computing."""

    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "copy": 0.0, "compute": 0.0})
    last: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=time.monotonic)
    clips: int = 0

    def lap(self, part: str | None) -> None:
        """Book the time since the last lap to one part, or to none."""
        now = time.monotonic()
        if part is not None:
            self.seconds[part] += now - self.last
        self.last = now

    def shares(self) -> str:
        """As "decode 5%, copy 1%, compute 94%"."""
        total = sum(self.seconds.values()) or 1.0
        return ", ".join(f"{part} {value / total:.0%}" for part, value in self.seconds.items())


def judge_stream(
    batches: Iterator[Sequence[int]],
    read: Read,
    judge: Judge,
    *,
    device: str,
    workers: int,
    clock: Clock,
    ahead: int = 3,
    judges: int = 1,
) -> Iterator[Fields]:
    """Judge batches of rows while the next ones are decoded and copied; at most `ahead` batches wait in memory.

    With small batches `ahead` must grow with `workers`, or most of them idle. On a GPU batch n + 1 is queued before
    we wait for batch n, so the card never waits for this thread. On a CPU `judges` batches are judged at once, each
    in one thread: sums split over threads round otherwise, and bytes must not depend on the number of threads.
    """
    cuda = device.startswith("cuda")
    copies = torch.cuda.Stream(device) if cuda else None
    waiting: deque[list[Future[NDArray[np.uint8]]]] = deque()
    running: deque[Callable[[], Fields]] = deque()  # each waits for a batch's answers

    def on_card(pixels_MVTSSC: Tensor) -> Callable[[], Fields]:
        answers = {name: value.to("cpu", non_blocking=True) for name, value in judge(pixels_MVTSSC).items()}
        done = torch.cuda.Event(blocking=True)  # sleeps: the decoders want this core
        done.record(torch.cuda.current_stream(device))

        def wait() -> Fields:
            done.synchronize()
            return answers

        return wait

    def fetch() -> Fields:
        answers = running.popleft()()
        clock.lap("compute")
        clock.clips += len(answers["scores"])
        return answers

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers)
    judging = ThreadPoolExecutor(judges, initializer=torch.set_num_threads, initargs=(1,))
    try:
        clock.lap(None)
        while True:
            while len(waiting) < ahead and (rows := next(batches, None)) is not None:
                waiting.append([pool.submit(read, row) for row in rows])
            if not waiting:
                break
            pixels_MVTSSC = torch.from_numpy(np.stack([job.result() for job in waiting.popleft()]))
            clock.lap("decode")
            if copies is not None:
                with torch.cuda.stream(copies):
                    pixels_MVTSSC = pixels_MVTSSC.pin_memory().to(device, non_blocking=True)
                torch.cuda.current_stream(device).wait_stream(copies)
                pixels_MVTSSC.record_stream(torch.cuda.current_stream(device))
            clock.lap("copy")
            running.append(on_card(pixels_MVTSSC) if cuda else judging.submit(judge, pixels_MVTSSC).result)
            if len(running) > (1 if cuda else judges - 1):
                yield fetch()
                clock.lap(None)
        while running:
            yield fetch()
            clock.lap(None)
    finally:
        for executor in (pool, judging):
            executor.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def write_cache(
    folder: Path,
    num_clips: int,
    read: Read,
    judge: Judge,
    *,
    clips_per_shard: int,
    clips_per_batch: int,
    device: str = "cpu",
    workers: int = 1,
    turns: Sequence[int | None] | None = None,
    describe: Callable[[Clock], str] = Clock.shares,
) -> Clock:
    """Fill a stage folder with shards; finished ones of a killed run are kept. Returns when all shards are there.

    Shard i holds clips [i * clips_per_shard, (i + 1) * clips_per_shard), cut into batches from its own start, so
    its bytes depend on nothing else.

    Args:
        turns: the shards of this process if all processes must judge in lockstep (ZeRO-3), None among them for a
            turn without one. Without `turns` each process takes the next free shard.
        describe: what the progress line says beside the rate.
    """
    shards = split_shards(num_clips, clips_per_shard)
    clock = Clock()
    held: dict[int, BaseFileLock] = {}
    whole: set[int] = set()

    def finished_clips(numbers: Iterator[int | None]) -> Iterator[int]:
        """Clips done, as they are done."""
        owed: deque[tuple[int | None, int]] = deque()  # of each shard under way: its number, how many batches

        def batches() -> Iterator[Sequence[int]]:
            for number in numbers:
                rows = range(1) if number is None else shards[number]
                starts = range(0, clips_per_shard if turns is not None else len(rows), clips_per_batch)
                owed.append((number, len(starts)))
                yield from (rows[start : start + clips_per_batch] or rows[:1] for start in starts)

        parts: list[Fields] = []
        ahead = max(3, -(-2 * workers // clips_per_batch))
        judges = torch.get_num_threads() if turns is None else 1
        for fields in judge_stream(
            batches(), read, judge, device=device, workers=workers, clock=clock, ahead=ahead, judges=judges
        ):
            parts.append(fields)
            number, expected = owed[0]
            if len(parts) == expected:
                owed.popleft()
                if number is not None:
                    write_shard(folder, number, parts, len(shards[number]))
                    if number in held:
                        held.pop(number).release()
                    yield from shards[number]
                parts = []

    def all_clips() -> Iterator[int]:
        if turns is not None:
            yield from finished_clips(iter(turns))
        while missing_shards(folder, len(shards), whole):
            if turns is None:
                # Others' shards are looked at again and again: if their process died, they are free now.
                yield from finished_clips(_free_shards(folder, len(shards), whole, held))
            time.sleep(POLL_SECONDS)

    missing = sum(len(shards[number]) for number in missing_shards(folder, len(shards), whole))
    try:
        for _ in track(all_clips(), "cache", total=missing, describe=lambda: describe(clock)):
            pass
    finally:
        for lock in held.values():
            lock.release()
    return clock


def _free_shards(folder: Path, count: int, whole: set[int], held: dict[int, BaseFileLock]) -> Iterator[int]:
    """One pass over the shards, taking each that is neither written nor another's; its lock goes into `held`."""
    for number in missing_shards(folder, count, whole):
        lock = take_shard(folder, number)
        if lock is not None:
            held[number] = lock
            yield number


def write_shard(folder: Path, number: int, parts: list[Fields], num_clips: int) -> None:
    """Write a shard's first `num_clips` clips, of its batches in order; whole or not at all."""
    joined = {name: torch.cat([part[name] for part in parts])[:num_clips].contiguous() for name in parts[0]}
    for name, value in joined.items():
        if not value.isfinite().all():
            raise ValueError(
                f"shard {number}: {name} holds values that are not finite in {value.dtype}; "
                "set cache.feature_dtype to bfloat16, which has float32's range"
            )
    write_whole(folder / shard_name(number), joined)


def open_cache(path: Path, *, expect: Mapping[str, str]) -> Artifact:
    """Open a finished cache that was made of these inputs ("teacher", "preprocessing", "dataset", "views").

    Raises:
        ValueError: no cache, or other inputs; each one that differs is named.
    """
    cache = open_artifact(path)
    if cache.key.stage != "cache":
        raise ValueError(f"{path}: is an artifact of {cache.key.stage!r}, not a cache")
    differences = list(mismatches({name: cache.key.inputs.get(name) for name in expect}, expect))
    if differences:
        raise ValueError(f"{path}: a cache of something else: " + "; ".join(differences))
    return cache


def read_cache(cache: Artifact, clips: Sequence[str], views: Mapping[str, list[View]]) -> dict[str, ShardedArray]:
    """The teacher's targets of the named clips, in their order, by field; they stay on disk until they are indexed.

    Raises:
        ValueError: a clip is not in the cache, or its view differs from the one to be replayed.
    """
    index = read_index(cache)
    missing = [clip for clip in clips if clip not in index]
    if missing:
        raise ValueError(f"{cache.path}: {len(missing)} clips are not in this cache, the first {missing[0]!r}")
    for clip in clips:
        for number, (have, want) in enumerate(zip(index[clip].views, views[clip], strict=True)):
            if have != want:
                difference = next(mismatches(have.model_dump(), want.model_dump()))
                raise ValueError(f"{cache.path}: clip {clip!r}, view {number}: {difference}")
    shards = [index[clip].shard for clip in clips]
    rows = np.array([index[clip].row for clip in clips], dtype=np.int64)
    with open_shard(cache.path / shards[0]) as reader:
        return {name: ShardedArray(cache.path, name, shards, rows) for name in sorted(reader.keys())}
