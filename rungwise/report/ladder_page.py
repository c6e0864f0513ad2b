"""A ladder check as one HTML page that works offline and on a phone; without script it lacks only hover texts.

Every number of the page is a rounding of a value in the JSON that it carries; `data-k` names the value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rungwise.artifact import write_text
from rungwise.ladder.compare import Report
from rungwise.ladder.rungs import GAP_STEPS, KINDS, format_kbps
from rungwise.report.ladder_plots import agreement_plots, curve_plots, height_colors, legend
from rungwise.report.ladder_text import (
    INTERVAL_NOTE,
    count_faults,
    crossover_lines,
    display_text,
    fault_text,
    finding_title,
    score_text,
    settings_lines,
    short_name,
    to_csv,
    to_json,
    to_text,
    verdict_line,
    verdict_text,
)
from rungwise.report.page import render, sentence
from rungwise.report.svg import Drawing

_MAX_OPEN_FINDINGS = 12  # the rest folds, so that the curves stay near


def write_outputs(report: Report, out: Path) -> list[Path]:
    """check.json, check.csv, check.txt and check.html in `out`, each replaced at once."""
    makers: dict[str, Callable[[Report], str]] = {
        "check.json": to_json,
        "check.csv": to_csv,
        "check.txt": to_text,
        "check.html": make_page,
    }
    for name, make in makers.items():
        write_text(out / name, make(report))
    return [out / name for name in makers]


def make_page(report: Report) -> str:
    """The page, self-contained."""
    first = report.metrics[0]
    quality = [verdict.quality for verdict in first.check.verdicts]
    return render(
        "ladder.html.jinja",
        report.model_dump(mode="json"),
        report=report,
        first=first,
        codecs=first.check.codecs,
        verdicts=[verdict_line(report, metric) for metric in report.metrics],
        display=display_text(report),
        faults=count_faults(first),
        floor=quality.index(min(quality)),
        ceiling=quality.index(max(quality)),
        kinds=KINDS,
        gap_steps=GAP_STEPS,
        max_open_findings=_MAX_OPEN_FINDINGS,
        numbers={row: finding.number for finding in first.check.findings for row in finding.rungs},
        score_text=score_text,
        legend=legend(report),
        figures=_figures(report),
        figure_columns=_figure_columns(report),
        colors=height_colors(rung.height for rung in report.rungs),
        advice=[_advice_lines(report, place) for place in range(len(first.check.codecs))],
        advice_notes=[_advice_notes(report, place) for place in range(len(first.check.codecs))],
        request=_request(report),
        agreement_plots=agreement_plots(report) if report.agreement else [],
        fault_text=fault_text,
        verdict_text=verdict_text,
        finding_title=finding_title,
        doubtful=sum(bool(verdict.doubts) for verdict in first.check.verdicts),
        short_name=short_name,
        notes=_notes(report),
    )


class Figure(NamedTuple):
    """One codec's curves by one metric."""

    codec: int
    metric: int
    plots: list[Drawing]


def _figure_columns(report: Report) -> int:
    return len(report.metrics) if len(report.metrics) > 1 else min(len(report.metrics[0].check.codecs), 3)


def _figures(report: Report) -> list[Figure]:
    return [
        Figure(codec, i, curve_plots(report, metric, metric.check.codecs[codec], _figure_columns(report)))
        for codec in range(len(report.metrics[0].check.codecs))
        for i, metric in enumerate(report.metrics)
    ]


class AdviceLine(NamedTuple):
    """A rung of the recommended ladder, and the keys of its numbers in the report's JSON."""

    bitrate_kbps: float
    quality: float
    height: int
    bitrate_key: str
    quality_key: str
    is_new: bool


def _advice_lines(report: Report, place: int) -> list[AdviceLine]:
    """One codec's recommended ladder by rising bitrate."""
    first, lines = report.metrics[0], list[AdviceLine]()
    for row in first.recommendations[place].keep:
        rung, quality = report.rungs[row], first.check.verdicts[row].quality
        keys = f"rungs.{row}.bitrate_kbps", f"metrics.0.check.verdicts.{row}.quality"
        lines.append(AdviceLine(rung.bitrate_kbps, quality, rung.height, *keys, is_new=False))
    for i, addition in enumerate(first.recommendations[place].add):
        key = f"metrics.0.recommendations.{place}.add.{i}"
        keys = f"{key}.bitrate_kbps", f"{key}.quality"
        lines.append(AdviceLine(addition.bitrate_kbps, addition.quality, addition.height, *keys, is_new=True))
    return sorted(lines)


def _advice_notes(report: Report, place: int) -> list[str]:
    """Which rungs are dropped and why, notes, and crossovers."""
    advice = report.metrics[0].recommendations[place]
    reasons = [drop.reason for drop in advice.drop]
    counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    lines = [f"drop {len(reasons)}: {counts}" if reasons else "drop none"]
    lines += [advice.note] if advice.note else []
    return [sentence(line) for line in [*lines, *crossover_lines(report, place)]]


def _request(report: Report) -> str:
    count = f"{report.count} rungs" if report.count else "as many rungs as fit at least one step apart"
    return count + (f", none above {format_kbps(report.cap_kbps)} kbps" if report.cap_kbps else "")


def _notes(report: Report) -> list[str]:
    lines = [f"{line}." for line in settings_lines(report)]
    lines.append(
        "Out of order: a cheaper rung of the same codec scores higher. Too close: less than one step above the next "
        "cheaper sound rung that is kept. A question mark: the metric's error may be the cause. "
        f"Gap: wider than {GAP_STEPS:g} steps."
    )
    if any(verdict.low is not None for verdict in report.metrics[0].check.verdicts):
        lines.append(sentence(INTERVAL_NOTE))
    lines += [sentence(note) for note in report.notes]
    lines += [f"Left out: {name}: {reason}" for name, reason in report.failures.items()]
    return [*lines, f"Made by rungwise {report.rungwise}, ladder check."]
