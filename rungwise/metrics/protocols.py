"""Evaluation protocols: published ways to reduce a table of encodes to one correlation, by name.

| name | protocol |
|---|---|
| pooled | over all rows; PLCC after the logistic fit |
| within-content | Fisher z mean over contents with 3 or more rows, weighted by rows |
| msu | CVQAD benchmark of MSU: Fisher z mean over (content, preset) groups, weighted by rows; SRCC of groups with 15 or
        more rows, KRCC of groups with 6 or more; correlations of 1 and -1 count as .99 and -.99; smaller groups are
        dropped and listed |
| split-median[:K] | usual for UGC data sets: median over K (10) random test sets with a fifth of the contents, PLCC
        after a logistic fit to each |

Intervals are 95 % by content bootstrap. For split-median they are the middle 95 % of the splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rungwise.metrics import statistics as st
from rungwise.metrics.bootstrap import percentile_interval
from rungwise.metrics.evaluation_result import Interval, PredictorResult, ProtocolResult, interval
from rungwise.metrics.statistics import FloatArray, IntArray

PROTOCOLS = ("pooled", "within-content", "msu", "split-median")
DEFAULT_SPLITS, TEST_FRACTION = 10, 0.2
MSU_MIN_SRCC_ROWS, MSU_MIN_KRCC_ROWS, MSU_MAX_R = 15, 6, 0.99
MIN_CONTENT_ROWS = 3


class ProtocolRows(NamedTuple):
    """The n rows that have a prediction.

    Attributes:
        truth: labels (n,), higher is better.
        pred: predictions (n,).
        content: number of the content, (n,).
        group: number of the protocol's group, (n,).
        group_names: names by group number.
        counts: how often each resample holds each content, (D, C).
    """

    truth: FloatArray
    pred: FloatArray
    content: IntArray
    group: IntArray
    group_names: Sequence[str]
    counts: FloatArray


def check_protocol(name: str) -> None:
    """Raise ValueError if `name` is not a protocol of `apply_protocol`."""
    kind, _, splits = name.partition(":")
    if kind not in PROTOCOLS or (splits and (kind != "split-median" or not splits.isdigit() or int(splits) < 1)):
        raise ValueError(f"protocol is {name!r}; it must be one of {', '.join(PROTOCOLS)}, or split-median:K")


def apply_protocol(name: str, rows: ProtocolRows, result: PredictorResult, seed: int = 0) -> ProtocolResult:
    """Evaluate one predictor by one protocol; `result` holds its pooled statistics.

    Raises:
        ValueError: the protocol is unknown, or there are too few contents to split.
    """
    check_protocol(name)
    kind, _, splits = name.partition(":")
    if kind == "pooled":
        return ProtocolResult(
            protocol=name, predictor=result.predictor, srcc=result.srcc, krcc=result.krcc, plcc=result.plcc,
            groups=1, rows=result.n, dropped={},
        )  # fmt: skip
    if kind == "split-median":
        return _split_median(name, rows, result.predictor, int(splits or DEFAULT_SPLITS), seed)
    is_msu = kind == "msu"
    groups = _Groups(rows, MSU_MIN_SRCC_ROWS if is_msu else MIN_CONTENT_ROWS, is_msu)
    krcc = _Groups(rows, MSU_MIN_KRCC_ROWS, is_msu) if is_msu else groups
    return ProtocolResult(
        protocol=name,
        predictor=result.predictor,
        srcc=groups.mean(st.srcc),
        krcc=krcc.mean(st.krcc),
        plcc=None if is_msu else groups.mean(st.plcc),
        groups=len(groups.used),
        rows=sum(part.size for part in groups.used),
        dropped=groups.dropped,
    )


class _Groups:
    """Rows by group; groups with fewer than `min_count` rows or a constant truth are dropped."""

    def __init__(self, rows: ProtocolRows, min_count: int, is_msu: bool) -> None:
        self.rows, self.is_msu = rows, is_msu
        self.used: list[IntArray] = []
        self.dropped: dict[str, int] = {}
        codes, order = rows.group, np.argsort(rows.group, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if part.size >= min_count and np.ptp(rows.truth[part]) > 0:
                self.used.append(part)
            else:
                self.dropped[str(rows.group_names[codes[part[0]]])] = int(part.size)

    def mean(self, function: Callable[[FloatArray, FloatArray], float]) -> Interval:
        """Fisher z mean of a correlation over the groups, weighted by rows. A constant prediction counts as 0."""
        rows, num_contents = self.rows, self.rows.counts.shape[1]
        z, weight = np.zeros(num_contents), np.zeros(num_contents)
        for part in self.used:
            r = float(np.nan_to_num(function(rows.truth[part], rows.pred[part])))
            limit = MSU_MAX_R if not self.is_msu or abs(r) >= 1 else 1.0
            content = rows.content[part[0]]
            z[content] += part.size * np.arctanh(np.clip(r, -limit, limit))
            weight[content] += part.size
        once = np.ones((1, num_contents))
        value, resampled = (np.tanh(st.ratio(counts @ z, counts @ weight)) for counts in (once, rows.counts))
        return interval(float(value[0]), *percentile_interval(resampled, int((weight > 0).sum())))


def _split_median(name: str, rows: ProtocolRows, predictor: str, num_splits: int, seed: int) -> ProtocolResult:
    num_contents = int(rows.content.max()) + 1
    num_test = max(1, round(TEST_FRACTION * num_contents))
    if num_contents < 2:
        raise ValueError(f"protocol {name} needs 2 or more contents, got {num_contents}")
    rng, correlations = np.random.default_rng(seed), []
    for _ in range(num_splits):
        test = np.isin(rows.content, rng.permutation(num_contents)[:num_test])
        truth, pred = rows.truth[test], rows.pred[test]
        if truth.size > 2:
            correlations.append([f(truth, pred) for f in (st.srcc, st.krcc, st.plcc_logistic4)])
    table = np.array(correlations or [[np.nan] * 3])
    medians = [interval(float(np.median(v)), *np.quantile(v, [0.025, 0.975])) for v in table.T]
    return ProtocolResult(
        protocol=name, predictor=predictor, srcc=medians[0], krcc=medians[1], plcc=medians[2],
        groups=len(correlations), rows=rows.truth.size, dropped={},
    )  # fmt: skip
