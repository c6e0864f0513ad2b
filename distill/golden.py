"""`rungwise golden`: re-run any safetensors file that carries its own proof; `rungwise student info`: what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.checkpoint import load_unchecked, predict_golden
from rungwise.config import load_config
from rungwise.score.contract import METADATA_KEY, golden_deviation
from student.models import STUDENTS, cost, student_settings
from student.quality_student import QualityStudent
from teacher.golden import run_golden
from teacher.weights import read_metadata

TOLERANCE = 1e-4


def student_info(path: Path) -> dict[str, Any]:
    """A student's parts and total: weights, and multiply-adds for one video's view.

    Raises:
        ValueError: neither a config nor a student's checkpoint.
    """
    if path.suffix == ".safetensors":
        model, contract, _ = load_unchecked(path)
        name, recipe = contract.model, contract.view
        if not isinstance(model, QualityStudent):
            raise ValueError(f"{path}: holds {name}, which is no student")
    else:
        config = load_config(path)
        name, recipe = config.student.model, config.views.recipe
        settings = student_settings(config.student, recipe)
        model = STUDENTS[name](**settings, num_levels=config.teacher.num_levels, minimum=0.0, maximum=1.0)
    parts = [part._asdict() for part in cost(model, recipe)]
    total = {"name": "total"} | {field: sum(part[field] for part in parts) for field in ("weights", "macs")}
    view = f"{recipe.num_frames} frames of {recipe.size_px}x{recipe.size_px} pixels"
    return {"model": name, "view": view, "parts": parts, "total": total}


def golden(path: Path) -> tuple[dict[str, float], float]:
    """Largest absolute deviation of every output, and the tolerance: the file's own, or 1e-4.

    A golden file holds a checkpoint, inputs and outputs of another's code; a checkpoint of ours its golden scores.

    Raises:
        ValueError: neither of the two, or it does not fit the model it names.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if METADATA_KEY not in read_metadata(path):
        return run_golden(path), TOLERANCE
    model, contract, _ = load_unchecked(path)
    deviation = golden_deviation(contract, predict_golden(model, contract.view), str(path))
    assert contract.golden is not None
    return {"score": deviation}, contract.golden.tolerance
