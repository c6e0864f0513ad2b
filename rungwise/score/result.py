"""The score of a video and of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BANDS = ("bad", "poor", "fair", "good", "excellent")


@dataclass(frozen=True)
class Window:
    """Score of one window of time.

    Attributes:
        score: hybrid score where the bitstream was used, else the pixel-only score.
        pixel_score: pixel-only score.
        frame_indices, frame_seconds: frames that the model saw.
        frame_scores: one score for each of them; empty if the model gives none.
        flat: every frame is a single color; all scores are then the best of the scale.
    """

    start_seconds: float
    end_seconds: float
    score: float
    pixel_score: float
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    frame_scores: tuple[float, ...]
    flat: bool = False


@dataclass(frozen=True)
class Score:
    """Score of one video on the contract's scale.

    Attributes:
        score: mean of the windows' scores, weighted by duration. Flat windows count only if all are flat.
        low, high: conformal interval; its width is that of a single window.
        band: one of `BANDS`.
        pixel_score: pixel-only score.
        bitstream_used: whether `score` is hybrid (pixels and bitstream features) or equal to `pixel_score`.
        display_height: height in pixels at which frames were evaluated.
        frames_used: distinct frames that the model saw.
        width, height: frame size after rotation, before the sample aspect ratio is applied.
        kind, polarity: the label that the model predicts, and whether higher is better.
        notes: remarks about the video or the score.
        num_windows, num_flat_windows: of the windows that `score` is the mean of.
        windows: these windows.
        timeline: windows of the length asked for with `timeline_seconds`.
    """

    path: str
    score: float
    low: float | None
    high: float | None
    band: str
    pixel_score: float
    bitstream_used: bool
    display_height: int
    frames_used: int
    width: int
    height: int
    fps: float
    duration_seconds: float
    kind: str
    polarity: str
    notes: tuple[str, ...]
    num_windows: int
    num_flat_windows: int
    windows: tuple[Window, ...] = ()
    timeline: tuple[Window, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Windows are given as counts only: an hour has 900."""
        values = {name: value for name, value in asdict(self).items() if name not in ("windows", "timeline")}
        return values | {"notes": list(self.notes)}


def with_content(windows: Sequence[Window]) -> Sequence[Window]:
    """The windows that are not flat; all windows if every one is flat."""
    return [window for window in windows if not window.flat] or windows


def band(score: float, minimum: float, maximum: float, polarity: str) -> str:
    """The name of the fifth of the scale that a score lies in; not a subjective (ACR) rating."""
    fraction = (score - minimum) / (maximum - minimum)
    if polarity == "lower_is_better":
        fraction = 1 - fraction
    return BANDS[min(4, max(0, int(fraction * 5)))]
