"""Accuracy of the packaged model's recipe: five folds of contents, three seeds, one codec and one size left out.

    python benchmarks/default_model.py --runs RUNS --out benchmarks/results/default.json

RUNS is where `rungwise export benchmarks/default.yaml` left its artifacts. Every variant retrains teacher and student
on the cached output of the frozen layers, for the config's number of epochs, and takes the last one: evaluated contents
choose nothing. Encodes of variants, photographs and built-in scenes are only trained on; evaluated are those of whole
masters. An interrupted benchmark resumes.

Rows:
- five folds: the 62 masters outside the test split, each evaluated by models that never saw its group. The ladder's own
  rungs (first encodes and re-encodes apart), older codecs, other presets and tunes, and photographs at 1080 lines;
- folds without AV1: AV1 encodes, by models that saw neither their groups nor AV1, beside models that did;
- test: the 12 test contents, by three seeds, by the packaged file, and by the slow reference metrics;
- unseen: test contents by encoders that the ladder does not have (benchmarks/unseen_codecs.py), by the packaged file;
- without AV1, without half size: trained without those encodes and evaluated on them, test contents, three seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anchors
import numpy as np
import pandas as pd
import torch
import unseen_codecs
from default_figures import PREDICTORS, by_content, coverage_of_folds, figures, mean_residuals
from numpy.typing import NDArray

from distill.data import Data, read_data
from distill.frozen import keep_frozen
from distill.model import Upper
from distill.pipeline import STAGES, run
from distill.students import fit_student, new_student, predict_held_out, student_examples
from distill.teaching import fit_teacher, make_predict, new_teacher
from rungwise.artifact import sha256_json, write_json, write_text
from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.config import RunConfig, load_config
from rungwise.ladder.make import clip_name, ladder_rungs
from rungwise.ladder.sources import make_masters
from rungwise.progress import track
from rungwise.score.contract import CONTRACT_VERSION
from rungwise.score.scorer import SHIPPED_MODEL, Scorer
from teacher.layers import Layers

CONFIG = Path(__file__).with_name("default.yaml")
FOLDS = 5
SEEDS = (0, 1, 2)
LARGE_LINES = 1080
NO_AV1 = "AV1 left out of fold"
OLDER = ("vp8", "mpeg4")
HALF = 0.5  # coded lines for a line shown, of the size that is left out
ALPHA = 3000.0  # of the ridge on frozen features, in units of a standardized feature's variance
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """Train on the rows of `train`, judge those of `test` (row numbers of the table)."""

    name: str
    seed: int
    train: tuple[int, ...]
    test: tuple[int, ...]


def jobs(data: Data) -> list[Job]:
    """Every run: folds first, then seeds of the split and of what is left out."""
    table = data.table
    whole, test = (table["origin"] == "master").to_numpy(), (table["split"] == "test").to_numpy()
    photograph = (table["origin"] == "photograph").to_numpy()
    large = photograph & (table["display_height"] >= LARGE_LINES).to_numpy()
    codec, share = table["codec"].to_numpy(), (table["height"] / table["display_height"]).round(2).to_numpy()
    folds = [np.array_split(np.random.default_rng(0).permutation(np.unique(table["group"][rows])), FOLDS)
             for rows in (whole & ~test, photograph)]  # fmt: skip
    made = []
    for number in range(FOLDS):
        inside = table["group"].isin([group for kind in folds for group in kind[number]]).to_numpy()
        made.append(Job(f"fold {number + 1}", 0, *_rows(~test & ~inside, (whole | large) & inside)))
        av1 = codec == "av1"
        made.append(Job(f"{NO_AV1} {number + 1}", 0, *_rows(~test & ~inside & ~av1, whole & inside & av1)))
    for seed in SEEDS:
        made.append(Job("test", seed, *_rows(~test, test)))
        made.append(Job("without AV1", seed, *_rows(~test & (codec != "av1"), test & (codec == "av1"))))
        made.append(Job("without half size", seed, *_rows(~test & (share != HALF), test & (share == HALF))))
    return made


def _rows(train: NDArray[np.bool_], test: NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(np.flatnonzero(train).tolist()), tuple(np.flatnonzero(test).tolist())


@dataclass(frozen=True)
class Inputs:
    """What every job reads: config, labeled table with bitstream features, files of the frozen layers' output."""

    config: RunConfig
    data: Data
    student: Path
    teacher: Path


def result_of(job: Job, folder: Path) -> Path:
    """Where a job writes its predictions."""
    return folder / f"{job.name}, seed {job.seed}.json"


def train_job(job: Job, inputs: Inputs, folder: Path) -> None:
    """Train teacher and student as the pipeline does, and write their predictions, and those of a ridge regression,
    for the test rows."""
    torch.set_num_threads(1)
    started, config = time.monotonic(), inputs.config.model_copy(update={"seed": job.seed})
    train, test = np.array(job.train), np.array(job.test)
    split = np.full(len(inputs.data.table), "unused", dtype=object)
    split[train], split[test] = "train", "test"
    data = replace(inputs.data, table=inputs.data.table.assign(split=split))
    own, name = folder / "scratch" / f"{job.name} {job.seed}", f"{job.name}, {job.seed}"

    hidden = np.load(inputs.teacher, mmap_mode="r")
    ridge = _ridge(hidden[train].mean((1, 2)), data.table["score"].to_numpy(float)[train], hidden[test].mean((1, 2)))
    teacher = Upper(new_teacher(config, data)[0], config.teacher.model)
    examples = data.examples("train", inputs=hidden)
    _, state = fit_teacher(config, data, teacher, examples, None, folder=own, name=f"{name}, teacher")
    teacher.load_state_dict(state, strict=True)
    targets = _targets(config, teacher, hidden)

    hidden = np.load(inputs.student, mmap_mode="r")
    examples = student_examples(config, data, "train", targets=targets, hidden=hidden)
    model = new_student(config, data, config.student.start)
    student, _ = fit_student(
        config, data, config.student.training, model, examples, None, folder=own, name=f"{name}, student"
    )
    terms, codecs = data.terms(test), data.table["codec"].to_numpy(str)
    terms[~np.isin(codecs[test], codecs[train]), NUM_BITSTREAM_FEATURES:] = 0  # as in the scorer
    scores = predict_held_out(student, data.examples("test", inputs=hidden), terms)
    columns = {
        "student": scores["fused"],
        "pictures": scores["scores"],
        "teacher": targets["scores"][test, 0],
        "ridge": ridge,
    }
    lists = {name: [float(value) for value in values] for name, values in columns.items()}
    write_json(result_of(job, folder), {"rows": list(job.test), "seconds": time.monotonic() - started, **lists})


def _targets(config: RunConfig, teacher: Upper, hidden: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The teacher's targets for every view, as the cache has them."""
    predict = make_predict(
        teacher, Layers(teacher, ()), dtype=config.cache.feature_dtype, precision=config.teacher.precision, device="cpu"
    )
    size = config.cache.clips_per_batch
    parts = [predict(torch.from_numpy(np.array(hidden[row : row + size]))) for row in range(0, len(hidden), size)]
    return {name: torch.cat([part[name] for part in parts]).float().numpy() for name in parts[0]}


def _ridge(train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any]) -> Floats:
    """Ridge regression on standardized frozen features."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    x, offset = ((train - mean) / deviation).astype(float), float(labels.mean())
    weights = np.linalg.solve(x.T @ x + ALPHA * np.eye(x.shape[1]), x.T @ (labels - offset))
    return np.asarray((test - mean) / deviation @ weights + offset, float)


def collect(folder: Path, data: Data, names: list[str]) -> pd.DataFrame:
    """The rows that the named jobs predicted, a column for each predictor and seed."""
    table = data.table
    for path in sorted(folder.glob("*, seed *.json")):
        name, _, seed = path.stem.rpartition(", seed ")
        if name not in names:
            continue
        facts = json.loads(path.read_text())
        for predictor in PREDICTORS:
            column = f"{predictor} {seed}"
            if column not in table:
                table = table.assign(**{column: np.nan})
            table.loc[table.index[facts["rows"]], column] = facts[predictor]
    is_evaluated = table["student 0"].notna()
    return table[is_evaluated].dropna(axis=1, how="all").reset_index(drop=True)


def of_ladder(table: pd.DataFrame, config: RunConfig) -> pd.Series:
    """Which encodes are rungs of the ladder's own, and not beside them: of older codecs, or of other settings."""
    own: dict[int, set[str]] = {}
    for height in table["display_height"].unique():
        rungs = [rung for entry in ladder_rungs(config.ladder.rungs, int(height)) for rung in entry]
        own[int(height)] = {clip_name("", rung) for rung in rungs}
    rows = zip(table["clip"], table["content"], table["display_height"], strict=True)
    return pd.Series([clip.removeprefix(content) in own[int(height)] for clip, content, height in rows], table.index)


def shipped_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The test rows as a user would have them: by the file in the package, from the videos."""
    scorer = Scorer(SHIPPED_MODEL)
    scores = [
        scorer.score(path, display_height=int(lines))
        for path, lines in track(
            zip(table["path"], table["display_height"], strict=True), "shipped model", total=len(table)
        )
    ]
    return table.assign(
        **{
            "shipped": [score.score for score in scores],
            "shipped pictures": [score.pixel_score for score in scores],
            "held": [score.low is not None and score.low <= y <= (score.high or 0)
                     for score, y in zip(scores, table["score"], strict=True)],
        }
    )  # fmt: skip


def inputs_of(config: RunConfig, data: Data, runs: Path) -> Inputs:
    """What the jobs read, made where it isn't there."""
    student, teacher = new_student(config, data, config.student.start), new_teacher(config, data)[0]
    paths = []
    for model, section in ((student, config.student), (teacher, config.teacher)):
        values = keep_frozen(model, section.model, data, runs, device="cpu", precision=section.precision)
        paths.append(Path(str(values.filename)))  # type: ignore[attr-defined]
    return Inputs(config, replace(data, bitstream=data.stream), *paths)


def sections_of(config: RunConfig, data: Data, runs: Path, folder: Path, workers: int) -> dict[str, pd.DataFrame]:
    """The rows of each part of the table, with predictions."""

    def ladders(table: pd.DataFrame) -> pd.DataFrame:
        return table[of_ladder(table, config)]

    fold_scores = collect(folder, data, [f"fold {number + 1}" for number in range(FOLDS)])
    whole, older = fold_scores["origin"] == "master", fold_scores["codec"].isin(OLDER)
    own = of_ladder(fold_scores, config)
    folds = fold_scores[whole & own].reset_index(drop=True)
    all_tests = collect(folder, data, ["test"])
    all_tests = all_tests[~all_tests["codec"].isin(OLDER)].reset_index(drop=True)
    masters = {
        master.content: str(master.path) for master in make_masters(config.sources, runs, held_out=config.splits.named)
    }
    columns = (all_tests[name] for name in ("clip", "path", "content", "display_height"))
    clips = [(clip, path, masters[content], int(lines)) for clip, path, content, lines in zip(*columns, strict=True)]
    anchors_by_clip = anchors.anchors_of(clips, runs / "default" / "anchors.json", workers)
    all_tests = all_tests.assign(
        **{name: [anchors_by_clip[clip][name] for clip in all_tests["clip"]] for name in ("brisque", "niqe", "vmaf_v0")}
    )
    all_tests = shipped_columns(all_tests)
    tests = all_tests[of_ladder(all_tests, config)].reset_index(drop=True)
    others = unseen_codecs.unseen_encodes(
        {content: Path(masters[content]) for content in sorted(set(tests["content"]))},
        runs / "default" / "unseen",
        workers,
        config.ladder.label,
    )
    others = shipped_columns(others)
    sections = {
        "five folds": folds,
        "one generation": folds[folds["first_crf"].isna()],
        "two generations": folds[folds["first_crf"].notna()],
        "folds with AV1": folds[folds["codec"] == "av1"],
        "folds without AV1": ladders(collect(folder, data, [f"{NO_AV1} {number + 1}" for number in range(FOLDS)])),
        "older codecs": fold_scores[whole & older],
        "other settings": fold_scores[whole & ~own & ~older],
        "1080 lines": fold_scores[~whole & own],
        "test": tests,
        "test, other settings": all_tests[~of_ladder(all_tests, config)],
        "test, one generation": tests[tests["first_crf"].isna()],
        **{f"unseen {kind}": others[others["kind"] == kind] for kind in sorted(set(others["kind"]))},
    }
    size = (tests["height"] / tests["display_height"]).round(2)
    for name, rows in (("AV1", tests["codec"] == "av1"), ("half size", size == HALF)):
        sections |= {f"without {name}": ladders(collect(folder, data, [f"without {name}"]))}
        present = [column for column in tests if column in data.table or str(column).rpartition(" ")[0] in PREDICTORS]
        sections |= {f"with {name}": tests.loc[rows, present]}
    return {name: part.reset_index(drop=True) for name, part in sections.items()}


def main() -> None:
    """Run every job that is not done, and print the tables."""
    parser = argparse.ArgumentParser(description="Figures of the shipped recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="train jobs whose name holds this, and stop")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not arguments.only:
        anchors.require_packages()
    config = load_config(CONFIG)
    artifacts = run(config, arguments.runs, until="views").artifacts
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    versions = [stage.version for stage in STAGES if stage.name in ("teach", "distill")]
    key = {"training": [config.teacher.model_dump(mode="json"), config.student.model_dump(mode="json")],
           "views": data.views.content_sha256,
           "versions": [CONTRACT_VERSION, *versions]}  # fmt: skip
    folder = arguments.runs / "default" / sha256_json(key)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    planned = jobs(data)
    left = [job for job in planned if arguments.only in job.name and not result_of(job, folder).is_file()]
    if left:
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            work = partial(train_job, inputs=inputs_of(config, data, arguments.runs), folder=folder)
            for _ in track(pool.map(work, left), "jobs", total=len(left)):
                pass
    if arguments.only:
        return
    sections = sections_of(config, data, arguments.runs, folder, arguments.workers)
    folds, tests = sections["five folds"], sections["test"]
    number_of = {group: number for number, job in enumerate(job for job in planned if job.name.startswith("fold "))
                 for group in set(data.table["group"].iloc[list(job.test)])}  # fmt: skip
    fold_of = folds["group"].map(number_of).to_numpy()
    done = [json.loads(result_of(job, folder).read_text()) for job in planned]
    facts = {
        "command": f"python {Path(sys.argv[0]).name} --runs RUNS --out benchmarks/results/default.json",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "encodes": {"all": len(data.table), "whole masters": int((data.table["origin"] == "master").sum())},
        "contents": int(data.table["content"].nunique()),
        "groups": int(data.table["group"].nunique()),
        "seconds_of_jobs": round(sum(job["seconds"] for job in done), 1),
        "sections": {name: figures(part, config.evaluate.num_resamples) for name, part in sections.items()},
        "mean_residuals": {name: mean_residuals(part) for name, part in sections.items()},
        "interval": {
            "test clips held by the shipped file": float(tests["held"].mean()),
            "folds": coverage_of_folds(folds, fold_of, config.export.interval_coverage),
        },
        "residuals": by_content(pd.concat([folds, tests])),
    }
    if arguments.out:
        write_json(arguments.out, facts)
        large = sections["1080 lines"].assign(part="1080 lines")
        both = pd.concat([folds.assign(part="folds"), tests.assign(part="test"), large])
        columns = ["part", "content", "clip", "codec", "height", "display_height", "bitrate_kbps", "score", "student 0",
                   "pictures 0"]  # fmt: skip
        write_text(arguments.out.with_suffix(".csv"), both[columns].round(3).to_csv(index=False))


if __name__ == "__main__":
    main()
