"""The student's stages: a first run by contrast, if asked for, and distillation from labels and from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from distill.checkpoint import load_checkpoint, save_checkpoint
from distill.data import Data, make_contract, read_data, training_params
from distill.engine import own_device
from distill.examples import Examples
from distill.folds import HELD_OUT_SPLIT, assign_folds, leave_out
from distill.frozen import keep_frozen
from distill.model import Trainable, Upper
from distill.predict import predict_batches
from distill.stage import Artifacts, Inputs, constants
from distill.teaching import content_hash
from distill.train import fit
from distill.view_store import read_view_lists
from distill.watch import make_watch
from rungwise.artifact import SCRATCH, sha256_file, verify_files, write_json
from rungwise.config import InternVideo2Student, PixelStudentSection, QMambaStudent, RunConfig, Training
from rungwise.progress import note
from rungwise.ranks import ranks
from student import local_scan, patches
from student.frame_student import FrameStudent
from student.models import STUDENTS, load_pretrained, student_settings
from student.quality_student import QualityStudent
from teacher import positions
from teacher.cache import read_cache
from teacher.shard_files import ShardedArray

HELD_OUT = "held_out.safetensors"  # scores of clips by students that didn't train on their contents; table rows
NOT_HASHED = {"execution", "start", "checkpoint"}


def student_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the distilled student."""
    student, data = config.student, read_data(config, artifacts["dataset"], artifacts["views"])
    params = training_params(config) | student.model_dump(mode="json", exclude=NOT_HASHED)
    if student.patch_scores:
        params |= {"patches": constants(patches)}
    if isinstance(student, InternVideo2Student):
        params |= {} if student.checkpoint else {"positions": constants(positions)}
    start = {"start": None if student.start is None else _hash(student.start)}
    return params | _backbone_params(config) | start | {"settings": settings_of(config, data)}


def build_student(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Distill the student from labels and from the cache; with `refit`, keep scores of contents it was not trained on
    before."""
    student, data = config.student, read_data(config, inputs["dataset"], inputs["views"])
    verify_files(inputs["cache"])
    pretrained = inputs.artifacts.get("pretrain")
    start = student.start if pretrained is None else pretrained.path / "student.safetensors"
    model = new_student(config, data, start)
    trained, total = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (0, 1))
    note(f"distill: {student.model}, {trained:,} of {total:,} weights train ({trained / total:.1%})")
    hidden: NDArray[Any] | None = None
    if student.execution.keep_frozen:
        device = own_device(inputs.device)
        hidden = keep_frozen(model, student.model, data, inputs.runs, device=device, precision=student.precision)
    targets = read_cache(inputs["cache"], list(data.table["clip"]), read_view_lists(data.views))
    examples = partial(student_examples, config, targets=targets, hidden=hidden)
    fit_examples = partial(
        fit_student, config, data, student.training, folder=folder, device=inputs.device, watch=_watch_folder(inputs)
    )
    history: list[dict[str, float]] = []
    held_out: list[dict[str, NDArray[Any]]] = []
    if student.folds is None:
        validation = data.examples("validation", inputs=hidden, reencoded_weight=student.reencoded_weight)
        fitted, history = fit_examples(model, examples(data, "train"), validation, name="distill")
        held_out.append(score_held_out(fitted, config, data, "validation", hidden))
    else:
        fold_N = assign_folds(data, student.folds, config.seed)
        for number in range(student.folds):
            part = leave_out(data, fold_N, number)
            fitted, fold_history = fit_examples(
                new_student(config, data, start), examples(part, "train"), None, name=f"fold{number}"
            )
            history += fold_history
            held_out.append(score_held_out(fitted, config, part, HELD_OUT_SPLIT, hidden))
    if student.refit:
        model = new_student(config, data, start)
        _, refit_history = fit_examples(model, examples(data, "train", "validation"), None, name="refit")
        history += refit_history
    if ranks().rank > 0:
        return
    write_json(folder / "history.json", history)
    if student.refit:
        save_file({name: np.concatenate([part[name] for part in held_out]) for name in held_out[0]}, folder / HELD_OUT)
    contract = make_contract(config, data, inputs.key, student.model, history)
    save_checkpoint(folder / "student.safetensors", model, settings_of(config, data), contract)


def pretrain_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the pretrained student.

    Raises:
        ValueError: the config has no `student.pretrain`.
    """
    student, data = config.student, read_data(config, artifacts["dataset"], artifacts["views"])
    if student.pretrain is None:
        raise ValueError("student.pretrain: is null; give the training of the contrastive stage there")
    return (
        training_params(config)
        | {
            "model": student.model,
            "precision": student.precision,
            "settings": settings_of(config, data),
            "training": student.pretrain.model_dump(mode="json"),
        }
        | _backbone_params(config)
    )


def _backbone_params(config: RunConfig) -> dict[str, Any]:
    """The weights that a student starts from where it has no stem, and the constants of its own modules."""
    student, params = config.student, dict[str, Any]()
    if isinstance(student, InternVideo2Student | PixelStudentSection):
        params["checkpoint"] = student.checkpoint and content_hash(student.checkpoint)
    if isinstance(student, QMambaStudent):
        params["local_scan"] = constants(local_scan)
    return params


def build_pretrained(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Train the student to tell encoder settings apart (CONVIQT's contrast), without a label or a teacher."""
    training, data = config.student.pretrain, read_data(config, inputs["dataset"], inputs["views"])
    assert training is not None, "pretrain_params has refused it"
    settings = settings_of(config, data)
    torch.manual_seed(config.seed)
    model = STUDENTS[config.student.model](**settings)
    load_pretrained(model, config.student)
    train, watch = data.examples("train", labeled=False), _watch_folder(inputs)
    _, history = fit_student(
        config, data, training, model, train, None, folder=folder, device=inputs.device, watch=watch, name="pretrain"
    )
    if ranks().rank > 0:
        return
    write_json(folder / "history.json", history)
    contract = make_contract(config, data, inputs.key, config.student.model, history)
    save_checkpoint(folder / "student.safetensors", model, settings, contract)


def settings_of(config: RunConfig, data: Data) -> dict[str, Any]:
    """The student's constructor settings."""
    return (
        student_settings(config.student, config.views.recipe) | {"num_levels": config.teacher.num_levels} | data.range
    )


def new_student(config: RunConfig, data: Data, start: Path | None) -> QualityStudent:
    """The student as it is before distillation: from a checkpoint, or from pretrained and random weights."""
    torch.manual_seed(config.seed)
    model = STUDENTS[config.student.model](**settings_of(config, data))
    load_pretrained(model, config.student)
    if start is not None:
        load_start(model, start)
    if config.student.tune == "styleprompt":
        model.tune_prompts()
    elif config.student.tune == "head" and not isinstance(config.student, InternVideo2Student):
        model.tune_head()
    if config.student.execution.gradient_checkpointing:
        model.recompute_activations()
    return model


def student_examples(
    config: RunConfig,
    data: Data,
    *splits: str,
    targets: Mapping[str, ShardedArray],
    hidden: NDArray[Any] | None,
) -> Examples:
    """What a student is distilled from: these splits with the teacher's targets, and the frozen layers' output."""
    groups = config.student.bitrate_groups
    return data.examples(
        *splits,
        targets=targets,
        labeled=False,
        num_groups=groups.num_groups if groups else None,
        inputs=hidden,
        reencoded_weight=config.student.reencoded_weight,
    )


def fit_student(
    config: RunConfig,
    data: Data,
    training: Training,
    model: QualityStudent,
    train: Examples,
    validation: Examples | None,
    *,
    folder: Path,
    name: str,
    device: str = "cpu",
    watch: Path | None = None,
) -> tuple[Trainable, list[dict[str, float]]]:
    """Train the student, or what is above its frozen layers where `train` holds their output; in the first process it
    has the averaged weights of the best epoch. Returns what was trained, and its history."""
    student = config.student
    fit_scales(model, train)
    fitted = Upper(model, student.model) if train.inputs.dtype != np.uint8 else model
    history, state = fit(
        fitted,
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
        sets=[each.name for each in data.sets],
        watch=None if watch is None else make_watch(watch.with_name(f"{name}-{watch.name}"), fitted, validation),
    )
    if ranks().rank == 0:
        fitted.to("cpu").load_state_dict(state, strict=True)
    return fitted, history


def fit_scales(model: QualityStudent, train: Examples) -> None:
    """Standardize a new student of patches by train clips drawn with a fixed seed, the same in all processes."""
    if not isinstance(model, FrameStudent) or not model.needs_scales:
        return
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[: patches.SCALE_CLIPS])
    model.to("cpu").eval()
    with torch.no_grad():
        clips = [torch.from_numpy(np.array(train.inputs[row, 0]))[None] for row in rows]
        hidden = clips if train.inputs.dtype != np.uint8 else [model.lower(clip) for clip in clips]
        model.fit_scales(torch.cat(hidden))


def _watch_folder(inputs: Inputs) -> Path | None:
    """Folder of this artifact's TensorBoard events."""
    return None if inputs.watch is None else inputs.watch / inputs.key.id


def predict_held_out(
    model: nn.Module, validation: Examples, terms: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """scores_N of the validation clips by a student that didn't train on them; with bitstream features also fused_N,
    the scores with them where a clip has some."""
    bitstream = () if terms is None else (np.nan_to_num(terms),)
    predictions = list(predict_batches(model, validation.first_views, *bitstream))
    scores = {"scores": np.concatenate([part.score.float().numpy() for part in predictions])}
    if terms is not None:
        fused = np.concatenate([part.fused.float().numpy() for part in predictions if part.fused is not None])
        scores["fused"] = np.where(np.isnan(terms).any(1), scores["scores"], fused)
    return scores


def score_held_out(
    model: nn.Module, config: RunConfig, data: Data, split: str, hidden: NDArray[Any] | None
) -> dict[str, NDArray[Any]]:
    """`predict_held_out` of a split's labeled clips, with their table rows_N; in the first process."""
    if ranks().rank > 0:
        return {}
    rows = data.rows(split)
    terms = data.terms(rows) if config.student.training.losses.is_hybrid else None
    return {"rows": rows} | predict_held_out(model, data.examples(split, inputs=hidden), terms)


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
