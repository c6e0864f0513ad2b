"""The one way through: masters -> ladder -> views -> teach -> cache -> distill -> export -> evaluate.

Each stage is a function of a config and of earlier artifacts, and leaves one artifact (rungwise/artifact.py). Read
`run` first: it is the whole road.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.checkpoint import load_checkpoint
from distill.data import Data, prepare
from distill.exporting import FILES, export_failures, export_student
from distill.students import distill, pretrain
from distill.teaching import cache_targets, teach
from distill.train import predict
from rungwise.artifact import Artifact, StageKey, run_stage, write_text
from rungwise.config import RunConfig
from rungwise.ladder.make import make_ladder, read_failures
from rungwise.ladder.sources import find_unlabelled, make_masters
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.evaluation_result import format_table, to_json
from rungwise.metrics.pairs import PairRule
from rungwise.progress import note
from rungwise.report.evaluation_page import write_report
from rungwise.score.scorer import Scorer
from student.gates import PAIR_GAP_SHARE

EVALUATE_VERSION = 5  # 3: the interval is the export's; 4: with and without the coded stream; 5: its quantizer
STAGES = ("masters", "ladder", "views", "pretrain", "teach", "cache", "distill", "export", "evaluate")


@dataclass(frozen=True)
class Outcome:
    """What a run left: artifacts by stage, clips that failed, wall seconds by stage."""

    artifacts: dict[str, Artifact]
    failures: dict[str, str]
    seconds: dict[str, float]


def run(
    config: RunConfig, runs: Path, *, until: str = "evaluate", device: str = "cpu", watch: Path | None = None
) -> Outcome:
    """Make, or find, the artifacts of every stage up to `until`; `watch` is a folder for TensorBoard.

    Raises:
        ValueError: a user's mistake; the message says what, where and what to do.
    """
    artifacts: dict[str, Artifact] = {}
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def finished(stage: str, artifact: Artifact | None) -> bool:
        nonlocal clock
        seconds[stage], clock = time.monotonic() - clock, time.monotonic()
        if artifact is None:
            note(f"{stage}: ready in {seconds[stage]:.1f} s")
        else:
            artifacts[stage] = artifact
            how = "hit" if artifact.hit else f"made in {seconds[stage]:.1f} s"
            note(f"{stage}: {how}, {artifact.path}")
        return stage == until

    failures: dict[str, str] = {}
    masters = make_masters(config.sources, runs, held_out=config.splits.named)
    if finished("masters", None):
        return Outcome(artifacts, failures, seconds)
    ladder = make_ladder(config.ladder, masters, runs, unlabelled=find_unlabelled(config.sources, masters))
    failures |= read_failures(ladder)
    if finished("ladder", ladder):
        return Outcome(artifacts, failures, seconds)
    data = prepare(config, ladder, runs)
    if finished("views", data.views):
        return Outcome(artifacts, failures, seconds)
    if until == "pretrain":
        finished("pretrain", pretrain(config, data, runs, device=device, watch=watch))
        return Outcome(artifacts, failures, seconds)
    teacher = teach(config, data, runs, device=device)
    if finished("teach", teacher):
        return Outcome(artifacts, failures, seconds)
    cache = cache_targets(config, data, teacher, runs, device=device)
    if finished("cache", cache):
        return Outcome(artifacts, failures, seconds)
    student = distill(config, data, teacher, cache, runs, device=device, watch=watch)
    if finished("distill", student):
        return Outcome(artifacts, failures, seconds)
    export = export_student(config, data, student, runs)
    failures |= export_failures(export)
    if finished("export", export):
        return Outcome(artifacts, failures, seconds)
    finished("evaluate", evaluate(config, data, teacher, student, export, runs))
    return Outcome(artifacts, failures, seconds)


def evaluate(
    config: RunConfig, data: Data, teacher: Artifact, student: Artifact, export: Artifact, runs: Path
) -> Artifact:
    """Judge teacher, student and export on the test contents, which nothing before has looked at."""
    key = StageKey(
        "evaluate",
        EVALUATE_VERSION,
        config.evaluate.model_dump(mode="json") | {"splits": config.splits.model_dump(mode="json")},
        {
            "teacher": teacher.content_sha256,
            "student": student.content_sha256,
            "export": export.content_sha256,
            "views": data.views.content_sha256,
        },
    )

    def build(folder: Path) -> None:
        rows = data.rows("test")
        pixels = np.array(data.pixels[rows, 0])
        table = data.table.iloc[rows].reset_index(drop=True)
        teacher_model, _, _ = load_checkpoint(teacher.path / "teacher.safetensors")
        student_model, _, _ = load_checkpoint(student.path / "student.safetensors")
        scorer = Scorer(export.path / FILES["fp32"])
        table["student"] = predict(student_model, pixels).astype(float)
        table["teacher"] = predict(teacher_model, pixels).astype(float)
        # From the files, as a user would: decode, views and all.
        scores = [
            scorer.score(path, display_height=int(height))
            for path, height in zip(table["path"], table["display_height"], strict=True)
        ]
        table["student-onnx"] = [score.score for score in scores]
        predictors = ["student", "teacher", "student-onnx"]
        if scorer.contract.stream is not None:
            table["student-onnx-pictures"] = [score.pictures_score for score in scores]
            predictors.append("student-onnx-pictures")
        result = evaluate_predictors(
            table,
            predictors,
            num_resamples=config.evaluate.num_resamples,
            pair_rule=PairRule("label-range", PAIR_GAP_SHARE),
        )
        # As users have it: from the export's own scores.
        table["low"], table["high"] = [score.low for score in scores], [score.high for score in scores]
        covered = float(((table["low"] <= table["score"]) & (table["score"] <= table["high"])).mean())
        calibration = (scorer.contract.stream or scorer.contract).calibration
        assert calibration is not None
        table.drop(columns="path").to_csv(folder / "predictions.csv", index=False)
        write_text(folder / "evaluation.json", to_json(result))
        write_text(folder / "table.txt", format_table(result) + "\n")
        facts = {
            "run": config.name,
            "label": f"{data.scale.kind} ({data.scale.minimum:g} to {data.scale.maximum:g})",
            "test contents": ", ".join(sorted(set(table["content"]))),
            "encodes": f"{len(table)} test, {len(data.rows('train'))} train, {len(data.rows('validation'))} validation",
            "display height": ", ".join(f"{height:g}" for height in sorted(set(table["display_height"]))),
            "interval": f"{covered:.0%} of test encodes lie within +/- {calibration.half_width:.1f}"
            f" (aimed at {calibration.coverage:.0%})",
            "student": f"{config.student.model}, {student.id}",
            "teacher": f"{config.teacher.model}, {teacher.id}",
            "export": export.id,
        }
        write_report(folder / "report.html", result, table, title=f"{config.name}: held-out contents", facts=facts)

    return run_stage(runs, key, build)
