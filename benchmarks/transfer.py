"""A student of VMAF moves to a rated set: as it is, by its heads, by StylePrompt, as a whole; and one from the start.

    python benchmarks/raters.py --ladder runs/ladder/ID --write runs/rated
    python benchmarks/transfer.py --source runs/rated/vmaf.parquet --rated runs/rated/mos.parquet \\
        --out benchmarks/results/transfer.json

The sets' contents are disjoint. Every row is tested on the same contents of the rated set, which no training saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from distill.checkpoint import load_checkpoint
from distill.data import Data, read_data
from distill.pipeline import Outcome, run
from distill.predict import predict
from distill.students import new_student
from rungwise.artifact import write_json
from rungwise.config import RunConfig, load_config
from rungwise.metrics.evaluate import evaluate_predictors

ROWS = {"none": None, "head": "head", "styleprompt": "styleprompt", "all": "all", "from the start": "all"}


def config_of(values: dict[str, Any], table: Path, folder: Path, **student: Any) -> RunConfig:
    """The config with one set for its sources, and other keys of the student."""
    path = folder / "transfer.yaml"
    changed = values | {"sources": {"dataset": str(table)}, "student": values["student"] | student}
    path.write_text(yaml.safe_dump(changed))
    return load_config(path)


def scores_of(outcome: Outcome, data: Data) -> Any:
    """A student's scores of the rated set's test clips."""
    model = load_checkpoint(outcome.artifacts["distill"].path / "student.safetensors")[0]
    return predict(model, np.array(data.pixels[data.rows("test"), 0])).astype(float)


def transfer(values: dict[str, Any], source: Path, rated: Path, runs: Path, seed: int) -> list[dict[str, Any]]:
    """One row a way to move, for one seed of training."""
    values = values | {"seed": seed}
    runs.mkdir(parents=True, exist_ok=True)
    taught = run(config_of(values, source, runs, start=None, tune="all"), runs, until="distill")
    start = str(taught.artifacts["distill"].path / "student.safetensors")
    rows, table, data = [], pd.DataFrame(), None
    for name, tune in ROWS.items():
        config = config_of(values, rated, runs, start=None if name == "from the start" else start, tune=tune or "all")
        outcome = run(config, runs, until="distill" if tune else "views")
        data = data or read_data(config, outcome.artifacts["ladder"], outcome.artifacts["views"])
        if table.empty:
            table = data.table.iloc[data.rows("test")].reset_index(drop=True)
        table[name] = scores_of(outcome if tune else taught, data)
        model = new_student(config, data, config.student.start)
        weights = [p.numel() for p in model.parameters() if p.requires_grad]
        total = sum(p.numel() for p in model.parameters())
        rows.append({"moved by": name, "seed": seed, "weights": sum(weights) if tune else 0, "of": total})
    result = evaluate_predictors(table, list(ROWS), num_resamples=200)
    for row, figures in zip(rows, result.predictors, strict=False):
        srcc, plcc, own = figures.srcc.value, figures.plcc.value, figures.within_content_srcc.value
        row |= {"srcc": srcc, "plcc": plcc, "per_content_srcc": own, "clips": figures.n}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/rated.yaml"))
    parser.add_argument("--source", type=Path, required=True, help="table of the first training")
    parser.add_argument("--rated", type=Path, required=True, help="table to move to")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    values = yaml.safe_load(arguments.config.read_text())
    tables = arguments.source.resolve(), arguments.rated.resolve()
    rows = [row for seed in range(arguments.seeds) for row in transfer(values, *tables, arguments.runs, seed)]
    means = pd.DataFrame(rows).groupby("moved by", sort=False).mean().drop(columns="seed")
    means["share"] = means["weights"] / means["of"]
    print(means.round(3).to_string())
    if arguments.out is not None:
        write_json(arguments.out, {"config": arguments.config.name, "seeds": arguments.seeds, "rows": rows})


if __name__ == "__main__":
    main()
