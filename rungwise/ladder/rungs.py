"""The records of a ladder check: rungs, metrics, verdicts, findings. A rung is its row in the ladder.

`tolerance` covers measurement noise: a rung is below the hull or out of order only by more than that; otherwise it is
`sound`. `step` is one just-noticeable difference: viewers see no difference between closer rungs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

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


class Rung(Frozen):
    """One encode of the title; `bitrate_kbps` is measured on its video track, a playlist states `declared_kbps`."""

    name: str
    codec: str
    height: int
    bitrate_kbps: float
    width: int | None = None
    declared_kbps: float | None = None


class Metric(Frozen):
    """A quality metric and how finely it is read; `negated` where lower was better."""

    name: str
    kind: str
    source: Literal["model", "vmaf", "column"]
    negated: bool
    step: float
    step_source: str
    tolerance: float
    tolerance_source: str


class Verdict(Frozen):
    """One rung by one metric. `wasted_percent` of its bitrate is more than the hull needs for its quality."""

    quality: float
    low: float | None
    high: float | None
    on_hull: bool
    sound: bool
    below_hull: float
    wasted_percent: float
    flags: tuple[Kind, ...]


class Finding(Frozen):
    """One fault of one or more `rungs` of a codec, by rising bitrate.

    They are compared with the rung `other`, or with the hull. `points` is the largest difference, `action` what to do.
    """

    number: int
    kind: Kind
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


class Neighbors(Frozen):
    """Two sound rungs next to each other in bitrate."""

    lower: int
    upper: int
    points: float
    steps: float
    bitrate_ratio: float


class Curve(Frozen):
    """One height's quality against bitrate: the rungs on its own convex hull."""

    height: int
    rungs: tuple[int, ...]


class CodecCheck(Frozen):
    """One codec's rungs by rising bitrate, those on its convex hull, and the rungs of lowest and highest quality.

    `neighbors` are sound rungs; `gaps` are wider than GAP_STEPS steps and lie between rungs without a fault.
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
) -> Metric:
    """A metric with its step and tolerance: as given, or the defaults of a VMAF scale.

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
    if tolerance is None:
        tolerance = VMAF_TOLERANCE if on_vmaf else (step or 0.0) / 3
        tolerance_source = VMAF_TOLERANCE_SOURCE if on_vmaf else "a third of the step"
    else:
        tolerance_source = "--tolerance"
    return Metric(
        name=name,
        kind=kind,
        source=source,
        negated=negated,
        step=VMAF_STEP if step is None else step,
        step_source=VMAF_STEP_SOURCE if step is None else "--step",
        tolerance=tolerance,
        tolerance_source=tolerance_source,
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
