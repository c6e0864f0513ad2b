"""Ranks from the environment variables of launchers."""

from __future__ import annotations

import pytest

from rungwise.ranks import Ranks, ranks


def test_launchers_and_no_launcher() -> None:
    assert ranks({}) == Ranks(0, 1, 0)
    assert ranks({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1, 4)
    slurm = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}
    assert ranks(slurm) == Ranks(5, 8, 1, 8)
    assert ranks(slurm | {"RANK": "0", "WORLD_SIZE": "2"}) == Ranks(0, 2, 0, 2)
    # A batch script outside a step has a number of tasks, but is one process.
    assert ranks({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Ranks(0, 1, 0)


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({"RANK": "9", "WORLD_SIZE": "32", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}, 8),  # torchrun
        ({"RANK": "9", "WORLD_SIZE": "32", "LOCAL_RANK": "1", "LOCAL_SIZE": "4"}, 4),  # deepspeed
        ({"SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "28", "SLURM_STEP_TASKS_PER_NODE": "8(x3),4"}, 8),
        (
            {
                "SLURM_PROCID": "27",
                "SLURM_STEP_NUM_TASKS": "28",
                "SLURM_STEP_TASKS_PER_NODE": "8(x3),4",
                "SLURM_NODEID": "3",
            },
            4,
        ),
    ],
)
def test_a_host_divides_its_cores_by_its_own_processes(
    variables: dict[str, str], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 32)
    monkeypatch.setattr("rungwise.ranks.cores", lambda: 32)
    process = ranks(variables)
    assert process.local_world == processes
    assert process.workers == 32 // processes
    monkeypatch.setattr("rungwise.ranks.cores", lambda: 2)  # of a job that has a part of the host
    assert process.workers == 2


def test_invalid_variables_are_errors() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        ranks({"RANK": "one", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="RANK=2 is not below WORLD_SIZE=2"):
        ranks({"RANK": "2", "WORLD_SIZE": "2"})
