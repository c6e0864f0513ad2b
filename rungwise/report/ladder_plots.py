"""The plots of a ladder check: quality against bitrate, and one metric against another.

Each plot is drawn at two widths, for a phone and for a desk, and CSS shows one: so text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rungwise.ladder.compare import MetricReport, Report
from rungwise.ladder.rungs import KINDS, CodecCheck, Crossover, Kind, format_kbps
from rungwise.report.ladder_text import verdict_text
from rungwise.report.svg import COLORS, INK, Drawing, Key, Margins, Mark, Plot, Shape, key, linear_axis, log_axis

_NARROW, _WIDE = 358, 1112  # pixels of the text column
MARGINS = Margins(left=44, top=14)
_FAULT_SHAPES: dict[Kind, Shape] = {"unordered": "down", "off-hull": "cross", "close": "square"}
_HULL_WIDTH, _HULL_OPACITY = 9, 0.16
_HULL_POINTS, _LINE_POINTS = 120, 20
Box = tuple[float, float, float, float]


class Size(NamedTuple):
    """A plot's pixels, the class that shows it at some window widths, and how many bitrate ticks fit."""

    width: int
    height: int
    css: str
    max_ticks: int


def plot_sizes(columns: int) -> list[Size]:
    """For a phone, and for a desk with so many plots in a row."""
    if columns > 2:
        return [Size(_NARROW, 320, "plot", 7)]
    desk = Size(_WIDE, 430, "plot wide", 14) if columns == 1 else Size(544, 350, "plot wide", 9)
    return [Size(_NARROW, 320, "plot narrow", 7), desk]


def height_colors(heights: Iterable[int]) -> dict[int, str]:
    """A color for every height of the title, the tallest first."""
    return {height: COLORS[i % len(COLORS)] for i, height in enumerate(sorted(set(heights), reverse=True))}


def _report_colors(report: Report) -> dict[int, str]:
    return height_colors(rung.height for rung in report.rungs)


def rung_mark(color: str, kind: Kind | None) -> Mark:
    """The shape tells the fault, a dot none."""
    return Mark("circle", color, radius=4.2) if kind is None else Mark(_FAULT_SHAPES[kind], color, True, 5.2)


def curve_plots(report: Report, metric: MetricReport, codec: CodecCheck, columns: int) -> list[Drawing]:
    """One codec by one metric, for a phone and for a desk with `columns` plots in a row."""
    same_scale = len({_scale(other) for other in report.metrics}) == 1
    metrics = report.metrics if same_scale else [metric]
    y = linear_axis("", [verdict.quality for other in metrics for verdict in other.check.verdicts])
    rates = [rung.bitrate_kbps for rung in report.rungs]
    name = f"{codec.codec}: quality by {metric.name} against bitrate"
    plots: list[Drawing] = []
    for width, height, css, max_ticks in plot_sizes(columns):
        x = log_axis("bitrate, kbps (log scale)", rates, max_ticks)
        plot = Plot(name, x, y, width=width, height=height, margins=MARGINS, css=css)
        _draw_lines(plot, report, metric, codec)
        _draw_rungs(plot, report, metric, codec)
        plots.append(plot)
    return plots


def _scale(metric: MetricReport) -> str:
    """Metrics of one scale share an axis: VMAF's versions and a model of VMAF do."""
    return metric.check.metric.kind.lower()[:4]


def _hull_points(report: Report, metric: MetricReport, codec: CodecCheck) -> list[tuple[float, float]]:
    return hull_line(
        [report.rungs[row].bitrate_kbps for row in codec.hull],
        [metric.check.verdicts[row].quality for row in codec.hull],
    )


def hull_line(rates: Sequence[float], levels: Sequence[float]) -> list[tuple[float, float]]:
    """(kbps, quality) along the convex hull, which is straight in bitrate and so curved on a log axis."""
    steps = np.unique(np.concatenate([np.geomspace(rates[0], rates[-1], _HULL_POINTS), rates]))
    return list(zip(steps.tolist(), np.interp(steps, rates, levels).tolist(), strict=True))


def _draw_lines(plot: Plot, report: Report, metric: MetricReport, codec: CodecCheck) -> None:
    """The convex hull, each height's curve, and their crossovers."""
    quality = {row: metric.check.verdicts[row].quality for row in codec.rungs}
    rate = {row: report.rungs[row].bitrate_kbps for row in codec.rungs}
    curves = {curve.height: [(rate[row], quality[row]) for row in curve.rungs] for curve in codec.curves}
    draw_curves(plot, _hull_points(report, metric, codec), curves, _report_colors(report), codec.crossovers)


def draw_curves(
    plot: Plot,
    hull: Sequence[tuple[float, float]],
    curves: Mapping[int, Sequence[tuple[float, float]]],
    colors: Mapping[int, str],
    crossovers: Iterable[Crossover],
) -> None:
    """The convex hull, each height's curve, and their crossovers; points are (kbps, quality) by rising bitrate."""
    if len(hull) > 1:
        plot.line(hull, INK, width=_HULL_WIDTH, class_="hull", stroke_opacity=_HULL_OPACITY, stroke_linejoin="round")
    for height, points in curves.items():
        plot.line(points, colors[height], width=2, class_="curve")
    for crossover in crossovers:
        rates, levels = zip(*curves[crossover.low_height], strict=True)
        for kbps in crossover.bitrates_kbps:
            level = float(np.interp(math.log10(kbps), np.log10(rates), levels))
            plot.mark(Mark("diamond", INK, True), kbps, level, hover=crossover.text, css="crossing")


def _draw_rungs(plot: Plot, report: Report, metric: MetricReport, codec: CodecCheck) -> None:
    """A mark for each rung, and beside it the number of its finding."""
    colors = _report_colors(report)
    numbers = {row: finding.number for finding in metric.check.findings for row in finding.rungs}
    pixels = {row: plot.at(report.rungs[row].bitrate_kbps, metric.check.verdicts[row].quality) for row in codec.rungs}
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels.values()]
    for kbps, level in _hull_points(report, metric, codec):
        x, y = plot.at(kbps, level)
        taken.append((x, y - _HULL_WIDTH / 2, x, y + _HULL_WIDTH / 2))
    for curve in codec.curves:
        for one, other in pairwise(pixels[row] for row in curve.rungs):
            taken += [(x, y, x, y) for x, y in np.linspace(one, other, _LINE_POINTS).tolist()]
    for row in sorted(codec.rungs, key=lambda row: row in numbers):
        flags = metric.check.verdicts[row].flags
        mark = rung_mark(colors[report.rungs[row].height], flags[0] if flags else None)
        plot.mark_at(mark, *pixels[row], hover=_hover(report, metric, row), css="rung fault" if flags else "rung")
        if row in numbers:
            box = _free_box(plot, str(numbers[row]), *pixels[row], taken)
            taken.append(box)
            text = plot.add("text", str(numbers[row]), x=box[0] + 1, y=box[3] - 2, fill=INK, font_weight=700)
            text.attrib |= {"class": "number", "paint-order": "stroke", "stroke": "#fff", "stroke-width": "3"}


def _hover(report: Report, metric: MetricReport, row: int) -> str:
    """A rung's name, size, qualities and place relative to the hull of one metric."""
    rung, several = report.rungs[row], len(report.metrics) > 1
    size = f"{rung.width}x{rung.height}" if rung.width else f"{rung.height}p"
    lines = [rung.name, f"{rung.codec} {size}, {format_kbps(rung.bitrate_kbps)} kbps"]
    for other in report.metrics:
        verdict = other.check.verdicts[row]
        interval = "" if verdict.low is None else f" [{verdict.low:.1f}, {verdict.high:.1f}]"
        fault = f": {verdict_text(verdict)}" if verdict.flags or verdict.doubts else ""
        name = other.name if several or other.check.metric.source != "column" else "quality"
        lines.append(f"{name} {verdict.quality:.1f}{interval}{fault}")
    verdict = metric.check.verdicts[row]
    hull = f"{verdict.below_hull:.1f} points below the hull, {verdict.wasted_percent:.0f} % of its bitrate wasted"
    return "\n".join([*lines, "on the hull" if verdict.on_hull else hull])


def _free_box(plot: Plot, text: str, x: float, y: float, taken: list[Box]) -> Box:
    """Where a text beside a mark covers nothing."""
    width = 8 * len(text) + 3
    offsets = [(12, 5), (-12 - width, 5), (-width / 2, 23), (-width / 2, -11), (9, 18), (9, -8), (-9 - width, 18)]
    boxes = [(x + dx, y + dy - 11, x + dx + width, y + dy + 2) for dx, dy in offsets]
    bottom = plot.height - plot.margins.bottom
    inside = [b for b in boxes if b[0] > plot.margins.left and b[2] < plot.width and b[1] > 0 and b[3] < bottom]
    free = [b for b in inside if not any(_overlap(b, other) for other in taken)]
    return (free or inside or boxes)[0]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def agreement_plots(report: Report) -> list[Drawing]:
    """The first metric against the truth, with the line of equality where both have one scale."""
    first, truth = report.metrics
    x = linear_axis(f"quality by {truth.name}", [verdict.quality for verdict in truth.check.verdicts])
    y = linear_axis("", [verdict.quality for verdict in first.check.verdicts])
    plots: list[Drawing] = []
    for width, height, css, _ in plot_sizes(2):
        plot = Plot(f"{first.name} against {truth.name}", x, y, width=width, height=height, margins=MARGINS, css=css)
        low, high = max(x.low, y.low), min(x.high, y.high)
        if _scale(first) == _scale(truth) and low < high:
            plot.line([(low, low), (high, high)], INK, width=1, dash="5 4", stroke_opacity=0.6)
        pairs = zip(truth.check.verdicts, first.check.verdicts, strict=True)
        for row, (by_truth, by_first) in enumerate(pairs):
            mark = rung_mark(_report_colors(report)[report.rungs[row].height], None)
            plot.mark(mark, by_truth.quality, by_first.quality, hover=_hover(report, first, row))
        plots.append(plot)
    return plots


def legend(report: Report) -> list[Key]:
    """Colors, lines and shapes; only the faults that occur."""
    keys = curve_keys(_report_colors(report), (each for codec in _codecs(report) for each in codec.crossovers))
    kinds = {finding.kind for metric in report.metrics for finding in metric.check.findings if finding.certain}
    return keys + [
        key(f"{text}, numbered as above", rung_mark("#535e6c", kind)) for kind, text in KINDS.items() if kind in kinds
    ]


def curve_keys(colors: Mapping[int, str], crossovers: Iterable[Crossover]) -> list[Key]:
    """The keys of what `draw_curves` draws."""
    keys = [key(f"{height}p", rung_mark(color, None), color) for height, color in colors.items()]
    keys.append(key("convex hull", None, INK, _HULL_WIDTH, _HULL_OPACITY))
    if any(crossover.bitrates_kbps for crossover in crossovers):
        keys.append(key("crossover", Mark("diamond", INK, True)))
    return keys


def _codecs(report: Report) -> Iterable[CodecCheck]:
    return (codec for metric in report.metrics for codec in metric.check.codecs)
