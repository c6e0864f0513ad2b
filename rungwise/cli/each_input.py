"""Verbs that take many inputs: a failed one is one line, the others go on, and the exit code is 1."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import typer


def each_input(
    verb: str, paths: Iterable[Path], work: Callable[[Path], bool], *, key: str = "path", as_json: bool = False
) -> None:
    """Call `work` on each path. It prints its own result and returns whether all is well.

    Args:
        key: the input's name in the JSON line of a failed one.

    Raises:
        typer.Exit: 1, after the last input, if any failed.
    """
    from rungwise.failures import failure
    from rungwise.progress import warn

    passed = True
    for path in paths:
        try:
            passed &= work(path)
        except Exception as error:
            passed = False
            reason = failure(str(path), error)
            if as_json:
                print(json.dumps({key: str(path), "error": reason}))
            else:
                warn(f"rungwise {verb}: {reason}")
    if not passed:
        raise typer.Exit(1)
