"""Plots as SVG: axes, ticks, lines, marks, hover texts and legend keys.

Elements are built as a tree, so all text is escaped. `Plot` takes values in the units of its axes; `Drawing` takes
pixels. Both are HTML to a template (`__html__`), and `document` makes a file that opens anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple
from xml.etree import ElementTree

# Okabe and Ito's colors, which color-blind readers can tell apart; without their yellow, which is lost on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#3b3b3b")
INK, SOFT, RULE = "#14181f", "#535e6c", "#dde2e8"
FONT = "system-ui,Liberation Sans,Arial,sans-serif"
FONT_SIZE = 13

Shape = Literal["circle", "square", "triangle", "diamond", "down", "cross"]
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle", "diamond")  # for series; the others mark faults
Attribute = str | float


@dataclass(frozen=True)
class Axis:
    """A range of values and its (value, text) ticks; on a log scale, equal ratios are equally far apart."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def fraction(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)


def linear_axis(label: str, values: Sequence[float], max_ticks: int = 6) -> Axis:
    """A little wider than the values, with ticks at 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    pad = 0.05 * (high - low) or 1.0
    low, high = low - pad, high + pad
    rough = (high - low) / max_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    marks = [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(label, low, high, [(m, f"{m + 0.0:g}") for m in marks])


def log_axis(label: str, values: Sequence[float], max_ticks: int = 7) -> Axis:
    """A little wider than the values, with as many round ticks as `max_ticks` allows."""
    low, high = min(values) / 1.15, max(values) * 1.15
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks: list[float] = []
    for multiples in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        marks = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(marks) <= max_ticks:
            break
    marks = marks or [float(f"{math.sqrt(low * high):.2g}")]
    return Axis(label, low, high, [(m, f"{m:g}") for m in marks], log=True)


def category_axis(names: Sequence[str]) -> Axis:
    """The n-th name at the value n."""
    return Axis("", -0.5, len(names) - 0.5, [(float(i), name) for i, name in enumerate(names)])


class Mark(NamedTuple):
    """How a point looks; radius in pixels."""

    shape: Shape
    color: str
    hollow: bool = False
    radius: float = 3.4
    opacity: float = 1.0


class Drawing:
    """An SVG in pixels."""

    def __init__(self, width: float, height: float, name: str = "", css: str = "") -> None:
        self.width, self.height = width, height
        self.root = ElementTree.Element("svg", {"viewBox": f"0 0 {_text(width)} {_text(height)}"})
        if css:
            self.root.set("class", css)
        if name:
            self.root.attrib |= {"role": "img", "aria-label": name}

    def add(self, tag: str, content: str = "", /, **attributes: Attribute) -> ElementTree.Element:
        """An element; `stroke_width` is the attribute stroke-width, and `class_` is class."""
        names = {name.rstrip("_").replace("_", "-"): _text(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(self.root, tag, names)
        element.text = content or None
        return element

    def mark_at(self, mark: Mark, x: float, y: float, *, hover: str = "", css: str = "") -> None:
        """A mark with its center at a pixel; with a `hover` text it is a point that the page's script can name."""
        paint: dict[str, Attribute] = {"fill": mark.color}
        if mark.opacity < 1:
            paint["fill_opacity"] = mark.opacity
        if mark.hollow or mark.shape == "cross":
            paint = {"fill": "#fff", "stroke": mark.color, "stroke_width": 0.2 + mark.radius * 0.38}
        if css or hover:
            paint["class_"] = " ".join(word for word in ("pt" if hover else "", css) if word)
        across, down, path = _outline(mark)
        element = self.add("path", d=f"M{_text(x + across)} {_text(y + down)}{path}", **paint)
        if hover:
            ElementTree.SubElement(element, "title").text = hover

    def __html__(self) -> str:
        return ElementTree.tostring(self.root, encoding="unicode")

    def document(self, title: str) -> str:
        """The SVG as a file of its own."""
        background = ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": "#fff"})
        heading = ElementTree.Element("title")
        heading.text = title
        root = ElementTree.Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", **self.root.attrib, "font-family": FONT}
        )
        root.extend([heading, background, *self.root])
        ElementTree.indent(root, "")
        return ElementTree.tostring(root, encoding="unicode") + "\n"


class Margins(NamedTuple):
    """Pixels around the area that the values span."""

    left: float = 48
    top: float = 30
    right: float = 14
    bottom: float = 44


MARGINS = Margins()


class Plot(Drawing):
    """Two axes with a grid, and what is drawn over them in their units."""

    def __init__(
        self,
        name: str,
        x: Axis,
        y: Axis,
        *,
        width: float,
        height: float,
        margins: Margins = MARGINS,
        heading: str = "",
        css: str = "plot",
    ) -> None:
        super().__init__(width, height, name, css)
        self.root.attrib |= {"font-size": str(FONT_SIZE), "fill": SOFT}
        self.x, self.y, self.margins = x, y, margins
        left, top, right, bottom = margins.left, margins.top, width - margins.right, height - margins.bottom
        if heading:
            self.add("text", heading, x=left, y=16, fill=INK, font_weight=600)
        for value, text in y.ticks:
            _, py = self.at(x.low, value)
            self.add("path", d=f"M{_text(left)} {_text(py)}H{_text(right)}", stroke=RULE)
            self.add("text", text, x=left - 7, y=py + 4.5, text_anchor="end")
        for value, text in x.ticks:
            px, _ = self.at(value, y.low)
            self.add("path", d=f"M{_text(px)} {_text(bottom)}v4", stroke=SOFT)
            self.add("text", text, x=px, y=bottom + 18, text_anchor="middle")
        self.add("path", d=f"M{_text(left)} {_text(bottom)}H{_text(right)}", stroke=SOFT)
        if x.label:
            self.add("text", x.label, x=(left + right) / 2, y=height - 6, text_anchor="middle")
        if y.label:
            turn = f"translate(13 {_text((top + bottom) / 2)})rotate(-90)"
            self.add("text", y.label, transform=turn, text_anchor="middle")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of a pair of values."""
        left, top, right, bottom = self.margins
        across, down = self.width - left - right, self.height - top - bottom
        return left + self.x.fraction(x) * across, top + (1 - self.y.fraction(y)) * down

    def line(
        self,
        points: Iterable[tuple[float, float]],
        color: str,
        *,
        width: float = 1.6,
        dash: str = "",
        **attributes: Attribute,
    ) -> None:
        """Straight pieces from point to point."""
        path = "M" + "L".join(f"{_text(px)} {_text(py)}" for px, py in (self.at(x, y) for x, y in points))
        if dash:
            attributes["stroke_dasharray"] = dash
        self.add("path", d=path, fill="none", stroke=color, stroke_width=width, **attributes)

    def mark(self, mark: Mark, x: float, y: float, *, hover: str = "", css: str = "") -> None:
        """A mark at a pair of values."""
        self.mark_at(mark, *self.at(x, y), hover=hover, css=css)


class Key(NamedTuple):
    """An entry of a legend, which the page's template lists."""

    swatch: Drawing
    text: str


def key(text: str, mark: Mark | None, line: str = "", width: float = 2, opacity: float = 1) -> Key:
    """A legend's entry: a mark, a line of a color, or both."""
    swatch = Drawing(28, 18)
    if line:
        swatch.add("path", d="M2 9h24", stroke=line, stroke_width=width, stroke_opacity=opacity)
    if mark is not None:
        swatch.mark_at(mark, 14, 9)
    return Key(swatch, text)


def series_mark(index: int) -> Mark:
    """Shape and color of the n-th series; 28 before they repeat."""
    return Mark(SHAPES[index // len(COLORS) % len(SHAPES)], COLORS[index % len(COLORS)])


@cache
def _outline(mark: Mark) -> tuple[float, float, str]:
    """Where a mark's path begins, relative to its center, and its steps."""
    r, a, b, c = (_text(factor * mark.radius) for factor in (1, 1.2, 1.4, 2.2))
    d = _text(2 * mark.radius)
    steps: dict[Shape, tuple[float, float, str]] = {
        "circle": (-1, 0, f"a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z"),
        "square": (-1, -1, f"h{d}v{d}h-{d}z"),
        "triangle": (0, -1.3, f"l{a} {c}h-{_text(2.4 * mark.radius)}z"),
        "down": (0, 1.3, f"l-{a} -{c}h{_text(2.4 * mark.radius)}z"),
        "diamond": (0, -1.4, f"l{b} {b}l-{b} {b}l-{b} -{b}z"),
        "cross": (-1, -1, f"l{d} {d}m-{d} 0l{d} -{d}"),
    }
    across, down, path = steps[mark.shape]
    return across * mark.radius, down * mark.radius, path


def _text(value: Attribute) -> str:
    """An attribute's value; numbers to a hundredth of a pixel."""
    if isinstance(value, str):
        return value
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
