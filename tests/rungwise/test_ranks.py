"""Ranks from the environment variables of launchers."""

from __future__ import annotations

import pytest

from rungwise.ranks import Ranks, ranks


def test_launchers_and_no_launcher() -> None:
    assert ranks({}) == Ranks(0, 1, 0)
    assert ranks({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1)
    slurm = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}
    assert ranks(slurm) == Ranks(5, 8, 1)
    assert ranks(slurm | {"RANK": "0", "WORLD_SIZE": "2"}) == Ranks(0, 2, 0)
    # A batch script outside a step has a number of tasks, but is one process.
    assert ranks({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Ranks(0, 1, 0)


def test_invalid_variables_are_errors() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        ranks({"RANK": "one", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="RANK=2 is not below WORLD_SIZE=2"):
        ranks({"RANK": "2", "WORLD_SIZE": "2"})
