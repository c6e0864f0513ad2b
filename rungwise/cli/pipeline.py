"""From a verb to the pipeline: the training packages are imported when a verb runs, as a scorer has none."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import typer


def report_failures(failures: dict[str, str]) -> None:
    from rungwise.progress import warn

    for clip, reason in failures.items():
        warn(f"failed: {clip}: {reason}")
    if failures:
        raise typer.Exit(1)


def run_until(
    until: str,
    config: Path,
    runs: Path,
    sources: Path | None,
    device: str,
    as_json: bool,
    changes: dict[str, Any] | None = None,
    watch: Path | None = None,
) -> None:
    """Make everything up to one stage, and print where its artifact lies."""
    from rungwise.ranks import ranks

    outcome = run_pipeline(config, runs, sources, device, until, changes, watch)
    artifact = outcome.artifacts[until]
    if ranks().rank > 0:
        pass  # the first process speaks for all
    elif as_json:
        print(json.dumps({"stage": until, "id": artifact.id, "path": str(artifact.path), "failures": outcome.failures}))
    elif until == "evaluate":
        print((artifact.path / "table.txt").read_text(), end="")
        print(artifact.path / "report.html")
    else:
        print(artifact.path)
    report_failures(outcome.failures)


def training_module(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"this verb needs a checkout with the training packages ({error}): "
            "clone the repository and `pip install -e '.[train]'`"
        ) from error


def run_pipeline(
    config: Path,
    runs: Path,
    sources: Path | None,
    device: str,
    until: str,
    changes: dict[str, Any] | None = None,
    watch: Path | None = None,
) -> Any:
    pipeline = training_module("distill.pipeline")
    from rungwise.config import load_config

    settings = load_config(config, sources=sources, student=changes)
    return pipeline.run(settings, runs, until=until, device=device, watch=watch)
