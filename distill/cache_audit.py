"""The audit of a finished cache: the teacher runs again on random clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.engine import own_device
from distill.precision import fp32_products
from distill.reference import find_master, read_beside_master
from distill.teaching import open_teacher, preprocessing_sha256
from rungwise.artifact import Artifact, open_artifact, read_facts, sha256_file, verify_files
from rungwise.ladder.make import read_ladder
from rungwise.progress import track
from rungwise.score.views import read_views
from teacher.cache import open_cache
from teacher.shard_files import Entry, open_shard, read_index

# Relative to a field's own scale: what another machine, another batch or fp16 storage may change.
VERIFY_TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}
BF16_STEP = 8e-3


def verify_cache(
    path: Path, *, sample: int, seed: int, tolerance: float | None, device: str
) -> tuple[list[dict[str, Any]], float]:
    """Re-run the teacher on random entries of a finished cache, from the clips' files.

    Args:
        path: the cache's artifact, in a runs folder that holds its teacher and its ladder too.
        sample: clips to run again.
        tolerance: allowed error, relative to a field's own scale; None: by the teacher's precision.

    Returns:
        One dict a clip: its name and the largest error of each field; and the tolerance.

    Raises:
        ValueError: a file's bytes changed, or the cache is of another teacher, preprocessing or dataset.
    """
    cache = open_cache(path, expect={})
    verify_files(cache)
    facts, params = read_facts(cache), cache.key.params
    runs = path.resolve().parent.parent
    weights = runs / "teach" / facts["teacher_artifact"] / "teacher.safetensors"
    if not weights.is_file():
        raise ValueError(f"{path}: its teacher is not at {weights}; verify needs the runs folder that made the cache")
    labeled = [runs / stage / facts["ladder_artifact"] for stage in ("ladder", "dataset")]
    teacher, ladder = open_artifact(weights.parent), open_artifact(labeled[not labeled[0].is_dir()])
    verify_files(teacher)
    predict, contract = open_teacher(
        weights, layers=tuple(params["layers"]), dtype=params["feature_dtype"],
        precision=params["precision"], device=own_device(device),
    )  # fmt: skip
    contents = {"teacher": teacher.content_sha256, "dataset": ladder.content_sha256}
    made_with = {"preprocessing": preprocessing_sha256(contract.view)}
    open_artifact(
        path, expect=replace(cache.key, inputs={**cache.key.inputs, **contents}, params={**params, **made_with})
    )
    recorded = facts.get("fp32_products", fp32_products())
    if recorded != fp32_products():
        raise ValueError(
            f"{path}: fp32_products: cached {recorded!r}, expected {fp32_products()!r}; delete it and rerun"
        )
    index = read_index(cache)
    read = _reader(runs, facts, ladder)
    allowed = VERIFY_TOLERANCE[params["precision"]] if tolerance is None else tolerance
    if tolerance is None and params["feature_dtype"] == "bfloat16":
        allowed = max(allowed, BF16_STEP)
    chosen = np.random.default_rng(seed).permutation(sorted(index))[:sample]
    rows = []
    for clip in track([str(name) for name in chosen], "verify", total=len(chosen)):
        entry = index[clip]
        video = ladder.path / entry.path
        if sha256_file(video) != entry.video_sha256:
            raise ValueError(f"{video}: content: not the bytes that the teacher was given; the clip was changed")
        pixels = torch.from_numpy(read(entry, video))[None].to(own_device(device))
        fresh = predict(pixels)
        with open_shard(path / entry.shard) as reader:
            cached = {name: reader.get_tensor(name)[entry.row] for name in sorted(reader.keys())}
        rows.append({"clip": clip} | {name: _relative(value, fresh[name][0].cpu()) for name, value in cached.items()})
    return rows, allowed


def _reader(runs: Path, facts: dict[str, Any], ladder: Artifact) -> Callable[[Entry, Path], NDArray[np.uint8]]:
    """From an entry and its video to the teacher's pixels_VTSSC, beside the master's where the teacher sees it."""
    if "parts_artifact" not in facts:
        return lambda entry, video: read_views(video, entry.views)
    parts, table = open_artifact(runs / "parts" / facts["parts_artifact"]), read_ladder(ladder)
    contents = dict(zip(table["clip"], table["content"], strict=True))
    return lambda entry, video: read_beside_master(video, find_master(parts, contents[entry.clip], runs), entry.views)


def _relative(cached: Tensor, fresh: Tensor) -> float:
    """Largest error over the field's own largest magnitude, at least 1."""
    error = (cached.double() - fresh.double()).abs().max()
    return float((error / fresh.double().abs().max().clamp(min=1)).nan_to_num(nan=float("inf")))
