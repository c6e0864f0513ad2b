"""Which of several processes this is, as torchrun, deepspeed or Slurm tell it by environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """This process's number, how many there are, and its number on its own host."""

    rank: int
    world: int
    local: int


# (rank, world, local) in the order asked; Slurm counts only inside a step (srun), not in a bare batch script.
SOURCES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Read the launcher's variables; one process where there are none.

    Raises:
        ValueError: a variable is no number, or the rank lies outside the world.
    """
    for names in SOURCES:
        if all(name in environment for name in names[:2]):
            values = [environment.get(name, "0") for name in names]
            try:
                found = Ranks(*map(int, values))
            except ValueError as error:
                raise ValueError(f"{', '.join(names)} are {values}: not numbers; start with torchrun") from error
            if not 0 <= found.rank < found.world:
                raise ValueError(f"{names[0]}={found.rank} is not below {names[1]}={found.world}; start with torchrun")
            return found
    return Ranks(0, 1, 0)
