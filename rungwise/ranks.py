"""Rank of this process, from the environment variables of torchrun, deepspeed or Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """Rank of this process, world size, rank on its own host, and processes on that host."""

    rank: int
    world: int
    local: int
    local_world: int = 1

    @property
    def workers(self) -> int:
        """Cores of this host for each of its processes; fewer where this one may use fewer."""
        return max(1, min(cores(), (os.cpu_count() or 1) // self.local_world))


def cores() -> int:
    """Cores that this process may use: a scheduler may give a job a part of its host."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
                rank, world, local = map(int, values)
                local_world = _processes_on_host(environment, world)
            except ValueError as error:
                raise ValueError(f"{', '.join(names)} are {values}: not numbers; launch with torchrun") from error
            if not 0 <= rank < world:
                raise ValueError(f"{names[0]}={rank} is not below {names[1]}={world}; launch with torchrun")
            return Ranks(rank, world, local, local_world)
    return Ranks(0, 1, 0)


def _processes_on_host(environment: Mapping[str, str], world: int) -> int:
    """As torchrun, deepspeed or Slurm says it; all processes if none does."""
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        if "RANK" in environment and name in environment:
            return int(environment[name])
    if "SLURM_STEP_TASKS_PER_NODE" in environment and "RANK" not in environment:
        counts = []  # of each node: "8(x3),4" is 8, 8, 8, 4
        for part in environment["SLURM_STEP_TASKS_PER_NODE"].split(","):
            count, _, repeats = part.partition("(x")
            counts += [int(count)] * int(repeats.rstrip(")") or 1)
        return counts[int(environment.get("SLURM_NODEID", "0"))]
    return world
