"""The student's stages: a first run by contrast, if asked for, and distillation from labels and from the cache."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from distill.checkpoint import load_checkpoint, save_checkpoint
from distill.data import Data, make_contract, training_key
from distill.engine import own_device
from distill.frozen import Upper, keep_frozen
from distill.teaching import cache_inputs
from distill.train import Examples, fit, judge
from distill.view_store import read_view_lists
from distill.watch import make_watch
from rungwise.artifact import SCRATCH, Artifact, run_stage, sha256_file, verify_files, write_json
from rungwise.config import RunConfig, Training
from rungwise.progress import note
from rungwise.ranks import ranks
from rungwise.score.contract import Calibration
from student.models import STUDENTS, load_imagenet, student_settings
from student.styleprompt import tune_prompts
from teacher.cache import open_cache, read_cache

PRETRAIN_VERSION = 3  # 3: the stream is an input
DISTILL_VERSION = 9  # 8: squared shares, more codecs' steps, refit; 9: textures never quite unlike, a line in facts
HELD_OUT = "held_out.safetensors"  # what was said of validation clips before they were learned from
NOT_HASHED = {"execution", "start"}


def settings_of(config: RunConfig, data: Data) -> dict[str, Any]:
    """The student's constructor settings."""
    return (
        student_settings(config.student, config.views.recipe) | {"num_levels": config.teacher.num_levels} | data.range
    )


def pretrain(config: RunConfig, data: Data, runs: Path, *, device: str, watch: Path | None = None) -> Artifact:
    """Teach the student to tell encoder settings apart (CONVIQT's contrast), without a label or a teacher.

    Raises:
        ValueError: the config has no `student.pretrain`.
    """
    training = config.student.pretrain
    if training is None:
        raise ValueError("student.pretrain: is null; give the training of the contrastive stage there")
    settings = settings_of(config, data)
    params = {"model": config.student.model, "precision": config.student.precision, "settings": settings}
    params |= {"training": training.model_dump(mode="json")}
    key = training_key("pretrain", PRETRAIN_VERSION, config, params, {"views": data.views})

    def build(folder: Path) -> None:
        torch.manual_seed(config.seed)
        model = STUDENTS[config.student.model](**settings)
        load_imagenet(model)
        train = data.examples("train", labeled=False)
        history, state = _fit(config, model, train, None, data, training, folder, "pretrain", device, watch)
        if ranks().rank > 0:
            return
        model.to("cpu").load_state_dict(state, strict=True)
        write_json(folder / "history.json", history)
        save_checkpoint(
            folder / "student.safetensors", model, settings, make_contract(config, data, key, config.student.model)
        )

    return run_stage(runs, key, build, shared=True)


def distill(
    config: RunConfig,
    data: Data,
    teacher: Artifact,
    cache: Artifact,
    runs: Path,
    *,
    device: str,
    watch: Path | None = None,
) -> Artifact:
    """Distill the student from labels and from the cache, and measure its interval on validation contents."""
    student = config.student
    settings = settings_of(config, data)
    start = student.start
    inputs = {"cache": cache, "views": data.views}
    if student.pretrain is not None:
        inputs["pretrain"] = pretrain(config, data, runs, device=device, watch=watch)
        start = inputs["pretrain"].path / "student.safetensors"
    params = student.model_dump(mode="json", exclude=NOT_HASHED)
    params |= {"start": None if student.start is None else _hash(student.start), "settings": settings}
    params |= {"interval_coverage": config.export.interval_coverage}
    key = training_key("distill", DISTILL_VERSION, config, params, inputs)

    def build(folder: Path) -> None:
        open_cache(cache.path, expect=cache_inputs(config, data, teacher.path / "teacher.safetensors"))
        verify_files(cache)
        targets = read_cache(cache, list(data.table["clip"]), read_view_lists(data.views))

        def fresh() -> nn.Module:
            torch.manual_seed(config.seed)
            model = STUDENTS[student.model](**settings)
            load_imagenet(model)
            if start is not None:
                load_start(model, start)
            if student.tune == "styleprompt":
                tune_prompts(model)
            return model

        model = fresh()
        trained, total = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (0, 1))
        note(f"distill: {student.model}, {trained:,} of {total:,} weights train ({trained / total:.1%})")
        kept: NDArray[Any] | None = None
        if student.execution.keep_frozen:
            kept = keep_frozen(model, student.model, data, runs, device=own_device(device), precision=student.precision)

        def fit_on(
            splits: tuple[str, ...], model: nn.Module, validation: Examples | None, name: str
        ) -> tuple[nn.Module, list[dict[str, float]]]:
            fitted = Upper(model, student.model) if student.execution.keep_frozen else model
            groups = student.bitrate_groups.num_groups if student.bitrate_groups else None
            weight = student.reencoded_weight
            train = data.examples(
                *splits, targets=targets, labeled=False, num_groups=groups, inputs=kept, reencoded_weight=weight
            )
            history, state = _fit(
                config, fitted, train, validation, data, student.training, folder, name, device, watch
            )
            if ranks().rank == 0:
                fitted.to("cpu").load_state_dict(state, strict=True)
            return fitted, history

        validation = data.examples("validation", inputs=kept)
        validation = replace(validation, inputs=validation.inputs[:, :1])  # the one view that is judged
        fitted, history = fit_on(("train",), model, validation, "distill")
        held_out = {}
        if ranks().rank == 0:
            terms = None if settings["stream_px"] is None else data.terms(data.rows("validation"))
            held_out = _judge_held_out(fitted, validation, terms)
        if student.refit:
            model = fresh()
            _, again = fit_on(("train", "validation"), model, None, "refit")
            history += again
        if ranks().rank > 0:
            return
        residuals = np.abs(held_out["scores"] - validation.scores)
        contract = make_contract(config, data, key, student.model).model_copy(
            update={"calibration": conformal(residuals, config.export.interval_coverage)}
        )
        write_json(folder / "history.json", history)
        if student.refit:
            save_file(held_out, folder / HELD_OUT)
        save_checkpoint(folder / "student.safetensors", model, settings, contract)

    return run_stage(runs, key, build, shared=True)


def _judge_held_out(
    model: nn.Module, validation: Examples, terms: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """scores_N of the validation clips by a student that didn't learn from them; and fused_N with their streams' terms,
    where they have some."""
    judged = list(judge(model, validation.inputs[:, 0], *(() if terms is None else (np.nan_to_num(terms),))))
    found = {"scores": np.concatenate([part.score.float().numpy() for part in judged])}
    if terms is not None:
        fused = np.concatenate([part.fused.float().numpy() for part in judged if part.fused is not None])
        found["fused"] = np.where(np.isnan(terms).any(1), found["scores"], fused)
    return found


def _fit(
    config: RunConfig,
    model: nn.Module,
    train: Examples,
    validation: Examples | None,
    data: Data,
    training: Training,
    folder: Path,
    name: str,
    device: str,
    watch: Path | None,
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """`fit` as the config's student section says."""
    student, shown = config.student, None
    if watch is not None:
        shown = make_watch(watch / f"{name}-{folder.name.removesuffix('.partial')}", model, validation)
    return fit(
        model,
        train,
        validation,
        training,
        data.scale,
        seed=config.seed,
        scratch=folder / SCRATCH / name,
        name=name,
        device=own_device(device),
        precision=student.precision,
        execution=student.execution,
        coarse_to_fine=student.bitrate_groups,
        watch=shown,
    )


def load_start(model: nn.Module, path: Path) -> None:
    """Fill a student from another's checkpoint; only prompts may be new.

    Raises:
        ValueError: not a checkpoint, or a weight that doesn't fit.
    """
    load_state(model, load_checkpoint(path)[0].state_dict(), str(path))


def load_state(model: nn.Module, other: Mapping[str, Tensor], path: str) -> None:
    """Fill a student from another's weights; only prompts may be new.

    Raises:
        ValueError: a weight that doesn't fit; the first is named.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in other and not name.startswith("prompts.")]
    foreign = [name for name in other if name not in own]
    shapes = [name for name in own if name in other and own[name].shape != other[name].shape]
    for problem, names in (("lacks", missing), ("has the unknown", foreign), ("has another shape of", shapes)):
        if names:
            raise ValueError(f"student.start: {path} {problem} {names[0]!r}; it is another kind or size of student")
    model.load_state_dict({**own, **other}, strict=True)


def _hash(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"student.start: {path} is not a file")
    return sha256_file(path)


def conformal(residuals: NDArray[np.float32], coverage: float) -> Calibration:
    """Split-conformal half width: the ceil((n + 1) * coverage)-th smallest absolute residual (Vovk; Lei 2018)."""
    rank = min(len(residuals), math.ceil((len(residuals) + 1) * coverage))
    return Calibration(coverage=coverage, half_width=float(np.sort(residuals)[rank - 1]), num_clips=len(residuals))
