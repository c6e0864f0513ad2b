"""Running totals over the windows of a video: the same few numbers, however many windows there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rungwise.score.result import Window
from rungwise.score.windows import Span, WindowPixels

if TYPE_CHECKING:
    from rungwise.score.video_metadata import VideoMetadata

WindowCallback = Callable[[Window, bool], None]  # window, whether its score is hybrid


class WindowPrediction(NamedTuple):
    """The model's outputs for one window.

    `window` holds the pixel-only score and `hybrid_score` the one that also uses bitstream features, if they can be
    used. `unsupported` says why they can't.
    """

    span: Span
    window: Window
    hybrid_score: float | None = None
    unsupported: str | None = None


@dataclass
class WeightedMean:
    """Mean of the windows' scores, weighted by duration, and the same bits in any order of windows."""

    count: int = 0
    last: float = 0.0
    total: Fraction = Fraction(0)  # exact
    seconds: Fraction = Fraction(0)

    def add(self, seconds: float, score: float) -> None:
        """Add a window of this length."""
        self.count += 1
        self.last = score
        self.total += Fraction(seconds * score)
        self.seconds += Fraction(seconds)

    @property
    def mean(self) -> float:
        """The mean, weighted by length."""
        return self.last if self.count == 1 else float(self.total) / float(self.seconds)


@dataclass
class Tally:
    """Totals of a video.

    Attributes:
        num_content: windows of any length that are not flat.
        num_unsupported: those of them whose bitstream features can't be used, and why for the first.
        num_windows, num_flat, frames_used, pixel, hybrid, flat: of windows of the length that the score is made of.
    """

    length_seconds: float
    num_content: int = 0
    num_unsupported: int = 0
    first_unsupported: str = ""
    num_windows: int = 0
    num_flat: int = 0
    frames_used: int = 0
    pixel: WeightedMean = field(default_factory=WeightedMean)
    hybrid: WeightedMean = field(default_factory=WeightedMean)
    flat: WeightedMean = field(default_factory=WeightedMean)

    def add(self, prediction: WindowPrediction) -> None:
        """Add a window."""
        span, window, hybrid_score, unsupported = prediction
        self.num_content += not window.flat
        if unsupported:
            self.num_unsupported += 1
            self.first_unsupported = self.first_unsupported or unsupported
        if span.length_seconds != self.length_seconds:
            return
        self.num_windows += 1
        self.num_flat += window.flat
        self.frames_used += len(set(window.frame_indices))
        seconds = window.end_seconds - window.start_seconds
        if window.flat:
            self.flat.add(seconds, window.score)
        else:
            self.pixel.add(seconds, window.pixel_score)
            self.hybrid.add(seconds, window.score if hybrid_score is None else hybrid_score)

    def scores(self, *, is_hybrid: bool) -> tuple[float, float]:
        """The video's score and its pixel-only score; flat windows count only if all are flat."""
        if not self.pixel.count:
            return self.flat.mean, self.flat.mean
        return self.hybrid.mean if is_hybrid else self.pixel.mean, self.pixel.mean


class WindowModel(Protocol):
    """What scores a window: a `Scorer`."""

    def predict_window(self, window: WindowPixels, metadata: VideoMetadata) -> WindowPrediction:
        """The model's outputs for one window."""

    def hybrid_window(self, prediction: WindowPrediction) -> Window:
        """A window with its hybrid score if it has one."""


class WindowScores:
    """The windows of a video as they are scored: their totals, and the windows themselves if they are kept."""

    def __init__(
        self, model: WindowModel, lengths: tuple[float, ...], on_window: WindowCallback | None, *, keep_windows: bool
    ) -> None:
        self.model, self.reported_length, self.on_window = model, lengths[-1], on_window
        self.keep_windows = keep_windows
        self.tally = Tally(lengths[0])
        self.predictions: list[WindowPrediction] = []

    def predict(self, pixels: WindowPixels, metadata: VideoMetadata) -> WindowPrediction:
        """Score and report one window."""
        prediction = self.model.predict_window(pixels, metadata)
        if self.on_window is not None and pixels.span.length_seconds == self.reported_length:
            self.on_window(self.model.hybrid_window(prediction), prediction.hybrid_score is not None)
        return prediction

    def add(self, prediction: WindowPrediction) -> None:
        """Count one window."""
        self.tally.add(prediction)
        if self.keep_windows:
            self.predictions.append(prediction)

    def push(self, pixels: WindowPixels, metadata: VideoMetadata) -> None:
        """Score, report and count one window."""
        self.add(self.predict(pixels, metadata))
