"""Frozen lower layers run once: what they give of every view is kept in a file, and the rest trains from that."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from distill.data import Data
from distill.engine import autocast
from distill.model import Model
from rungwise.artifact import StageKey, run_stage
from rungwise.progress import note, track

FROZEN_VERSION = 1


def keep_frozen(model: Model, name: str, data: Data, runs: Path, *, device: str, precision: str) -> NDArray[Any]:
    """What the frozen layers give of every view, (N, V, ...) in table order, from the artifact that holds it.

    It is known by the frozen weights and the views alone, so runs of other seeds, splits and losses share it.
    """
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {key: value for key, value in sorted(model.state_dict().items()) if key not in trained}
    digest = hashlib.sha256()
    for key, value in frozen.items():
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    inputs = {"views": data.views.content_sha256, "weights": digest.hexdigest()}
    stage_key = StageKey("frozen", FROZEN_VERSION, {"model": name, "precision": precision}, inputs)

    def build(folder: Path) -> None:
        model.to(device).eval()
        pixels = data.pixels
        kept: NDArray[Any] | None = None
        for row in track(range(len(pixels)), "frozen layers", total=len(pixels)):
            with torch.no_grad(), autocast(device, precision):
                hidden = model.lower(torch.from_numpy(np.array(pixels[row])).to(device))
            values = hidden.float().cpu().numpy()
            if kept is None:
                kept = open_memmap(
                    folder / "kept.npy", mode="w+", dtype=values.dtype, shape=(len(pixels), *values.shape)
                )
                note(f"frozen layers: {kept.nbytes / 2**20:.1f} MiB")
            kept[row] = values

    values_NV: NDArray[Any] = np.load(run_stage(runs, stage_key, build).path / "kept.npy", mmap_mode="r")
    return values_NV
