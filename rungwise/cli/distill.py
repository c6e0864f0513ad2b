"""`rungwise distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rungwise.cli.options import Config, Device, Json, Quiet, Runs, SourcesOption
from rungwise.cli.pipeline import print_outcome, training_packages


def distill(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    tune: Annotated[
        Literal["all", "styleprompt", "head"] | None,
        typer.Option(
            help="train all weights, or the prompts or the heads of a trained student alone",
            show_default="as in CONFIG",
        ),
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
    with training_packages():
        from distill.pipeline import run
    from rungwise.config import load_config

    changes = {"tune": tune, "start": start and str(start)}
    changes = {key: value for key, value in changes.items() if value is not None}
    until = "distill" if pretrain is None else "pretrain"
    settings = load_config(config, sources=sources, student=changes)
    outcome = run(settings, runs, until=until, device=device, watch=tensorboard)
    print_outcome(outcome, until, as_json)
