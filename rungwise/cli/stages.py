"""`rungwise teach`, `cache make`, `export` and `evaluate`: the run up to one stage; finished stages are reused."""

from __future__ import annotations

from pathlib import Path

from rungwise.cli.options import Config, Device, Json, Quiet, Runs, SourcesOption
from rungwise.cli.pipeline import print_outcome, training_packages


def teach(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune the teacher on the train contents."""
    _run("teach", config, runs, sources, device, as_json)


def make_cache(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the teacher over every view once and keep its quality targets and features."""
    _run("cache", config, runs, sources, device, as_json)


def export(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the student as fp32, fp16 and int8 ONNX files, each checked against its gates."""
    _run("export", config, runs, sources, device, as_json)


def evaluate(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a run's teacher and student on its test contents; `metrics` evaluates any table of scores."""
    _run("evaluate", config, runs, sources, device, as_json)


def _run(until: str, config: Path, runs: Path, sources: Path | None, device: str, as_json: bool) -> None:
    with training_packages():
        from distill.pipeline import run
    from rungwise.config import load_config

    outcome = run(load_config(config, sources=sources), runs, until=until, device=device)
    print_outcome(outcome, until, as_json)
