"""From a verb to the pipeline: the training packages are imported when a verb runs, as a scorer has none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from distill.pipeline import Outcome


@contextlib.contextmanager
def training_packages() -> Iterator[None]:
    """Imports of `distill` and `teacher` go inside.

    Raises:
        ValueError: they or what they import is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"this verb needs a checkout with the training packages ({error}): "
            "clone the repository and `pip install -e '.[train]'`"
        ) from error


def print_outcome(outcome: Outcome, until: str, as_json: bool) -> None:
    """Print where the artifact of the last stage lies; exit 1 if a clip or a precision failed."""
    from rungwise.ranks import ranks

    artifact = outcome.artifacts[until]
    if ranks().rank > 0:
        pass  # the first process prints for all
    elif as_json:
        print(json.dumps({"stage": until, "id": artifact.id, "path": str(artifact.path), "failures": outcome.failures}))
    elif until == "evaluate":
        print((artifact.path / "table.txt").read_text(), end="")
        print(artifact.path / "report.html")
    else:
        print(artifact.path)
    report_failures(outcome.failures)


def report_failures(failures: dict[str, str]) -> None:
    """Print every failure; exit 1 if there is one."""
    from rungwise.progress import warn

    for clip, reason in failures.items():
        warn(f"failed: {clip}: {reason}")
    if failures:
        raise typer.Exit(1)
