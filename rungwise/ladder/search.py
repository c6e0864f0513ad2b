"""Search one encoder setting, CRF or bitrate, for a target quality. Reads no file.

Places number the settings from the best quality to the cheapest. The loss, 100 minus the score, is nearly exponential
in them, so scores are interpolated in log2 of the loss. Rough trials, of a part of the video, come first: the first
trial of the whole is then near the target, and tells how far the part's level is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

MIN_LOSS = 0.5  # points; scores above 100 minus this are not told apart
TYPICAL_LOSS = 7.0  # at an axis' `start`
MIN_SPAN = 0.3  # doublings between two places that give a slope
MIN_SLOPE, MAX_SLOPE = 0.02, 3.0  # of the log loss, relative to the typical one
NEAR = 0.6  # doublings: no rough trial where another trial is so near
MAX_ROUGH = 2
BITRATE_STEPS = 32  # an octave: steps of 2.2 %
# CRF of a typical loss, and by how much it rises where the loss doubles: rough, as the search corrects both.
TYPICAL_CRF = {
    "h264": (27, 6.0),
    "hevc": (28, 6.0),
    "vvc": (31, 6.0),
    "av1": (42, 13.0),
    "vp9": (36, 12.0),
    "vp8": (22, 12.0),
    "mpeg4": (4, 5.0),
}
TYPICAL_BITS_PER_PIXEL = 0.06
TYPICAL_OCTAVES = 1.3  # of bitrate, in which the loss halves

Score = Callable[[int], float]


@dataclass(frozen=True)
class Axis:
    """The values of an encoder setting from the best quality to the cheapest.

    Attributes:
        option: the setting.
        values: all of them.
        start: place of a typical loss.
        doubling: places in which the loss doubles.
    """

    option: Literal["crf", "bitrate_kbps"]
    values: tuple[int, ...]
    start: int
    doubling: float


def crf_axis(codec: str, crf_range: tuple[int, int]) -> Axis:
    """All CRFs of a codec."""
    low, high = crf_range
    start, doubling = TYPICAL_CRF.get(codec, ((low + high) // 2, (high - low) / 6))
    return Axis("crf", tuple(range(low, high + 1)), start - low, doubling)


def bitrate_axis(width: float, height: int, fps: float) -> Axis:
    """Bitrates in steps of 2.2 %, from a thousandth of a bit per pixel to 4 bits."""
    kbps = width * height * fps / 1000
    octaves = np.arange(np.log2(4.0), np.log2(0.001), -1 / BITRATE_STEPS)
    values = tuple(dict.fromkeys(max(1, round(float(kbps * 2**octave))) for octave in octaves))
    start = int(np.abs(np.array(values) - kbps * TYPICAL_BITS_PER_PIXEL).argmin())
    return Axis("bitrate_kbps", values, start, TYPICAL_OCTAVES * BITRATE_STEPS)


@dataclass
class Curve:
    """Quality against place: what is measured, and an estimate of the rest.

    Attributes:
        axis: the setting.
        rough: scores of a part.
        measured: scores by which the target is met: VMAF's, or the model's where there is no reference.
    """

    axis: Axis
    rough: dict[int, float] = field(default_factory=dict)
    measured: dict[int, float] = field(default_factory=dict)

    def estimate(self, places: ArrayLike) -> NDArray[np.float64]:
        """Estimated score at places; exact where it is measured.

        Through the measured scores if they span enough to give a slope, else through the rough ones, shifted to the
        measured.
        """
        x, known = np.asarray(places, np.float64), sorted(self.measured)
        if known and (not self.rough or known[-1] - known[0] >= MIN_SPAN * self.axis.doubling):
            loss = self._through(self.measured, x)
        else:
            loss = self._through(self.rough, x)
            if known:
                losses = np.array([log_loss(self.measured[place]) for place in known])
                loss += np.interp(x, known, losses - self._through(self.rough, np.array(known, np.float64)))
        estimates: NDArray[np.float64] = 100 - 2**loss
        return estimates

    def _through(self, scores: Mapping[int, float], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The log loss at places, from any number of scores.

        A monotone cubic between two scores, and beyond the last one the slope of the last two, or the typical slope of
        one alone. Without scores all is typical.
        """
        known = sorted(scores) or [self.axis.start]
        losses = [log_loss(scores[place]) for place in known] if scores else [float(np.log2(TYPICAL_LOSS))]
        inside = np.clip(x, known[0], known[-1])
        loss = PchipInterpolator(known, losses)(inside) if len(known) > 1 else np.full(x.shape, losses[0])
        loss += self._slope(known, losses) * np.minimum(x - known[0], 0)
        loss += self._slope(known[::-1], losses[::-1]) * np.maximum(x - known[-1], 0)
        return np.asarray(loss, np.float64)

    def _slope(self, known: Sequence[int], losses: Sequence[float]) -> float:
        """Rise of the log loss a place, at the first of `known`; near neighbors are passed over, as they are noisy."""
        typical = 1 / self.axis.doubling
        far = [i for i, place in enumerate(known) if abs(place - known[0]) >= MIN_SPAN * self.axis.doubling]
        if len(known) == 1:
            return typical
        i = far[0] if far else len(known) - 1
        slope = (losses[i] - losses[0]) / (known[i] - known[0])
        return float(np.clip(slope, MIN_SLOPE * typical, MAX_SLOPE * typical))


def log_loss(score: float) -> float:
    """log2 of 100 minus a score."""
    return float(np.log2(max(100 - score, MIN_LOSS)))


def find_place(curve: Curve, target: float, tolerance: float, rough: Score | None, measure: Score) -> int | None:
    """The cheapest place whose measured score reaches `target`; None if not even the best quality does.

    A place is taken without measuring the next one if it is at most `tolerance` above the target, or if the next one is
    estimated to miss it. The tolerance doubles with each run after the first, as a flat curve is not worth many runs.

    Args:
        curve: gets all scores; those of an earlier target are used.
        target: the least score.
        tolerance: in points.
        rough: scores a rough trial; None measures every trial.
        measure: measures a trial encode.
    """
    runs = 0
    while True:
        reached, missed = _bracket(curve.measured, target, len(curve.axis.values))
        near = reached >= 0 and curve.measured[reached] <= target + tolerance * 2 ** max(0, runs - 1)
        place = _cheapest(curve, target, range(reached + 1, missed))
        if reached + 1 == missed or near or (reached >= 0 and place is None):
            return reached if reached >= 0 else None
        if rough is not None:
            _try_roughly(curve, target, rough)
            rough = None
            continue
        place = 0 if place is None else place
        curve.measured[place], runs = measure(place), runs + 1


def _try_roughly(curve: Curve, target: float, rough: Score) -> None:
    """Rough trials until one, or an earlier trial, is near the place that the estimate proposes."""
    for _ in range(MAX_ROUGH):
        place = _cheapest(curve, target, range(len(curve.axis.values))) or 0
        if any(abs(place - trial) <= NEAR * curve.axis.doubling for trial in (*curve.rough, *curve.measured)):
            return
        curve.rough[place] = rough(place)


def _cheapest(curve: Curve, target: float, places: Sequence[int]) -> int | None:
    """The last place before the first that is estimated to miss the target."""
    above = list(takewhile(lambda pair: pair[1] >= target, zip(places, curve.estimate(places), strict=True)))
    return above[-1][0] if above else None


def _bracket(measured: Mapping[int, float], target: float, count: int) -> tuple[int, int]:
    """The cheapest place that reaches the target, or -1, and the next measured one that misses it, or `count`."""
    reached = max((place for place, score in measured.items() if score >= target), default=-1)
    return reached, min((place for place in measured if place > reached), default=count)
