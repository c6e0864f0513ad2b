"""Figures of benchmarks/students.py: means over seeds with intervals over contents, and their table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rungwise.metrics import bootstrap
from rungwise.metrics.pairs import pair_counts

PAIR_GAP = 6.0  # label units by which a pair's labels must differ


def figures(part: pd.DataFrame, scores: list[Any], against: list[Any] | None) -> dict[str, Any]:
    """Means over seeds, each with the interval of that mean over resampled contents."""
    truth, content = part["score"].to_numpy(float), part["content"].to_numpy()
    codec, height = part["codec"].to_numpy(), part["height"].to_numpy()

    def mean(make: Any, predictions: list[Any]) -> Any:
        made = [make(truth, prediction, content) for prediction in predictions]
        return lambda counts: np.mean([statistic(counts) for statistic in made], axis=0)

    once = np.ones((1, part["content"].nunique()))
    intervals: dict[str, Any] = {}
    for name, make in (("srcc", bootstrap.resampled_srcc), ("within", bootstrap.resampled_within_content_srcc)):
        statistic = mean(make, scores)
        intervals[name] = [float(statistic(once)[0]), *bootstrap.bootstrap_by_content(statistic, content)]
        if name == "srcc" and against is not None and against is not scores:
            intervals["gain"] = list(bootstrap.paired_bootstrap_by_content(statistic, mean(make, against), content))
    intervals["srcc_by_seed"] = [float(mean(bootstrap.resampled_srcc, [prediction])(once)[0]) for prediction in scores]
    for name, column in (("cross_codec", codec), ("cross_resolution", height)):

        def eligible(i: Any, j: Any, column: Any = column) -> Any:
            return column[i] != column[j]

        counts = [pair_counts(truth, prediction, content, eligible, PAIR_GAP) for prediction in scores]
        statistic = bootstrap.resampled_fraction(np.mean([right for right, _ in counts], 0), counts[0][1])
        intervals[name] = [float(statistic(once)[0]), *bootstrap.bootstrap_by_content(statistic, content)]
    return intervals


def table_of(rows: list[dict[str, Any]]) -> str:
    """A plain table: means over seeds, 95 % intervals over contents in brackets; gain is over the row without."""
    columns = ("srcc", "gain", "within", "cross_codec", "cross_resolution")
    lines = [["codecs", "student", "variant", *columns]]
    for row in rows:
        texts = ["{:.3f} [{:.3f}, {:.3f}]".format(*row[name]) if name in row else "" for name in columns]
        lines.append([row["codecs"], row["student"], row["variant"], *texts])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(padded) + "\n"
