"""Frozen lower layers run once: their output of every view is stored, and the rest of the model trains from it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from distill.data import Data
from distill.model import Model
from distill.precision import autocast, pin_fp32
from distill.stage import constants
from rungwise.artifact import StageKey, run_stage
from rungwise.progress import note, track
from rungwise.ranks import ranks
from student import stem
from teacher import normalize

FROZEN_VERSION = 1


def keep_frozen(model: Model, name: str, data: Data, runs: Path, *, device: str, precision: str) -> NDArray[Any]:
    """The frozen layers' output of every view, (N, V, ...) in table order, from the artifact that holds it.

    Its id is the hash of the frozen weights, of their output's shape and of the views, so runs of other seeds, splits
    and losses share it.
    """
    pin_fp32()
    model.to(device).eval()
    pixels = data.pixels

    def output(row: int) -> NDArray[np.float32]:
        with torch.no_grad(), autocast(device, precision):
            hidden = model.lower(torch.from_numpy(np.array(pixels[row])).to(device))
        values: NDArray[np.float32] = hidden.float().cpu().numpy()
        return values

    shape = (len(pixels), *output(0).shape)

    def build(folder: Path) -> None:
        values_NV = open_memmap(folder / "kept.npy", mode="w+", dtype=np.float32, shape=shape)
        note(f"frozen layers: {values_NV.nbytes / 2**20:.1f} MiB")
        # Rows side by side, each on one core: twice as fast on two cores as the threads of one row, same bytes.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(ranks().workers if device == "cpu" else 1) as pool:
                outputs = track(pool.map(output, range(len(pixels))), "frozen layers", total=len(pixels))
                for row, values in enumerate(outputs):
                    values_NV[row] = values
        finally:
            torch.set_num_threads(threads)

    params = {"model": name, "precision": precision, "shape": shape, "constants": constants(stem, normalize)}
    inputs = {"views": data.views.content_sha256, "weights": _hash_frozen(model)}
    artifact = run_stage(runs, StageKey("frozen", FROZEN_VERSION, params, inputs), build)
    values_NV: NDArray[Any] = np.load(artifact.path / "kept.npy", mmap_mode="r")
    return values_NV


def _hash_frozen(model: Model) -> str:
    """Hash of the weights that don't train."""
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if key not in trained:
            digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
