"""Shards of a ladder: which clips each task of an array job makes, and which tasks are not finished."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

# Scheduler, variables of the task's index and of the number of tasks. Indices count from 0.
ARRAYS = (
    ("Slurm", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    ("Kubernetes", "JOB_COMPLETION_INDEX", None),
)


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `count`: the clips whose names hash to it, whatever other clips there are."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """The shard written as "2/8"; "auto/8" or "auto" for this task of an array job.

        Raises:
            ValueError: any other text, or there is no array job, or its indices are not 0 to count - 1.
        """
        number, slash, count = text.partition("/")
        if number == "auto" and (count.isdecimal() or not slash):
            return _own_shard(int(count) if slash else None, environment)
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(
                f"--shard is {text!r}; it must be NUMBER/COUNT, such as 2/8 for the second of eight shards, "
                "or auto or auto/COUNT in an array job"
            )
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def owns(self, clip: str) -> bool:
        """Whether this shard makes the clip."""
        return int(hashlib.sha256(clip.encode()).hexdigest()[:16], 16) % self.count == self.number - 1


def _own_shard(count: int | None, environment: Mapping[str, str]) -> Shard:
    """The shard of this task of an array job."""
    for scheduler, index_name, count_name in ARRAYS:
        if index_name not in environment:
            continue
        index = int(environment[index_name])
        if count is None:
            if count_name is None or count_name not in environment:
                raise ValueError(f"--shard auto: {scheduler} sets no number of tasks; say it: --shard auto/8")
            count = int(environment[count_name])
        if index >= count:
            raise ValueError(
                f"--shard auto: {index_name} is {index} of {count} tasks; indices count from 0, as in "
                f"--array=0-{count - 1}; to run some of them again, say the number of all: --shard auto/8"
            )
        return Shard(index + 1, count)
    names = ", ".join(index_name for _, index_name, _ in ARRAYS)
    raise ValueError(f"--shard auto: this is no task of an array job: none of {names} is set")
