"""`rungwise student info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Json, Quiet
from rungwise.cli.pipeline import training_packages


def info(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="a run's YAML, or a student's checkpoint (.safetensors)")
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a student's weights and multiply-adds for one view of a video, part by part."""
    with training_packages():
        from distill.golden import student_info

    facts = student_info(model)
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['model']}, {facts['view']}")
    print(f"{'part':16}{'weights':>12}{'MMACs':>10}{'':>8}")
    for part in (*facts["parts"], facts["total"]):
        share = part["macs"] / facts["total"]["macs"]
        print(f"{part['name']:16}{part['weights']:>12,}{part['macs'] / 1e6:>10.1f}{share:>8.1%}")
