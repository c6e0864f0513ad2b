"""The report: offline, well-formed, escaped, and its numbers are those of the JSON it carries."""

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

from rungwise.metrics import evaluate as ev
from rungwise.metrics import evaluation_result as fg
from rungwise.report.evaluation_page import write_report

pytestmark = pytest.mark.filterwarnings("error")


def make_table(num_contents: int = 5, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    content, rung = np.repeat(np.arange(num_contents), 8), np.tile(np.arange(4), 2 * num_contents)
    score = 20 + 20 * rung + rng.normal(0, 3, rung.size)
    return pd.DataFrame(
        {
            "clip": [f"clip{i}" for i in range(rung.size)],
            "content": [f"content {c:03d}" for c in content],
            "codec": np.tile(np.repeat(["x264", "svt-av1"], 4), num_contents),
            "width": 640,
            "height": 360,
            "bitrate_kbps": 100.0 * 2.0 ** (rung + 0.3 * content % 3),
            "score": score,
            "student": score + rng.normal(0, 5, rung.size),
            "score_polarity": "higher_is_better",
            "score_min": 0.0,
            "score_max": 100.0,
        }
    )


def write(path: Path, table: pd.DataFrame, **facts: str) -> tuple[str, dict[str, object]]:
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=30)
    write_report(
        path,
        evaluation,
        table,
        title="Test report",
        facts=facts,
    )
    page = path.read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return page, json.loads(match.group(1))


def test_numbers_are_those_of_the_embedded_json(tmp_path: Path) -> None:
    table = make_table()
    page, data = write(tmp_path / "r.html", table)
    evaluation = fg.Evaluation.model_validate(data["evaluation"], strict=False)
    for result in evaluation.predictors:
        for key in fg.STATISTICS:
            figure = getattr(result, key)
            if figure is not None and figure.value is not None:
                shown = f"{fg.format_number(figure.value, key)} <small>[{fg.format_number(figure.low, key)}"
                assert shown in page
    rows = data["rows"]
    assert isinstance(rows, dict)
    assert rows["truth"] == table["score"].tolist()
    assert rows["predictions"]["student"] == table["student"].tolist()
    for i in range(len(table)):
        hover = f"{rows['content'][i]}, {rows['series'][i]}\nlabel {rows['truth'][i]:.2f}"
        assert f"<title>{hover}, predicted {rows['predictions']['student'][i]:.2f}</title>" in page
        assert f"<title>{hover}, {rows['bitrate_kbps'][i]:.1f} kbps</title>" in page
    assert page.count("log-bitrate") > 2


def test_page_is_offline_and_its_plots_well_formed(tmp_path: Path) -> None:
    page, _ = write(tmp_path / "r.html", make_table())
    assert not re.search(r"https?://|url\(|@import|<img|src=|fetch\(|XMLHttp", page)
    assert re.findall(r"<link.*?>", page) == ['<link rel="icon" href="data:,">']
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) > 10
    for plot in plots:
        ElementTree.fromstring(plot)
        assert "nan" not in plot
    assert "width=device-width" in page


def test_text_is_escaped(tmp_path: Path) -> None:
    evil = "</script><b>'\"&"
    table = make_table().replace({"content": {"content 001": evil}, "codec": {"x264": evil}})
    page, data = write(tmp_path / "r.html", table, Dataset=evil)
    assert "<b>'" not in page
    assert page.count("</script>") == 2
    assert data["facts"] == {"Dataset": evil}
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(plot)


@pytest.mark.parametrize("change", ["no bitrate", "some bitrates", "lower is better", "flat", "off scale"])
def test_awkward_tables(tmp_path: Path, change: str) -> None:
    table = make_table()
    if change == "no bitrate":
        table = table.drop(columns="bitrate_kbps")
    elif change == "some bitrates":
        table.loc[:8, "bitrate_kbps"] = np.nan
    elif change == "lower is better":
        table = table.assign(score=100 - table["score"], score_polarity="lower_is_better")
    elif change == "flat":
        table["student"] = 50.0
    else:
        table["student"] = table["student"] * 1e4
    page, _ = write(tmp_path / "r.html", table)
    assert ("The table has no bitrates" in page) == (change == "no bitrate")
    assert ("mapped to the label scale" in page) == (change in ("lower is better", "off scale"))
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert "nan" not in plot
    residuals = [float(r) for r in re.findall(r"360p\n([+-][\d.]+)<", page)]
    if change == "lower is better":
        assert np.abs(residuals[: len(table)]).max() < 30


def test_many_contents_are_thinned_openly(tmp_path: Path) -> None:
    page, data = write(tmp_path / "r.html", make_table(num_contents=100))
    assert isinstance(data["contents_drawn"], list)
    assert len(data["contents_drawn"]) == 34
    assert "Drawn: 34 of 100 contents" in page


def test_another_table_is_refused_and_the_old_page_stays(tmp_path: Path) -> None:
    table, path = make_table(), tmp_path / "r.html"
    page, _ = write(path, table)
    evaluation = ev.evaluate_predictors(table, ["student"], num_resamples=30)
    with pytest.raises(ValueError, match="the evaluated table has 40 rows; this one has 39"):
        write_report(path, evaluation, table.iloc[1:], title="t", facts={})
    assert path.read_text(encoding="utf-8") == page
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(
    open_page: Callable[[Path, int], AbstractContextManager[Any]],
    hover_text: Callable[[Any, Any], str],
    tmp_path: Path,
    width: int,
) -> None:
    path = tmp_path / "r.html"
    write(path, make_table())
    with open_page(path, width) as page:
        point = page.locator("svg.plot[aria-label='student'] .pt").first
        assert re.match(r"content \d{3}, \S+ 360p\nlabel [\d.]+, predicted [\d.]+", hover_text(page, point))
