"""How well the packaged recipe scores contents that it was not trained on: its own folds over train and validation.

    python benchmarks/held_out.py --runs RUNS --out benchmarks/results/held_out.json

RUNS is where `make default-model` left its artifacts. `student.folds` of benchmarks/default.yaml had every train and
validation content scored by a student of the other folds, for the interval around a score; these are the scores. The
test split is not in them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from accuracy import CONFIG, add_parts
from safetensors.numpy import load_file

from distill.pipeline import run
from distill.students import HELD_OUT
from rungwise.artifact import write_json
from rungwise.config import load_config
from rungwise.ladder.make import read_ladder
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import format_table, to_json

PREDICTORS = ["pixel-only", "hybrid"]


def main() -> None:
    """Evaluate the stored scores and print the table."""
    parser = argparse.ArgumentParser(description="The packaged recipe on contents that it was not trained on")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    artifacts = run(config, arguments.runs, until="distill").artifacts
    held_out = load_file(artifacts["distill"].path / HELD_OUT)
    table = read_ladder(artifacts["ladder"]).iloc[held_out["rows"]].reset_index(drop=True)
    table["pixel-only"], table["hybrid"] = held_out["scores"].astype(float), held_out["fused"].astype(float)
    add_parts(table)
    result = evaluate_predictors(
        table,
        PREDICTORS,
        num_resamples=config.evaluate.num_resamples,
        against=["log-bitrate"],
        by=["lines", "generation", "origin"],
    )
    print(format_table(result))
    if arguments.out:
        facts = {"command": " ".join(sys.argv), "folds": config.student.folds}
        write_json(arguments.out, facts | {"evaluation": json.loads(to_json(result))})


if __name__ == "__main__":
    main()
