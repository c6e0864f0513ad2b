"""Simulated raters: a rated set of real encodes whose truth is known, and what aggregation recovers of it.

Each rater answers 1 to 5 for a part of the clips: truth + own bias + own noise, rounded; careless ones answer at
random. The truth is VMAF as such viewers would have it: lost resolution costs more than VMAF counts, so that a model of
VMAF has something left to learn.

    python benchmarks/raters.py --ladder runs/ladder/ID --write runs/rated --out benchmarks/results/raters.json

--write leaves two sets of disjoint contents for configs/rated.yaml and benchmarks/transfer.py: vmaf.parquet with VMAF,
mos.parquet with the scores that `rungwise dataset aggregate` recovers of ratings.parquet.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rungwise.artifact import open_artifact, write_json
from rungwise.dataset_table import write_table
from rungwise.datasets.raters import aggregate
from rungwise.ladder.make import read_ladder
from rungwise.metrics.statistics import srcc

RATERS, RATED_SHARE = 30, 0.4
BIAS, NOISE, NOISE_SPREAD = 0.5, 0.5, 0.4  # in steps of the scale; the spread is of log noise
RESOLUTION_COST = 25.0  # points of VMAF that a clip at no resolution at all would lose more
CARELESS = (0.0, 0.15, 0.3)  # shares of the raters that answer at random
SEEDS = (0, 1, 2)


def truth_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """What viewers think, 1 to 5."""
    lost = 1 - (table["height"] / table["display_height"]).clip(upper=1).to_numpy(float)
    truth: NDArray[np.float64] = 1 + 4 * (table["score"].to_numpy(float) - RESOLUTION_COST * lost).clip(0) / 100
    return truth


def simulate(clips: list[str], truth_N: NDArray[np.float64], careless: float, seed: int) -> pd.DataFrame:
    """Single ratings: clip, rater, score of 1 to 5."""
    rng = np.random.default_rng(seed)
    bias = rng.normal(0, BIAS, RATERS)
    noise = NOISE * np.exp(rng.normal(0, NOISE_SPREAD, RATERS))
    marks = truth_N + bias[:, None] + noise[:, None] * rng.normal(size=(RATERS, len(clips)))
    at_random = np.arange(RATERS) < round(careless * RATERS)
    marks[at_random] = rng.integers(1, 6, (at_random.sum(), len(clips)))
    rater, clip = np.nonzero(rng.random(marks.shape) < RATED_SHARE)
    scores = marks[rater, clip].round().clip(1, 5)
    return pd.DataFrame(
        {"clip": np.asarray(clips)[clip], "rater": [f"rater_{number:02d}" for number in rater], "score": scores}
    )


def recovery(table: pd.DataFrame, careless: float, seed: int) -> dict[str, Any]:
    """SRCC and RMSE to the truth of plain means and of recovered scores."""
    truth = truth_of(table)
    with tempfile.TemporaryDirectory() as name:
        rows, means, _ = _aggregated(table, truth, careless, seed, Path(name))
    known = pd.Series(truth, table["clip"].to_numpy())[rows["clip"]].to_numpy()
    figures = {"careless": careless, "seed": seed, "clips": len(rows)}
    for name, scores in (("mean", means.to_numpy(float)), ("recovered", rows["score"].to_numpy(float))):
        figures |= {f"srcc_{name}": srcc(known, scores), f"rmse_{name}": float(np.sqrt(np.mean((scores - known) ** 2)))}
    return figures


def _aggregated(table: pd.DataFrame, truth: NDArray[np.float64], careless: float, seed: int, folder: Path) -> Any:
    """`aggregate` of simulated ratings, with its files in a folder."""
    scale: dict[str, Any] = {"score_kind": "mos", "score_min": 1.0, "score_max": 5.0, "rate_control": "", "split": ""}
    write_table(folder / "truth.parquet", table.assign(score=truth, **scale))
    simulate(list(table["clip"]), truth, careless, seed).to_parquet(folder / "ratings.parquet", index=False)
    return aggregate(folder / "truth.parquet", folder / "ratings.parquet", folder / "mos.parquet")


def write_sets(table: pd.DataFrame, folder: Path) -> None:
    """vmaf.parquet of every other content, mos.parquet of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(set(table["group"]))
    rated = table["group"].isin(names[1::2])
    write_table(folder / "vmaf.parquet", table[~rated].assign(rate_control=""))
    own = table[rated].reset_index(drop=True)
    _aggregated(own, truth_of(own), CARELESS[1], 0, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ladder", type=Path, required=True, help="artifact of a labeled ladder, runs/ladder/ID")
    parser.add_argument("--write", type=Path, help="folder for the sets")
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    table = read_ladder(open_artifact(arguments.ladder.resolve()))
    table = table[table["score"].notna()].reset_index(drop=True)
    if arguments.write is not None:
        write_sets(table, arguments.write)
    if arguments.out is None:
        return
    rows = [recovery(table, careless, seed) for careless in CARELESS for seed in SEEDS]
    settings = {"raters": RATERS, "rated_share": RATED_SHARE, "bias": BIAS, "noise": NOISE, "clips": len(table)}
    write_json(arguments.out, {"settings": settings, "runs": rows})
    means = pd.DataFrame(rows).groupby("careless").mean().drop(columns=["seed", "clips"])
    print(means.round(3).to_string())
    print(json.dumps(settings))


if __name__ == "__main__":
    main()
