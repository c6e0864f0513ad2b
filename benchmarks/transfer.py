"""A student of VMAF moves to a rated set: as it is, by its heads, by StylePrompt, as a whole; and one from the start.

    python benchmarks/raters.py --ladder runs/ladder/ID --write runs/rated
    python benchmarks/transfer.py --source runs/rated/vmaf.parquet --rated runs/rated/mos.parquet \\
        --out benchmarks/results/transfer.json

The sets' contents are disjoint. Every row is tested on the same contents of the rated set, which no training saw.
Figures are means over seeds; intervals are over contents, and those of gains are paired.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from student_figures import figures

from distill.checkpoint import load_checkpoint
from distill.data import Data, read_data
from distill.pipeline import Outcome, run
from distill.predict import predict
from distill.students import new_student
from rungwise.artifact import write_json
from rungwise.config import RunConfig, load_config


class Way(NamedTuple):
    """How a student gets to the rated set: what trains, and its learning rate over the config's."""

    tune: str | None
    rate: float = 1.0
    from_start: bool = False


WAYS = {
    "none": Way(None),
    "head": Way("head"),
    "head, rate x5": Way("head", 5.0),
    "styleprompt": Way("styleprompt"),
    "styleprompt, rate x5": Way("styleprompt", 5.0),
    "styleprompt, rate x20": Way("styleprompt", 20.0),
    "all": Way("all"),
    "from the start": Way("all", from_start=True),
}
SHARES = ("srcc", "gain", "within")  # of `figures`


def config_of(values: dict[str, Any], table: Path, folder: Path, rate: float = 1.0, **student: Any) -> RunConfig:
    """The config with one set for its sources, and other keys of the student."""
    path, training = folder / "transfer.yaml", values["student"]["training"]
    training = training | {"learning_rate": training["learning_rate"] * rate}
    section = values["student"] | student | {"training": training}
    path.write_text(yaml.safe_dump(values | {"sources": {"dataset": str(table)}, "student": section}))
    return load_config(path)


def scores_of(outcome: Outcome, data: Data) -> NDArray[np.float64]:
    """A student's scores of the rated set's test clips."""
    model = load_checkpoint(outcome.artifacts["distill"].path / "student.safetensors")[0]
    return predict(model, np.array(data.pixels[data.rows("test"), 0])).astype(float)


def transfer(values: dict[str, Any], source: Path, rated: Path, runs: Path, seed: int) -> tuple[pd.DataFrame, Any]:
    """The rated set's test rows with a column for each way, for one seed; and each way's trained weights of all."""
    values = values | {"seed": seed}
    runs.mkdir(parents=True, exist_ok=True)
    taught = run(config_of(values, source, runs, start=None, tune="all"), runs, until="distill")
    start = str(taught.artifacts["distill"].path / "student.safetensors")
    columns, weights, data = {}, {}, None
    for name, way in WAYS.items():
        begin = None if way.from_start else start
        config = config_of(values, rated, runs, way.rate, start=begin, tune=way.tune or "all")
        outcome = run(config, runs, until="distill" if way.tune else "views")
        data = data or read_data(config, outcome.artifacts["ladder"], outcome.artifacts["views"])
        columns[name] = scores_of(outcome if way.tune else taught, data)
        parameters = list(new_student(config, data, config.student.start).parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad) if way.tune else 0
        weights[name] = (trained, sum(p.numel() for p in parameters))
    assert data is not None, "there are ways"
    return data.table.iloc[data.rows("test")].reset_index(drop=True).assign(**columns), weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/rated.yaml"))
    parser.add_argument("--source", type=Path, required=True, help="table of the first training")
    parser.add_argument("--rated", type=Path, required=True, help="table to move to")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    values = yaml.safe_load(arguments.config.read_text())
    tables = arguments.source.resolve(), arguments.rated.resolve()
    by_seed, weights = zip(*(transfer(values, *tables, arguments.runs, seed) for seed in range(arguments.seeds)),
                           strict=True)  # fmt: skip
    test, before = by_seed[0], [table["none"].to_numpy() for table in by_seed]
    rows = []
    for name, way in WAYS.items():
        scores = before if way.tune is None else [table[name].to_numpy() for table in by_seed]
        own = figures(test, scores, before)
        own = {figure: own[figure] for figure in ("srcc", "gain", "within", "srcc_by_seed") if figure in own}
        rows.append({"moved by": name, "weights": weights[0][name][0], "of": weights[0][name][1]} | own)
        print(name.ljust(24), *("{:.3f} [{:.3f}, {:.3f}]".format(*own[key]) for key in SHARES if key in own), sep="  ")
    if arguments.out is not None:
        facts = {"config": arguments.config.name, "seeds": arguments.seeds, "rows": rows}
        write_json(arguments.out, facts | {"test_encodes": len(test), "test_contents": int(test["content"].nunique())})


if __name__ == "__main__":
    main()
