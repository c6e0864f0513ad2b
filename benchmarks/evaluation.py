"""How long an evaluation takes, and that its fast intervals equal those of plain resampling.

    python benchmarks/evaluation.py --out benchmarks/results/evaluation.json

Two seeded tables: 67 metrics on 1022 encodes of 36 contents, the shape of a published benchmark, and 20 predictions on
100,000 encodes of 2000 contents. Before anything is timed, the intervals of one predictor are computed by resampling
rows, one scipy call a draw, and must agree. The report is the ratio of both times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rungwise.metrics import bootstrap
from rungwise.metrics import statistics as st
from rungwise.metrics.evaluate import evaluate_predictors

TABLES = {"published": (1022, 36, 67), "large": (100_000, 2000, 20)}
Statistic = Callable[[st.Column, st.Column], float]
Maker = Callable[[st.Column, st.Column, st.Column], bootstrap.Resampled]
PLAIN_DRAWS = 200
TOLERANCE = {"srcc": 1e-9, "krcc": 1e-9, "plcc": 5e-3}


def make_table(rows: int, contents: int, predictors: int) -> tuple[pd.DataFrame, list[str]]:
    """Encodes whose bitrate, codec and predictions follow a hidden quality, more or less."""
    rng = np.random.default_rng(0)
    content = np.arange(rows) % contents
    quality = rng.normal(size=rows) + rng.normal(size=contents)[content]
    table = pd.DataFrame(
        {
            "content": content.astype(str),
            "codec": rng.choice(["h264", "hevc", "av1"], rows),
            "width": 640,
            "height": rng.choice([360, 720], rows),
            "bitrate_kbps": np.exp(quality + rng.normal(size=rows)),
            "score": quality,
        }
    ).assign(score_polarity="higher_is_better", score_min=-10.0, score_max=10.0)
    names = [f"metric{i}" for i in range(predictors)]
    noise = rng.normal(size=(rows, predictors)) * rng.uniform(0.3, 2, predictors)
    return table.join(pd.DataFrame(quality[:, None] + noise, columns=names)), names


def statistic_of_rows(statistic: Statistic, truth: st.FloatArray, pred: st.FloatArray, rows: Any, _: Any) -> float:
    """A statistic of the drawn rows, as `resampled_rows` asks for it."""
    return statistic(truth[rows], pred[rows])


def quick_against_plain() -> dict[str, Any]:
    """Intervals of one predictor of the published table both ways."""
    table, (name, *_) = make_table(*TABLES["published"])
    truth, pred, content = (table[column].to_numpy() for column in ("score", name, "content"))
    counts = bootstrap.draw_contents(36, PLAIN_DRAWS, 0)
    comparison: dict[str, Any] = {}
    quick_ways: dict[str, tuple[Maker, Statistic]] = {
        "srcc": (bootstrap.resampled_srcc, st.srcc),
        "krcc": (bootstrap.resampled_krcc, st.krcc),
        "plcc": (lambda *rows: lambda draws: bootstrap.resampled_logistic4(*rows)(draws)[0], st.plcc_logistic4),
    }
    for key, (make, statistic) in quick_ways.items():
        clock = time.perf_counter()
        quick = make(truth, pred, content)(counts)
        quick_seconds = time.perf_counter() - clock
        clock = time.perf_counter()
        plain = bootstrap.resampled_rows(partial(statistic_of_rows, statistic, truth, pred), content)(counts)
        plain_seconds = time.perf_counter() - clock
        deviation = float(np.abs(quick - plain).max())
        assert deviation <= TOLERANCE[key], (key, deviation)
        comparison[key] = {"largest_deviation": deviation, "plain_to_quick": round(plain_seconds / quick_seconds, 1)}
    return comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    facts: dict[str, Any] = {"draws": PLAIN_DRAWS, "quick_against_plain": quick_against_plain(), "tables": {}}
    for name, shape in TABLES.items():
        table, names = make_table(*shape)
        clock = time.perf_counter()
        evaluation = evaluate_predictors(table, names)
        seconds = round(time.perf_counter() - clock, 1)
        rows, contents, predictors = shape
        facts["tables"][name] = {
            "rows": rows, "contents": contents, "predictors": predictors,
            "resamples": evaluation.resamples, "seconds": seconds,
        }  # fmt: skip
        print(f"{rows} rows x {predictors} predictors, {evaluation.resamples} resamples: {seconds} s")
    for key, figures in facts["quick_against_plain"].items():
        print(f"{key}: plain resampling takes {figures['plain_to_quick']} times as long, and differs by "
              f"{figures['largest_deviation']:.2g}")  # fmt: skip
    out.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
