"""Scores as text, CSV rows, and JSON in the layout of libvmaf."""

from __future__ import annotations

import csv
import io
from typing import Any

from rungwise import __version__
from rungwise.score.result import Score, Window, with_content

CSV_COLUMNS = (
    "path",
    "score",
    "low",
    "high",
    "band",
    "pixel_score",
    "bitstream_used",
    "display_height",
    "frames_used",
    "width",
    "height",
    "fps",
    "duration_seconds",
    "num_windows",
    "kind",
    "polarity",
    "notes",
    "error",
)


def text_line(score: Score) -> str:
    """One line: score, interval, band, path, video format and notes."""
    interval = "" if score.low is None else f"  [{score.low:.1f}, {score.high:.1f}]"
    video = f"{score.width}x{score.height}, {score.fps:g} fps, evaluated at {score.display_height}p"
    notes = "".join(f"; {note}" for note in score.notes)
    return f"{score.score:7.3f}{interval}  {score.band:9}  {score.path}  ({video}{notes})"


def clock(seconds: float) -> str:
    """A time as 1:02:03.450, or 2:03.450 below one hour."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}.{millis:03d}" if hours else f"{minutes}:{rest:02d}.{millis:03d}"


def window_line(window: Window) -> str:
    """One line for a window of a timeline."""
    flat = "  flat" if window.flat else ""
    return f"  {clock(window.start_seconds)} to {clock(window.end_seconds)}  {window.score:7.3f}{flat}"


def csv_line(values: dict[str, Any]) -> str:
    """One CSV row with the columns `CSV_COLUMNS`."""
    row = io.StringIO()
    notes = "; ".join(values.get("notes", ()))
    csv.DictWriter(row, CSV_COLUMNS, extrasaction="ignore", lineterminator="").writerow(values | {"notes": notes})
    return row.getvalue()


def vmaf_json(score: Score) -> dict[str, Any]:
    """A score in the layout of libvmaf's JSON log, with the frames that the model saw.

    The metric is named `rungwise`, and also `vmaf` if the model predicts VMAF, for tools that only read that name. The
    pooled mean is the video's score. `fps` is the video's frame rate, where libvmaf writes its processing speed.
    """
    names = ["rungwise", *(["vmaf"] if score.kind.startswith("vmaf") else [])]
    by_frame: dict[int, float] = {}
    for window in with_content(score.windows):
        scores = window.frame_scores or (window.score,) * len(window.frame_indices)
        by_frame |= dict(zip(window.frame_indices, scores, strict=True))
    values = [by_frame[index] for index in sorted(by_frame)]
    pooled = {
        "min": min(values),
        "max": max(values),
        "mean": score.score,
        "harmonic_mean": len(values) / sum(1 / (max(value, 0) + 1) for value in values) - 1,
    }
    return {
        "version": __version__,
        "params": {"qualityWidth": score.width, "qualityHeight": score.height},
        "fps": score.fps,
        "frames": [
            {"frameNum": index, "metrics": {name: by_frame[index] for name in names}} for index in sorted(by_frame)
        ],
        "pooled_metrics": {name: pooled for name in names},
        "aggregate_metrics": {},
    }
