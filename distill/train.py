"""The trainer: one loop for the teacher and for the student.

Reads pixels, labels and soft targets by row; selects on validation contents; resumes exactly. Shapes: N rows,
V views a clip, T frames, S pixels a side: pixels_NVTSSC uint8.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from distill import losses
from distill.batches import epoch_batches
from distill.engine import ONE_PROCESS, Engine, make_engine
from distill.model import Trainable
from rungwise.artifact import write_json
from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.config import Augment, BitrateGroups, Execution, Training
from rungwise.metrics.statistics import srcc
from rungwise.prediction import Prediction
from rungwise.progress import note, track
from rungwise.score.contract import Scale

EMBEDDING_DIM = 64
TEMPERATURE = 0.1  # of both contrasts (CONVIQT, section 4; coarse to fine, section 6)
UNNAMED_SHARE = 0.15  # of streams, which are shown as of no known codec, so that others can be judged as such
LABEL_TERMS = ("label", "plcc", "rank", "vector", "likelihood", "stream")
TEACHER_FIELDS = {
    "score_target": "scores",
    "soft_target": "levels",
    "cosine_target": "levels",
    "feature": "features",
    "feature_cosine": "features",
    "relation": "features",
}
Watch = Callable[[int, Mapping[str, float]], None]  # epoch from 1, its figures
BACKBONES = ("backbone.", "images.")  # parameters that come pretrained: they learn at the backbone's rate


@dataclass(frozen=True)
class Examples:
    """What is learned from, by row. `targets` holds the teacher's tensors by view, or nothing."""

    inputs: NDArray[Any]  # pixels (N, V, T, S, S, 3) uint8, or what frozen layers gave of them, (N, V, ...) float
    scores: NDArray[np.float32]  # (N,), label's scale, higher is better; NaN: unlabelled, the teacher's targets alone
    contents: tuple[str, ...]
    codecs: tuple[str, ...]
    classes: NDArray[np.int64]  # (N,), same encoder settings, same class: what contrast is taken over
    groups: NDArray[np.int64]  # (N,), bitrate group within the content's own ladder, -1 where there is none
    patch_px: int  # side of the patches a view is stitched from
    frames_each: int  # 2 where frames come in pairs of neighbors, else 1
    stream: NDArray[np.float32]  # (N, F) terms of rungwise/bitstream/features.py, NaN where there are none
    stream_weights: NDArray[np.float32]  # (N,) 0 to 1, of a clip in what is learned of streams
    targets: Mapping[str, NDArray[np.float32]]  # "levels" (N, V, K), "features" (N, V, D), "scores" (N, V)

    def __len__(self) -> int:
        return len(self.contents)


class Embedder(nn.Module):
    """z = l2(proj(f)), what a student is contrasted by; dropped after training.

    The losses divide products by 0.1; a temperature tau, given or learned, comes in as a scale sqrt(0.1 / tau) of z.
    """

    def __init__(self, width: int, temperature: float | str) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, EMBEDDING_DIM))
        start = TEMPERATURE if isinstance(temperature, str) else temperature
        log_scale = torch.full((1,), 0.5 * math.log(TEMPERATURE / start))  # DeepSpeed takes no 0-d weights
        self.log_scale = nn.Parameter(log_scale, requires_grad=temperature == "learned")

    def forward(self, feature_BD: Tensor) -> Tensor:
        """Embeddings (B, Z)."""
        z_BZ: Tensor = functional.normalize(self.projector(feature_BD), dim=-1)
        scaled: Tensor = z_BZ * self.log_scale.exp()
        return scaled


class Bundle(nn.Module):
    """A model with what only its losses need: what an engine runs.

    `projector` takes the feature to the teacher's width. `embedder` makes embeddings where the model gives none;
    `half_scale` adds a second view of each clip to them, its frames at half their size (CONVIQT).
    """

    def __init__(
        self, model: nn.Module, projector: nn.Module, embedder: nn.Module | None = None, *, half_scale: bool = False
    ) -> None:
        super().__init__()
        self.model, self.projector, self.embedder, self.half_scale = model, projector, embedder, half_scale

    def train(self, mode: bool = True) -> Bundle:
        """Training mode, but frozen batch norms keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
                module.eval()
        return self

    def forward(self, inputs: Tensor, *more: Tensor) -> Prediction[Tensor]:
        """Judge a batch of what the model takes."""
        prediction: Prediction[Tensor] = self.model(inputs, *more)
        embeddings = prediction.embeddings
        if self.embedder is not None and embeddings is None:
            features = [prediction.feature]
            if self.half_scale:
                features.append(self.model(_half(inputs)).feature)
            embeddings = torch.stack([self.embedder(feature) for feature in features], 1)
        projected = self.projector(prediction.feature)
        return prediction._replace(frame_scores=None, embeddings=embeddings, projected=projected)


def _half(frames_BTHWC: Tensor) -> Tensor:
    x_NCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).float()
    half_BTHWC: Tensor = functional.avg_pool2d(x_NCHW, 2).permute(0, 2, 3, 1).unflatten(0, frames_BTHWC.shape[:2])
    return half_BTHWC


def judge(
    model: nn.Module, inputs: NDArray[Any], *more: NDArray[Any], batch_size: int = 16, device: str = "cpu"
) -> Iterator[Prediction[Tensor]]:
    """Judge pixels_NTSSC (or what frozen layers gave of them), and what more the model takes of each, in batches,
    without gradients."""
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            parts = (each[start : start + batch_size] for each in (inputs, *more))
            yield model(*(torch.from_numpy(np.array(part)).to(device) for part in parts))


def predict(model: nn.Module, pixels: NDArray[np.uint8], *, device: str = "cpu") -> NDArray[np.float32]:
    """Scores of pixels_NTSSC, (N,) float32, on the label's scale."""
    return np.concatenate([part.score.float().cpu().numpy() for part in judge(model, pixels, device=device)])


def loss_terms(
    prediction: Prediction[Tensor],
    batch: Mapping[str, Tensor],
    scale: Scale,
    weights: Mapping[str, float],
    margin: float = 0.0,
) -> dict[str, Tensor]:
    """The named terms of `weights`, on one batch.

    Losses against the label look at labeled clips only, those against the teacher at all; the fine rank loss orders
    clips by their label, or where there is none by the teacher's score.
    """
    span = scale.maximum - scale.minimum
    all_scores, all_labels = (prediction.score.float() - scale.minimum) / span, (batch["label"] - scale.minimum) / span
    known = ~all_labels.isnan()
    score, label = all_scores[known], all_labels[known]

    def fine() -> Tensor:
        order = all_labels
        if "scores" in batch:
            order = torch.where(known, all_labels, (batch["scores"] - scale.minimum) / span)
        sure = ~order.isnan()
        return losses.fine_loss(all_scores[sure], order[sure], batch["group"][sure], margin)

    def likelihood() -> Tensor:
        assert prediction.deviation is not None
        return losses.likelihood_loss(score, prediction.deviation.float()[known] / span, label)

    def projected() -> Tensor:
        assert prediction.projected is not None
        return prediction.projected

    def stream() -> Tensor:
        assert prediction.fused is not None
        coded = known & ~batch["stream"].isnan().any(1)
        if not coded.any():
            return nothing
        fused, truth = (prediction.fused.float()[coded] - scale.minimum) / span, all_labels[coded]
        return losses.label_loss(fused, truth) + 0.25 * losses.plcc_loss(fused, truth)

    nothing = 0 * prediction.score.sum()  # what has no label, or no stream, teaches their terms nothing
    terms: dict[str, Callable[[], Tensor]] = {
        "stream": stream,
        "label": lambda: losses.label_loss(score, label),
        "plcc": lambda: losses.plcc_loss(score, label),
        "rank": lambda: losses.rank_loss(score, label),
        "vector": lambda: losses.vector_loss(prediction.logits.float()[known], label),
        "likelihood": likelihood,
        "contrast": lambda: losses.contrast_loss(_embeddings(prediction), batch["class"]),
        "score_target": lambda: losses.score_target_loss(all_scores, (batch["scores"] - scale.minimum) / span),
        "soft_target": lambda: losses.soft_target_loss(prediction.logits, batch["levels"]),
        "cosine_target": lambda: losses.cosine_target_loss(prediction.logits.float(), batch["levels"]),
        "feature": lambda: losses.feature_loss(projected(), batch["features"]),
        "feature_cosine": lambda: losses.feature_cosine_loss(projected().float(), batch["features"]),
        "relation": lambda: losses.relation_loss(prediction.feature.float(), batch["features"]),
        "coarse": lambda: losses.coarse_loss(_embeddings(prediction)[:, 0], batch["group"], batch["content"]),
        "fine": fine,
    }
    return {
        name: terms[name]() if name not in LABEL_TERMS or known.any() else nothing
        for name, weight in weights.items()
        if weight > 0
    }


def _embeddings(prediction: Prediction[Tensor]) -> Tensor:
    if prediction.embeddings is None:
        raise ValueError("losses.contrast: this model gives no embeddings to contrast; conviqt does")
    return prediction.embeddings.float()


def fit(
    model: Trainable,
    train: Examples,
    validation: Examples | None,
    training: Training,
    scale: Scale,
    *,
    seed: int,
    scratch: Path,
    name: str,
    device: str = "cpu",
    precision: str = "fp32",
    execution: Execution = ONE_PROCESS,
    coarse_to_fine: BitrateGroups | None = None,
    watch: Watch | None = None,
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Train `model`; return its history and the state dict with the averaged weights of the best epoch.

    Each epoch ends in a checkpoint in `scratch`; a killed run goes on from it and, on a CPU with the same number
    of threads, ends in the same bits. The best epoch is the one of least validation RMSE: with few validation
    contents SRCC jumps more. A model with `has_closed_form` has a part that is fitted in closed form (ridge, an
    affine map): it is fitted on the whole train split before each look at the validation split. Without `validation`
    the last epoch is taken. `watch` is shown every epoch's figures, the model being as it then is.

    Returns:
        One dict an epoch: mean of every loss term and of the gradient's norm before clipping and, where judged,
        validation SRCC and RMSE (label units). And the state dict, whole in the first process.

    Raises:
        ValueError: a loss wants a teacher's targets and there are none, or several processes without DeepSpeed.
    """
    weights = training.losses.used
    for term in weights:
        field = TEACHER_FIELDS.get(term)
        if field is not None and field not in train.targets:
            raise ValueError(f"{name}: loss {term!r} has weight {weights[term]} but there are no teacher {field}")
    torch.manual_seed(seed)
    projector: nn.Module = nn.Identity()
    embedder = None
    if weights.keys() & {"feature", "feature_cosine", "coarse", "contrast"}:
        first = next(judge(model, train.inputs[:1, 0]))
        own_width = first.feature.shape[-1]
        if "feature" in weights or "feature_cosine" in weights:
            projector = nn.Linear(own_width, train.targets["features"].shape[-1])
        if ("coarse" in weights or "contrast" in weights) and first.embeddings is None:
            embedder = Embedder(own_width, coarse_to_fine.temperature if coarse_to_fine else TEMPERATURE)
    named = [(key.removeprefix("model."), p) for key, p in model.named_parameters() if p.requires_grad]
    backbone = [p for key, p in named if key.startswith(BACKBONES)]
    heads = [p for key, p in named if not key.startswith(BACKBONES)]
    groups = [
        {"params": backbone, "peak": training.backbone_learning_rate, "clip": True},
        {"params": heads, "peak": training.learning_rate, "clip": True},
        {"params": [*projector.parameters()], "peak": training.learning_rate, "clip": False},
        {
            "params": [p for p in (embedder or nn.Identity()).parameters() if p.requires_grad],
            "peak": training.learning_rate,
            "clip": False,
        },
    ]
    engine = make_engine(
        Bundle(model, projector, embedder, half_scale="contrast" in weights),
        [group for group in groups if group["params"]],
        weight_decay=training.weight_decay,
        device=device,
        precision=precision,
        execution=execution,
    )
    plan = [
        epoch_batches(
            train.contents,
            contents_per_batch=training.contents_per_batch,
            clips_per_content=training.clips_per_content,
            codecs=train.codecs if training.mix_codecs else None,
            seed=seed,
            epoch=epoch,
        )
        for epoch in range(training.epochs)
    ]
    every = training.batches_per_step
    total_steps = sum(math.ceil(len(batches) / every) for batches in plan)
    with engine.whole() as state:
        average = {key: value.clone() for key, value in state.items()}
    history, step = _resume(scratch, engine, average)
    left = range(len(history), training.epochs)
    for epoch in track(left, name, total=len(left)):
        sums: dict[str, float] = {}
        norms = []
        engine.module.train()
        for number, rows in enumerate(plan[epoch]):
            start = number - number % every
            for group in engine.optimizer.param_groups:
                group["lr"] = group["peak"] * _one_cycle(step / total_steps)
            batch = _batch(train, rows, training.augment, seed=seed, epoch=epoch, device=device)
            own = engine.share(len(rows))
            more = [batch["stream"].nan_to_num()[own]] if "stream" in weights else []
            prediction = Prediction(*engine(len(rows), batch.pop("inputs")[own], *more))
            terms = loss_terms(prediction, batch, scale, weights, coarse_to_fine.margin if coarse_to_fine else 0.0)
            together = min(every, len(plan[epoch]) - start)
            norm = engine.step(losses.total_loss(terms, weights) / together, update=number - start + 1 == together)
            for term, value in terms.items():
                sums[term] = sums.get(term, 0.0) + float(value.detach()) / len(plan[epoch])
            if norm is None:
                continue
            norms.append(norm)
            step += 1
            with engine.whole() as state:
                _move_average(average, state, min(training.ema_decay, step / (step + 10)))
        sums["gradient_norm"] = sum(norms) / len(norms)
        row = dict(sums)
        last = epoch + 1 == training.epochs
        if validation is None:
            if last:
                with averaged(engine, average):
                    _fit_closed_form(engine, model, train, average)
                _save(scratch / "best.pt", average, engine)
        elif (epoch + 1) % training.validate_every == 0 or last:
            with averaged(engine, average):
                _fit_closed_form(engine, model, train, average)
                predicted = judge_all(engine, validation).score.cpu().numpy()
            row["validation_srcc"] = srcc(validation.scores, predicted)
            row["validation_rmse"] = float(np.sqrt(np.mean((predicted - validation.scores) ** 2)))
            earlier = [entry["validation_rmse"] for entry in history if "validation_rmse" in entry]
            if row["validation_rmse"] <= min(earlier, default=math.inf):
                _save(scratch / "best.pt", average, engine)
        history.append(row)
        _checkpoint(scratch, engine, average, history, step)
        if watch is not None and engine.where.rank == 0:
            watch(epoch + 1, row)
        if ("validation_srcc" in row or validation is None) and engine.where.rank == 0:
            text = ", ".join(f"{figure} {value:.4f}" for figure, value in row.items())
            note(f"{name}: epoch {epoch + 1}/{training.epochs}: {text}")
    _barrier(engine)
    best = torch.load(scratch / "best.pt", weights_only=True, map_location="cpu")
    whole = {**engine.frozen_state(), **best}
    model.eval()
    return history, {key.removeprefix("model."): value for key, value in whole.items() if key.startswith("model.")}


@contextlib.contextmanager
def averaged(engine: Engine, average: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in the model's place, for the time of the context."""
    with engine.whole() as state:
        kept = {key: value.clone() for key, value in state.items()}
    _put(engine, average)
    try:
        yield
    finally:
        _put(engine, kept)


def _put(engine: Engine, values: Mapping[str, Tensor]) -> None:
    with engine.whole(write=True) as state, torch.no_grad():
        for key, value in state.items():
            value.copy_(values[key])


def judge_all(engine: Engine, examples: Examples, *, batch_size: int = 16) -> Prediction[Tensor]:
    """Judge every row's first view, in batches that the processes share; all of them get it all."""
    engine.module.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(examples), batch_size):
            rows = np.arange(start, min(start + batch_size, len(examples)))
            inputs = torch.from_numpy(np.array(examples.inputs[rows[engine.share(len(rows))], 0]))
            parts.append(Prediction(*engine(len(rows), inputs)))
    columns = zip(*parts, strict=True)
    joined: list[Any] = [None if column[0] is None else torch.cat(column).float() for column in columns]
    return Prediction(*joined)


def _fit_closed_form(engine: Engine, model: Trainable, train: Examples, average: dict[str, Tensor]) -> None:
    """Fit what the model fits in closed form, in the averaged weights."""
    if not model.has_closed_form:
        return
    targets = (torch.from_numpy(x).to(engine.device) for x in (train.scores, train.stream, train.stream_weights))
    model.fit_closed_form(judge_all(engine, train), *targets)
    with engine.whole() as state:
        for key, value in state.items():
            average[key].copy_(value)


def _one_cycle(progress: float, warm_up: float = 0.1) -> float:
    """Share of the peak learning rate: linear rise, then half a cosine down to 0."""
    if progress < warm_up:
        return (progress + 1e-3) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _batch(
    train: Examples, rows: list[int], augment: Augment | None, *, seed: int, epoch: int, device: str
) -> dict[str, Tensor]:
    """One batch's tensors. Each row shows one of its views, or a sample of it, drawn anew each epoch."""
    generator = np.random.default_rng([seed, epoch, rows[0]])
    views = generator.integers(train.inputs.shape[1], size=len(rows))
    shown = [train.inputs[row, view] for row, view in zip(rows, views, strict=True)]
    if augment is not None:
        shown = [sample_view(view, train.patch_px, augment, generator, train.frames_each) for view in shown]
    contents = [train.contents[row] for row in rows]
    terms = train.stream[rows]
    terms[generator.random(len(rows)) < UNNAMED_SHARE, NUM_BITSTREAM_FEATURES:] = 0
    terms[generator.random(len(rows)) >= train.stream_weights[rows]] = np.nan  # so often that their weight comes out
    batch = {
        "inputs": torch.from_numpy(np.stack(shown)),
        "label": torch.from_numpy(train.scores[rows]).to(device),
        "class": torch.from_numpy(train.classes[rows]).to(device),
        "group": torch.from_numpy(train.groups[rows]).to(device),
        "stream": torch.from_numpy(terms).to(device),
        "content": torch.from_numpy(np.unique(contents, return_inverse=True)[1]).to(device),
    }
    for field in ("scores", "levels", "features"):
        if field in train.targets:
            batch[field] = torch.from_numpy(train.targets[field][rows, views]).to(device)
    return batch


def sample_view(
    view_TSSC: NDArray[Any], patch_px: int, augment: Augment, generator: np.random.Generator, frames_each: int = 1
) -> NDArray[Any]:
    """A part of a view: some frames, or pairs of them, in order, some patches in any order, maybe mirrored.

    The label is the whole clip's, so any part must bear it; and a patch's artifacts look the same wherever it
    lies. Parts are cheap and many, which a student that starts from nothing needs more than whole views.
    """
    frames, size = view_TSSC.shape[:2]
    steps = frames // frames_each
    kept = np.sort(generator.choice(steps, min(augment.sample_frames, steps), replace=False))
    kept_frames = (kept[:, None] * frames_each + np.arange(frames_each)).ravel()
    if augment.sample_grid is None:
        frames_alone: NDArray[Any] = view_TSSC[kept_frames]
        return frames_alone
    grid = size // patch_px
    side = min(augment.sample_grid, grid)
    cells = generator.permutation(grid * grid)[: side * side]
    patches = view_TSSC[kept_frames].reshape(len(kept_frames), grid, patch_px, grid, patch_px, 3)
    chosen = patches[:, cells // grid, :, cells % grid]  # (cells, T, P, P, C): indexed axes come first
    if generator.random() < 0.5:
        chosen = chosen[:, :, :, ::-1]
    parts = chosen.reshape(side, side, len(kept_frames), patch_px, patch_px, 3).transpose(2, 0, 3, 1, 4, 5)
    return np.ascontiguousarray(parts).reshape(len(kept_frames), side * patch_px, side * patch_px, 3)


def _move_average(average: dict[str, Tensor], new: Mapping[str, Tensor], decay: float) -> None:
    """Exponential moving average of trained weights and of batch-norm statistics."""
    with torch.no_grad():
        for key, value in average.items():
            if value.is_floating_point():
                value.lerp_(new[key], 1 - decay)
            else:
                value.copy_(new[key])


def _save(path: Path, value: object, engine: Engine) -> None:
    if engine.where.rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        torch.save(value, partial)
        os.replace(partial, path)


def _checkpoint(
    scratch: Path, engine: Engine, average: Mapping[str, Tensor], history: list[dict[str, float]], step: int
) -> None:
    """Everything that the next epoch needs; the last checkpoint stays whole until this one is."""
    epoch = len(history)
    if engine.where.rank == 0:
        write_json(scratch / "history.json", history)
    extra = engine.save(scratch, f"epoch-{epoch}")
    with engine.whole() as state:
        now = {key: value.cpu() for key, value in state.items()}
    _save(
        scratch / "checkpoint.pt",
        {"state": now, "average": dict(average), "step": step, "epoch": epoch, **extra},
        engine,
    )
    if engine.where.rank == 0:
        for old in scratch.glob("epoch-*"):
            if old.name != f"epoch-{epoch}":
                shutil.rmtree(old)


def _resume(scratch: Path, engine: Engine, average: dict[str, Tensor]) -> tuple[list[dict[str, float]], int]:
    """Take up the last finished epoch, if there is one: (history, step)."""
    path = scratch / "checkpoint.pt"
    if not path.is_file():
        return [], 0
    saved = torch.load(path, weights_only=True, map_location=engine.device)
    engine.load(scratch, f"epoch-{saved['epoch']}", saved)
    _put(engine, saved["state"])
    for key, value in average.items():
        value.copy_(saved["average"][key])
    history = json.loads((scratch / "history.json").read_text())
    return history[: saved["epoch"]], saved["step"]


def _barrier(engine: Engine) -> None:
    if engine.where.world > 1:
        torch.distributed.barrier()
