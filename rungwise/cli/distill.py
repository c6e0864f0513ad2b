"""`rungwise distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rungwise.cli.options import Config, Device, Json, Quiet, Runs, SourcesOption
from rungwise.cli.pipeline import run_until


def distill(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    tune: Annotated[
        Literal["all", "styleprompt"] | None,
        typer.Option(help="train all weights, or the prompts of a trained student alone", show_default="as in CONFIG"),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="a student's checkpoint to start from", show_default="as in CONFIG"),
    ] = None,
    pretrain: Annotated[
        Literal["contrast"] | None,
        typer.Option(help="stop after the student's contrastive stage: no labels, no teacher"),
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help="folder for TensorBoard's events")] = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Distill the student from the labels and the teacher's cache."""
    changes = {"tune": tune, "start": start and str(start)}
    changes = {key: value for key, value in changes.items() if value is not None}
    until = "distill" if pretrain is None else "pretrain"
    run_until(until, config, runs, sources, device, as_json, changes, tensorboard)
