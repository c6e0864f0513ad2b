"""Propose a ladder for one master: trial encodes of every codec and height, their convex hull, rungs at least a step
apart under a cap.

The model scores three trial encodes of each height, which gives the shape of its curve, and more where the curves end
short of the floor, the ceiling or the cap. VMAF measures one of them, and then every rung that is chosen, which shifts
the curve. Rungs are chosen again until those that VMAF has measured make as long a ladder as the estimates allow.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rungwise.ladder.advice import choose_rungs
from rungwise.ladder.encode import CODECS, EncodeSpec
from rungwise.ladder.height_curve import HeightCurve
from rungwise.ladder.package import check_codecs, check_folder, package
from rungwise.ladder.rungs import VMAF_STEP, Crossover, Frozen, make_crossover
from rungwise.ladder.search import crf_axis
from rungwise.ladder.shots import ShotCrfs, Shots
from rungwise.ladder.trials import TrialRequest, Trials, rate_name
from rungwise.metrics.curves import crossovers, hull_quality, pareto_front

MAX_ROUNDS = 10  # of choosing rungs by estimates and measuring them; most ladders need two or three
STEP_SLACK = 1.06  # rungs are chosen a little more than a step apart while their scores are estimates
HULL_TOLERANCE = 0.5  # points below the convex hull at which a rung is on it
HEIGHT_RATIOS = (1.0, 2 / 3, 1 / 2, 1 / 3)  # of the master's height


@dataclass(frozen=True, kw_only=True)
class ProposeRequest(TrialRequest):
    """The options of `rungwise ladder propose`; `codecs` are (codec, preset), `heights` empty for the usual ratios.

    `encode` is a new folder for the renditions and their manifests. `per_shot` chooses a CRF for each shot of a rung.
    """

    codecs: tuple[tuple[str, str], ...]
    heights: tuple[int, ...] = ()
    count: int | None = None
    cap_kbps: float | None = None
    floor: float = 50.0
    ceiling: float = 95.0
    step: float = VMAF_STEP
    encode: Path | None = None
    per_shot: bool = False

    @property
    def limit_kbps(self) -> float:
        """The cap, or infinity."""
        return np.inf if self.cap_kbps is None else self.cap_kbps


class ProposedRung(Frozen):
    """A rung that VMAF measured, the ffmpeg command that encodes it, and one CRF a shot if there are several."""

    height: int
    crf: int
    bitrate_kbps: float
    vmaf: float
    command: str
    per_shot: ShotCrfs | None = None


class TrialPoint(Frozen):
    """A trial encode; its VMAF is an estimate unless it was measured."""

    crf: int
    bitrate_kbps: float
    vmaf: float
    measured: bool


class TrialCurve(Frozen):
    """The trial encodes of one height, by falling CRF."""

    height: int
    points: tuple[TrialPoint, ...]


class CodecLadder(Frozen):
    """One codec's rungs by rising bitrate, the crossovers of its heights, and all trial encodes."""

    codec: str
    preset: str
    rungs: tuple[ProposedRung, ...]
    crossovers: tuple[Crossover, ...]
    curves: tuple[TrialCurve, ...]
    note: str


class Proposal(Frozen):
    """A proposed ladder.

    `runs` and `seconds` count what the cache lacked; `manifests` are those of the renditions, `shots` the shots' first
    frames if each shot has its CRF.
    """

    master: str
    display_height: int
    sampled_seconds: float
    duration_seconds: float
    step: float
    ladders: tuple[CodecLadder, ...]
    manifests: tuple[str, ...]
    shots: tuple[int, ...]
    runs: dict[str, int]
    seconds: dict[str, float]


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
    if request.encode is not None:
        check_folder(request.encode)
        check_codecs([spec.codec for spec in specs])
    with request.open_trials() as trials:
        ladders = tuple(_codec_ladder(request, trials, spec) for spec in specs)
        shots = Shots.of(trials) if request.per_shot else None
        if shots is not None and len(shots.trials) > 1:
            ladders = tuple(_per_shot(ladder, shots) for ladder in ladders)
        manifests = _encode(trials, ladders, shots, request.encode) if request.encode is not None else ()
        return Proposal(
            **trials.facts(),
            step=request.step,
            ladders=ladders,
            manifests=manifests,
            shots=shots.first_frames if shots is not None else (),
        )


def _spec(ladder: CodecLadder, rung: ProposedRung) -> EncodeSpec:
    return EncodeSpec(ladder.codec, rung.height, crf=rung.crf, preset=ladder.preset)


def _per_shot(ladder: CodecLadder, shots: Shots) -> CodecLadder:
    """The ladder with a CRF for each shot of every rung."""
    rungs = [rung.model_copy(update={"per_shot": shots.choose(_spec(ladder, rung))}) for rung in ladder.rungs]
    return ladder.model_copy(update={"rungs": tuple(rungs)})


def _encode(trials: Trials, ladders: Sequence[CodecLadder], shots: Shots | None, folder: Path) -> tuple[str, ...]:
    """Encode and package all rungs; no manifest if there is none."""
    pairs = [(_spec(ladder, rung), rung) for ladder in ladders for rung in ladder.rungs]
    if not pairs:
        return ()
    specs = [spec for spec, _ in pairs]
    names = [f"{spec.codec}_{spec.height}p_{rate_name(spec)}" for spec in specs]
    if shots is not None and pairs[0][1].per_shot is not None:
        videos = [
            shots.join(spec, rung.per_shot.crfs, trials.scratch / f"{name}{CODECS[spec.codec].suffix}")
            for name, (spec, rung) in zip(names, pairs, strict=True)
            if rung.per_shot is not None
        ]
    else:
        videos = trials.encode_whole(specs)
    renditions = dict(zip(names, videos, strict=True))
    return tuple(str(path) for path in package(renditions, [spec.codec for spec in specs], folder))


def _codec_ladder(request: ProposeRequest, trials: Trials, spec: EncodeSpec) -> CodecLadder:
    own = trials.info.height
    heights = request.heights or tuple(dict.fromkeys(int(own * ratio / 2 + 1e-9) * 2 for ratio in HEIGHT_RATIOS))
    if max(heights) > own:
        raise ValueError(f"--heights: {max(heights)} is above the master's {own}")
    axis = crf_axis(spec.codec, CODECS[spec.codec].crf_range)
    curves = [HeightCurve(trials, replace(spec, height=height), axis) for height in sorted(heights)]
    for curve in curves:
        curve.try_places()
    _try_further(request, curves)
    rungs, possible = _measured_rungs(request, curves), 0
    for _ in range(MAX_ROUNDS):
        candidates = _candidates(curves, measured_only=False)
        chosen = _choose(request, candidates)
        possible = len(chosen)
        if len(rungs) >= possible:
            break
        for i in chosen:
            if not candidates.measured[i]:
                curves[candidates.curves[i]].measure(int(candidates.places[i]))
        rungs = _measured_rungs(request, curves)
    remark = ""
    if request.count is not None and 0 < len(rungs) < request.count:
        remark = _shortage(request, curves, len(rungs), possible)
    return CodecLadder(
        codec=spec.codec,
        preset=spec.preset,
        rungs=rungs,
        crossovers=_crossovers(curves),
        curves=tuple(map(_trial_curve, curves)),
        note=remark,
    )


def _try_further(request: ProposeRequest, curves: Sequence[HeightCurve]) -> None:
    """Extend the curves of best and of worst quality until they reach the ceiling or the cap, and the floor."""

    def best(curve: HeightCurve) -> float:
        return float(curve.estimates()[2][0])

    def worst(curve: HeightCurve) -> float:
        return float(curve.estimates()[2][-1])

    top = max(curves, key=best)
    while best(top) < request.ceiling and top.kbps[min(top.kbps)] < request.limit_kbps and top.try_further(-1):
        pass
    bottom = min(curves, key=worst)
    while (worst(bottom) > request.floor or bottom.kbps[max(bottom.kbps)] > request.limit_kbps) and bottom.try_further(
        1
    ):
        pass


def _shortage(request: ProposeRequest, curves: Sequence[HeightCurve], count: int, possible: int) -> str:
    """Why there are fewer rungs than requested."""
    candidates = _candidates(curves, measured_only=False)
    scores = candidates.scores[_hull(request, candidates)]
    room = 1 + int((scores[-1] - scores[0]) / request.step)
    if possible > count:
        reason = f"{MAX_ROUNDS} rounds of VMAF settled only {count}"
    elif room < (request.count or 0):
        reason = f"from VMAF {scores[0]:.1f} to {scores[-1]:.1f} only {room} fit a step of {request.step:g} apart"
    else:
        reason = f"no CRFs on the convex hull make more than {count} a step of {request.step:g} apart"
    return f"{request.count} rungs requested: {reason}"


def _measured_rungs(request: ProposeRequest, curves: Sequence[HeightCurve]) -> tuple[ProposedRung, ...]:
    """The best choice among what VMAF has measured."""
    candidates = _candidates(curves, measured_only=True)
    chosen = _choose(request, candidates)
    return tuple(_rung(curves[candidates.curves[i]], int(candidates.places[i])) for i in chosen)


def _candidates(curves: Sequence[HeightCurve], *, measured_only: bool) -> _Candidates:
    rows = [
        (number, int(place), float(kbps), float(score), int(place) in curve.vmaf)
        for number, curve in enumerate(curves)
        for place, kbps, score in zip(*curve.estimates(), strict=True)
        if int(place) in curve.vmaf or not measured_only
    ]
    return _Candidates(*(np.array(column) for column in zip(*rows, strict=True)))


def _choose(request: ProposeRequest, candidates: _Candidates) -> list[int]:
    """Rungs on the convex hull, from the cheapest above the floor to the first above the ceiling or under the cap.

    As many as requested, or as many as fit a step apart, at even steps of quality.
    """
    hull = _hull(request, candidates)
    if not hull.size:
        return []
    scores, measured = candidates.scores[hull], candidates.measured[hull]
    gap = np.where(measured & measured[:, None], request.step, request.step * STEP_SLACK)
    most = 1 + int((scores[-1] - scores[0]) / request.step)
    for count in range(min(request.count or most, most), 0, -1):
        rows = choose_rungs(scores, count, gap)
        if rows is None and request.count is not None:
            rows = choose_rungs(scores, count, request.step)
        if rows is not None:
            return [int(hull[row]) for row in rows]
    raise AssertionError("one rung always fits")


def _hull(request: ProposeRequest, candidates: _Candidates) -> NDArray[np.int64]:
    """Candidates on the convex hull, from the floor to the ceiling, under the cap, by rising quality."""
    allowed = np.flatnonzero(candidates.kbps <= request.limit_kbps)
    if not allowed.size:
        return allowed
    kbps, scores = candidates.kbps[allowed], candidates.scores[allowed]
    front = pareto_front(kbps, scores)
    near = hull_quality(kbps, scores, kbps[front]) - scores[front] <= HULL_TOLERANCE
    hull = allowed[front[near]]
    scores = candidates.scores[hull]
    first = min(int(np.searchsorted(scores, request.floor)), len(hull) - 1)
    last = min(int(np.searchsorted(scores, request.ceiling)), len(hull) - 1)
    return np.asarray(hull[first : last + 1], np.int64)


def _rung(curve: HeightCurve, place: int) -> ProposedRung:
    spec = curve.spec_at(place)
    assert spec.crf is not None
    command = shlex.join(curve.trials.command(spec))
    rate, vmaf = curve.kbps[place], curve.vmaf[place]
    return ProposedRung(height=spec.height, crf=spec.crf, bitrate_kbps=rate, vmaf=vmaf, command=command)


def _crossovers(curves: Sequence[HeightCurve]) -> tuple[Crossover, ...]:
    """Between each height and the next, by the estimated curves."""
    return tuple(
        make_crossover(low.spec.height, high.spec.height, crossovers(*low.estimates()[1:], *high.estimates()[1:]))
        for low, high in pairwise(curves)
    )


def _trial_curve(curve: HeightCurve) -> TrialCurve:
    estimates = {int(place): float(score) for place, _, score in zip(*curve.estimates(), strict=True)}
    points = (
        TrialPoint(
            crf=curve.axis.values[place],
            bitrate_kbps=curve.kbps[place],
            vmaf=curve.vmaf.get(place, estimates[place]),
            measured=place in curve.vmaf,
        )
        for place in sorted(curve.kbps, reverse=True)
    )
    return TrialCurve(height=curve.spec.height, points=tuple(points))
