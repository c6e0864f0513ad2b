"""A video's quality over time: scene cuts, the worst moments, and files of them (CSV, JSON, SVG, PNG)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rungwise.artifact import write_text
from rungwise.media.packets import read_packets
from rungwise.media.video import luma, rgb, rgb_frames, tone_mapped
from rungwise.score.frames import Interlaced, NotAsListed, read_frames
from rungwise.score.scorer import Score, Window, with_content

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A cut is a frame that differs from the one before by so many code values of 255 and so many times as much as the
# frames round about do: quick motion differs much too, but does so again and again.
CUT_DIFFERENCE, CUT_TIMES, CUT_NEIGHBORS = 12.0, 3.0, 6
_SAMPLES_ACROSS, _SAMPLES_DOWN = 64, 36
_LEFT, _TOP, _WIDTH, _HEIGHT, _FOOT = 46, 40, 900, 240, 44


class CutFinder:
    """Watches every frame of a video in order and says where scenes change."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.differences: list[float] = []  # from the frame before; 0 for the first
        self.previous: NDArray[np.float32] | None = None

    def look(self, seconds: float, frame: VideoFrame) -> None:
        """Take the next frame."""
        if seconds == 0:  # a reader that starts again
            self.times, self.differences, self.previous = [], [], None
        plane = luma(frame)
        bits = frame.format.components[0].bits if plane.dtype.itemsize > 1 else 8
        down, across = max(1, plane.shape[0] // _SAMPLES_DOWN), max(1, plane.shape[1] // _SAMPLES_ACROSS)
        small = plane[::down, ::across].astype(np.float32) / 2.0 ** (bits - 8)
        difference = 0.0
        if self.previous is not None and self.previous.shape == small.shape:
            difference = float(np.abs(small - self.previous).mean())
        self.times.append(seconds)
        self.differences.append(difference)
        self.previous = small

    def cuts(self) -> tuple[float, ...]:
        """When each new scene begins, in seconds."""
        found = []
        for index, difference in enumerate(self.differences):
            if difference < CUT_DIFFERENCE:
                continue
            near = self.differences[max(1, index - CUT_NEIGHBORS) : index]
            near += self.differences[index + 1 : index + 1 + CUT_NEIGHBORS]
            if not near or difference >= CUT_TIMES * float(np.median(near)):
                found.append(round(self.times[index], 6))
        return tuple(found)


def worst_windows(score: Score, count: int) -> list[Window]:
    """The `count` worst windows, worst first: of the timeline where there is one, and of those with content."""
    sign = -1 if score.polarity == "lower_is_better" else 1
    windows = with_content(score.timeline or score.windows)
    return sorted(windows, key=lambda window: (sign * window.score, window.start_seconds))[:count]


def worst_frame(window: Window, polarity: str) -> tuple[int, float]:
    """(frame number, seconds) of a window's worst frame; its middle one where the model scores no frames."""
    place = len(window.frame_indices) // 2
    if window.frame_scores:
        pick = np.argmax if polarity == "lower_is_better" else np.argmin
        place = int(pick(window.frame_scores))
    return window.frame_indices[place], window.frame_seconds[place]


def save_frame(path: Path, index: int, destination: Path, *, tonemap: bool = False) -> None:
    """Write one frame of a video as PNG, upright, as decoded."""
    convert = tone_mapped if tonemap else rgb
    try:
        [(_, frame)] = read_frames(path, read_packets(path), [index])
        picture = convert(frame)
    except (NotAsListed, Interlaced):
        [(_, picture)] = rgb_frames(path, [index])
    destination.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(destination)


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
    facts = score.as_dict() | {"cuts_seconds": list(cuts), "timeline": [asdict(window) for window in score.timeline]}
    write_text(folder / f"{stem}.timeline.json", json.dumps(facts, indent=2) + "\n")
    write_text(folder / f"{stem}.timeline.svg", draw(score, cuts, range_))


def draw(score: Score, cuts: Sequence[float], range_: tuple[float, float]) -> str:
    """The timeline as an SVG that opens anywhere: steps for windows, dashes for cuts, a ring round the worst."""
    low, high = range_
    end = max(score.duration_seconds, 1e-6)

    def x(seconds: float) -> float:
        return round(_LEFT + _WIDTH * seconds / end, 2)

    def y(value: float) -> float:
        return round(_TOP + _HEIGHT * (1 - (value - low) / (high - low)), 2)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 16} {_TOP + _HEIGHT + _FOOT}" '
        'role="img" font-family="system-ui,Liberation Sans,Arial,sans-serif" font-size="12" fill="#535e6c">',
        f"<title>{escape(score.path)}: {escape(score.kind)} over time</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="600" fill="#14181f">{escape(Path(score.path).name)}'
        f'<tspan font-weight="400" fill="#535e6c">  {escape(score.kind)} {score.score:.1f}, shown at '
        f"{score.display_height} lines</tspan></text>",
    ]
    for fifth in range(6):
        value = low + (high - low) * fifth / 5
        parts.append(
            f'<path d="M{_LEFT} {y(value)}h{_WIDTH}" stroke="#dde2e8"/>'
            f'<text x="{_LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>'
        )
    for mark in _marks(end):
        label = f"{int(mark) // 60}:{int(mark) % 60:02d}" if end >= 120 else f"{mark:g} s"
        parts.append(f'<text x="{x(mark)}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{label}</text>')
    parts += [
        f'<path class="cut" d="M{x(cut)} {_TOP}v{_HEIGHT}" stroke="#d55e00" stroke-dasharray="3 4"/>' for cut in cuts
    ]
    line = "".join(
        f"{'L' if number else 'M'}{x(window.start_seconds)} {y(window.score)}H{x(window.end_seconds)}"
        for number, window in enumerate(score.timeline)
    )
    parts.append(f'<path d="{line}" fill="none" stroke="#0072b2" stroke-width="2"/>')
    for window in worst_windows(score, 1):
        middle = (window.start_seconds + window.end_seconds) / 2
        parts.append(
            f'<circle cx="{x(middle)}" cy="{y(window.score)}" r="5" fill="#fff" stroke="#0072b2" stroke-width="2"/>'
        )
    legend = f"{len(score.timeline)} windows; ring: worst; dashed: {len(cuts)} scene cut{'' if len(cuts) == 1 else 's'}"
    parts.append(f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 36}">{legend}</text></svg>')
    return "\n".join(parts) + "\n"


def _marks(end: float) -> list[float]:
    """At most ten round times from 0 on."""
    steps = [unit * ten for ten in (0.01, 0.1, 1, 10) for unit in (1, 2, 5)] + [60, 120, 300, 600, 1200, 3600, 7200]
    step = next((step for step in steps if end / step <= 10), end)
    return [round(number * step, 2) for number in range(int(end / step) + 1)]
