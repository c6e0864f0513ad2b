"""The whole check of one title's ladder: read its rungs, score each, check them, and recommend a ladder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rungwise
from rungwise.ladder.advice import OBJECTIVE, recommend, savings
from rungwise.ladder.compare import MetricReport, Report, compare
from rungwise.ladder.encodes import (
    Column,
    Encode,
    TitleEncodes,
    find_encodes,
    leave_out_other_aspects,
    read_column,
)
from rungwise.ladder.faults import check_ladder
from rungwise.ladder.pairing import Crop
from rungwise.ladder.qualities import (
    Qualities,
    ScoreCache,
    Settings,
    column_qualities,
    model_qualities,
    vmaf_qualities,
)
from rungwise.ladder.reference import comparable_encodes
from rungwise.ladder.rungs import Rung
from rungwise.media.remote import Network
from rungwise.tables import TABLE_SUFFIXES

TRUTH_VMAF = "vmaf"


@dataclass(frozen=True)
class CheckRequest:
    """The options of `rungwise ladder check`."""

    source: Path | str  # a str is a URL
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
    pixel_only: bool = False
    out: Path | None = None
    network: Network | None = None

    @property
    def compares_with_reference(self) -> bool:
        """Whether VMAF is to be measured; without a reference, `vmaf` is a table's column."""
        return self.truth == TRUTH_VMAF and self.reference is not None


def check_source(request: CheckRequest) -> Report:
    """Score and check a title's rungs. A rung that any metric can't score is left out, and named.

    Raises:
        ValueError: nothing to measure quality by, or no rung that could be scored.
    """
    _validate(request)
    with tempfile.TemporaryDirectory(prefix="rungwise-check-") as scratch:
        title = find_encodes(
            request.source,
            Path(scratch),
            content=request.content,
            without=request.reference,
            network=request.network,
        )
        if request.compares_with_reference and request.reference is not None:
            title.encodes = comparable_encodes(
                title.encodes, request.reference, request.crop, title.failures, title.notes
            )
        else:
            leave_out_other_aspects(title)
        columns = _columns(request, title)
        height = _display_height(request, title.encodes, list(columns.values()))
        measured = _measure(request, title, columns, height)
    for qualities in measured:
        title.failures |= {title.encodes[i].rung.name: reason for i, reason in qualities.unusable.items()}
    places = [i for i in range(len(title.encodes)) if all(i in qualities.values for qualities in measured)]
    if not places:
        raise ValueError(f"{request.source}: no rung could be scored; {': '.join(next(iter(title.failures.items())))}")
    rungs = [title.encodes[place].rung for place in places]
    metrics = [_metric_report(request, rungs, qualities, places) for qualities in measured]
    return Report(
        rungwise=rungwise.__version__,
        source=str(request.source) + (f", {request.content}" if request.content else ""),
        display_height=height,
        rungs=tuple(rungs),
        metrics=tuple(metrics),
        agreement=compare(rungs, metrics[0].check, metrics[1].check) if len(metrics) > 1 else None,
        objective=OBJECTIVE,
        count=request.count,
        cap_kbps=request.cap_kbps,
        failures=title.failures,
        notes=tuple(title.notes),
    )


def _validate(request: CheckRequest) -> None:
    if not (request.model or request.quality or request.truth):
        raise ValueError("nothing to measure quality by: give --model, a table's --quality, or --truth")
    is_table = Path(request.source).suffix.lower() in TABLE_SUFFIXES
    if request.truth == TRUTH_VMAF and request.reference is None and not is_table:  # a table may have such a column
        raise ValueError("--truth vmaf compares with the master: give --reference")
    if request.reference is not None and not request.reference.is_file():
        raise ValueError(f"--reference {request.reference}: no such file")


def _columns(request: CheckRequest, title: TitleEncodes) -> dict[str, Column]:
    """The table's columns that hold quality, by name."""
    names = [request.quality, None if request.compares_with_reference else request.truth]
    return {name: _column(title.table, name, title.encodes, request) for name in names if name is not None}


def _column(table: Any, name: str, encodes: Sequence[Encode], request: CheckRequest) -> Column:
    if table is None:
        raise ValueError(f"{name!r}: only a table has columns; videos are scored by --model")
    return read_column(table, name, encodes, lower_is_better=request.lower_is_better and name == request.quality)


def _display_height(request: CheckRequest, encodes: Sequence[Encode], columns: Sequence[Column]) -> int | None:
    """The height at which all qualities hold: as requested, as a column states it, or the top rung's."""
    stated = {column.display_height for column in columns if column.display_height is not None}
    requested = {request.display_height} - {None}
    if len(stated | requested) > 1:
        raise ValueError(
            f"the table's qualities hold at a display height of {stated.pop()}, not {request.display_height}: leave "
            "out --display-height"
        )
    if stated | requested:
        return (stated | requested).pop()
    scored = request.model is not None or request.reference is not None
    return max(encode.rung.height for encode in encodes) if scored or not columns else None


def _measure(
    request: CheckRequest, title: TitleEncodes, columns: dict[str, Column], height: int | None
) -> list[Qualities]:
    """Quality by each metric, that of the verdict and the gates first."""
    encodes, notes, cache = title.encodes, title.notes, ScoreCache.read(request.out)
    settings, measured = Settings(request.step, request.tolerance, height), list[Qualities]()
    if request.model is not None:
        by_model = model_qualities(
            request.model, request.views, encodes, settings, cache, notes, pixel_only=request.pixel_only
        )
        measured.append(by_model)
    if request.quality is not None:
        measured.append(column_qualities(request.quality, columns[request.quality], encodes, settings, notes))
    if request.truth is not None:
        if request.compares_with_reference and request.reference is not None:
            # A step in the units of another scale is not a step of VMAF.
            same_scale = not measured or measured[0].metric.kind.lower().startswith("vmaf")
            vmaf_settings = settings if same_scale else Settings(None, None, height)
            measured.append(vmaf_qualities(request.reference, request.crop, encodes, vmaf_settings, cache))
        else:
            measured.append(column_qualities(request.truth, columns[request.truth], encodes, settings, notes))
    return measured


def _metric_report(
    request: CheckRequest, rungs: Sequence[Rung], qualities: Qualities, places: Sequence[int]
) -> MetricReport:
    intervals = [qualities.intervals.get(place, (None, None)) for place in places]
    check = check_ladder(rungs, [qualities.values[place] for place in places], qualities.metric, intervals)
    return MetricReport(
        check=check,
        recommendations=recommend(rungs, check, count=request.count, cap_kbps=request.cap_kbps),
        savings=savings(rungs, check, request.anchor),
    )
