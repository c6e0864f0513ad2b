"""A trained model on disk: safetensors weights with their contract in the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from distill.model import Model
from distill.predict import predict
from rungwise.artifact import canonical_json
from rungwise.score.contract import METADATA_KEY, Contract, Golden, check_golden, golden_input, sha256_array
from rungwise.score.views import ViewRecipe
from student.models import STUDENTS
from student.quality_student import QualityStudent
from teacher.models import TEACHERS
from teacher.quality_teacher import QualityTeacher
from teacher.weights import read_metadata

TORCH_TOLERANCE: Final = 1e-3  # score units of 100: other CPUs and thread counts sum in another order


def build_model(name: str, settings: Mapping[str, Any], *, is_student: bool) -> Model:
    """A model by registry name, with fresh weights."""
    build: Callable[..., Model] = STUDENTS[name] if is_student else TEACHERS[name]().build
    return build(**settings)


def save_checkpoint(path: Path, model: nn.Module, settings: Mapping[str, Any], contract: Contract) -> Contract:
    """Write weights, constructor settings and contract, with golden scores of these very weights."""
    golden = Golden(
        input_sha256=sha256_array(golden_input(contract.view)),
        scores=tuple(float(score) for score in predict_golden(model, contract.view)),
        tolerance=TORCH_TOLERANCE,
    )
    contract = contract.model_copy(update={"golden": golden})
    # One entry: safetensors writes several in random order, and equal weights must be equal bytes.
    carried: dict[str, Any] = {"contract": contract.model_dump(mode="json"), "settings": settings}
    if isinstance(model, QualityStudent) and contract.model in TEACHERS:
        carried["role"] = "student"  # a name that teachers have too
    metadata = {METADATA_KEY: canonical_json(carried)}
    partial = path.with_name(path.name + ".partial")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial, metadata)
    partial.replace(path)
    return contract


def load_checkpoint(path: Path) -> tuple[Model, Contract, dict[str, Any]]:
    """Read a model back, strictly, and re-run its golden input.

    Raises:
        ValueError: no contract in the file, keys that do not fit, or golden scores off by more than the tolerance.
    """
    model, contract, settings = load_unchecked(path)
    check_golden(contract, predict_golden(model, contract.view), str(path))
    return model, contract, settings


def predict_golden(model: nn.Module, recipe: ViewRecipe) -> NDArray[np.float32]:
    """Scores of `golden_input`; to a teacher that sees the master, its first view, the clean one, is the master."""
    frames = golden_input(recipe)
    if isinstance(model, QualityTeacher) and model.sees_master:
        frames = np.concatenate([frames, np.broadcast_to(frames[:1], frames.shape)], -1)
    return predict(model, frames)


def load_unchecked(path: Path) -> tuple[Model, Contract, dict[str, Any]]:
    """`load_checkpoint` without the golden input: for whoever re-runs it himself, or can't yet (ZeRO-3)."""
    metadata = read_metadata(path)
    if METADATA_KEY not in metadata:
        raise ValueError(f"{path}: carries no contract, so it is no checkpoint of rungwise")
    carried = json.loads(metadata[METADATA_KEY])
    contract = Contract.model_validate(carried["contract"])
    settings: dict[str, Any] = carried["settings"]
    is_student = carried.get("role") == "student" or contract.model not in TEACHERS
    model = build_model(contract.model, settings, is_student=is_student)
    try:
        model.load_state_dict(load_file(path), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: weights do not fit {contract.model}: {error}") from error
    model.eval()
    return model, contract, settings
