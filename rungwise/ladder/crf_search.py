"""The whole search: for each height and target, the cheapest CRF or bitrate of one encoder whose quality reaches it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from rungwise.ladder.encode import CODECS, EncodeSpec
from rungwise.ladder.label import DEFAULT_MODELS
from rungwise.ladder.rungs import Frozen
from rungwise.ladder.search import Axis, Curve, bitrate_axis, crf_axis, find_place
from rungwise.ladder.trials import TrialRequest, Trials, rate_name, with_rate
from rungwise.media.video import VideoInfo
from rungwise.progress import note
from rungwise.score.scorer import SHIPPED_MODEL


@dataclass(frozen=True)
class SearchRequest(TrialRequest):
    """The options of `rungwise crf-search`. `heights` is empty for the master's own."""

    codec: str = "h264"
    preset: str = ""
    targets: tuple[float, ...] = (93.0,)
    heights: tuple[int, ...] = ()
    bitrate: bool = False
    reference: bool = True
    tolerance: float = 0.5


class Choice(Frozen):
    """The encode for one target, or the best one where the target can't be met (`reached` false).

    Attributes:
        crf, bitrate_kbps: the setting; None for the one that was not searched for.
        measured_kbps: bitrate of the trial encode.
        score: VMAF v1, or the model's score where there is no reference.
        predicted_bytes, predicted_seconds: of encoding the whole master by `command`, which uses one thread.
        command: the ffmpeg command for it.
    """

    target: float
    height: int
    reached: bool
    crf: int | None
    bitrate_kbps: int | None
    measured_kbps: float
    score: float
    predicted_bytes: int
    predicted_seconds: float
    command: str


class SearchReport(Frozen):
    """The result of a search.

    `runs` and `seconds` count rough trials, encodes, model scores and VMAF runs that the cache lacked.
    """

    master: str
    codec: str
    preset: str
    metric: str
    reference: bool
    display_height: int
    sampled_seconds: float
    duration_seconds: float
    choices: tuple[Choice, ...]
    runs: dict[str, int]
    seconds: dict[str, float]


def crf_search(request: SearchRequest) -> SearchReport:
    """Search for every height and target of a request.

    Raises:
        ValueError: the master can't be read, or an option is outside the codec's range.
        FfmpegError: an encode or a comparison fails.
    """
    # Wrong options stop the search before the master is read; height and rate are set later.
    spec = EncodeSpec(request.codec, 2, bitrate_kbps=1, preset=request.preset)
    with request.open_trials() as trials:
        for height in request.heights:
            if height > trials.info.height:
                raise ValueError(f"--height {height}: the master has {trials.info.height}")
        choices = list[Choice]()
        for height in request.heights or (trials.info.height // 2 * 2,):
            choices += _search_height(request, trials, replace(spec, height=height))
        return SearchReport(
            **trials.facts(),
            codec=spec.codec,
            preset=spec.preset,
            metric=DEFAULT_MODELS[0] if request.reference else SHIPPED_MODEL.name,
            reference=request.reference,
            choices=tuple(choices),
        )


def _axis(request: SearchRequest, info: VideoInfo, height: int) -> Axis:
    if not request.bitrate:
        return crf_axis(request.codec, CODECS[request.codec].crf_range)
    return bitrate_axis(info.width * height / info.height, height, info.fps)


def _search_height(request: SearchRequest, trials: Trials, spec: EncodeSpec) -> list[Choice]:
    """One height's choices; its targets share the curve."""
    axis = _axis(request, trials.info, spec.height)

    def at(place: int) -> EncodeSpec:
        return with_rate(spec, axis.option, axis.values[place])

    def measure(place: int) -> float:
        if not request.reference:
            score = trials.model_score(at(place))
            note(f"{spec.height}p {rate_name(at(place))}: the model scores {score:.1f}")
            return score
        score = trials.vmaf(at(place))
        note(f"{spec.height}p {rate_name(at(place))}: VMAF v1 {score:.1f}")
        return score

    rough_trials = trials.rough_trials if request.reference else None

    def rough(place: int) -> float:
        assert rough_trials is not None
        score = rough_trials.vmaf(at(place))
        note(f"{spec.height}p {rate_name(at(place))}: VMAF v1 of a part {score:.1f}")
        return score

    curve, choices = Curve(axis), list[Choice]()
    for target in request.targets:
        place = find_place(curve, target, request.tolerance, rough if rough_trials else None, measure)
        best = min(curve.measured) if place is None else place
        choices.append(_choice(request, trials, curve, at(best), best, target, place is not None))
    return choices


def _choice(
    request: SearchRequest, trials: Trials, curve: Curve, spec: EncodeSpec, place: int, target: float, reached: bool
) -> Choice:
    encoding = trials.encoding(spec)
    ratio = trials.info.duration_seconds / trials.sampled_seconds()
    return Choice(
        target=target,
        height=spec.height,
        reached=reached,
        crf=spec.crf,
        bitrate_kbps=spec.bitrate_kbps,
        measured_kbps=trials.kbps(spec),
        score=curve.measured[place],
        predicted_bytes=round(encoding.num_bytes * ratio),
        predicted_seconds=encoding.seconds * ratio,
        command=shlex.join(trials.command(spec)),
    )
