"""A video's quality over time as files: CSV, JSON and a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rungwise.artifact import write_text
from rungwise.report.svg import COLORS, FONT_SIZE, INK, Axis, Margins, Mark, Plot
from rungwise.score.result import Score
from rungwise.score.timeline import worst_windows

_MAX_NAME, _MAX_TIME_TICKS = 80, 10
_TIME_STEPS = [unit * ten for ten in (0.01, 0.1, 1, 10) for unit in (1, 2, 5)] + [60, 120, 300, 600, 1200, 3600, 7200]


def write_timeline(folder: Path, stem: str, score: Score, cuts: Sequence[float], range_: tuple[float, float]) -> None:
    """`stem`.timeline.csv, .json and .svg in `folder`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["start_seconds", "end_seconds", "score", "cuts", "flat"])
    for window in score.timeline:
        inside = sum(window.start_seconds <= cut < window.end_seconds for cut in cuts)
        writer.writerow(
            [round(window.start_seconds, 6), round(window.end_seconds, 6), window.score, inside, int(window.flat)]
        )
    write_text(folder / f"{stem}.timeline.csv", table.getvalue())
    values = score.as_dict() | {"cuts_seconds": list(cuts), "timeline": [asdict(window) for window in score.timeline]}
    write_text(folder / f"{stem}.timeline.json", json.dumps(values, indent=2) + "\n")
    write_text(folder / f"{stem}.timeline.svg", draw_timeline(score, cuts, range_))


def draw_timeline(score: Score, cuts: Sequence[float], range_: tuple[float, float]) -> str:
    """The timeline as an SVG file: a step for each window, a dashed line for each cut, a ring for the worst window."""
    low, high = range_
    levels = [low + (high - low) * fifth / 5 for fifth in range(6)]
    y = Axis("", low, high, [(level, f"{level:g}") for level in levels])
    plot = Plot(
        f"{score.path}: {score.kind} over time",
        _time_axis(max(score.duration_seconds, 1e-6)),
        y,
        width=960,
        height=330,
        margins=Margins(left=46, top=44, right=16, bottom=48),
    )
    name = Path(score.path).name
    name = name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
    plot.add("text", name, x=46, y=22, font_size=FONT_SIZE + 2, font_weight=600, fill=INK)
    result = f"{score.kind} {score.score:.1f}, evaluated at {score.display_height}p"
    plot.add("text", result, x=944, y=22, text_anchor="end")
    for cut in cuts:
        plot.line([(cut, low), (cut, high)], COLORS[1], width=1, dash="3 4", class_="cut")
    steps = [(t, w.score) for w in score.timeline for t in (w.start_seconds, w.end_seconds)]
    plot.line(steps, COLORS[0], width=2)
    for window in worst_windows(score, 1):
        ring = Mark("circle", COLORS[0], hollow=True, radius=5)
        plot.mark(ring, (window.start_seconds + window.end_seconds) / 2, window.score)
    counts = f"{len(score.timeline)} windows; ring: worst; dashed: {len(cuts)} scene cut{'' if len(cuts) == 1 else 's'}"
    plot.add("text", counts, x=46, y=322)
    return plot.document(f"{score.path}: {score.kind} over time")


def _time_axis(end: float) -> Axis:
    step = next((step for step in _TIME_STEPS if end / step <= _MAX_TIME_TICKS), end)
    times = [round(number * step, 2) for number in range(int(end / step) + 1)]
    ticks = [(t, f"{int(t) // 60}:{int(t) % 60:02d}" if end >= 120 else f"{t:g} s") for t in times]
    return Axis("", 0, end, ticks)
