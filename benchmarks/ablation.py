"""What each part of distillation adds to a student of patches: the config's recipe, and rows with one part changed.

    python benchmarks/ablation.py CONFIG --runs RUNS --out FILE [--rows NAME ...] [--seeds 0 1 2] [--workers N]

CONFIG has a teacher of patch scores (`full_reference`), a student of patches without stages (`size: pooled`), a frozen
stem and bitstream features. Five folds by source group: every labeled encode is scored by a student that never saw its
content, the last epoch taken; the test split stays closed. The teacher is the cached one, whose pooling has seen the
labels of all train and validation contents; its patch scores are measured, not learned. A column is the mean of a row's
seeds. Two columns are no recipe: the full hybrid student with every patch's statistics at their train mean, and ridge
regression on the clip's mean statistics. Every run leaves a file, so an interrupted benchmark resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.data import Data, read_data
from distill.examples import Examples
from distill.folds import HELD_OUT_SPLIT, assign_folds, leave_out
from distill.frozen import keep_frozen
from distill.pipeline import run
from distill.students import fit_student, new_student, predict_held_out, student_examples
from distill.view_store import read_view_lists
from rungwise.artifact import sha256_json, write_json
from rungwise.config import RunConfig, load_config
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import format_table, to_json
from rungwise.progress import track
from student.frame_student import FrameStudent
from teacher.cache import read_cache

FOLDS = 5
FULL = "full"
FROZEN = f"{FULL}, hybrid, pixels at their mean"
RIDGE = "ridge on statistics, pixel-only"
PENALTIES = np.logspace(-1, 4, 11)
OF_CLIP = ("score_target", "soft_target", "cosine_target", "feature", "feature_cosine", "relation")
OF_PATCH = ("patch", "stream_patch")
Changes = dict[str, Any]  # of the student's section; "losses" and "training" are merged, a loss of 0 is left out
ROWS: dict[str, Changes] = {
    FULL: {},
    "no patch targets": {"losses": dict.fromkeys(OF_PATCH, 0)},
    "no teacher": {"losses": dict.fromkeys(OF_CLIP + OF_PATCH, 0)},
    "patch targets alone": {"losses": dict.fromkeys(OF_CLIP, 0)},
    "whole views": {"patch_scores": False, "size": "small", "losses": dict.fromkeys(OF_PATCH, 0)},
    "one pair at a time": {"training": {"augment": {"sample_frames": 1, "sample_grid": None}}},
    "no StylePrompt": {"prompts": 0},
    "Mamba over the frame": {"size": "nano"},
    "coarse and fine": {
        "bitrate_groups": {"num_groups": 3, "temperature": 0.1, "margin": 0.5},
        "losses": {"coarse": 0.2, "fine": 2.0},
    },
    "tuned stem": {
        "stem": "tuned",
        "execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False},
        "training": {"backbone_learning_rate": 3.0e-4},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One student: a row's recipe, one seed, one fold held out."""

    row: str
    seed: int
    fold: int

    def file(self, folder: Path) -> Path:
        return folder / f"{self.row}, seed {self.seed}, fold {self.fold}.json"


def changed(config: RunConfig, row: str, seed: int) -> RunConfig:
    """The config with a row's changes.

    Raises:
        ValueError: the changes do not fit the config.
    """
    changes, values = dict(ROWS[row]), config.model_dump(mode="json")
    student = values["student"]
    student["training"]["losses"] |= changes.pop("losses", {})
    student["training"] |= changes.pop("training", {})
    return RunConfig.model_validate(values | {"seed": seed, "student": student | changes})


def stored_stem(config: RunConfig, data: Data, runs: Path) -> tuple[FrameStudent, np.ndarray | None]:
    """A new student, and its stem's output of every view if the config keeps that."""
    student = config.student
    model = new_student(config, data, None)
    assert isinstance(model, FrameStudent)
    if not student.execution.keep_frozen:
        return model, None
    return model, keep_frozen(model, student.model, data, runs, device="cpu", precision=student.precision)


def train_job(job: Job, config: RunConfig, runs: Path, folder: Path) -> None:
    """Train a student without one fold, and write what it predicts of it."""
    torch.set_num_threads(1)
    config = changed(config, job.row, job.seed)
    artifacts = run(config, runs, until="cache").artifacts
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    data = leave_out(data, assign_folds(data, FOLDS, seed=0), job.fold)
    targets = read_cache(artifacts["cache"], list(data.table["clip"]), read_view_lists(data.views))
    model, hidden = stored_stem(config, data, runs)
    train = student_examples(config, data, "train", targets=targets, hidden=hidden)
    fitted, _ = fit_student(
        config, data, config.student.training, model, train, None,
        folder=folder / "scratch" / job.file(folder).stem, name=job.file(folder).stem,
    )  # fmt: skip
    rows = data.rows(HELD_OUT_SPLIT)
    examples = data.examples(HELD_OUT_SPLIT, inputs=hidden)
    scores = predict_held_out(fitted, examples, data.terms(rows))
    if job.row == FULL and model.scales is not None and not isinstance(fitted, FrameStudent):
        scores["frozen"] = predict_held_out(fitted, mean_hidden(model, examples), data.terms(rows))["fused"]
        scores["ridge"] = ridge_scores(train, examples)
    write_json(job.file(folder), {"rows": rows.tolist()} | {name: values.tolist() for name, values in scores.items()})


def mean_hidden(model: FrameStudent, examples: Examples) -> Examples:
    """The examples as of pictures whose statistics are the mean of train patches."""
    assert model.scales is not None
    shape = examples.inputs.shape
    assert shape[-1] == len(model.scales.centre), "the stem packs statistics alone"
    return replace(examples, inputs=np.broadcast_to(model.scales.centre.numpy(), shape))


def ridge_scores(train: Examples, test: Examples) -> np.ndarray:
    """Ridge regression on the mean statistics of a clip's patches; the penalty is chosen on inner folds by content."""
    known = ~np.isnan(train.scores)
    x, labels = np.asarray(train.inputs)[known].mean((1, 2, 3), np.float64), train.scores[known].astype(float)
    x_test = np.asarray(test.inputs[:, 0]).mean((1, 2), np.float64)
    center, spread = x.mean(0), x.std(0) + 1e-3
    x, x_test = (x - center) / spread, (x_test - center) / spread
    contents = np.unique(np.array(train.contents)[known], return_inverse=True)[1]
    inner = np.random.default_rng(0).permutation(contents.max() + 1)[contents] % FOLDS

    def predict(rows: np.ndarray, points: np.ndarray, penalty: float) -> np.ndarray:
        own, mean = x[rows], labels[rows].mean()
        dual = np.linalg.solve(own @ own.T + penalty * np.eye(len(own)), labels[rows] - mean)
        return np.asarray(mean + points @ (own.T @ dual))

    errors = [
        sum(
            np.square(predict(inner != fold, x[inner == fold], penalty) - labels[inner == fold]).sum()
            for fold in range(FOLDS)
        )
        for penalty in PENALTIES
    ]
    scores = predict(np.ones(len(x), bool), x_test, PENALTIES[int(np.argmin(errors))])
    return np.asarray(np.clip(scores, 0, 100))


def collect(jobs: list[Job], folder: Path, data: Data, rows: list[str], seeds: list[int]) -> tuple[list[str], Any]:
    """The predictors, and the encodes that all rows scored, with a column for each."""
    columns = {f"{row}, {kind}": np.zeros(len(data.table)) for row in rows for kind in ("pixel-only", "hybrid")}
    columns |= {name: np.zeros(len(data.table)) for name in (FROZEN, RIDGE)}
    scored = np.zeros(len(data.table), int)
    for job in jobs:
        facts = json.loads(job.file(folder).read_text())
        scored[facts["rows"]] += 1
        for kind, name in (("pixel-only", "scores"), ("hybrid", "fused")):
            columns[f"{job.row}, {kind}"][facts["rows"]] += np.array(facts[name]) / len(seeds)
        for column, name in ((FROZEN, "frozen"), (RIDGE, "ridge")):
            if name in facts:
                columns[column][facts["rows"]] += np.array(facts[name]) / len(seeds)
    table = data.table.assign(**columns)[scored == len(rows) * len(seeds)]
    return list(columns), table.reset_index(drop=True)


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description="Rows with and without each part of distillation")
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config, rows = load_config(arguments.config), [FULL, *(row for row in arguments.rows if row != FULL)]
    configs = [changed(config, row, 0) for row in rows]
    artifacts = run(config, arguments.runs, until="cache").artifacts
    key = {"student": config.student.model_dump(mode="json"), "rows": ROWS, "cache": artifacts["cache"].content_sha256}
    folder = arguments.runs / "ablation" / sha256_json(key)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [Job(row, seed, fold) for seed in arguments.seeds for row in rows for fold in range(FOLDS)]
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    # Before the students, which are trained side by side: each seed's teacher, and the stem's output.
    for seed in arguments.seeds:
        run(changed(config, FULL, seed), arguments.runs, until="cache")
    for each in configs:
        stored_stem(each, data, arguments.runs)
    left = [job for job in jobs if not job.file(folder).is_file()]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        work = partial(train_job, config=config, runs=arguments.runs, folder=folder)
        for _ in track(pool.map(work, left), "students", total=len(left)):
            pass
    predictors, table = collect(jobs, folder, data, rows, arguments.seeds)
    full = [f"{FULL}, pixel-only", f"{FULL}, hybrid"]
    result = evaluate_predictors(table, predictors, num_resamples=config.evaluate.num_resamples, against=full)
    print(format_table(result))
    if arguments.out:
        facts = {"command": " ".join(sys.argv), "folds": FOLDS, "seeds": arguments.seeds, "rows": ROWS}
        write_json(arguments.out, facts | {"evaluation": json.loads(to_json(result))})


if __name__ == "__main__":
    main()
