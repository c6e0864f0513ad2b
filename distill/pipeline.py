"""The pipeline: masters -> ladder -> views -> teach -> cache -> distill -> export -> evaluate.

`parts` comes before `teach` where the teacher sees the master, `pretrain` before `distill` where a config asks for it.

Each stage is a function of the config and of earlier artifacts, and leaves one artifact (rungwise/artifact.py). The
files to read, in this order: the table and `run` below, students.py, train.py, objective.py, losses.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distill import (
    checkpoint,
    engine,
    examples,
    exporting,
    intervals,
    losses,
    objective,
    train,
    training_state,
    view_store,
)
from distill.evaluating import build_evaluation, evaluation_params
from distill.exporting import build_export, export_failures, export_params
from distill.reference import build_parts, parts_params
from distill.stage import Inputs, Stage
from distill.students import build_pretrained, build_student, pretrain_params, student_params
from distill.teaching import build_cache, build_teacher, cache_params, teacher_params
from distill.view_store import build_views, view_params
from rungwise.artifact import Artifact, run_stage
from rungwise.config import FullReferenceTeacher, RunConfig
from rungwise.datasets.rated import join_datasets
from rungwise.ladder import patch_parts
from rungwise.ladder.make import make_ladder, read_failures
from rungwise.ladder.sources import Master, find_unlabelled, make_masters
from rungwise.progress import note
from student import export, fp16, gates, head, int8, stem, styleprompt, targets
from teacher import normalize
from teacher.cache import CACHE_VERSION

DATA = {"dataset": "ladder", "views": "views"}
TAUGHT = {"parts": "parts", **DATA}  # `parts` where the teacher sees the master
TRAINER = (checkpoint, engine, examples, losses, objective, train, training_state)
STUDENT = (head, stem, styleprompt)

# Name, version, inputs, what of the config changes the result, function, modules whose constants change it.
# fmt: off
STAGES = (
    Stage("views", 3, {"dataset": "ladder"}, view_params, build_views, (view_store,), shared=True),
    Stage("pretrain", 4, DATA, pretrain_params, build_pretrained, TRAINER + STUDENT, shared=True),
    Stage("parts", 1, DATA, parts_params, build_parts, (patch_parts,)),
    Stage("teach", 5, TAUGHT, teacher_params, build_teacher, (*TRAINER, normalize), shared=True),
    Stage("cache", CACHE_VERSION, {"teacher": "teach", **TAUGHT}, cache_params, build_cache, shared=True),
    Stage("distill", 12, {"pretrain": "pretrain", "cache": "cache", **DATA}, student_params, build_student,
          TRAINER + STUDENT, shared=True),
    Stage("export", 11, {"student": "distill", **DATA}, export_params, build_export,
          (exporting, export, fp16, gates, int8, intervals, targets)),
    Stage("evaluate", 7, {"teacher": "teach", "student": "distill", "export": "export", **TAUGHT}, evaluation_params,
          build_evaluation, (gates,)),
)
# fmt: on


@dataclass(frozen=True)
class Outcome:
    """What a run left: artifacts by stage, clips that failed, wall seconds by stage; and the masters that it used."""

    artifacts: dict[str, Artifact]
    failures: dict[str, str]
    seconds: dict[str, float]
    masters: list[Master]


def run(
    config: RunConfig,
    runs: Path,
    *,
    until: str = "evaluate",
    device: str = "cpu",
    watch: Path | None = None,
    ray: str | None = None,
) -> Outcome:
    """Make, or find, the artifacts of every stage up to `until`; `watch` is a folder for TensorBoard, `ray` the address
    of a cluster that takes part in the ladder and in the cache.

    Raises:
        ValueError: a user's mistake; the message says what, where and what to do.
    """
    started = time.monotonic()
    masters, ladder = make_dataset(config, runs, ray=ray)
    artifacts, seconds = {"ladder": ladder}, {"ladder": time.monotonic() - started}
    _report("ladder", ladder, seconds["ladder"])
    for stage in STAGES:
        if until in artifacts:
            break
        if stage.name == "pretrain" and until != "pretrain" and config.student.pretrain is None:
            continue
        if stage.name == "parts" and not isinstance(config.teacher, FullReferenceTeacher):
            continue
        started = time.monotonic()
        parts = {role: artifacts[name] for role, name in stage.inputs.items() if name in artifacts}
        key = stage.key(config, parts)
        build = partial(stage.build, config=config, inputs=Inputs(key, parts, runs, device, watch, masters, ray))
        artifacts[stage.name] = run_stage(runs, key, build, shared=stage.shared)
        seconds[stage.name] = time.monotonic() - started
        _report(stage.name, artifacts[stage.name], seconds[stage.name])
    failures = read_failures(ladder) | (export_failures(artifacts["export"]) if "export" in artifacts else {})
    return Outcome(artifacts, failures, seconds, masters)


def make_dataset(config: RunConfig, runs: Path, *, ray: str | None = None) -> tuple[list[Master], Artifact]:
    """The masters, and the table of all encodes with labels: the ladder's, joined with those of rated data sets."""
    masters, ladder = [], None
    if config.ladder is not None:
        masters = make_masters(config.sources, runs, held_out=config.splits.named)
        unlabelled = find_unlabelled(config.sources, masters)
        ladder = make_ladder(config.ladder, masters, runs, unlabelled=unlabelled, ray=ray)
    if not config.sources.dataset:
        assert ladder is not None, "the schema asks for a ladder or a dataset"
        return masters, ladder
    return masters, join_datasets(config.sources.dataset, runs, ladder=ladder)


def _report(stage: str, artifact: Artifact, seconds: float) -> None:
    how = "hit" if artifact.hit else f"made in {seconds:.1f} s"
    note(f"{stage}: {how}, {artifact.path}")
