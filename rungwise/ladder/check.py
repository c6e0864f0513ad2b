"""The whole check: find a title's rungs, score each, judge the table, and write down what was found."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rungwise
from rungwise.artifact import sha256_file, sha256_json, write_json
from rungwise.failures import failure
from rungwise.ladder.advice import OBJECTIVE, recommend, savings
from rungwise.ladder.compare import MetricReport, Report, compare
from rungwise.ladder.encodes import MAX_LENGTH_SPREAD, TABLE_SUFFIXES, Column, Encode, find_encodes, read_column
from rungwise.ladder.paired_views import choose_places, score_at, score_flat_at, shows_flat
from rungwise.ladder.pairing import PAIRING_VERSION, Crop
from rungwise.ladder.reference import comparable_encodes
from rungwise.ladder.rungs import LadderCheck, Metric, check_ladder, make_metric
from rungwise.progress import note, track, warn

TRUTH_VMAF = "vmaf"
CACHE = "scores.json"


@dataclass(frozen=True)
class CheckRequest:
    """What a user asks for; see the options of `rungwise ladder check`."""

    source: Path
    model: Path | None = None
    quality: str | None = None
    lower_is_better: bool = False
    truth: str | None = None
    reference: Path | None = None
    crop: Crop | None = None
    display_height: int | None = None
    content: str | None = None
    step: float | None = None
    tolerance: float | None = None
    count: int | None = None
    cap_kbps: float | None = None
    anchor: str | None = None
    views: int = 8
    out: Path | None = None


@dataclass(frozen=True)
class _Qualities:
    """One metric's quality of the encodes, by their place; `unusable` says why the others have none."""

    metric: Metric
    values: dict[int, float]
    intervals: dict[int, tuple[float | None, float | None]]
    unusable: dict[int, str]


def check_source(request: CheckRequest) -> Report:
    """Score a title's rungs and judge them. A rung that any metric can't score is left out, and named.

    Raises:
        ValueError: nothing to measure quality by, or no rung that could be scored.
    """
    if not (request.model or request.quality or request.truth):
        raise ValueError("nothing to measure quality by: give --model, a table's --quality, or --truth")
    is_table = request.source.suffix.lower() in TABLE_SUFFIXES
    if request.truth == TRUTH_VMAF and request.reference is None and not is_table:  # a table may have such a column
        raise ValueError("--truth vmaf compares with the master: give --reference")
    if request.reference is not None and not request.reference.is_file():
        raise ValueError(f"--reference {request.reference}: no such file")
    with tempfile.TemporaryDirectory(prefix="rungwise-check-") as scratch:
        found = find_encodes(request.source, Path(scratch), content=request.content, without=request.reference)
        encodes, failures, notes = found.encodes, dict(found.failures), list(found.notes)
        if request.truth == TRUTH_VMAF and request.reference is not None:
            encodes = comparable_encodes(encodes, request.reference, request.crop, failures, notes)
        columns = [
            None if name is None or (name == TRUTH_VMAF and request.reference is not None)
            else _column(found.table, name, encodes, request)
            for name in (request.quality, request.truth)
        ]  # fmt: skip
        height = _display_height(request, encodes, [column for column in columns if column is not None])
        measured = []
        cache = _read_cache(request.out)
        if request.model is not None:
            measured.append(_by_model(request, encodes, height, cache, notes))
        if request.quality is not None and columns[0] is not None:
            measured.append(_by_column(request, request.quality, columns[0], encodes, notes))
        if request.truth is not None:
            measured.append(
                _by_column(request, request.truth, columns[1], encodes, notes)
                if columns[1] is not None
                else _by_vmaf(request, encodes, height, cache, measured[0].metric if measured else None)
            )
    for qualities in measured:
        failures |= {encodes[place].rung.name: reason for place, reason in qualities.unusable.items()}
    places = [i for i in range(len(encodes)) if all(i in qualities.values for qualities in measured)]
    if not places:
        raise ValueError(f"{request.source}: no rung could be scored; {': '.join(next(iter(failures.items())))}")
    rungs = [encodes[place].rung for place in places]
    told = []
    for qualities in measured:
        intervals = [qualities.intervals.get(place, (None, None)) for place in places]
        check = check_ladder(rungs, [qualities.values[place] for place in places], qualities.metric, intervals)
        told.append(_told(request, rungs, check))
    return Report(
        rungwise=rungwise.__version__,
        source=str(request.source) + (f", {request.content}" if request.content else ""),
        display_height=height,
        rungs=tuple(rungs),
        metrics=tuple(told),
        agreement=compare(rungs, told[0].check, told[1].check) if len(told) > 1 else None,
        objective=OBJECTIVE,
        count=request.count,
        cap_kbps=request.cap_kbps,
        failures=failures,
        notes=tuple(notes),
    )


def _told(request: CheckRequest, rungs: Sequence[Any], check: LadderCheck) -> MetricReport:
    return MetricReport(
        check=check,
        recommendations=recommend(rungs, check, count=request.count, cap_kbps=request.cap_kbps),
        savings=savings(rungs, check, request.anchor),
    )


def _column(table: Any, name: str, encodes: Sequence[Encode], request: CheckRequest) -> Column:
    if table is None:
        raise ValueError(f"{name!r}: only a table has columns; of videos the quality is scored, with --model")
    return read_column(table, name, encodes, lower_is_better=request.lower_is_better and name == request.quality)


def _display_height(request: CheckRequest, encodes: Sequence[Encode], columns: Sequence[Column]) -> int | None:
    """The height at which all qualities hold: as asked, as a column has it, or the top rung's."""
    stated = {column.display_height for column in columns if column.display_height is not None}
    asked = {request.display_height} - {None}
    if len(stated | asked) > 1:
        raise ValueError(
            f"the table's qualities hold at {stated.pop()} lines, not at {request.display_height}: leave out "
            "--display-height"
        )
    if stated | asked:
        return (stated | asked).pop()
    scored = request.model is not None or request.reference is not None
    return max(encode.rung.height for encode in encodes) if scored or not columns else None


def _by_column(
    request: CheckRequest, name: str, column: Column, encodes: Sequence[Encode], notes: list[str]
) -> _Qualities:
    metric = make_metric(
        f"column {name}{', negated' if column.negated else ''}",
        column.kind,
        "column",
        negated=column.negated,
        step=request.step,
        tolerance=request.tolerance,
    )
    if column.negated:
        notes.append(f"in column {name} lower is better: its sign is turned everywhere here")
    values = {i: column.values[encode.row] for i, encode in enumerate(encodes)}
    missing = {i: f"has no {name} in the table" for i, value in values.items() if not np.isfinite(value)}
    return _Qualities(metric, {i: v for i, v in values.items() if i not in missing}, {}, missing)


def _by_model(
    request: CheckRequest, encodes: Sequence[Encode], height: int | None, cache: dict[str, Any], notes: list[str]
) -> _Qualities:
    from rungwise.score.scorer import SCORER_VERSION, Scorer

    assert request.model is not None
    scorer = Scorer(request.model)
    scale = scorer.contract.scale
    negated = scale.polarity == "lower_is_better"
    if negated:
        notes.append(f"{request.model.name} scores {scale.kind}, where lower is better: its sign is turned everywhere")
    metric = make_metric(
        f"{request.model.name}{', negated' if negated else ''}",
        scale.kind,
        "model",
        negated=negated,
        step=request.step,
        tolerance=request.tolerance,
    )

    top, path = _top(encodes)
    places = choose_places(scorer, path, request.views, height)
    drawn = sha256_json([view.model_dump() for view in places])[:16]
    key = f"model {sha256_file(request.model)} scorer {SCORER_VERSION} at {height}, places {drawn}"
    flat = shows_flat(path, places[0])
    if flat:
        key += ", flat"
        notes.append(f"{top} is flat (one plain color) wherever it is looked at, so scores say nothing of the ladder")
    score_rung = score_flat_at if flat else score_at
    found, unusable = _measure(
        encodes, key, lambda path: score_rung(scorer, path, places), cache, request.out, "scored"
    )
    notes.append(f"every rung is scored on the same {request.views} views, chosen for {top}; a score is their mean")
    half = scorer.contract.calibration.half_width if scorer.contract.calibration else None
    values: dict[int, float] = {}
    intervals: dict[int, tuple[float | None, float | None]] = {}
    for i, scores in found.items():
        score = float(np.mean(scores))
        ends = (None, None) if half is None else (max(scale.minimum, score - half), min(scale.maximum, score + half))
        values[i] = -score if negated else score
        intervals[i] = (-ends[1], -ends[0]) if negated and ends[0] is not None and ends[1] is not None else ends
    return _Qualities(metric, values, intervals, unusable)


def _top(encodes: Sequence[Encode]) -> tuple[str, Path]:
    """Name and file of the tallest, then dearest rung of the usual length."""
    there = [(e.rung, e.path, e.seconds or 0.0) for e in encodes if e.path is not None and e.path.is_file()]
    if not there:
        raise ValueError(f"not one of the {len(encodes)} videos is there, the first: {encodes[0].path or 'no path'}")
    usual = sorted(seconds for _, _, seconds in there)[len(there) // 2]
    spread = usual * MAX_LENGTH_SPREAD
    whole = [(rung, path) for rung, path, seconds in there if abs(seconds - usual) <= spread]
    rung, path = max(whole, key=lambda pair: (pair[0].height, pair[0].bitrate_kbps))
    return rung.name, path


def _by_vmaf(
    request: CheckRequest, encodes: Sequence[Encode], height: int | None, cache: dict[str, Any], first: Metric | None
) -> _Qualities:
    from rungwise.ladder.label import DEFAULT_MODELS, LABEL_VERSION, label
    from rungwise.media.ffmpeg import ffmpeg_version

    assert request.reference is not None
    reference, (name,) = request.reference, DEFAULT_MODELS

    def score(path: Path) -> list[float]:
        threads = os.cpu_count() or 1
        labels = label(reference, path, models=(name,), display_height=height, num_threads=threads, crop=request.crop)
        return [labels.metrics[name].mean]

    versions = f"label {LABEL_VERSION} pairing {PAIRING_VERSION} ffmpeg {ffmpeg_version()}"
    key = f"{name} {versions} against {sha256_file(reference)} cropped {request.crop} at {height}"
    found, unusable = _measure(encodes, key, score, cache, request.out, "compared")
    # What was asked for in the units of another scale is no VMAF step.
    shared = first is None or first.kind.lower().startswith("vmaf")
    step, tolerance = (request.step, request.tolerance) if shared else (None, None)
    metric = make_metric(name, name, "vmaf", step=step, tolerance=tolerance)
    return _Qualities(metric, {i: figures[0] for i, figures in found.items()}, {}, unusable)


def _measure(
    encodes: Sequence[Encode],
    key: str,
    score: Callable[[Path], list[float]],
    cache: dict[str, Any],
    out: Path | None,
    description: str,
) -> tuple[dict[int, list[float]], dict[int, str]]:
    """Figures of every encode, from the cache where its bytes were scored before; and why some have none."""
    found: dict[int, list[float]] = {}
    unusable = {}
    for i, encode in track(list(enumerate(encodes)), description, total=len(encodes)):
        if encode.path is None or not encode.path.is_file():
            unusable[i] = f"{encode.path or 'the table has no path for it'}: no such file"
            continue
        try:
            entry = f"{sha256_file(encode.path)} {key}"
            is_cached = entry in cache
            if not is_cached:
                cache[entry] = score(encode.path)
        except Exception as error:
            unusable[i] = failure(str(encode.path), error).removeprefix(f"{encode.path}: ")
            note(f"rungwise ladder check: {encode.rung.name}: {unusable[i].splitlines()[0]}")
            continue
        if not is_cached and out is not None:
            write_json(out / CACHE, cache)
        found[i] = cache[entry]
    return found, unusable


def _read_cache(out: Path | None) -> dict[str, Any]:
    if out is None or not (out / CACHE).is_file():
        return {}
    try:
        kept = json.loads((out / CACHE).read_text(encoding="utf-8"))
    except ValueError:
        kept = None
    if isinstance(kept, dict):
        return kept
    warn(f"{out / CACHE}: not readable, so every rung is scored anew")
    return {}
