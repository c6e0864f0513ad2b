"""A video over time: scene cuts, the worst windows and their frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
