"""What an exported file must pass before it is written, as figures with budgets.

The fp32 file must give torch's scores. Other targets may lose little accuracy against the fp32 file on validation
contents, and their scores may move little: a shift of all scores keeps every order and still misleads.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rungwise.metrics.pairs import pair_counts
from rungwise.metrics.statistics import srcc
from rungwise.score.contract import Scale
from rungwise.score.scorer import Scorer
from teacher.shard_files import StoredRows

BUDGET: Final = 0.005  # of SRCC, of pairwise accuracy, and of the scale for the mean deviation of a score
PAIR_GAP_SHARE: Final = 0.05  # of the scale: labels closer than that make no pair
RERUN_CLIPS: Final = 8


@dataclass(frozen=True)
class Gate:
    """One figure and the most that it may be."""

    precision: str
    name: str
    figure: float
    budget: float
    detail: str

    @property
    def passed(self) -> bool:
        """NaN passes nothing."""
        return self.figure <= self.budget

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a figure that is no number is null."""
        return asdict(self) | {"figure": self.figure if math.isfinite(self.figure) else None, "passed": self.passed}

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{self.precision}: {self.name} {self.figure:.2g}, budget {self.budget:.2g} ({self.detail}): {verdict}"


@dataclass(frozen=True)
class Labeled:
    """Validation clips: pixels_NTSSC, labels_N on the scale, contents_N."""

    pixels: NDArray[np.uint8] | StoredRows
    labels: NDArray[np.float64]
    contents: NDArray[np.str_]
    scale: Scale


def loss_gates(
    precision: str, scores: NDArray[np.float32], exact: NDArray[np.float32], validation: Labeled
) -> list[Gate]:
    """What `scores` lose against the fp32 file's `exact` ones on validation clips; a gain is a loss below 0."""
    contents = f"{len(set(validation.contents))} validation contents, {len(scores)} clips"
    span = validation.scale.maximum - validation.scale.minimum
    if not np.isfinite(scores).all():
        fraction = float(1 - np.isfinite(scores).mean())
        return [Gate(precision, "non-finite scores", fraction, 0.0, contents)]
    moved = np.abs(scores - exact) / span
    right, total = _pairs(validation, scores)
    right_exact, _ = _pairs(validation, exact)
    lost = srcc(validation.labels, exact) - srcc(validation.labels, scores)
    largest = f"fraction of the scale; largest {moved.max():.2g}"
    gates = [
        Gate(precision, "SRCC loss", lost, BUDGET, contents),
        Gate(precision, "mean score deviation", float(moved.mean()), BUDGET, largest),
    ]
    if total:
        detail = f"{total:.0f} pairs within contents, labels over {PAIR_GAP_SHARE:.0%} of the scale apart"
        gates.insert(1, Gate(precision, "pair loss", (right_exact - right) / total, BUDGET, detail))
    return gates


def _pairs(validation: Labeled, scores: NDArray[np.float32]) -> tuple[float, float]:
    """Pairs in order, and pairs in all."""
    gap = PAIR_GAP_SHARE * (validation.scale.maximum - validation.scale.minimum)
    right, total = pair_counts(validation.labels, scores, validation.contents, min_gap=gap)
    return float(right.sum()), float(total.sum())


def rerun_gate(scorer: Scorer, scores: NDArray[np.float32], validation: Labeled) -> Gate:
    """A finished file, opened from disk, against `scores` that it was passed on; in one batch and one by one."""
    rows = spread(len(scores), RERUN_CLIPS)
    pixels = validation.pixels[rows]
    singly = np.concatenate([scorer.predict(pixels[row : row + 1]) for row in range(len(rows))])
    together = scorer.predict(pixels)
    span = validation.scale.maximum - validation.scale.minimum
    deviation = max(float(np.abs(part - scores[rows]).max()) for part in (singly, together)) / span
    assert scorer.contract.golden is not None
    detail = f"fraction of the scale, {len(rows)} clips, batches of 1 and {len(rows)}"
    return Gate(
        scorer.contract.precision, "re-run from disk", deviation, scorer.contract.golden.tolerance / span, detail
    )


def spread(count: int, limit: int) -> NDArray[np.int64]:
    """Up to `limit` of `count` row numbers, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))
