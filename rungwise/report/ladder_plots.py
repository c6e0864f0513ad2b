"""The page's pictures as inline SVG: quality against bitrate, and one metric against another.

Text keeps its size on a phone and on a desk because a picture is drawn twice, in the width of each, and CSS shows one.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rungwise.ladder.compare import Report
from rungwise.ladder.rungs import KINDS, Kind, describe, format_kbps
from rungwise.report.ladder_text import flags_text
from rungwise.report.page import COLORS

INK = "#14181f"
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 14, 44
NARROW, DESK = 358, 1112  # px of text column
Box = tuple[float, float, float, float]


class Axis(NamedTuple):
    """A range in plotted units, and its (value, text) ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


def linear_axis(label: str, values: Sequence[float]) -> Axis:
    """Ticks at 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 1.0
    low, high = low - pad, high + pad
    power = 10.0 ** np.floor(np.log10((high - low) / 5))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= (high - low) / 5 * 0.999)
    marks = (np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step).round(10)
    return Axis(label, low, high, [(float(m), f"{m:g}") for m in marks])


def bitrate_axis(kbps: Sequence[float]) -> Axis:
    """Logarithmic, base 10."""
    low, high = float(np.log10(min(kbps))) - 0.06, float(np.log10(max(kbps))) + 0.06
    steps = (1, 2, 5) if high - low < 2.2 else (1, 3) if high - low < 3.2 else (1,)
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    marks = [m * 10.0**d for d in decades for m in steps if low <= np.log10(m * 10.0**d) <= high]
    return Axis("bitrate, kbps (log scale)", low, high, [(float(np.log10(m)), f"{m:g}") for m in marks])


def height_colors(report: Report) -> dict[int, str]:
    """A color for every height of the title, the tallest first."""
    heights = sorted({rung.height for rung in report.rungs}, reverse=True)
    return {height: COLORS[i % len(COLORS)] for i, height in enumerate(heights)}


def mark(x: float, y: float, color: str, kind: Kind | None) -> str:
    """A rung's mark; its shape says its fault: a ring for none, then triangle, cross and square."""
    if kind is None:
        return f"<circle cx='{x}' cy='{y}' r='4.2' fill='{color}'/>"
    paths = {
        "unordered": f"M{x} {y + 7}l-6.5 -11.5h13z",
        "off-hull": f"M{x - 5} {y - 5}l10 10M{x + 5} {y - 5}l-10 10",
        "close": f"M{x - 5} {y - 5}h10v10h-10z",
    }
    return f"<path d='{paths[kind]}' fill='#fff' stroke='{color}' stroke-width='2.6' stroke-linejoin='round'/>"


class Frame(NamedTuple):
    """A picture's size, axes, and what is drawn on it."""

    width: int
    height: int
    x: Axis
    y: Axis

    def sx(self, value: float) -> float:
        """Plotted unit -> SVG x."""
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return round(LEFT + share * (self.width - LEFT - RIGHT), 2)

    def sy(self, value: float) -> float:
        """Plotted unit -> SVG y."""
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return round(self.height - BOTTOM - share * (self.height - BOTTOM - TOP), 2)

    def draw(self, name: str, parts: Sequence[str], css: str) -> str:
        """The whole SVG."""
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        lines = []
        for value, text in self.y.ticks:
            lines.append(f"<path class='rule' d='M{LEFT} {self.sy(value)}H{right}'/>")
            lines.append(f"<text x='{LEFT - 7}' y='{self.sy(value) + 4.5}' text-anchor='end'>{text}</text>")
        for value, text in self.x.ticks:
            lines.append(f"<path d='M{self.sx(value)} {bottom}v4' stroke='#535e6c'/>")
            lines.append(f"<text x='{self.sx(value)}' y='{bottom + 18}' text-anchor='middle'>{text}</text>")
        lines.append(f"<path d='M{LEFT} {bottom}H{right}' stroke='#535e6c'/>")
        middle = (LEFT + right) / 2
        lines.append(
            f"<text x='{middle}' y='{self.height - 6}' text-anchor='middle'>{html.escape(self.x.label)}</text>"
        )
        head = f"<svg class='plot {css}' viewBox='0 0 {self.width} {self.height}' role='img' "
        return head + f"aria-label='{html.escape(name)}'>" + "".join(lines) + "".join(parts) + "</svg>"


def curve_plots(report: Report, metric: int, codec: int, columns: int) -> str:
    """One codec by one metric, for a phone and for a desk with so many pictures in a row."""
    rates = [rung.bitrate_kbps for rung in report.rungs]
    told = report.told[metric].check
    same_scale = len({t.check.metric.kind.lower()[:4] for t in report.told}) == 1
    shown = report.told if same_scale else [report.told[metric]]
    values = [verdict.quality for t in shown for verdict in t.check.verdicts]
    x, y = bitrate_axis(rates), linear_axis("quality", values)
    name = f"{told.codecs[codec].codec}: quality by {told.metric.name} against bitrate"
    wide = {1: (DESK, 430), 2: (544, 350)}.get(columns, (NARROW, 320))
    sizes = [(NARROW, 320, "n"), (*wide, "w")] if columns < 3 else [(NARROW, 320, "")]
    return "".join(
        _curves(report, metric, codec, Frame(width, height, x, y), name, css) for width, height, css in sizes
    )


def _curves(report: Report, metric: int, codec: int, frame: Frame, name: str, css: str) -> str:
    told, rungs, colors = report.told[metric].check, report.rungs, height_colors(report)
    check = told.codecs[codec]
    at = {
        row: (frame.sx(float(np.log10(rungs[row].bitrate_kbps))), frame.sy(told.verdicts[row].quality))
        for row in check.rungs
    }
    parts = [_hull(report, metric, codec, frame)]
    for curve in check.curves:
        line = "L".join(f"{x} {y}" for x, y in (at[row] for row in curve.rungs))
        parts.append(
            f"<path class='curve' data-height='{curve.height}' d='M{line}' fill='none' "
            f"stroke='{colors[curve.height]}' stroke-width='2'/>"
        )
    for crossover in check.crossovers:
        low = next(curve for curve in check.curves if curve.height == crossover.low_height)
        for kbps in crossover.bitrates_kbps:
            logs = [float(np.log10(rungs[row].bitrate_kbps)) for row in low.rungs]
            level = float(np.interp(np.log10(kbps), logs, [told.verdicts[row].quality for row in low.rungs]))
            x, y = frame.sx(float(np.log10(kbps))), frame.sy(level)
            parts.append(
                f"<path class='crossing' d='M{x} {y - 7}l7 7l-7 7l-7 -7z' fill='#fff' stroke='{INK}' "
                f"stroke-width='1.5'><title>{html.escape(crossover.text)}</title></path>"
            )
    numbers = {finding.rungs[0]: finding.number for finding in told.findings}
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in at.values()]
    for row in sorted(check.rungs, key=lambda row: row in numbers):
        (x, y), rung, verdict = at[row], rungs[row], told.verdicts[row]
        words = f"{rung.name}: {describe(rung)}, {verdict.quality:.1f}"
        words += f", {flags_text(verdict.flags)}" if verdict.flags else ""
        shape = mark(x, y, colors[rung.height], verdict.flags[0] if verdict.flags else None)
        parts.append(
            f"<g class='pt' data-row='{row}' data-metric='{metric}' data-x='{x}' data-y='{y}'>"
            f"<title>{html.escape(words)}</title><circle cx='{x}' cy='{y}' r='14' fill='transparent'/>{shape}</g>"
        )
        if row in numbers:
            parts.append(_label(str(numbers[row]), x, y, taken, frame))
    return frame.draw(name, parts, css)


def _hull(report: Report, metric: int, codec: int, frame: Frame) -> str:
    """Straight in bitrate, so curved on a log axis."""
    told = report.told[metric].check
    hull = told.codecs[codec].hull
    rate = [report.rungs[row].bitrate_kbps for row in hull]
    quality = [told.verdicts[row].quality for row in hull]
    if len(hull) < 2:
        return ""
    steps = np.unique(np.concatenate([np.geomspace(rate[0], rate[-1], 120), rate]))
    line = "L".join(
        f"{frame.sx(float(np.log10(kbps)))} {frame.sy(float(level))}"
        for kbps, level in zip(steps, np.interp(steps, rate, quality), strict=True)
    )
    style = "stroke-opacity='.16' stroke-width='9' stroke-linecap='round' stroke-linejoin='round'"
    return f"<path class='hull' d='M{line}' fill='none' stroke='{INK}' {style}/>"


def _label(text: str, x: float, y: float, taken: list[Box], frame: Frame) -> str:
    """A finding's number beside its mark, where it covers nothing."""
    wide = 8 * len(text) + 3
    places = [(12, 5), (-12 - wide, 5), (-wide / 2, 23), (-wide / 2, -11), (9, 18), (9, -8), (-9 - wide, 18)]
    boxes = [(x + dx, y + dy - 11, x + dx + wide, y + dy + 2) for dx, dy in places]
    inside = [b for b in boxes if b[0] > LEFT and b[2] < frame.width and b[1] > 0 and b[3] < frame.height - BOTTOM]
    free = [b for b in inside if not any(_overlap(b, other) for other in taken)]
    box = (free or inside or boxes)[0]
    taken.append(box)
    return f"<text class='no' x='{box[0] + 1:.1f}' y='{box[3] - 2:.1f}'>{text}</text>"


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def agreement_plot(report: Report) -> str:
    """The first metric against the truth, one mark a rung, with the line of equality where the scales are one."""
    first, truth = (told.check for told in report.told)
    pairs = [(b.quality, a.quality) for a, b in zip(first.verdicts, truth.verdicts, strict=True)]
    x = linear_axis(f"quality by {truth.metric.name}", [pair[0] for pair in pairs])
    y = linear_axis("quality", [pair[1] for pair in pairs])
    colors = height_colors(report)

    def draw(frame: Frame, css: str) -> str:
        low, high = max(x.low, y.low), min(x.high, y.high)
        same = first.metric.kind.lower()[:4] == truth.metric.kind.lower()[:4] and low < high
        line = f"M{frame.sx(low)} {frame.sy(low)}L{frame.sx(high)} {frame.sy(high)}"
        parts = [f"<path d='{line}' stroke='{INK}' stroke-dasharray='5 4' opacity='.6'/>"] if same else []
        for row, (level, judged) in enumerate(pairs):
            rung, at = report.rungs[row], (frame.sx(level), frame.sy(judged))
            words = html.escape(f"{rung.name}: {judged:.1f}, {truth.metric.name} {level:.1f}")
            parts.append(
                f"<g class='pt' data-row='{row}' data-metric='0' data-x='{at[0]}' data-y='{at[1]}'>"
                f"<title>{words}</title>{mark(*at, colors[rung.height], None)}</g>"
            )
        return frame.draw(f"{first.metric.name} against {truth.metric.name}", parts, css)

    return draw(Frame(NARROW, 320, x, y), "n") + draw(Frame(544, 380, x, y), "w")


def legend(report: Report) -> str:
    """What colors, lines and shapes mean; of the faults, those that are there."""
    found = {finding.kind for told in report.told for finding in told.check.findings}

    def key(shape: str, text: str) -> str:
        return f"<li><svg viewBox='0 0 28 18'>{shape}</svg>{html.escape(text)}</li>"

    keys: list[str] = []
    for height, color in height_colors(report).items():
        keys.append(
            key(f"<path d='M0 9h28' stroke='{color}' stroke-width='2'/>{mark(14, 9, color, None)}", f"{height}p")
        )
    hull = f"<path d='M3 9h22' stroke='{INK}' stroke-opacity='.16' stroke-width='9' stroke-linecap='round'/>"
    keys.append(key(hull, "convex hull"))
    if any(cross.bitrates_kbps for told in report.told for codec in told.check.codecs for cross in codec.crossovers):
        keys.append(
            key(f"<path d='M14 2l7 7l-7 7l-7 -7z' fill='#fff' stroke='{INK}' stroke-width='1.5'/>", "crossover")
        )
    faults: Callable[[Kind], str] = lambda kind: mark(14, 9, "#535e6c", kind)  # noqa: E731
    keys += [key(faults(kind), f"{text}, numbered as above") for kind, text in KINDS.items() if kind in found]
    return f"<ul class='legend'>{''.join(keys)}</ul>"


def kbps_text(kbps: float) -> str:
    """Bitrate with its unit."""
    return f"{format_kbps(kbps)} kbps"
