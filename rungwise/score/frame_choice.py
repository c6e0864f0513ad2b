"""Which frames of a clip a view holds: one register of ways to choose them (docs/recipes/add-a-frame-choice.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rungwise.media.video import luma_planes

Differences = NDArray[np.float64]  # (N - 1,) of a clip of N frames


@dataclass(frozen=True)
class FrameChoice:
    """A way to choose frames.

    `choose` takes the number of frames that there are, the number to choose, and `luma_differences` (empty unless
    `needs_differences`); it returns ascending indices. With `frames_per_step` 2 frames come in pairs of neighbors.
    """

    choose: Callable[[int, int, Differences], tuple[int, ...]]
    frames_per_step: int = 1
    needs_differences: bool = False


def uniform_frames(num_available: int, num_frames: int) -> tuple[int, ...]:
    """Centers of `num_frames` equal spans of a clip; a shorter clip repeats frames."""
    centers = (np.arange(num_frames) + 0.5) * num_available / num_frames
    return tuple(int(index) for index in np.minimum(centers.astype(int), num_available - 1))


def pair_frames(num_available: int, num_frames: int) -> tuple[int, ...]:
    """Neighboring frames at the centers of `num_frames / 2` equal spans: (i, i + 1, j, j + 1, ...).

    What changes from one frame to the next is noise in a good encode and nothing, or blocks, in a poor one. A clip of
    one frame pairs it with itself.
    """
    first = np.minimum(uniform_frames(num_available, num_frames // 2), max(0, num_available - 2))
    return tuple(int(index) for start in first for index in (start, min(start + 1, num_available - 1)))


def difference_frames(differences: Differences, num_frames: int) -> tuple[int, ...]:
    """Frames at equal steps of the cumulative inter-frame difference (our form of Q-CLIP's sampling).

    Args:
        differences: (N - 1,) mean absolute luma difference between frame i and i + 1, >= 0.
        num_frames: how many to take, ascending; a still clip falls back on equal spans of time.
    """
    total = float(differences.sum())
    if total <= 0:
        return uniform_frames(len(differences) + 1, num_frames)
    cumulative = np.concatenate([[0.0], np.cumsum(differences)])
    steps = (np.arange(num_frames) + 0.5) * total / num_frames
    return tuple(int(index) for index in np.searchsorted(cumulative, steps, side="left"))


FRAME_CHOICES: dict[str, FrameChoice] = {
    "uniform": FrameChoice(lambda available, count, _: uniform_frames(available, count)),
    "pairs": FrameChoice(lambda available, count, _: pair_frames(available, count), frames_per_step=2),
    "difference": FrameChoice(lambda _, count, changes: difference_frames(changes, count), needs_differences=True),
}


def luma_differences(path: Path) -> Differences:
    """Mean absolute luma difference between neighboring frames, (N - 1,), in code values."""
    differences: list[float] = []
    previous: NDArray[Any] | None = None
    for plane in luma_planes(path):
        if previous is not None:
            differences.append(luma_difference(previous, plane))
        previous = np.array(plane)  # a copy: the decoder uses its planes again
    return np.asarray(differences, dtype=np.float64)


def luma_difference(previous: NDArray[Any], current: NDArray[Any]) -> float:
    """Mean absolute difference of two luma planes in code values; 0 where the size changed and nothing compares."""
    if previous.shape != current.shape:
        return 0.0
    return float(np.abs(current.astype(np.int32) - previous.astype(np.int32)).mean())
