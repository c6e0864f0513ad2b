"""Progress on stderr, with rate and ETA; stdout is for results only."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rungwise.ranks import ranks

Item = TypeVar("Item")
LOG_INTERVAL_SECONDS = 30.0  # between progress lines where stderr is not a terminal


_quiet = {"progress": False}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", style="dim")


def set_quiet(quiet: bool) -> None:
    """Silence `note` and `track` (`--quiet`), or undo it."""
    _quiet["progress"] = quiet


def note(message: str) -> None:
    """Print one line of progress to stderr, on rank 0 only."""
    if not _quiet["progress"]:
        warn(message)


def warn(message: str) -> None:
    """Print one line about a failed input or a doubtful result to stderr, on rank 0 only, even with `--quiet`."""
    if ranks().rank > 0:
        return
    Console(stderr=True, force_jupyter=False, highlight=False, soft_wrap=True).print(message, markup=False)


def track(
    items: Iterable[Item], description: str, total: int, describe: Callable[[], str] | None = None
) -> Iterator[Item]:
    """Yield items and show how many of `total` are done: a bar on a terminal, otherwise occasional lines.

    `describe` gives further text, such as time per step.
    """
    if ranks().rank > 0 or _quiet["progress"]:
        yield from items
        return
    if not sys.stderr.isatty():
        yield from _log_lines(items, description, total, describe)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.update(task, advance=1, description=f"{description} {describe()}" if describe else description)


def _log_lines(
    items: Iterable[Item], description: str, total: int, describe: Callable[[], str] | None
) -> Iterator[Item]:
    started = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS or done == total:
            rate = done / max(now - started, 1e-9)
            more = f", {describe()}" if describe else ""
            note(f"{description}: {done}/{total}, {rate:.1f}/s, eta {(total - done) / rate:.0f} s{more}")
            last = now


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr, at the file descriptor too, for libraries and compilers that print to it."""
    sys.stdout.flush()
    stdout_copy = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout_copy, 1)
        os.close(stdout_copy)


def run_jobs(
    pool: Executor, jobs: Mapping[str, Callable[[], object]], description: str
) -> Iterator[tuple[str, BaseException | None]]:
    """Run named jobs; yield (name, error or None) as they finish. Ctrl-C cancels jobs that have not started."""
    futures = {pool.submit(job): name for name, job in jobs.items()}
    try:
        for future in track(as_completed(futures), description, total=len(futures)):
            yield futures[future], future.exception()
    finally:
        pool.shutdown(cancel_futures=True)
