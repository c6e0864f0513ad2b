"""The page, as text and in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from rungwise.ladder.check import CheckRequest, check_source
from rungwise.ladder.compare import Report
from rungwise.report.ladder_page import make_page

Rows = list[tuple[str, int, float, float]]
OpenPage = Callable[[Path, int], AbstractContextManager[Any]]
BAD: Rows = [("h264", 720, 5000.0, 78.0), ("hevc", 240, 2000.0, 62.0), ("hevc", 720, 1874.6, 77.2)]


def make_report(folder: Path, rows: Rows, name: str = "title <b>&\u2028.csv", **options: Any) -> Report:
    table = pd.DataFrame(rows, columns=["codec", "height", "bitrate_kbps", "vmaf"])
    table["width"], table["student"] = table["height"] * 16 // 9, table["vmaf"] * 0.9 + 4
    table["clip"] = [f"{row[0]}-{row[1]}p-{row[2]:.0f}k</script>.mp4" for row in rows]
    table["student"] += np.where(np.arange(len(rows)) == len(rows) - 1, 3, 0)
    table.to_csv(folder / name, index=False)
    return check_source(CheckRequest(folder / name, step=6, tolerance=2, **options))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, sound: Rows) -> dict[str, Report]:
    """One metric over two codecs with planted faults; two metrics; one sound codec alone."""
    folder, gappy = tmp_path_factory.mktemp("tables"), [row for row in sound if row[3] != 60.0]
    return {
        "one": make_report(folder, [*sound, *BAD], quality="vmaf", count=5, cap_kbps=4600.0),
        "two": make_report(folder, [*gappy, *BAD], quality="student", truth="vmaf"),
        "alone": make_report(folder, sound[:6], quality="vmaf"),
    }


def data_of(page: str) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def value_at(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data[int(part) if part.isdigit() else part]
    return data


@pytest.mark.parametrize("name", ["one", "two", "alone"])
def test_page_carries_its_json_and_is_offline(reports: dict[str, Report], name: str) -> None:
    page = make_page(reports[name])
    assert data_of(page) == json.loads(reports[name].model_dump_json())
    assert not re.search(r"https?://|url\(|@import|<img|src=|fetch\(|XMLHttp", page)
    assert page.count("</script>") == 2
    assert "title <b>&" not in page
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(plot)
        assert "nan" not in plot


@pytest.mark.parametrize("name", ["one", "two", "alone"])
def test_numbers_on_the_page_are_roundings_of_the_json(reports: dict[str, Report], name: str) -> None:
    page = make_page(reports[name])
    data, shown = data_of(page), re.findall(r'data-k="([\w.]+)">([^<]*)<', page)
    assert len(shown) > 15
    for key, text in shown:
        decimals = len(text.partition(".")[2])
        assert abs(abs(float(text)) - abs(value_at(data, key))) <= 0.5 * 10**-decimals + 1e-9, key


def test_an_awkward_ladder_is_drawn(tmp_path: Path) -> None:
    for rows in ([("h264", 360, 100.0, 50.0)], [("h264", 360, 100.0, 50.0), ("av1", 360, 100.0, 50.0)]):
        page = make_page(make_report(tmp_path, rows, quality="vmaf"))
        assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["one", "two", "alone"])
def test_in_a_browser(
    reports: dict[str, Report],
    open_page: OpenPage,
    hover_text: Callable[[Any, Any], str],
    tmp_path: Path,
    name: str,
    width: int,
) -> None:
    report, path = reports[name], tmp_path / "check.html"
    path.write_text(make_page(report), encoding="utf-8")
    with open_page(path, width) as page:
        for metric, result in enumerate(report.metrics):
            for place, codec in enumerate(result.check.codecs):
                plot = page.locator(f"figure[data-codec='{place}'][data-metric='{metric}'] svg.plot:visible")
                assert plot.count() == 1
                assert plot.locator(".rung").count() == len(codec.rungs)
                assert plot.locator(".curve").count() == len(codec.curves)
                assert plot.locator(".hull").count() == 1
                assert plot.locator(".crossing").count() == sum(len(c.bitrates_kbps) for c in codec.crossovers)
                faulty = sum(bool(result.check.verdicts[row].flags) for row in codec.rungs)
                assert plot.locator(".fault").count() == faulty
                assert plot.locator(".number").count() == faulty
        small = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => e.childElementCount == 0 && e.textContent.trim() &&"
            " e.offsetParent !== null && parseFloat(getComputedStyle(e).fontSize) < 13).length"
        )
        assert small == 0

        row = report.metrics[0].check.codecs[0].rungs[1]
        rung, verdict = report.rungs[row], report.metrics[0].check.verdicts[row]
        plot = page.locator("figure[data-metric='0'] svg.plot:visible .rung")
        text = hover_text(page, plot.and_(page.get_by_label(rung.name)).first)
        for part in (rung.name, f"{rung.width}x{rung.height}", f" {verdict.quality:.1f}"):
            assert part in text

        data = json.loads(page.locator("#data").text_content())
        numbers = page.evaluate("[...document.querySelectorAll('[data-k]')].map(e=>[e.dataset.k,e.textContent])")
        for key, text in numbers:
            decimals = len(text.partition(".")[2])
            assert abs(abs(float(text)) - abs(value_at(data, key))) <= 0.5 * 10**-decimals + 1e-9, key
