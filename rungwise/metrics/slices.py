"""Groups of rows of a table, such as codecs, resolutions and bitrate bands, evaluated one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rungwise.metrics.evaluation_notes import shortened_list
from rungwise.metrics.evaluation_result import Slice
from rungwise.metrics.predictor_metrics import EvaluatedPredictor, TableEvaluator

BITRATE_BAND, RESOLUTION = "bitrate-band", "resolution"
_BANDS = ("low", "middle", "high")
_MAX_GROUPS, _MIN_SLICE_ROWS = 50, 3


def evaluate_slices(
    by: Sequence[str], evaluated: Mapping[str, EvaluatedPredictor], evaluator: TableEvaluator
) -> tuple[list[Slice], list[str]]:
    """Every predictor on every group of every column in `by`, and notes on groups too small to evaluate.

    Raises:
        ValueError: the table has no such column, or the column has more than 50 groups.
    """
    slices, notes = [], []
    for column in by:
        groups = _group_of_row(column, evaluator.data.table)
        names = sorted(set(groups) - {""}, key=_group_order)
        if len(names) > _MAX_GROUPS:
            raise ValueError(f"by {column!r}: {len(names)} groups, at most {_MAX_GROUPS} can be shown")
        small = [str(name) for name in names if (groups == name).sum() < _MIN_SLICE_ROWS]
        if small:
            notes.append(
                f"By {column}: {len(small)} groups with fewer than {_MIN_SLICE_ROWS} rows are left out: "
                f"{shortened_list(small)}."
            )
        for name in names:
            in_group = (groups == name).to_numpy()
            for predictor in evaluated.values():
                rows = predictor.rows[in_group[predictor.rows]]
                if rows.size >= _MIN_SLICE_ROWS:
                    slices.append(evaluator.slice(column, str(name), predictor, rows))
    return slices, notes


def _group_of_row(column: str, table: pd.DataFrame) -> pd.Series[Any]:
    """The group name of every row, (n,), "" where the row has none."""
    source = {BITRATE_BAND: "bitrate_kbps", RESOLUTION: "height"}.get(column, column)
    if source not in table.columns:
        raise ValueError(f"by {column!r}: the table has no column {source!r}")
    values = table[source]
    if column == BITRATE_BAND:
        rank = values.groupby(table["content"]).rank(pct=True, method="first")
        return pd.Series(np.select([rank <= 1 / 3, rank <= 2 / 3, rank > 2 / 3], _BANDS, ""), table.index)
    if column == RESOLUTION:
        return values.map(lambda height: "" if pd.isna(height) else f"{height:g}p", na_action=None)
    return values.map(lambda value: "" if pd.isna(value) else str(value), na_action=None)


def _group_order(group: str) -> tuple[int, float, str]:
    """Sort key: bitrate bands from low to high, then numbers (also 720p) by value, then words."""
    if group in _BANDS:
        return 0, _BANDS.index(group), group
    try:
        return 1, float(group.removesuffix("p")), group
    except ValueError:
        return 2, 0.0, group
