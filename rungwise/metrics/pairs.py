"""Pairwise accuracy: which pairs of encodes of one content count, and how many of them a prediction orders correctly.

Shapes: n rows (encodes), P pairs, C groups (usually contents).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rungwise.metrics.statistics import (
    Column,
    FloatArray,
    IntArray,
    checked_columns,
    label_codes,
    ratio,
    rows_by_code,
)

PairFilter = Callable[[IntArray, IntArray], NDArray[np.bool_]] | None
"""Maps row indices (P,) and (P,) to the pairs that count (P,), symmetrically; None counts all pairs."""

PairGap = float | Callable[[IntArray, IntArray], FloatArray]
"""Minimum difference in truth (its units): one number, or a function of row indices that broadcast."""

PAIR_RULES = ("interval", "content-range", "label-range")
DEFAULT_RANGE_FRACTION = 0.1  # of a content's label range: close to what a panel of tens of raters can tell apart
_MAX_PAIR_CELLS = 40_000_000  # above it, large groups are thinned evenly by truth


class PairRule(NamedTuple):
    """Which pairs of encodes of one content count.

    "interval": labels differ by more than the 95 % interval of their difference, from the labels' own intervals.
    "content-range": labels differ by more than `fraction` of the content's label range.
    "label-range": labels differ by more than `fraction` of the label scale.
    """

    kind: str
    fraction: float = 0.0


def parse_pair_rule(text: str) -> PairRule:
    """The rule written as `interval`, `content-range:0.1` or `label-range:0.05`.

    Raises:
        ValueError: an unknown rule, or a fraction outside [0, 1).
    """
    kind, _, fraction = text.partition(":")
    try:
        rule = PairRule(kind, float(fraction) if fraction else 0.0)
    except ValueError:
        rule = PairRule("")
    if rule.kind not in PAIR_RULES or (kind != "interval") != bool(fraction) or not 0 <= rule.fraction < 1:
        raise ValueError(f"pair rule is {text!r}; it must be interval, content-range:F or label-range:F, 0 <= F < 1")
    return rule


def pair_gap(
    rule: PairRule, content: pd.Series[Any], target: FloatArray, half_width: FloatArray, label_range: float
) -> PairGap:
    """The minimum label difference of `rule`.

    Args:
        rule: the pair rule.
        content: content of each row, (n,).
        target: labels (n,), higher is better.
        half_width: half-width (n,) of each label's 95 % interval; read by "interval" only.
        label_range: extent of the label scale; read by "label-range" only.
    """
    if rule.kind == "interval":
        return lambda i, j: np.hypot(half_width[i], half_width[j])
    if rule.kind == "label-range":
        return rule.fraction * label_range
    codes = pd.factorize(content, sort=True, use_na_sentinel=False)[0].astype(np.int64)
    by_content = pd.Series(target).groupby(codes)
    gaps = rule.fraction * (by_content.transform("max") - by_content.transform("min")).to_numpy()
    return lambda i, j: np.broadcast_to(gaps[i], np.broadcast_shapes(i.shape, j.shape))


class OrderedPairs(NamedTuple):
    """Pairs of rows of the same group with different truths: row indices (P,), and the group's number (P,)."""

    better: IntArray
    worse: IntArray
    group: IntArray


def ordered_pairs(truth: Column, group: Column, min_gap: PairGap = 0) -> OrderedPairs:
    """All pairs within each `group` (n,) whose truths differ by more than `min_gap`.

    Groups of more than `pair_limit(n)` rows are thinned to that many, spread evenly over their truths.

    Raises:
        ValueError: `min_gap` is a negative or non-finite number.
    """
    t, _ = checked_columns(truth, truth)
    if not callable(min_gap) and not (np.isfinite(min_gap) and min_gap >= 0):
        raise ValueError(f"min_gap must be finite and >= 0, got {min_gap}")
    better, worse, groups = [], [], []
    for code, rows in enumerate(rows_by_code(label_codes(group, t.size))):
        if rows.size < 2:
            continue
        if rows.size > pair_limit(t.size):
            spread = np.linspace(0, rows.size - 1, pair_limit(t.size)).astype(np.int64)
            rows = rows[np.argsort(t[rows], kind="stable")[spread]]
        i, j = rows[:, None], rows[None, :]
        gap = min_gap(i, j) if callable(min_gap) else min_gap
        a, b = np.nonzero(t[i] - t[j] > gap)  # the difference is signed, so each pair appears once
        better.append(rows[a])
        worse.append(rows[b])
        groups.append(np.full(a.size, code))
    return OrderedPairs(*(np.concatenate([np.empty(0, np.int64), *parts]) for parts in (better, worse, groups)))


def pair_limit(num_rows: int) -> int:
    """Rows of one group that are paired with each other in a table of `num_rows`: 40 million / n."""
    return max(2, _MAX_PAIR_CELLS // num_rows)


def pair_accuracy(
    truth: Column, pred: Column, group: Column, pair_filter: PairFilter = None, min_gap: PairGap = 0
) -> float:
    """Fraction in [0, 1] of pairs ordered correctly, with a tied prediction counting as half; nan without pairs.

    Pairs are rows of the same `group` (n,) that pass `pair_filter` and whose truths differ by more than `min_gap`.
    """
    correct, total = pair_counts(truth, pred, group, pair_filter, min_gap)
    return float(ratio(correct.sum(), total.sum()))


def pair_counts(
    truth: Column, pred: Column, group: Column, pair_filter: PairFilter = None, min_gap: PairGap = 0
) -> tuple[FloatArray, FloatArray]:
    """Correctly ordered pairs and all pairs of each group, both (C,); see `pair_accuracy`."""
    t, p = checked_columns(truth, pred)
    pairs = ordered_pairs(t, group, min_gap)
    selected = slice(None) if pair_filter is None else pair_filter(pairs.better, pairs.worse)
    return count_pairs(p, OrderedPairs(*(part[selected] for part in pairs)), int(label_codes(group, t.size).max()) + 1)


def count_pairs(pred: FloatArray, pairs: OrderedPairs, num_groups: int) -> tuple[FloatArray, FloatArray]:
    """Correctly ordered pairs (a tie counts as half) and all pairs, each (num_groups,)."""
    a, b = pred[pairs.better], pred[pairs.worse]
    correct = np.bincount(pairs.group, (a > b) + 0.5 * (a == b), num_groups).astype(np.float64)
    return correct, np.bincount(pairs.group, minlength=num_groups).astype(np.float64)


def pair_masks(table: pd.DataFrame, pairs: OrderedPairs) -> dict[str, NDArray[np.bool_]]:
    """Which pairs are same-codec, cross-codec and cross-resolution, (P,) each.

    All are False where the table lacks a codec, or a width and height, in any row.
    """

    def same(columns: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        none = np.zeros(pairs.better.size, bool)
        if not set(columns) <= set(table.columns) or table[[*columns]].replace("", None).isna().any(axis=None):
            return none, none
        codes = table.groupby([*columns]).ngroup().to_numpy()
        equal = codes[pairs.better] == codes[pairs.worse]
        return equal, ~equal

    same_codec, cross_codec = same(["codec"])
    _, cross_resolution = same([name for name in ("width", "height") if name in table.columns] or ["height"])
    return {"same_codec": same_codec, "cross_codec": cross_codec, "cross_resolution": cross_resolution}
