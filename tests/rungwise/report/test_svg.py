"""Axes, escaping, and where values land."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from rungwise.report.svg import (
    SHAPES,
    Axis,
    Margins,
    Mark,
    Plot,
    category_axis,
    key,
    linear_axis,
    log_axis,
    series_mark,
)

SQUARE = Margins(left=0, top=0, right=0, bottom=0)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 100], ["0", "20", "40", "60", "80", "100"]),
        ([-0.3, 0.3], ["-0.2", "0", "0.2"]),
        ([50, 50], ["49", "49.5", "50", "50.5", "51"]),
    ],
)
def test_linear_ticks_are_round(values: list[float], labels: list[str]) -> None:
    axis = linear_axis("quality", values)
    assert axis.low < min(values)
    assert axis.high > max(values)
    assert [text for _, text in axis.ticks] == labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([100, 5000], ["100", "200", "500", "1000", "2000", "5000"]),
        ([3, 3000], ["3", "10", "30", "100", "300", "1000", "3000"]),
        ([400, 420], ["410"]),
        ([1, 1e9], [f"{10.0**n:g}" for n in range(10)]),
    ],
)
def test_log_ticks_are_round_and_few(values: list[float], labels: list[str]) -> None:
    axis = log_axis("bitrate", values)
    assert [text for _, text in axis.ticks] == labels
    assert axis.fraction(axis.low) == 0
    assert axis.fraction(axis.high) == 1


def test_values_land_on_their_pixels() -> None:
    plot = Plot("p", Axis("", 1, 100, [], log=True), Axis("", 0, 10, []), width=200, height=100, margins=SQUARE)
    assert plot.at(10, 10) == pytest.approx((100, 0))
    assert plot.at(100, 0) == pytest.approx((200, 100))


def test_text_is_escaped() -> None:
    evil = "</svg><script>'\"&"
    plot = Plot(evil, category_axis([evil]), category_axis([evil]), width=100, height=100, heading=evil)
    plot.mark(Mark("cross", "#000"), 0, 0, hover=evil, css="rung")
    for text in (plot.__html__(), plot.document(evil), key(evil, Mark("down", "#000"), "#000").swatch.__html__()):
        assert "<script" not in text
        root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    assert ElementTree.fromstring(plot.__html__()).get("aria-label") == evil
    assert ElementTree.fromstring(plot.document("t")).tag == "{http://www.w3.org/2000/svg}svg"


def test_series_are_told_apart() -> None:
    marks = [series_mark(i) for i in range(28)]
    assert len(set(marks)) == 28
    assert {mark.shape for mark in marks} == set(SHAPES)
