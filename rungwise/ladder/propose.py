"""Propose a ladder for one master: trial encodes of every codec and height, their convex hull, rungs at least a step
apart under a cap.

The model scores three trial encodes of each height, which gives the shape of its curve. VMAF measures one of them, and
then every rung that is chosen, which shifts the curve. Rungs are chosen again until those that VMAF has measured make
as long a ladder as the estimates allow.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from rungwise.ladder.advice import choose_rungs
from rungwise.ladder.encode import CODECS, EncodeSpec
from rungwise.ladder.rungs import VMAF_STEP, Frozen, format_kbps
from rungwise.ladder.search import Axis, crf_axis, log_loss
from rungwise.ladder.trials import TrialRequest, Trials, with_rate
from rungwise.metrics.curves import crossovers, hull_quality, pareto_front
from rungwise.progress import note

TRIAL_DOUBLINGS = (-1.2, 0.8, 2.8)  # places of the trial encodes, in doublings of the loss from a typical one
MAX_ROUNDS = 3  # of choosing rungs by estimates and measuring them
STEP_SLACK = 1.06  # rungs are chosen a little more than a step apart while their scores are estimates
HULL_TOLERANCE = 0.5  # points below the convex hull at which a rung is on it
HEIGHT_RATIOS = (1.0, 2 / 3, 1 / 2, 1 / 3)  # of the master's height


@dataclass(frozen=True, kw_only=True)
class ProposeRequest(TrialRequest):
    """The options of `rungwise ladder propose`; `codecs` are (codec, preset), `heights` empty for the usual ratios."""

    codecs: tuple[tuple[str, str], ...]
    heights: tuple[int, ...] = ()
    count: int | None = None
    cap_kbps: float | None = None
    floor: float = 50.0
    ceiling: float = 95.0
    step: float = VMAF_STEP


class ProposedRung(Frozen):
    """A rung that VMAF measured, and the ffmpeg command that encodes it."""

    height: int
    crf: int
    bitrate_kbps: float
    vmaf: float
    command: str


class CodecLadder(Frozen):
    """One codec's rungs by rising bitrate; `crossovers` says which height is better where."""

    codec: str
    preset: str
    rungs: tuple[ProposedRung, ...]
    crossovers: tuple[str, ...]
    note: str


class Proposal(Frozen):
    """A proposed ladder. `runs` and `seconds` count what the cache lacked."""

    master: str
    display_height: int
    sampled_seconds: float
    duration_seconds: float
    step: float
    ladders: tuple[CodecLadder, ...]
    runs: dict[str, int]
    seconds: dict[str, float]


@dataclass
class HeightCurve:
    """Trial encodes of one codec and height, by place on the axis: bitrate, model's scores, VMAF."""

    trials: Trials
    spec: EncodeSpec
    axis: Axis
    kbps: dict[int, float] = field(default_factory=dict)
    model: dict[int, float] = field(default_factory=dict)
    vmaf: dict[int, float] = field(default_factory=dict)

    def spec_at(self, place: int) -> EncodeSpec:
        """The encode at a place."""
        return with_rate(self.spec, self.axis.option, self.axis.values[place])

    def try_places(self) -> None:
        """Encode and score the trial places; VMAF measures the middle one."""
        last = len(self.axis.values) - 1
        places = [round(self.axis.start + shift * self.axis.doubling) for shift in TRIAL_DOUBLINGS]
        for place in sorted({min(max(place, 0), last) for place in places}):
            self._encode(place)
            self.model[place] = self.trials.model_score(self.spec_at(place))
        self.measure(sorted(self.model)[len(self.model) // 2])

    def measure(self, place: int) -> None:
        """Measure a place by VMAF."""
        self._encode(place)
        self.vmaf[place] = self.trials.vmaf(self.spec_at(place))
        note(f"{self.spec.codec} {self.spec.height}p crf {self.axis.values[place]}: VMAF v1 {self.vmaf[place]:.1f}")

    def _encode(self, place: int) -> None:
        self.kbps[place] = self.trials.kbps(self.spec_at(place))

    def estimates(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Places between the outer trials, their bitrates and scores: the model's curve shifted through VMAF's."""
        known = sorted(self.model)
        x = np.arange(known[0], known[-1] + 1)
        rates = 2 ** np.interp(x, sorted(self.kbps), [np.log2(self.kbps[place]) for place in sorted(self.kbps)])
        curve = PchipInterpolator(known, [log_loss(self.model[place]) for place in known])
        measured = sorted(self.vmaf)
        shifts = [log_loss(self.vmaf[place]) - float(curve(place)) for place in measured]
        scores = 100 - 2 ** (curve(x) + np.interp(x, measured, shifts))
        return x, np.asarray(rates, np.float64), np.asarray(scores, np.float64)


@dataclass(frozen=True)
class _Candidates:
    """Possible rungs of one codec: curve, place, bitrate and score of each, and whether VMAF measured it."""

    curves: NDArray[np.int64]
    places: NDArray[np.int64]
    kbps: NDArray[np.float64]
    scores: NDArray[np.float64]
    measured: NDArray[np.bool_]


def propose(request: ProposeRequest) -> Proposal:
    """Propose a ladder of each codec.

    Raises:
        ValueError: the master can't be read, or an option is outside a codec's range.
        FfmpegError: an encode or a comparison fails.
    """
    specs = [EncodeSpec(codec, 2, bitrate_kbps=1, preset=preset) for codec, preset in request.codecs]
    with request.open_trials() as trials:
        ladders = tuple(_codec_ladder(request, trials, spec) for spec in specs)
        return Proposal(**trials.facts(), step=request.step, ladders=ladders)


def _codec_ladder(request: ProposeRequest, trials: Trials, spec: EncodeSpec) -> CodecLadder:
    own = trials.info.height
    heights = request.heights or tuple(dict.fromkeys(int(own * ratio / 2 + 1e-9) * 2 for ratio in HEIGHT_RATIOS))
    if max(heights) > own:
        raise ValueError(f"--heights: {max(heights)} is above the master's {own}")
    axis = crf_axis(spec.codec, CODECS[spec.codec].crf_range)
    curves = [HeightCurve(trials, replace(spec, height=height), axis) for height in sorted(heights)]
    for curve in curves:
        curve.try_places()
    rungs = _measured_rungs(request, curves)
    for _ in range(MAX_ROUNDS):
        candidates = _candidates(curves, measured_only=False)
        chosen = _choose(request, candidates, request.step * STEP_SLACK)
        if len(rungs) >= len(chosen):
            break
        for i in chosen:
            if not candidates.measured[i]:
                curves[candidates.curves[i]].measure(int(candidates.places[i]))
        rungs = _measured_rungs(request, curves)
    remark = ""
    if request.count is not None and len(rungs) < request.count:
        remark = f"{request.count} rungs requested, but only {len(rungs)} are a step apart"
    return CodecLadder(codec=spec.codec, preset=spec.preset, rungs=rungs, crossovers=_crossovers(curves), note=remark)


def _measured_rungs(request: ProposeRequest, curves: Sequence[HeightCurve]) -> tuple[ProposedRung, ...]:
    """The best choice among what VMAF has measured."""
    candidates = _candidates(curves, measured_only=True)
    chosen = _choose(request, candidates, request.step)
    return tuple(_rung(curves[candidates.curves[i]], int(candidates.places[i])) for i in chosen)


def _candidates(curves: Sequence[HeightCurve], *, measured_only: bool) -> _Candidates:
    rows = [
        (number, int(place), float(kbps), float(score), int(place) in curve.vmaf)
        for number, curve in enumerate(curves)
        for place, kbps, score in zip(*curve.estimates(), strict=True)
        if int(place) in curve.vmaf or not measured_only
    ]
    return _Candidates(*(np.array(column) for column in zip(*rows, strict=True)))


def _choose(request: ProposeRequest, candidates: _Candidates, gap: float) -> list[int]:
    """Rungs on the convex hull, from the cheapest above the floor to the first above the ceiling or under the cap.

    As many as requested, or as many as fit a step apart, at even steps of quality.
    """
    cap = np.inf if request.cap_kbps is None else request.cap_kbps
    allowed = np.flatnonzero(candidates.kbps <= cap)
    if not allowed.size:
        return []
    kbps, scores = candidates.kbps[allowed], candidates.scores[allowed]
    front = pareto_front(kbps, scores)
    near = hull_quality(kbps, scores, kbps[front]) - scores[front] <= HULL_TOLERANCE
    hull = allowed[front[near]]
    scores = candidates.scores[hull]
    first = min(int(np.searchsorted(scores, request.floor)), len(hull) - 1)
    last = min(int(np.searchsorted(scores, request.ceiling)), len(hull) - 1)
    hull, scores = hull[first : last + 1], scores[first : last + 1]
    most = 1 + int((scores[-1] - scores[0]) / gap)
    for count in range(min(request.count or most, most), 0, -1):
        rows = choose_rungs(scores, count, gap)
        if rows is not None:
            return [int(hull[row]) for row in rows]
    raise AssertionError("one rung always fits")


def _rung(curve: HeightCurve, place: int) -> ProposedRung:
    spec = curve.spec_at(place)
    assert spec.crf is not None
    command = shlex.join(curve.trials.command(spec))
    rate, vmaf = curve.kbps[place], curve.vmaf[place]
    return ProposedRung(height=spec.height, crf=spec.crf, bitrate_kbps=rate, vmaf=vmaf, command=command)


def _crossovers(curves: Sequence[HeightCurve]) -> tuple[str, ...]:
    """Between each height and the next, by the estimated curves."""
    lines = []
    for low, high in pairwise(curves):
        crossing = crossovers(*low.estimates()[1:], *high.estimates()[1:])
        names = {"low": f"{low.spec.height}p", "high": f"{high.spec.height}p"}
        if crossing.better is None:
            continue
        if crossing.bitrates_kbps:
            at = ", ".join(format_kbps(kbps) for kbps in crossing.bitrates_kbps)
            lines.append(
                f"{names['low']} and {names['high']} cross at {at} kbps; {names[crossing.better]} is better above"
            )
        else:
            lines.append(
                f"{names[crossing.better]} is better at every bitrate that {' and '.join(names.values())} cover"
            )
    return tuple(lines)
