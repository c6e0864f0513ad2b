"""How accurate the teacher that sees the master is on contents that it did not train on: folds by source group.

    python benchmarks/full_reference.py CONFIG --runs RUNS --out benchmarks/results/full_reference.json

CONFIG has `teacher.model: full_reference`. Three predictors of every clip: the teacher by one view, by the patches of
all views together, and the mean of the patch scores, for which nothing is trained. The config's splits play no part.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from distill.data import read_data
from distill.model import Upper
from distill.pipeline import run
from distill.predict import predict
from distill.reference import open_parts, with_patches
from distill.teaching import fit_teacher, new_teacher
from rungwise.artifact import write_json
from rungwise.config import FullReferenceTeacher, RunConfig, load_config
from rungwise.ladder.patch_parts import PARTS
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import format_table, to_json

FOLDS = 5
CHROMA_LINES = 320  # of display height, from which labels have VMAF v1's chroma part


def held_out_scores(config: RunConfig, runs: Path) -> tuple[list[str], pd.DataFrame]:
    """The predictors, and the clips with a column for each, by a teacher that trained on the other folds."""
    assert isinstance(config.teacher, FullReferenceTeacher)
    artifacts = run(config, runs, until="parts").artifacts
    data, parts_NVUPF = read_data(config, artifacts["ladder"], artifacts["views"]), open_parts(artifacts["parts"])
    groups = sorted(set(data.table["group"]))
    fold_of = dict(
        zip(np.random.default_rng(config.seed).permutation(groups), np.arange(len(groups)) % FOLDS, strict=True)
    )
    folds = data.table["group"].map(fold_of).to_numpy()
    whole_NUPF = np.concatenate([parts_NVUPF[:, view] for view in range(config.views.per_clip)], 2)  # they share frames
    one_view_N, all_views_N = np.empty((2, len(whole_NUPF)))
    for fold in range(FOLDS):
        fold_data = replace(data, table=data.table.assign(split=np.where(folds == fold, "test", "train")))
        teacher = Upper(new_teacher(config, data)[0], config.teacher.model)
        train = fold_data.examples("train", inputs=parts_NVUPF)
        train = with_patches(train, config.teacher.patches_per_clip, config.seed)
        with tempfile.TemporaryDirectory() as folder:
            _, state = fit_teacher(config, data, teacher, train, None, folder=Path(folder), name=f"fold {fold + 1}")
        teacher.load_state_dict(state, strict=True)
        rows = np.flatnonzero(folds == fold)
        one_view_N[rows] = predict(teacher, parts_NVUPF[rows, 0])
        all_views_N[rows] = predict(teacher, whole_NUPF[rows])
    columns = {
        "one view": one_view_N,
        "all views": all_views_N,
        "patch scores": parts_NVUPF[..., PARTS.index("vmaf")].mean((1, 2, 3)),
    }
    table = data.table.assign(**{name: values.astype(float) for name, values in columns.items()})
    return list(columns), table


def main() -> None:
    """Train the folds and print the tables."""
    parser = argparse.ArgumentParser(description="Accuracy of the teacher that sees the master")
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    predictors, table = held_out_scores(config, arguments.runs)
    parts = {
        "all": table,
        f"{CHROMA_LINES} lines and more": table[table["display_height"] >= CHROMA_LINES],
        "whole masters": table[(table["display_height"] >= CHROMA_LINES) & (table["origin"] == "master")],
    }
    results = {}
    for name, rows in parts.items():
        if rows["content"].nunique() < FOLDS:
            continue
        result = evaluate_predictors(
            rows.reset_index(drop=True), predictors, num_resamples=config.evaluate.num_resamples
        )
        print(f"{name}\n{format_table(result)}\n")
        results[name] = json.loads(to_json(result))
    if arguments.out:
        write_json(arguments.out, {"command": " ".join(sys.argv), "folds": FOLDS, "parts": results})


if __name__ == "__main__":
    main()
