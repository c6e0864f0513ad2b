"""Which shard a task of an array job makes."""

from __future__ import annotations

import pytest

from rungwise.ladder.shards import Shard


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("auto", {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "8"}),
        ("auto/8", {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "2"}),  # two of the eight run again
        ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "5", "AWS_BATCH_JOB_ARRAY_SIZE": "8", "JOB_COMPLETION_INDEX": "0"}),
        ("auto/8", {"JOB_COMPLETION_INDEX": "5"}),
        ("6/8", {}),
    ],
)
def test_array_variables_of_three_schedulers(text: str, environment: dict[str, str]) -> None:
    assert Shard.parse(text, environment) == Shard(6, 8)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "/", "auto/", "auto/x"])
def test_invalid_shards_raise(text: str) -> None:
    with pytest.raises(ValueError, match="must be NUMBER/COUNT"):
        Shard.parse(text, {})


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("auto", {}, "no task of an array job"),
        ("auto", {"JOB_COMPLETION_INDEX": "5"}, "Kubernetes sets no number of tasks"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "8"}, "count from 0, as in --array=0-7"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "5"}, "5 of 4 tasks"),
    ],
)
def test_array_jobs_that_cannot_be_read_raise(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shard.parse(text, environment)


def test_a_clip_has_one_shard_whatever_the_other_clips_are() -> None:
    clips = [f"clip-{number}" for number in range(400)]
    shards = [Shard(number, 4) for number in range(1, 5)]
    owners = {clip: [shard.number for shard in shards if shard.owns(clip)] for clip in clips}
    assert all(len(owner) == 1 for owner in owners.values())
    counts = [sum(owner == [number] for owner in owners.values()) for number in range(1, 5)]
    assert min(counts) > 70
    assert owners["clip-0"] == [1]  # pinned: another hash would move every clip
