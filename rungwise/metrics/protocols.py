"""Ways in which the field turns a table of encodes into one correlation, by name.

| name | what it is |
|---|---|
| pooled | over all rows; PLCC after the logistic |
| within-content | Fisher z mean over contents of 3 rows or more, weighted by rows |
| msu | MSU's for CVQAD: over (content, preset) groups, SRCC where n >= 15 and KRCC where n >= 6, 1 and -1 taken as .99
        and -.99, Fisher z mean weighted by n; smaller groups are dropped by name |
| split-median[:K] | the UGC custom: median over K (10) random fifths of the contents, PLCC after a fit to each |

Brackets are 95 % intervals by content bootstrap, but for split-median, where they hold the middle 95 % of the splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rungwise.metrics import statistics as st
from rungwise.metrics.evaluation_result import Interval, PredictorResult, ProtocolResult, interval
from rungwise.metrics.statistics import FloatArray, IntArray

PROTOCOLS = ("pooled", "within-content", "msu", "split-median")
DEFAULT_SPLITS, TEST_SHARE = 10, 0.2
MSU_MIN_SRCC, MSU_MIN_KRCC, MSU_MAX_R = 15, 6, 0.99
WITHIN_MIN = 3


class Rows(NamedTuple):
    """The rows that one predictor has: truth and prediction (n,), number of the content and of the protocol's own
    group (n,), names of both, and how often each resample holds each content (D, C)."""

    truth: FloatArray
    pred: FloatArray
    content: IntArray
    group: IntArray
    group_names: Sequence[str]
    counts: FloatArray


def check_protocol(name: str) -> None:
    """Raises ValueError for a name that `judge` doesn't know."""
    kind, _, splits = name.partition(":")
    if kind not in PROTOCOLS or (splits and (kind != "split-median" or not splits.isdigit() or int(splits) < 1)):
        raise ValueError(f"protocol is {name!r}; it must be one of {', '.join(PROTOCOLS)}, or split-median:K")


def judge(name: str, rows: Rows, result: PredictorResult, seed: int = 0) -> ProtocolResult:
    """One predictor by one protocol; `result` holds its pooled figures.

    Raises:
        ValueError: no such protocol, or too few contents to split.
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
    exact = kind == "msu"
    groups = _Groups(rows, MSU_MIN_SRCC if exact else WITHIN_MIN, exact)
    krcc = _Groups(rows, MSU_MIN_KRCC, exact) if exact else groups
    return ProtocolResult(
        protocol=name,
        predictor=result.predictor,
        srcc=groups.mean(st.srcc),
        krcc=krcc.mean(st.krcc),
        plcc=None if exact else groups.mean(st.plcc),
        groups=len(groups.used),
        rows=sum(part.size for part in groups.used),
        dropped=groups.dropped,
    )


class _Groups:
    """Rows cut into groups, those of `min_count` rows and more than one truth kept."""

    def __init__(self, rows: Rows, min_count: int, exact: bool) -> None:
        self.rows, self.exact = rows, exact
        self.used: list[IntArray] = []
        self.dropped: dict[str, int] = {}
        codes, order = rows.group, np.argsort(rows.group, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if part.size >= min_count and np.ptp(rows.truth[part]) > 0:
                self.used.append(part)
            else:
                self.dropped[str(rows.group_names[codes[part[0]]])] = int(part.size)

    def mean(self, function: Callable[[FloatArray, FloatArray], float]) -> Interval:
        """Fisher z mean of a correlation over the groups. A constant prediction counts as 0: it orders nothing."""
        rows, num_contents = self.rows, self.rows.counts.shape[1]
        z, weight = np.zeros(num_contents), np.zeros(num_contents)
        for part in self.used:
            r = float(np.nan_to_num(function(rows.truth[part], rows.pred[part])))
            limit = MSU_MAX_R if not self.exact or abs(r) >= 1 else 1.0
            content = rows.content[part[0]]
            z[content] += part.size * np.arctanh(np.clip(r, -limit, limit))
            weight[content] += part.size
        once = np.ones((1, num_contents))
        value, drawn = (np.tanh(st.ratio(counts @ z, counts @ weight)) for counts in (once, rows.counts))
        return interval(float(value[0]), *st.interval_of(drawn, int((weight > 0).sum())))


def _split_median(name: str, rows: Rows, predictor: str, num_splits: int, seed: int) -> ProtocolResult:
    num_contents = int(rows.content.max()) + 1
    num_test = max(1, round(TEST_SHARE * num_contents))
    if num_contents < 2:
        raise ValueError(f"protocol {name} needs 2 contents or more, got {num_contents}")
    rng, found = np.random.default_rng(seed), []
    for _ in range(num_splits):
        test = np.isin(rows.content, rng.permutation(num_contents)[:num_test])
        truth, pred = rows.truth[test], rows.pred[test]
        if truth.size > 2:
            found.append([f(truth, pred) for f in (st.srcc, st.krcc, st.plcc_logistic4)])
    table = np.array(found or [[np.nan] * 3])
    median = [interval(float(np.median(v)), *np.quantile(v, [0.025, 0.975])) for v in table.T]
    return ProtocolResult(
        protocol=name, predictor=predictor, srcc=median[0], krcc=median[1], plcc=median[2],
        groups=len(found), rows=rows.truth.size, dropped={},
    )  # fmt: skip
