"""Scores as text, CSV rows, and the JSON that libvmaf writes."""

from __future__ import annotations

import csv
import io
from typing import Any

from rungwise import __version__
from rungwise.score.scorer import Score, Window, with_content

CSV_COLUMNS = (
    "path",
    "score",
    "low",
    "high",
    "band",
    "pictures_score",
    "stream_used",
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
    """One line: score, interval, band, path, and what was seen."""
    interval = "" if score.low is None else f"  [{score.low:.1f}, {score.high:.1f}]"
    seen = f"{score.width}x{score.height}, {score.fps:g} fps, shown at {score.display_height} lines"
    notes = "".join(f"; {note}" for note in score.notes)
    return f"{score.score:7.3f}{interval}  {score.band:9}  {score.path}  ({seen}{notes})"


def clock(seconds: float) -> str:
    """1:02:03.450, 2:03.450 below an hour."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}.{thousandths:03d}" if hours else f"{minutes}:{rest:02d}.{thousandths:03d}"


def window_line(window: Window) -> str:
    """A window of a timeline as text."""
    flat = "  flat" if window.flat else ""
    return f"  {clock(window.start_seconds)} to {clock(window.end_seconds)}  {window.score:7.3f}{flat}"


def csv_line(values: dict[str, Any]) -> str:
    """One CSV row of a result's plain values, columns as `CSV_COLUMNS`."""
    row = io.StringIO()
    notes = "; ".join(values.get("notes", ()))
    csv.DictWriter(row, CSV_COLUMNS, extrasaction="ignore", lineterminator="").writerow(values | {"notes": notes})
    return row.getvalue()


def vmaf_json(score: Score) -> dict[str, Any]:
    """A result in the layout of libvmaf's JSON log; its frames are those that the score rests on.

    The metric is `rungwise`, and `vmaf` too where the model was taught VMAF, for readers that look for it alone. The
    pooled mean is the video's score, `fps` the video's rate (libvmaf writes its own speed there).
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
