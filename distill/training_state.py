"""Where a training stands: weights, their average, optimizer and history; saved after every epoch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from distill.engine import Engine
from rungwise.artifact import write_json

AVERAGE_RAMP: Final = 10  # steps: at step n the average's decay is n / (n + 10) at most


class TrainingState:
    """The weights in an engine, their moving average, the number of updates, and one dict of figures an epoch.

    `scratch` holds history.json, checkpoint.pt, what the engine saves, and best.pt, the average of the best epoch.
    """

    def __init__(self, engine: Engine, scratch: Path) -> None:
        """Resume from the last finished epoch, if there is one."""
        self.engine, self.scratch = engine, scratch
        self.history: list[dict[str, float]] = []
        self.step = 0
        with engine.whole() as state:
            self.average = {key: value.clone() for key, value in state.items()}
        path = scratch / "checkpoint.pt"
        if path.is_file():
            saved = torch.load(path, weights_only=True, map_location=engine.device)
            engine.load(scratch, f"epoch-{saved['epoch']}", saved)
            self._put(saved["state"])
            for key, value in self.average.items():
                value.copy_(saved["average"][key])
            self.history = json.loads((scratch / "history.json").read_text())[: saved["epoch"]]
            self.step = saved["step"]

    def save(self, row: dict[str, float]) -> None:
        """Add an epoch's figures and write all that the next epoch needs; the old checkpoint stays until then."""
        self.history.append(row)
        epoch, first = len(self.history), self.engine.where.rank == 0
        if first:
            write_json(self.scratch / "history.json", self.history)
        extra = self.engine.save(self.scratch, f"epoch-{epoch}")
        with self.engine.whole() as state:
            now = {key: value.cpu() for key, value in state.items()}
        self._write(
            "checkpoint.pt", {"state": now, "average": self.average, "step": self.step, "epoch": epoch, **extra}
        )
        if first:
            for old in self.scratch.glob("epoch-*"):
                if old.name != f"epoch-{epoch}":
                    shutil.rmtree(old)

    def save_best(self) -> None:
        """Keep the average as the best epoch's."""
        self._write("best.pt", self.average)

    def read_best(self) -> dict[str, Tensor]:
        """The best epoch's average and what doesn't train, on the CPU; whole in the first process."""
        if self.engine.where.world > 1:
            torch.distributed.barrier()
        best = torch.load(self.scratch / "best.pt", weights_only=True, map_location="cpu")
        return {**self.engine.frozen_state(), **best}

    def update_average(self, decay: float) -> None:
        """After an update: move the average of trained weights and batch-norm statistics toward them."""
        self.step += 1
        floats = [key for key, value in self.average.items() if value.is_floating_point()]
        move = get_ema_multi_avg_fn(min(decay, self.step / (self.step + AVERAGE_RAMP)))
        with self.engine.whole() as state:
            move([self.average[key] for key in floats], [state[key] for key in floats], self.step)
            for key in self.average.keys() - set(floats):
                self.average[key].copy_(state[key])

    def replace_average(self) -> None:
        """Take the weights as they are for the average."""
        with self.engine.whole() as state:
            for key, value in state.items():
                self.average[key].copy_(value)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the model's place, for the time of the context."""
        with self.engine.whole() as state:
            trained = {key: value.clone() for key, value in state.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(trained)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with self.engine.whole(write=True) as state, torch.no_grad():
            for key, value in state.items():
                value.copy_(values[key])

    def _write(self, name: str, value: object) -> None:
        if self.engine.where.rank == 0:
            self.scratch.mkdir(parents=True, exist_ok=True)
            partial = self.scratch / f"{name}.partial"
            torch.save(value, partial)
            os.replace(partial, self.scratch / name)
