"""What `rungwise watch` prints: text, or NDJSON of every event."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from rungwise.progress import note, warn
from rungwise.score.output import clock
from rungwise.score.watch import Ended, Event, LeftOut, Notice, RungName, ScoredWindow
from rungwise.score.watch_board import Comparison, GateChange, Recent

Item = Event | Recent | Comparison | GateChange


class WatchWriter:
    """Prints items as they come. In text, what happens to sources goes to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.num_problems = 0

    def write(self, item: Item) -> None:
        """Print one item."""
        if isinstance(item, Ended) and item.problem:
            self.num_problems += 1
        if self.as_json:
            if (values := as_values(item)) is not None:
                self._print(json.dumps(values))
        elif isinstance(item, Notice):
            note(f"{item.rung}: {item.text}")
        elif isinstance(item, Ended):
            windows = "1 window" if item.num_windows == 1 else f"{item.num_windows} windows"
            (warn if item.problem else note)(item.problem or f"{item.rung}: ended after {windows}")
        elif (line := _text(item)) is not None:
            self._print(line)

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def as_values(item: Item) -> dict[str, Any] | None:
    """An item for JSON, with its kind as `event`; None for windows, which come as `Recent`."""
    if isinstance(item, ScoredWindow):
        return None
    if isinstance(item, Recent):
        worst = {
            "worst_score": item.worst.score,
            "worst_start_seconds": item.worst.start_seconds,
            "mean_score": item.mean,
            "num_recent": item.num_windows,
        }
        return {"event": "window"} | _flat(item.window) | worst
    if isinstance(item, LeftOut):
        return {"event": item.kind} | _names(item.rung) | {"seconds": item.seconds, "reason": item.reason}
    if isinstance(item, Notice):
        return {"event": "notice"} | _names(item.rung) | {"text": item.text}
    if isinstance(item, Ended):
        problem = {"error": item.problem} if item.problem else {}
        return {"event": "end"} | _names(item.rung) | {"num_windows": item.num_windows} | problem
    if isinstance(item, GateChange):
        return {"event": "gate"} | _flat(item.window) | {"gate": item.gate, "passes": item.passes}
    return {
        "event": "rungs",
        "title": item.title,
        "media_seconds": item.media_seconds,
        "rungs": [
            {"rung": window.rung.rung, "kbps": kbps, "score": window.score}
            for window, kbps in zip(item.windows, item.kbps, strict=True)
        ],
        "unordered": [list(pair) for pair in item.unordered],
    }


def _names(rung: RungName) -> dict[str, Any]:
    return {"title": rung.title, "rung": rung.rung}


def _flat(window: ScoredWindow) -> dict[str, Any]:
    return _names(window.rung) | {name: value for name, value in asdict(window).items() if name != "rung"}


def _text(item: ScoredWindow | LeftOut | Recent | Comparison | GateChange) -> str | None:
    if isinstance(item, Recent):
        window = item.window
        notes = "".join(f"  {text}" for text, holds in (
            ("pixel-only", not window.bitstream_used and not window.flat), ("flat", window.flat)
        ) if holds)  # fmt: skip
        return (
            f"{clock(window.start_seconds)}  {window.score:7.3f}  {window.rung}  (worst of {item.num_windows}: "
            f"{item.worst.score:.3f} at {clock(item.worst.start_seconds)}; lag {window.lag_seconds:.1f} s){notes}"
        )
    if isinstance(item, LeftOut):
        return f"{item.kind}  {item.rung}  {item.seconds:.1f} s: {item.reason}"
    if isinstance(item, GateChange):
        window = item.window
        state = "passes again" if item.passes else f"fails: {window.score:.3f} at {clock(window.start_seconds)}"
        return f"gate {item.gate:g}  {window.rung}  {state}"
    if isinstance(item, Comparison):
        scores = ", ".join(f"{window.rung.rung} {window.score:.1f}" for window in item.windows)
        wrong = "".join(f"; {high} scores worse than {low}" for low, high in item.unordered)
        return "  ".join(filter(None, ["rungs", item.title, f"{scores}{wrong}"]))
    return None
