"""Frozen lower layers run once: what they give of every view is kept in a file, and the rest trains from that."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.engine import autocast
from distill.train import Examples
from rungwise.artefact import POLL_SECONDS
from rungwise.progress import note, track
from rungwise.ranks import ranks


class Upper(nn.Module):
    """A model without its frozen lower layers; takes what they gave."""

    def __init__(self, model: nn.Module, name: str) -> None:
        """
        Raises:
            ValueError: this model, or this way of tuning it, trains from the pixels up.
        """
        super().__init__()
        if not hasattr(model, "upper") or getattr(model, "frozen_blocks", 0) is None:
            raise ValueError(f"execution.keep_frozen: {name} so tuned has no frozen lower layers; set it to false")
        self.model: Any = model
        if hasattr(model, "settle"):
            self.settle = model.settle

    def forward(self, hidden: Tensor) -> Any:
        """Judge from the lower layers' output."""
        return self.model.upper(hidden)


def keep_frozen(model: Any, examples: Examples, path: Path, *, device: str, precision: str) -> Examples:
    """The examples with what the frozen layers give of every view in place of its pixels, kept in a file.

    The first process fills it and the others wait.
    """
    if ranks().rank == 0 and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        model.to(device).eval()
        partial = path.with_name(path.name + ".partial")
        kept: NDArray[Any] | None = None
        for row in track(range(len(examples)), f"frozen layers, {path.stem}", total=len(examples)):
            with torch.no_grad(), autocast(device, precision):
                hidden = model.lower(torch.from_numpy(np.array(examples.inputs[row])).to(device))
            values = hidden.float().cpu().numpy()
            if kept is None:
                kept = open_memmap(partial, mode="w+", dtype=values.dtype, shape=(len(examples), *values.shape))
                note(f"frozen layers, {path.stem}: {kept.nbytes / 2**20:.1f} MiB")
            kept[row] = values
        assert kept is not None
        del kept
        partial.replace(path)
    while not path.is_file():
        time.sleep(POLL_SECONDS)
    return replace(examples, inputs=np.load(path, mmap_mode="r"))
