"""`rungwise golden`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.each_input import each_input
from rungwise.cli.options import Json, Quiet
from rungwise.cli.pipeline import training_packages


def golden(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="checkpoints, exports and golden files")],
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="allowed absolute difference",
            show_default="that of the checkpoint or export, else 1e-4",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Verify checkpoints and exports against their golden outputs; exit 1 above the tolerance."""

    def work(path: Path) -> bool:
        deviations, allowed = _deviations(path)
        return _report(path, deviations, allowed if tolerance is None else tolerance, as_json)

    each_input("golden", files, work, key="file", as_json=as_json)


def _deviations(path: Path) -> tuple[dict[str, float], float]:
    """The largest absolute difference of every output, and the tolerance that the file carries."""
    if path.suffix == ".onnx":
        from rungwise.score.scorer import golden_of_export

        return golden_of_export(path)
    with training_packages():
        from distill.golden import golden as golden_of_checkpoint

    return golden_of_checkpoint(path)


def _report(path: Path, deviations: dict[str, float], tolerance: float, as_json: bool) -> bool:
    """One line an output; whether all are within the tolerance."""
    for output, deviation in deviations.items():
        passed = deviation <= tolerance
        facts = {"file": str(path), "output": output, "deviation": deviation, "tolerance": tolerance, "ok": passed}
        if as_json:
            # JSON has no infinity, which is what a NaN output deviates by.
            print(json.dumps(facts | ({} if deviation < float("inf") else {"deviation": None})))
        else:
            print(f"{'ok  ' if passed else 'FAIL'}  {output:24} {deviation:.3g}  {path}")
    return all(deviation <= tolerance for deviation in deviations.values())
