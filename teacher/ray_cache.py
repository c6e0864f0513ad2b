"""The cache on a Ray cluster: any core decodes, each card predicts, and one process writes the shards.

A batch is decoded by tasks and predicted by an actor, cut as one process cuts it, so the bytes are the same. When a
node dies Ray decodes its clips again elsewhere, and its actors' batches go to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rungwise.progress import note, track
from rungwise.ray_pool import RETRIES, cluster
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import View
from teacher.cache import Fields, Judge, write_shard
from teacher.shard_files import missing_shards, split_shards

AHEAD = 2  # batches that wait for each actor, so that it never waits for a decoder


class Actor:
    """A tuned teacher on one card, or on one thread of a CPU."""

    def __init__(self, open_judge: Callable[[], Judge], device: str) -> None:
        torch.set_num_threads(1)  # sums split over threads round otherwise
        self.predict, self.device = open_judge(), device

    def judge(self, *clips: NDArray[Any]) -> Fields:
        """The fields of a batch, on the CPU."""
        pixels = torch.from_numpy(np.stack(clips)).to(self.device)
        return {name: value.cpu() for name, value in self.predict(pixels).items()}


@dataclass
class Batches:
    """Batches of the missing shards: which wait, and what came back of each shard."""

    shards: dict[int, range]
    clips_per_batch: int
    waiting: list[tuple[int, int]] = field(init=False)  # number of a shard, first row of a batch
    parts: dict[int, dict[int, Fields]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = [
            (number, start) for number, rows in self.shards.items() for start in rows[:: self.clips_per_batch]
        ][::-1]

    def rows(self, batch: tuple[int, int]) -> range:
        """The rows of a batch."""
        return range(batch[1], min(batch[1] + self.clips_per_batch, self.shards[batch[0]].stop))

    def add(self, batch: tuple[int, int], fields: Fields, folder: Path) -> int:
        """Keep a batch; write its shard if it is the last one. Returns the clips that were written."""
        number, start = batch
        rows, parts = self.shards[number], self.parts.setdefault(number, {})
        parts[start] = fields
        if len(parts) < len(rows[:: self.clips_per_batch]):
            return 0
        write_shard(folder, number, [parts[first] for first in sorted(self.parts.pop(number))], len(rows))
        return len(rows)


class Teachers:
    """The actors of a cluster, and what each is at work on."""

    def __init__(self, ray: Any, open_judge: Callable[[], Judge], device: str, most: int) -> None:
        kind = "GPU" if device.startswith("cuda") else "CPU"
        count = min(most, int(ray.cluster_resources().get(kind, 0)))
        if most and not count:
            raise ValueError(f"--ray: the cluster has no {kind}")
        options = {"num_cpus": 0, "num_gpus": int(kind == "GPU"), "scheduling_strategy": "SPREAD"}
        actor = ray.remote(**options)(Actor)
        self.ray, self.decode = ray, ray.remote(num_cpus=1, max_retries=RETRIES)(read_needed_pixels)
        self.actors = [actor.remote(open_judge, device) for _ in range(count)]
        self.running: dict[Any, tuple[tuple[int, int], Any]] = {}  # result -> its batch and its actor

    @property
    def wants_more(self) -> bool:
        """Whether a teacher would wait for a decoder soon."""
        return len(self.running) < AHEAD * len(self.actors)

    def start(self, batch: tuple[int, int], parts: list[tuple[Path, list[View]] | NDArray[Any]]) -> None:
        """Give a batch to the teacher with least to do."""
        busy = [actor for _, actor in self.running.values()]
        actor = min(self.actors, key=busy.count)
        clips = [self.decode.remote(*part) if isinstance(part, tuple) else part for part in parts]
        self.running[actor.judge.remote(*clips)] = (batch, actor)

    def wait(self) -> tuple[tuple[int, int], Fields | None]:
        """A batch with its fields; without them if its teacher's node died.

        Raises:
            ValueError: no teacher is left.
        """
        [ready], _ = self.ray.wait([*self.running], num_returns=1)
        batch, actor = self.running.pop(ready)
        try:
            fields: Fields = self.ray.get(ready)
        except self.ray.exceptions.RayActorError:
            if actor in self.actors:
                self.actors.remove(actor)
                note(f"cache: a node died, {len(self.actors)} teachers are left")
            if not self.actors:
                raise ValueError("cache: every node that had a teacher died; run again to go on") from None
            return batch, None
        return batch, fields


def write_cache_on_ray(
    folder: Path,
    num_clips: int,
    read: Callable[[int], tuple[Path, list[View]] | NDArray[Any]],
    open_judge: Callable[[], Judge],
    *,
    device: str,
    address: str,
    clips_per_shard: int,
    clips_per_batch: int,
) -> None:
    """Fill a stage folder with shards, as `write_cache` does.

    Args:
        read: row -> the file and its views, which a task decodes; or an array, which is sent as it is.
        open_judge: opens the teacher in an actor.
        device: of each actor, "cpu" or "cuda".
        address: of the cluster.
    """
    shards = split_shards(num_clips, clips_per_shard)
    shards_by_number = {number: shards[number] for number in missing_shards(folder, len(shards))}
    batches = Batches(shards_by_number, clips_per_batch)

    def written(teachers: Teachers) -> Iterator[int]:
        """Clips, as their shards are written."""
        while batches.waiting or teachers.running:
            while batches.waiting and teachers.wants_more:
                batch = batches.waiting.pop()
                teachers.start(batch, [read(row) for row in batches.rows(batch)])
            batch, fields = teachers.wait()
            if fields is None:
                batches.waiting.append(batch)
            else:
                yield from range(batches.add(batch, fields, folder))

    with cluster(address) as ray:
        teachers = Teachers(ray, open_judge, device, len(batches.waiting))
        for _ in track(written(teachers), "cache", total=sum(map(len, shards_by_number.values()))):
            pass
