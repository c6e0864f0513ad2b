"""A video over time: scene cuts, the worst windows and their frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rungwise.media.packets import read_packets
from rungwise.media.video import luma, rgb, rgb_frames, tone_mapped
from rungwise.score.frames import DecodeMismatch, InterlacedFrame, read_frames
from rungwise.score.result import Score, Window, with_content

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A scene cut is a frame whose mean absolute luma difference to the previous one is at least MIN_CUT_DIFFERENCE 8-bit
# code values and MIN_CUT_RATIO times the median of its neighbors: fast motion gives large differences too, but many.
MIN_CUT_DIFFERENCE, MIN_CUT_RATIO, CUT_NEIGHBORS = 12.0, 3.0, 6
_SAMPLES_ACROSS, _SAMPLES_DOWN = 64, 36


class SceneCutDetector:
    """Detects scene cuts from every frame of a video, in order."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.differences: list[float] = []  # to the previous frame; 0 for the first
        self.previous: NDArray[np.float32] | None = None

    def add_frame(self, seconds: float, frame: VideoFrame) -> None:
        """Add the next frame."""
        if seconds == 0:  # the file is read again from its start
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

    def cut_times(self) -> tuple[float, ...]:
        """Start of each new scene in seconds."""
        times = []
        for index, difference in enumerate(self.differences):
            if difference < MIN_CUT_DIFFERENCE:
                continue
            near = self.differences[max(1, index - CUT_NEIGHBORS) : index]
            near += self.differences[index + 1 : index + 1 + CUT_NEIGHBORS]
            if not near or difference >= MIN_CUT_RATIO * float(np.median(near)):
                times.append(round(self.times[index], 6))
        return tuple(times)


def worst_windows(score: Score, count: int) -> list[Window]:
    """The `count` worst windows with content, worst first; from the timeline if there is one."""
    sign = -1 if score.polarity == "lower_is_better" else 1
    windows = with_content(score.timeline or score.windows)
    return sorted(windows, key=lambda window: (sign * window.score, window.start_seconds))[:count]


def worst_frame(window: Window, polarity: str) -> tuple[int, float]:
    """(frame index, seconds) of a window's worst frame; its middle frame if the model gives no frame scores."""
    place = len(window.frame_indices) // 2
    if window.frame_scores:
        pick = np.argmax if polarity == "lower_is_better" else np.argmin
        place = int(pick(window.frame_scores))
    return window.frame_indices[place], window.frame_seconds[place]


def save_frame(path: Path, index: int, destination: Path, *, tonemap: bool = False) -> None:
    """Write one frame of a video as PNG, upright, at its decoded size."""
    convert = tone_mapped if tonemap else rgb
    try:
        [(_, frame)] = read_frames(path, read_packets(path), [index])
        pixels = convert(frame)
    except (DecodeMismatch, InterlacedFrame):
        [(_, pixels)] = rgb_frames(path, [index])
    destination.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(destination)
