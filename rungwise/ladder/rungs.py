"""The records of a ladder check: rungs, metrics, verdicts, findings. A rung is its row in the ladder.

`step` is one just-noticeable difference: viewers see no difference between closer rungs. Differences up to `noise` are
not reported, neither from the hull nor from a step. A larger one is a fault if the error of a difference between two
rungs is unlikely to be the cause, else a doubt. A rung without a fault of order or hull is `sound`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from rungwise.metrics.curves import Crossing

VMAF_STEP = 6.0
VMAF_STEP_SOURCE = (
    "a rule of thumb for VMAF v0, noticed by 75 % of viewers (J. Ozer, streaminglearningcenter.com); none is known for "
    "VMAF v1"
)
VMAF_TOLERANCE = 2.0
VMAF_TOLERANCE_SOURCE = (
    "a third of the usual step; simulated with a score error of 1 point (standard deviation), 1 in 50 sound ladders "
    "of 10 rungs raises a false alarm, 1 in 6 of 15 rungs"
)
CONFIDENCE = 1.28  # errors, beyond which 9 of 10 differences have the right sign
GAP_STEPS = 2.0  # a wider gap has room for a rung one step from both its neighbors

Kind = Literal["unordered", "off-hull", "close"]
KINDS: dict[Kind, str] = {
    "unordered": "out of order",
    "off-hull": "below the hull",
    "close": "too close",
}


class Frozen(BaseModel):
    """An immutable record without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DifferenceErrors(Frozen):
    """Error of a difference between two rungs of a codec, against VMAF v1; it grows with the difference.

    CONFIDENCE times it holds 8 of 10 differences, as a standard deviation does where errors are normal.

    `one_height` and `across` are points between rungs of equal score and of one height or two; `share` is the part of a
    difference that is wrong.
    """

    one_height: float
    across: float
    share: float

    def of(self, points: float, heights: Iterable[int]) -> float:
        """Between rungs of these heights that differ by `points`."""
        return float(np.hypot(self.one_height if len(set(heights)) == 1 else self.across, self.share * points))


# Of the packaged model, for two rungs of one codec, the dearer at most three times the cheaper: "errors" of
# benchmarks/results/ladder_fidelity.json. Measure again for another packaged file:
# python benchmarks/ladder_fidelity.py --work DIR --out benchmarks/results/ladder_fidelity.json
HYBRID_ERRORS = DifferenceErrors(one_height=1.05, across=2.47, share=0.30)
PIXEL_ONLY_ERRORS = DifferenceErrors(one_height=2.31, across=3.47, share=0.44)


class Rung(Frozen):
    """One encode of the title; `bitrate_kbps` is measured on its video track, a playlist states `declared_kbps`."""

    name: str
    codec: str
    height: int
    bitrate_kbps: float
    width: int | None = None
    declared_kbps: float | None = None


class Metric(Frozen):
    """A quality metric and how finely it is read; `negated` where lower was better.

    `noise` is what it can't tell apart; `errors` are None where it is the truth, or a column whose error is unknown.
    """

    name: str
    kind: str
    source: Literal["model", "vmaf", "column"]
    negated: bool
    step: float
    step_source: str
    noise: float
    noise_source: str
    errors: DifferenceErrors | None

    @property
    def least_rise(self) -> float:
        """From a rung to the next: a step, but for the noise, and at least two thirds of a step."""
        return self.step - min(self.noise, self.step / 3)

    def is_certain(self, margin: float, points: float, heights: Iterable[int]) -> bool:
        """Whether a difference of `points` between rungs of these heights is hardly wrong by `margin`."""
        return self.errors is None or margin > CONFIDENCE * self.errors.of(points, heights)


class Verdict(Frozen):
    """One rung by one metric. `wasted_percent` of its bitrate is more than the hull needs for its quality.

    `doubts` are faults that the metric's error may have caused; a rung with a fault has none.
    """

    quality: float
    low: float | None
    high: float | None
    on_hull: bool
    sound: bool
    below_hull: float
    wasted_percent: float
    flags: tuple[Kind, ...]
    doubts: tuple[Kind, ...]


class Finding(Frozen):
    """One fault of one or more `rungs` of a codec, by rising bitrate, or one doubt if it is not `certain`.

    They are compared with the rung `other`, or with the hull. `points` is the largest difference, `action` what to do.
    """

    number: int
    kind: Kind
    certain: bool
    rungs: tuple[int, ...]
    other: int | None
    points: float
    text: str
    action: str


class Crossover(Frozen):
    """Where `high_height` overtakes `low_height`; without bitrates, one is better at every bitrate that both cover."""

    low_height: int
    high_height: int
    bitrates_kbps: tuple[float, ...]
    better_height: int | None
    text: str


def make_crossover(low: int, high: int, crossing: Crossing) -> Crossover:
    """Where two heights cross, in words."""
    better = {"low": low, "high": high, None: None}[crossing.better]
    if crossing.bitrates_kbps:
        at = ", ".join(format_kbps(kbps) for kbps in crossing.bitrates_kbps)
        text = f"{low}p and {high}p cross at {at} kbps; {better}p is better above"
    elif better is not None:
        text = f"{better}p is better than {high if better == low else low}p at every bitrate that both cover"
    else:
        text = f"{low}p and {high}p do not overlap in bitrate"
    return Crossover(
        low_height=low, high_height=high, bitrates_kbps=crossing.bitrates_kbps, better_height=better, text=text
    )


class Neighbors(Frozen):
    """Two sound rungs next to each other in bitrate; a gap is `certain` if no error is likely to be its cause."""

    lower: int
    upper: int
    points: float
    steps: float
    bitrate_ratio: float
    certain: bool


class Curve(Frozen):
    """One height's quality against bitrate: the rungs on its own convex hull."""

    height: int
    rungs: tuple[int, ...]


class CodecCheck(Frozen):
    """One codec's rungs by rising bitrate, those on its convex hull, and the rungs of lowest and highest quality.

    `neighbors` are sound rungs, `gaps` those wider than GAP_STEPS steps.
    """

    codec: str
    rungs: tuple[int, ...]
    curves: tuple[Curve, ...]
    hull: tuple[int, ...]
    floor: int
    ceiling: int
    crossovers: tuple[Crossover, ...]
    neighbors: tuple[Neighbors, ...]
    gaps: tuple[Neighbors, ...]


class LadderCheck(Frozen):
    """Verdicts and findings of one metric on a ladder."""

    metric: Metric
    verdicts: tuple[Verdict, ...]
    codecs: tuple[CodecCheck, ...]
    findings: tuple[Finding, ...]

    @property
    def num_flagged(self) -> int:
        """Rungs with a fault."""
        return sum(bool(verdict.flags) for verdict in self.verdicts)


def make_metric(
    name: str,
    kind: str,
    source: Literal["model", "vmaf", "column"],
    *,
    negated: bool = False,
    step: float | None = None,
    tolerance: float | None = None,
    errors: DifferenceErrors | None = None,
) -> Metric:
    """A metric with its step and noise: as given, or the defaults of a VMAF scale.

    `errors` hold on a VMAF scale, and where no tolerance is given.

    Raises:
        ValueError: no step for a scale without a default, or a value that is not above 0.
    """
    on_vmaf = kind.lower().startswith("vmaf")
    for option, value in (("--step", step), ("--tolerance", tolerance)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{option} is {value}; it must be above 0")
    if step is None and not on_vmaf:
        raise ValueError(
            f"quality is {kind}, which has no default for one just-noticeable difference; give --step in its units"
        )
    errors = errors if on_vmaf and tolerance is None else None
    noise_source = VMAF_TOLERANCE_SOURCE if on_vmaf else "a third of the step"
    if tolerance is not None:
        noise_source = "--tolerance"
    elif errors is not None:
        noise_source = (
            f"the packaged model's error of a difference is {errors.one_height:.1f} points between two rungs of one "
            f"height, {errors.across:.1f} of two heights, and {100 * errors.share:.0f} % of the difference; what that "
            "may have caused is uncertain"
        )
    return Metric(
        name=name,
        kind=kind,
        source=source,
        negated=negated,
        step=VMAF_STEP if step is None else step,
        step_source=VMAF_STEP_SOURCE if step is None else "--step",
        noise=tolerance or (VMAF_TOLERANCE if on_vmaf else (step or 0.0) / 3),
        noise_source=noise_source,
        errors=errors,
    )


def describe(rung: Rung) -> str:
    """Such as "h264 360p at 812 kbps"."""
    return f"{rung.codec} {size_text(rung)}"


def size_text(rung: Rung) -> str:
    """Such as "360p at 812 kbps"."""
    return f"{rung.height}p at {format_kbps(rung.bitrate_kbps)} kbps"


def format_kbps(kbps: float) -> str:
    """Whole kbps from 100 on, one decimal below."""
    return f"{kbps:.0f}" if kbps >= 99.95 else f"{kbps:.1f}"
