"""The one way through: masters -> ladder -> views -> teach -> cache -> distill -> export -> evaluate.

Each stage is a function of a config and of earlier artefacts, and leaves one artefact (rungwise/artefact.py). Read
`run` first: it is the whole road.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from distill.checkpoint import load_checkpoint, save_checkpoint
from distill.train import Examples, fit, judge, predict
from rungwise.artefact import SCRATCH, Artefact, StageKey, run_stage, verify_files, write_json, write_text
from rungwise.config import RunConfig
from rungwise.contract import Calibration, Contract, Scale
from rungwise.evaluate import evaluate_predictors, format_table, to_json
from rungwise.ladder import make_ladder, make_masters, read_failures, read_ladder
from rungwise.pixels import make_pixels, open_pixels, read_view_lists
from rungwise.progress import note
from rungwise.report import write_report
from rungwise.scorer import Scorer
from rungwise.table import assign_splits
from student.export import export_onnx, parity
from student.models import PRETRAINED as STUDENT_PRETRAINED
from student.models import STUDENTS
from teacher.cache import CACHE_VERSION, read_cache, write_cache
from teacher.models import PRETRAINED as TEACHER_PRETRAINED
from teacher.models import TEACHERS

TEACH_VERSION = 1
DISTILL_VERSION = 1
EXPORT_VERSION = 1
EVALUATE_VERSION = 1
STAGES = ("masters", "ladder", "views", "teach", "cache", "distill", "export", "evaluate")
PARITY_CLIPS = 8


@dataclass(frozen=True)
class Data:
    """A labelled dataset, its views, and what its scores are."""

    table: pd.DataFrame
    ladder: Artefact
    views: Artefact
    scale: Scale
    patch_px: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """pixels_NVTSSC uint8 in table order."""
        return open_pixels(self.views)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of one split."""
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def examples(self, split: str, targets: dict[str, NDArray[np.float32]] | None = None) -> Examples:
        """One split's pixels (read into memory), labels and, if given, the teacher's targets (in table order)."""
        rows = self.rows(split)
        return Examples(
            pixels=self.pixels[rows],
            scores=self.table["score"].to_numpy(np.float32)[rows],
            contents=tuple(self.table["content"].iloc[rows]),
            patch_px=self.patch_px,
            targets={name: values[rows] for name, values in (targets or {}).items()},
        )


@dataclass(frozen=True)
class Outcome:
    """What a run left: artefacts by stage, clips that failed, wall seconds by stage."""

    artefacts: dict[str, Artefact]
    failures: dict[str, str]
    seconds: dict[str, float]


def run(config: RunConfig, runs: Path, *, until: str = "evaluate", device: str = "cpu") -> Outcome:
    """Make, or find, the artefacts of every stage up to `until`.

    Raises:
        ValueError: a user's mistake; the message says what, where and what to do.
    """
    artefacts: dict[str, Artefact] = {}
    seconds: dict[str, float] = {}
    clock = time.monotonic()

    def finished(stage: str, artefact: Artefact | None) -> bool:
        nonlocal clock
        seconds[stage], clock = time.monotonic() - clock, time.monotonic()
        if artefact is None:
            note(f"{stage}: ready in {seconds[stage]:.1f} s")
        else:
            artefacts[stage] = artefact
            how = "hit" if artefact.hit else f"made in {seconds[stage]:.1f} s"
            note(f"{stage}: {how}, {artefact.path}")
        return stage == until

    failures: dict[str, str] = {}
    masters = make_masters(config.sources, runs)
    if finished("masters", None):
        return Outcome(artefacts, failures, seconds)
    ladder = make_ladder(config.ladder, masters, runs)
    failures |= read_failures(ladder)
    if finished("ladder", ladder):
        return Outcome(artefacts, failures, seconds)
    data = prepare(config, ladder, runs)
    if finished("views", data.views):
        return Outcome(artefacts, failures, seconds)
    teacher = teach(config, data, runs, device=device)
    if finished("teach", teacher):
        return Outcome(artefacts, failures, seconds)
    cache = cache_targets(config, data, teacher, runs, device=device)
    if finished("cache", cache):
        return Outcome(artefacts, failures, seconds)
    student = distil(config, data, cache, runs, device=device)
    if finished("distill", student):
        return Outcome(artefacts, failures, seconds)
    export = export_student(config, data, student, runs)
    if finished("export", export):
        return Outcome(artefacts, failures, seconds)
    finished("evaluate", evaluate(config, data, teacher, student, export, runs))
    return Outcome(artefacts, failures, seconds)


def prepare(config: RunConfig, ladder: Artefact, runs: Path) -> Data:
    """Read the ladder, split it by source group, and decode its views."""
    table = read_ladder(ladder)
    groups = dict(zip(table["content"], table["group"], strict=True))
    table["split"] = table["content"].map(assign_splits(groups, **config.splits.model_dump()))
    views = make_pixels(table, config.views, runs, dataset_sha256=ladder.content_sha256)
    first = table.iloc[0]
    scale = Scale(
        kind=first["score_kind"],
        polarity=first["score_polarity"],
        minimum=float(first["score_min"]),
        maximum=float(first["score_max"]),
    )
    return Data(table, ladder, views, scale, config.views.recipe.patch_px)


def teach(config: RunConfig, data: Data, runs: Path, *, device: str) -> Artefact:
    """Tune the teacher on the train contents' labels."""
    teacher = config.teacher
    settings = teacher.model_dump(include={"num_levels", "feature_dim", "frozen_stages"}) | _range(data.scale)
    key = _training_key("teach", TEACH_VERSION, config, teacher.model_dump(mode="json"), {"views": data.views})

    def build(folder: Path) -> None:
        torch.manual_seed(config.seed)
        model = TEACHERS[teacher.model](**settings)
        TEACHER_PRETRAINED[teacher.model](model)
        history = fit(
            model,
            data.examples("train"),
            data.examples("validation"),
            teacher.training,
            data.scale,
            seed=config.seed,
            scratch=folder / SCRATCH,
            name="teach",
            device=device,
        )
        write_json(folder / "history.json", history)
        save_checkpoint(
            folder / "teacher.safetensors",
            model.to("cpu"),
            settings,
            _contract(config, data, key, teacher.model),
        )

    return run_stage(runs, key, build)


def cache_targets(config: RunConfig, data: Data, teacher: Artefact, runs: Path, *, device: str) -> Artefact:
    """Run the tuned teacher over every view once."""
    key = StageKey(
        "cache",
        CACHE_VERSION,
        config.cache.model_dump(mode="json"),
        {"teacher": teacher.content_sha256, "views": data.views.content_sha256},
    )

    def build(folder: Path) -> None:
        model, _, _ = load_checkpoint(teacher.path / "teacher.safetensors")
        model.to(device)

        def targets(pixels_MVTSSC: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
            clips, per_clip = pixels_MVTSSC.shape[:2]
            judged = list(judge(model, pixels_MVTSSC.reshape(-1, *pixels_MVTSSC.shape[2:]), device=device))

            def gather(parts: list[Any], dtype: type[np.generic]) -> NDArray[np.generic]:
                joined = np.concatenate([part.float().cpu().numpy() for part in parts])
                return joined.reshape(clips, per_clip, *joined.shape[1:]).astype(dtype)

            return {
                "scores": gather([part.score for part in judged], np.float32),
                "levels": gather([part.logits.softmax(-1) for part in judged], np.float32),
                "features": gather([part.feature for part in judged], np.float16),
            }

        write_cache(
            folder,
            list(data.table["clip"]),
            read_view_lists(data.views),
            data.pixels,
            targets,
            clips_per_shard=config.cache.clips_per_shard,
        )

    return run_stage(runs, key, build)


def distil(config: RunConfig, data: Data, cache: Artefact, runs: Path, *, device: str) -> Artefact:
    """Distil the student from labels and from the cache, and measure its interval on validation contents."""
    student = config.student
    chosen = student.model_dump(include={"embed_dim", "depths", "state_dim", "feature_dim"})
    settings = chosen | {"num_levels": config.teacher.num_levels} | _range(data.scale)
    params = student.model_dump(mode="json") | {"interval_coverage": config.export.interval_coverage}
    key = _training_key("distill", DISTILL_VERSION, config, params, {"cache": cache, "views": data.views})

    def build(folder: Path) -> None:
        verify_files(cache)
        targets = read_cache(cache, list(data.table["clip"]), read_view_lists(data.views))
        validation = data.examples("validation")
        torch.manual_seed(config.seed)
        model = STUDENTS[student.model](**settings)
        STUDENT_PRETRAINED[student.model](model)
        history = fit(
            model,
            data.examples("train", targets),
            validation,
            student.training,
            data.scale,
            seed=config.seed,
            scratch=folder / SCRATCH,
            name="distill",
            device=device,
        )
        model.to("cpu")
        residuals = np.abs(predict(model, validation.pixels[:, 0]) - validation.scores)
        contract = _contract(config, data, key, student.model).model_copy(
            update={"calibration": conformal(residuals, config.export.interval_coverage)}
        )
        write_json(folder / "history.json", history)
        save_checkpoint(folder / "student.safetensors", model, settings, contract)

    return run_stage(runs, key, build)


def conformal(residuals: NDArray[np.float32], coverage: float) -> Calibration:
    """Split-conformal half width: the ceil((n + 1) * coverage)-th smallest absolute residual (Vovk; Lei 2018)."""
    rank = min(len(residuals), math.ceil((len(residuals) + 1) * coverage))
    return Calibration(coverage=coverage, half_width=float(np.sort(residuals)[rank - 1]), num_clips=len(residuals))


def export_student(config: RunConfig, data: Data, student: Artefact, runs: Path) -> Artefact:
    """Write the ONNX file and prove on validation clips that it says what torch says."""
    params = {"opset": config.export.opset}
    key = StageKey("export", EXPORT_VERSION, params, {"student": student.content_sha256})

    def build(folder: Path) -> None:
        model, contract, _ = load_checkpoint(student.path / "student.safetensors")
        path = folder / "student.onnx"
        export_onnx(model, contract, path, opset=config.export.opset)
        rows = data.rows("validation")[:: max(1, len(data.rows("validation")) // PARITY_CLIPS)]
        pixels = np.array(data.pixels[rows, 0])
        deviation = parity(Scorer(path), predict(model, pixels), pixels)
        write_json(folder / "parity.json", {"clips": len(rows), "largest_deviation": deviation})

    return run_stage(runs, key, build)


def evaluate(
    config: RunConfig, data: Data, teacher: Artefact, student: Artefact, export: Artefact, runs: Path
) -> Artefact:
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
        student_model, contract, _ = load_checkpoint(student.path / "student.safetensors")
        scorer = Scorer(export.path / "student.onnx")
        table["student"] = predict(student_model, pixels).astype(float)
        table["teacher"] = predict(teacher_model, pixels).astype(float)
        # From the files, as a user would: decode, views and all.
        table["student-onnx"] = [
            scorer.score(path, display_height=int(height)).score
            for path, height in zip(table["path"], table["display_height"], strict=True)
        ]
        result = evaluate_predictors(
            table, ["student", "teacher", "student-onnx"], num_resamples=config.evaluate.num_resamples
        )
        calibration = contract.calibration
        assert calibration is not None
        covered = float((np.abs(table["student"] - table["score"]) <= calibration.half_width).mean())
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


def _training_key(
    stage: str, version: int, config: RunConfig, params: dict[str, Any], inputs: dict[str, Artefact]
) -> StageKey:
    everything = params | {"seed": config.seed, "splits": config.splits.model_dump(mode="json")}
    return StageKey(stage, version, everything, {role: artefact.content_sha256 for role, artefact in inputs.items()})


def _contract(config: RunConfig, data: Data, key: StageKey, model: str) -> Contract:
    return Contract(
        model=model,
        view=config.views.recipe,
        scale=data.scale,
        calibration=None,
        golden=None,
        training_id=key.id,
        dataset_sha256=data.ladder.content_sha256,
    )


def _range(scale: Scale) -> dict[str, float]:
    return {"minimum": scale.minimum, "maximum": scale.maximum}
