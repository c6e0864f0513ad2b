"""`rungwise golden`: re-run any safetensors file that carries its own proof."""

from __future__ import annotations

from pathlib import Path

from distill.checkpoint import load_unchecked
from distill.train import predict
from rungwise.contract import METADATA_KEY, golden_deviation, golden_input
from teacher.golden import run_golden
from teacher.weights import read_metadata

TOLERANCE = 1e-4


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
    deviation = golden_deviation(contract, predict(model, golden_input(contract.view)), str(path))
    assert contract.golden is not None
    return {"score": deviation}, contract.golden.tolerance
