"""Quality of a title's encodes: by a model, by VMAF against the master, or from a table's column."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rungwise.artifact import sha256_file, sha256_json, write_json
from rungwise.failures import failure
from rungwise.ladder.encodes import MAX_LENGTH_SPREAD, Column, Encode
from rungwise.ladder.joint import joint_scores, missing_octaves
from rungwise.ladder.paired_views import RungScores, choose_places, score_at, score_flat_at, shows_flat
from rungwise.ladder.pairing import PAIRING_VERSION, Crop
from rungwise.ladder.rungs import HYBRID_ERRORS, PIXEL_ONLY_ERRORS, Metric, make_metric
from rungwise.progress import note, track, warn

if TYPE_CHECKING:
    from rungwise.score.contract import Calibration, Scale

CACHE = "scores.json"
NOTED_OCTAVES = 0.4  # of missing bits
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Qualities:
    """One metric's quality of the encodes, by their place; `unusable` says why the others have none."""

    metric: Metric
    values: dict[int, float]
    unusable: dict[int, str]
    intervals: dict[int, Interval] = field(default_factory=dict)


@dataclass
class ScoreCache:
    """Scores by content, metric and settings. With a `path`, each new one is written at once."""

    path: Path | None
    scores: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | None) -> ScoreCache:
        """What an earlier run left in `folder`."""
        path = None if folder is None else folder / CACHE
        if path is None or not path.is_file():
            return cls(path)
        try:
            scores = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            scores = None
        if isinstance(scores, dict):
            return cls(path, scores)
        warn(f"{path}: not readable, so every rung is scored again")
        return cls(path)

    def put(self, key: str, scores: Any) -> None:
        """Store scores, unless they are there."""
        if key in self.scores:
            return
        self.scores[key] = scores
        if self.path is not None:
            write_json(self.path, self.scores)


@dataclass(frozen=True)
class Settings:
    """Step and tolerance as given, and the display height."""

    step: float | None
    tolerance: float | None
    display_height: int | None


def column_qualities(
    name: str, column: Column, encodes: Sequence[Encode], settings: Settings, notes: list[str]
) -> Qualities:
    """Quality from a table's column."""
    metric = make_metric(
        f"column {name}{', negated' if column.negated else ''}",
        column.kind,
        "column",
        negated=column.negated,
        step=settings.step,
        tolerance=settings.tolerance,
    )
    if column.negated:
        notes.append(f"column {name}: lower is better, so its values are negated")
    values = {i: column.values[encode.row] for i, encode in enumerate(encodes)}
    missing = {i: f"has no {name} in the table" for i, value in values.items() if not np.isfinite(value)}
    return Qualities(metric, {i: v for i, v in values.items() if i not in missing}, missing)


def model_qualities(
    model: Path,
    num_views: int,
    encodes: Sequence[Encode],
    settings: Settings,
    cache: ScoreCache,
    notes: list[str],
    *,
    pixel_only: bool = False,
) -> Qualities:
    """Quality by a model: the mean score of the same views in all rungs, all of them hybrid or all pixel-only."""
    from rungwise.score.scorer import SCORER_VERSION, Scorer

    scorer = Scorer(model)
    scale = scorer.contract.scale
    negated = scale.polarity == "lower_is_better"
    if negated:
        notes.append(f"{model.name} predicts {scale.kind}: lower is better, so its scores are negated")
    top, path = _top_rung(encodes)
    places = choose_places(scorer, path, num_views, settings.display_height)
    drawn = sha256_json([[place.view.model_dump(), place.start_seconds, place.end_seconds] for place in places])[:16]
    key = f"model {sha256_file(model)} scorer {SCORER_VERSION} with bits at {settings.display_height}, places {drawn}"
    key += ", pixel-only" if pixel_only else ""
    is_flat = shows_flat(path, places)
    if is_flat:
        key += ", flat"
        notes.append(f"{top} shows one plain color in all scored frames, so scores say nothing about the ladder")
    score_rung = score_flat_at if is_flat else score_at

    def score(path: Path) -> dict[str, Any]:
        return score_rung(scorer, path, places, pixel_only=pixel_only).model_dump()

    measured, unusable = _measure(encodes, key, score, cache, "scored")
    notes.append(f"every rung is scored on the same {num_views} views, chosen for {top}; its score is their mean")
    by_rung = {i: RungScores.model_validate(scores) for i, scores in measured.items()}
    stream = scorer.contract.stream
    is_hybrid = _hybrid_places(by_rung, encodes, notes) if stream and not pixel_only else []
    means = {i: _mean_score(scores, is_hybrid) for i, scores in by_rung.items()}
    if is_hybrid:
        means = _joint_means(means, by_rung, encodes, scale, notes)
    calibration = stream.calibration if stream and is_hybrid else scorer.contract.calibration
    intervals = {i: _interval(scale, calibration, mean) for i, mean in means.items()}
    scoring = "" if stream is None else ", hybrid" if is_hybrid else ", pixel-only"
    metric = make_metric(
        f"{model.name}{scoring}{', negated' if negated else ''}",
        scale.kind,
        "model",
        negated=negated,
        step=settings.step,
        tolerance=settings.tolerance,
        errors=HYBRID_ERRORS if is_hybrid else PIXEL_ONLY_ERRORS,
    )
    sign = -1 if negated else 1
    return Qualities(metric, {i: sign * mean for i, mean in means.items()}, unusable, intervals)


def _hybrid_places(scores: dict[int, RungScores], encodes: Sequence[Encode], notes: list[str]) -> list[bool]:
    """At which places every rung has a hybrid score; empty if they are too few, so that the title is pixel-only.

    Rungs are compared with each other, so all of them are scored in the same way at a place.
    """
    if not scores:
        return []
    is_hybrid = [None not in at_place for at_place in zip(*(rung.hybrid for rung in scores.values()), strict=True)]
    if all(is_hybrid):
        return is_hybrid
    worst = max(scores, key=lambda i: scores[i].hybrid.count(None))
    cause = f"{encodes[worst].rung.name}: {scores[worst].reason}"
    if 2 * sum(is_hybrid) < len(is_hybrid):
        notes.append(f"all rungs are scored pixel-only, as one of them can't be scored hybrid: {cause}")
        warn(notes[-1])
        return []
    pixel_only = len(is_hybrid) - sum(is_hybrid)
    notes.append(f"{pixel_only} of {len(is_hybrid)} views are scored pixel-only in all rungs: {cause}")
    return is_hybrid


def _mean_score(scores: RungScores, is_hybrid: Sequence[bool]) -> float:
    """The mean over places of hybrid scores where `is_hybrid`, else of pixel-only scores."""
    if not is_hybrid:
        return float(np.mean(scores.pixel))
    chosen = zip(scores.pixel, scores.hybrid, is_hybrid, strict=True)
    return float(np.mean([hybrid if use_hybrid else pixel for pixel, hybrid, use_hybrid in chosen]))


def _joint_means(
    means: dict[int, float], scores: dict[int, RungScores], encodes: Sequence[Encode], scale: Scale, notes: list[str]
) -> dict[int, float]:
    """Hybrid means, corrected by the title's other rungs."""
    sign = -1.0 if scale.polarity == "lower_is_better" else 1.0
    hybrid, rungs = [sign * mean for mean in means.values()], [encodes[i].rung for i in means]
    log2_bits, log2_qsteps = np.array([(scores[i].log2_bits, scores[i].log2_qstep) for i in means], np.float64).T
    heights, codecs = [rung.height for rung in rungs], [rung.codec for rung in rungs]
    missing = missing_octaves(log2_bits, log2_qsteps, heights, codecs)
    for rung, octaves in zip(rungs, missing, strict=True):
        if octaves > NOTED_OCTAVES:
            notes.append(
                f"{rung.name}: took {100 * (1 - 2**-octaves):.0f} % less bitrate than other rungs of its QP, as "
                "re-encoded or blurred videos do; its score is lower for it"
            )
    pixel = [sign * float(np.mean(scores[i].pixel)) for i in means]
    joint = joint_scores(hybrid, pixel, missing, heights, codecs)
    values = np.clip(sign * joint, scale.minimum, scale.maximum)
    return dict(zip(means, values.tolist(), strict=True))


def _interval(scale: Scale, calibration: Calibration | None, score: float) -> Interval:
    """The calibrated interval of one score, negated where lower is better."""
    if calibration is None:
        return None, None
    low, high = calibration.interval(score, scale)
    return (-high, -low) if scale.polarity == "lower_is_better" else (low, high)


def _top_rung(encodes: Sequence[Encode]) -> tuple[str, Path]:
    """Name and file of the tallest, then most expensive rung of the usual length."""
    files = [(e.rung, e.path, e.seconds or 0.0) for e in encodes if e.path is not None and e.path.is_file()]
    if not files:
        raise ValueError(f"none of the {len(encodes)} videos exists, the first: {encodes[0].path or 'no path'}")
    usual = sorted(seconds for _, _, seconds in files)[len(files) // 2]
    spread = usual * MAX_LENGTH_SPREAD
    whole = [(rung, path) for rung, path, seconds in files if abs(seconds - usual) <= spread]
    rung, path = max(whole, key=lambda pair: (pair[0].height, pair[0].bitrate_kbps))
    return rung.name, path


def vmaf_qualities(
    reference: Path,
    crop: Crop | None,
    encodes: Sequence[Encode],
    settings: Settings,
    cache: ScoreCache,
) -> Qualities:
    """VMAF v1 against the master."""
    from rungwise.ladder.label import DEFAULT_MODELS, LABEL_VERSION, label
    from rungwise.media.ffmpeg import ffmpeg_version

    (name,), height = DEFAULT_MODELS, settings.display_height

    def score(path: Path) -> list[float]:
        threads = os.cpu_count() or 1
        labels = label(reference, path, models=(name,), display_height=height, num_threads=threads, crop=crop)
        return [labels.metrics[name].mean]

    versions = f"label {LABEL_VERSION} pairing {PAIRING_VERSION} ffmpeg {ffmpeg_version()}"
    key = f"{name} {versions} against {sha256_file(reference)} cropped {crop} at {height}"
    scores, unusable = _measure(encodes, key, score, cache, "compared")
    metric = make_metric(name, name, "vmaf", step=settings.step, tolerance=settings.tolerance)
    return Qualities(metric, {i: values[0] for i, values in scores.items()}, unusable)


def _measure(
    encodes: Sequence[Encode], key: str, score: Callable[[Path], Any], cache: ScoreCache, description: str
) -> tuple[dict[int, Any], dict[int, str]]:
    """Scores of every encode by its place, and why some have none."""
    scores: dict[int, Any] = {}
    unusable: dict[int, str] = {}
    for i, encode in track(list(enumerate(encodes)), description, total=len(encodes)):
        path = encode.path
        if path is None or not path.is_file():
            unusable[i] = f"{path or 'the table has no path for it'}: no such file"
            continue
        try:
            entry = f"{sha256_file(path)} {key}"
            scores[i] = cache.scores[entry] if entry in cache.scores else score(path)
        except Exception as error:
            unusable[i] = failure(str(path), error).removeprefix(f"{path}: ")
            note(f"rungwise ladder check: {encode.rung.name}: {unusable[i].splitlines()[0]}")
            continue
        cache.put(entry, scores[i])
    return scores, unusable
