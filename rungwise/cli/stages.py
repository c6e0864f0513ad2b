"""`rungwise teach`, `cache make` and `evaluate`: the run up to one stage; finished stages are reused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from rungwise.cli.options import Config, Device, Json, Quiet, Ray, Runs, SourcesOption
from rungwise.cli.pipeline import print_outcome, training_packages


def run_until(
    until: str,
    config: Path,
    runs: Path,
    sources: Path | None,
    device: str,
    *,
    ray: str | None = None,
    as_json: bool,
) -> None:
    """Run a config's pipeline up to a stage, and print where its artifact lies."""
    if config.suffix in (".csv", ".tsv", ".parquet"):
        raise typer.BadParameter(f"{config} is a table, not a run's YAML; evaluate it by `rungwise metrics {config}`")
    with training_packages():
        from distill.pipeline import run
    from rungwise.config import load_config

    outcome = run(load_config(config, sources=sources), runs, until=until, device=device, ray=ray)
    print_outcome(outcome, until, as_json)


def _stage_verb(until: str, help_text: str) -> Callable[..., None]:
    def verb(
        config: Config,
        runs: Runs = Path("runs"),
        sources: SourcesOption = None,
        device: Device = "cpu",
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        run_until(until, config, runs, sources, device, as_json=as_json)

    verb.__doc__ = help_text
    return verb


def make_cache(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    ray: Ray = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the teacher over every view once and keep its quality targets and features."""
    run_until("cache", config, runs, sources, device, ray=ray, as_json=as_json)


teach = _stage_verb("teach", "Tune the teacher on the train contents.")
evaluate = _stage_verb(
    "evaluate",
    "Evaluate a run's teacher and student on its test contents; `metrics` evaluates any table of scores.",
)
