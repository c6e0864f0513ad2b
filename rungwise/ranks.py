"""Rank of this process, from the environment variables of torchrun, deepspeed or Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """Rank of this process, world size, and rank on its own host."""

    rank: int
    world: int
    local: int


# Variables for (rank, world, local), by precedence. Slurm counts only inside a step (srun), not in a batch script.
SOURCES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Read the launcher's variables; a single process if there are none.

    Raises:
        ValueError: a variable is not a number, or the rank is not below the world size.
    """
    for names in SOURCES:
        if all(name in environment for name in names[:2]):
            values = [environment.get(name, "0") for name in names]
            try:
                process = Ranks(*map(int, values))
            except ValueError as error:
                raise ValueError(f"{', '.join(names)} are {values}: not numbers; launch with torchrun") from error
            if not 0 <= process.rank < process.world:
                raise ValueError(
                    f"{names[0]}={process.rank} is not below {names[1]}={process.world}; launch with torchrun"
                )
            return process
    return Ranks(0, 1, 0)
