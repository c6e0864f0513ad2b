"""An evaluation as one HTML page that works offline, with plots as inline SVG.

Every number on the page is a rounding of a value in the JSON that the page carries in `<script id="data">`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rungwise.artifact import write_text
from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE
from rungwise.metrics.evaluation_result import Evaluation, format_number, tables
from rungwise.report.evaluation_plots import (
    Rows,
    bitrate_plots,
    content_legend,
    residual_plot,
    scatter_plot,
    series_legend,
    uses_raw_scale,
)
from rungwise.report.page import render

_MAX_CONTENTS, _MAX_ROWS, _MAX_PREDICTORS = 36, 3000, 6  # drawn
_LONG_FACT = 60  # characters that take a line of their own


def write_report(
    path: Path,
    evaluation: Evaluation,
    table: pd.DataFrame,
    *,
    title: str,
    facts: Mapping[str, str],
) -> None:
    """Write the report of an evaluation, replacing `path` at once or not at all.

    Args:
        path: the HTML file; its folder exists.
        evaluation: the result of `evaluate_predictors` on `table`. Its first predictor is drawn in the curves.
        table: the same table, one row per encode.
        title: the page's heading.
        facts: label -> value for the head of the page: dataset, label kind, display height, model, ids.

    Raises:
        ValueError: the table is not the one that was evaluated (its length differs or a column is missing).
    """
    data = _data(evaluation, table) | {"title": title, "facts": dict(facts)}
    write_text(path, _page(evaluation, data))


def _data(evaluation: Evaluation, table: pd.DataFrame) -> dict[str, Any]:
    """The page's JSON: the whole evaluation, and by column the rows of the contents drawn."""
    names = [r.predictor for r in evaluation.predictors]
    names = [*names[: _MAX_PREDICTORS - 1], *names[_MAX_PREDICTORS - 1 :][-1:]]  # the baseline is last
    columns = ["content", evaluation.truth]
    missing = [c for c in (*columns, *names) if c not in table.columns and c != PREDICTOR_LOG_BITRATE]
    if missing or len(table) != evaluation.n:
        raise ValueError(f"the evaluated table has {evaluation.n} rows; this one has {len(table)} and lacks {missing}")
    sizes = table.groupby("content").size().sort_index()
    every = max(-(-len(sizes) // _MAX_CONTENTS), -(-len(table) // _MAX_ROWS), 1)
    rows = table[table["content"].isin(sizes.index[::every])]
    known = rows["bitrate_kbps"] if "bitrate_kbps" in rows.columns else pd.Series(np.nan, rows.index)
    bitrate = known.to_numpy(dtype=float, na_value=np.nan)
    predictions = {name: rows[name].to_numpy(float) for name in names if name in rows.columns}
    if PREDICTOR_LOG_BITRATE in names:
        predictions[PREDICTOR_LOG_BITRATE] = np.log10(bitrate)
    return {
        "evaluation": evaluation.model_dump(mode="json"),
        "contents_drawn": [str(c) for c in sizes.index[::every]],
        "rows": {
            "clip": [str(c) for c in (rows["clip"] if "clip" in rows.columns else rows.index)],
            "content": [str(c) for c in rows["content"]],
            "series": _series(rows),
            "bitrate_kbps": _or_none(bitrate),
            "truth": _or_none(rows[evaluation.truth].to_numpy(float)),
            "predictions": {name: _or_none(values) for name, values in predictions.items()},
        },
    }


def _or_none(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _series(rows: pd.DataFrame) -> list[str]:
    """Codec and height of each row, as far as they are known."""
    codec = rows["codec"].fillna("").astype(str) if "codec" in rows.columns else pd.Series("", rows.index)
    height = rows["height"] if "height" in rows.columns else pd.Series(np.nan, rows.index)
    sizes = ["" if pd.isna(value) else f"{value:g}p" for value in height]
    return [" ".join(part for part in (name, size) if part) or "all" for name, size in zip(codec, sizes, strict=True)]


def _page(evaluation: Evaluation, data: dict[str, Any]) -> str:
    rows, contents = Rows(**data["rows"]), data["contents_drawn"]
    drawn = [
        result
        for result in evaluation.predictors
        if any(v is not None for v in rows.predictions.get(result.predictor, []))
    ]
    curves = bitrate_plots(evaluation, rows, contents)
    return render(
        "evaluation.html.jinja",
        data,
        evaluation=evaluation,
        long_fact=_LONG_FACT,
        tiles=_tiles(evaluation),
        tables=[
            (title, head, [[_cell(cell) for cell in row] for row in body])
            for title, (head, *body) in tables(evaluation)
        ],
        num_drawn=len(drawn),
        contents=content_legend(contents),
        scatters=[scatter_plot(evaluation, result, rows, contents) for result in drawn],
        curves=curves,
        series=series_legend(rows),
        is_raw=uses_raw_scale(evaluation, rows),
        residuals=[residual_plot(evaluation, result, rows) for result in drawn],
    )


def _tiles(evaluation: Evaluation) -> list[tuple[str, str]]:
    first = evaluation.predictors[0]
    tiles = [
        (first.srcc, f"SRCC over all encodes, {first.predictor}"),
        (first.within_content_srcc, "per-content SRCC (mean over contents)"),
        (first.pairs_cross_codec, "cross-codec pairwise accuracy"),
    ]
    tiles += [(d.srcc, f"SRCC above {d.against}") for d in evaluation.differences[:1]]
    return [(format_number(figure.value, "srcc"), label) for figure, label in tiles]


class Cell(NamedTuple):
    """A value, and its interval in small print."""

    value: str
    interval: str


def _cell(text: str) -> Cell:
    value, bracket, interval = text.partition(" [")
    return Cell("–" if value == "-" else value, f"[{interval}" if bracket else "")
