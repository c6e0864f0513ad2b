"""The trainer: one loop for the teacher and for the student.

Reads pixels, labels and soft targets by row; selects on validation contents; resumes exactly. Shapes: N rows,
V views a clip, T frames, S pixels a side: pixels_NVTSSC uint8.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill import losses
from distill.batches import epoch_batches
from rungwise.artefact import write_json
from rungwise.config import Training
from rungwise.contract import Scale
from rungwise.progress import note, track
from rungwise.statistics import srcc


@dataclass(frozen=True)
class Examples:
    """What is learnt from, by row. `targets` holds the teacher's tensors by view, or nothing."""

    pixels: NDArray[np.uint8]  # (N, V, T, S, S, 3), may be a memory map
    scores: NDArray[np.float32]  # (N,), label's scale, higher is better
    contents: tuple[str, ...]
    patch_px: int  # side of the patches a view is stitched from
    targets: Mapping[str, NDArray[np.float32]]  # "levels" (N, V, K), "features" (N, V, D), "scores" (N, V)

    def __len__(self) -> int:
        return len(self.contents)


class Judged(Protocol):
    """What a teacher or a student returns."""

    @property
    def score(self) -> Tensor: ...
    @property
    def logits(self) -> Tensor: ...
    @property
    def feature(self) -> Tensor: ...


def judge(
    model: nn.Module, pixels: NDArray[np.uint8], *, batch_size: int = 16, device: str = "cpu"
) -> Iterator[Judged]:
    """Judge pixels_NTSSC in batches, without gradients: the one way to get numbers from a torch model."""
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            yield model(torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device))


def predict(model: nn.Module, pixels: NDArray[np.uint8], *, device: str = "cpu") -> NDArray[np.float32]:
    """Scores of pixels_NTSSC, (N,) float32, on the label's scale."""
    return np.concatenate([judged.score.float().cpu().numpy() for judged in judge(model, pixels, device=device)])


def loss_terms(
    judged: Judged,
    batch: Mapping[str, Tensor],
    scale: Scale,
    weights: Mapping[str, float],
    projector: nn.Module,
) -> dict[str, Tensor]:
    """The named terms whose weight is above 0, on one batch."""
    span = scale.maximum - scale.minimum
    score, label = (judged.score - scale.minimum) / span, (batch["label"] - scale.minimum) / span
    terms: dict[str, Callable[[], Tensor]] = {
        "label": lambda: losses.label_loss(score, label),
        "plcc": lambda: losses.plcc_loss(score, label),
        "rank": lambda: losses.rank_loss(score, label),
        "soft_target": lambda: losses.soft_target_loss(judged.logits, batch["levels"]),
        "feature": lambda: losses.feature_loss(projector(judged.feature), batch["features"]),
    }
    return {name: term() for name, term in terms.items() if weights[name] > 0}


def fit(
    model: nn.Module,
    train: Examples,
    validation: Examples,
    training: Training,
    scale: Scale,
    *,
    seed: int,
    scratch: Path,
    name: str,
    device: str = "cpu",
) -> list[dict[str, float]]:
    """Train `model` in place and leave in it the averaged weights of the best epoch on validation contents.

    Each epoch ends in a checkpoint in `scratch`; a killed run goes on from it and, on a CPU with the same number
    of threads, ends in the same bits.

    The best epoch is the one of least validation RMSE: with few validation contents SRCC jumps more.

    Returns:
        One dict an epoch: mean of every loss term and, where judged, validation SRCC and RMSE (label units).

    Raises:
        ValueError: a loss wants a teacher's targets and there are none.
    """
    weights = training.losses.model_dump()
    for term, field in (("soft_target", "levels"), ("feature", "features")):
        if weights[term] > 0 and field not in train.targets:
            raise ValueError(f"{name}: loss {term!r} has weight {weights[term]} but there are no teacher {field}")
    torch.manual_seed(seed)
    projector: nn.Module = nn.Identity()
    if weights["feature"] > 0:
        own_width = next(judge(model, train.pixels[:1, 0])).feature.shape[-1]
        projector = nn.Linear(own_width, train.targets["features"].shape[-1])
    model.to(device)
    projector.to(device)
    average = copy.deepcopy(model)
    backbone = [p for name, p in model.named_parameters() if name.startswith("backbone.") and p.requires_grad]
    heads = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    optimizer = torch.optim.AdamW(
        [
            {"params": backbone, "peak": training.backbone_learning_rate},
            {"params": [*heads, *projector.parameters()], "peak": training.learning_rate},
        ],
        weight_decay=training.weight_decay,
    )
    batching = {
        "contents_per_batch": training.contents_per_batch,
        "clips_per_content": training.clips_per_content,
    }
    plan = [epoch_batches(train.contents, **batching, seed=seed, epoch=epoch) for epoch in range(training.epochs)]
    total_steps = sum(len(batches) for batches in plan)
    state = {"model": model, "projector": projector, "average": average}
    history, step = _resume(scratch, state, optimizer)
    left = range(len(history), training.epochs)
    for epoch in track(left, name, total=len(left)):
        sums: dict[str, float] = {}
        model.train()
        for rows in plan[epoch]:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _one_cycle(step / total_steps)
            batch = _batch(train, rows, training, seed=seed, epoch=epoch, device=device)
            terms = loss_terms(model(batch["frames"]), batch, scale, weights, projector)
            loss = losses.total_loss(terms, weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*backbone, *heads], 1.0)
            optimizer.step()
            step += 1
            _move_average(average, model, min(training.ema_decay, step / (step + 10)))
            for term, value in terms.items():
                sums[term] = sums.get(term, 0.0) + float(value.detach()) / len(plan[epoch])
        row = dict(sums)
        if (epoch + 1) % training.validate_every == 0 or epoch + 1 == training.epochs:
            predicted = predict(average, validation.pixels[:, 0], device=device)
            row["validation_srcc"] = srcc(validation.scores, predicted)
            row["validation_rmse"] = float(np.sqrt(np.mean((predicted - validation.scores) ** 2)))
            earlier = [entry["validation_rmse"] for entry in history if "validation_rmse" in entry]
            if row["validation_rmse"] <= min(earlier, default=math.inf):
                _save(scratch / "best.pt", average.state_dict())
        history.append(row)
        write_json(scratch / "history.json", history)
        everything = {part: module.state_dict() for part, module in state.items()}
        _save(
            scratch / "checkpoint.pt",
            everything | {"optimizer": optimizer.state_dict(), "step": step, "epoch": epoch},
        )
        if "validation_srcc" in row:
            figures = ", ".join(f"{term} {value:.4f}" for term, value in row.items())
            note(f"{name}: epoch {epoch + 1}/{training.epochs}: {figures}")
    model.load_state_dict(torch.load(scratch / "best.pt", weights_only=True))
    model.eval()
    return history


def _one_cycle(progress: float, warm_up: float = 0.1) -> float:
    """Share of the peak learning rate: linear rise, then half a cosine down to 0."""
    if progress < warm_up:
        return (progress + 1e-3) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _batch(
    train: Examples, rows: list[int], training: Training, *, seed: int, epoch: int, device: str
) -> dict[str, Tensor]:
    """One batch's tensors. Each row shows a sample of one of its views, drawn anew each epoch."""
    generator = np.random.default_rng([seed, epoch, rows[0]])
    views = generator.integers(train.pixels.shape[1], size=len(rows))
    frames = np.stack(
        [
            sample_view(train.pixels[row, view], train.patch_px, training, generator)
            for row, view in zip(rows, views, strict=True)
        ]
    )
    batch = {"frames": torch.from_numpy(frames), "label": torch.from_numpy(train.scores[rows])}
    for field in ("levels", "features"):
        if field in train.targets:
            batch[field] = torch.from_numpy(train.targets[field][rows, views])
    return {field: tensor.to(device) for field, tensor in batch.items()}


def sample_view(
    view_TSSC: NDArray[np.uint8], patch_px: int, training: Training, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """A part of a view: some frames in order, some patches in any order, maybe mirrored.

    The label is the whole clip's, so any part must bear it; and a patch's artefacts look the same wherever it
    lies. Parts are cheap and many, which a student that starts from nothing needs more than whole views.
    """
    frames, size = view_TSSC.shape[:2]
    grid = size // patch_px
    kept_frames = np.sort(generator.choice(frames, min(training.sample_frames, frames), replace=False))
    side = min(training.sample_grid, grid)
    cells = generator.permutation(grid * grid)[: side * side]
    patches = view_TSSC[kept_frames].reshape(len(kept_frames), grid, patch_px, grid, patch_px, 3)
    chosen = patches[:, cells // grid, :, cells % grid]  # (cells, T, P, P, C): indexed axes come first
    if generator.random() < 0.5:
        chosen = chosen[:, :, :, ::-1]
    parts = chosen.reshape(side, side, len(kept_frames), patch_px, patch_px, 3).transpose(2, 0, 3, 1, 4, 5)
    return np.ascontiguousarray(parts).reshape(len(kept_frames), side * patch_px, side * patch_px, 3)


def _move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and of batch-norm statistics."""
    new = model.state_dict()
    with torch.no_grad():
        for key, value in average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[key], 1 - decay)
            else:
                value.copy_(new[key])


def _save(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(value, partial)
    os.replace(partial, path)


def _resume(
    scratch: Path, state: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[list[dict[str, float]], int]:
    """Take up the last finished epoch, if there is one: (history, step)."""
    path = scratch / "checkpoint.pt"
    if not path.is_file():
        return [], 0
    saved = torch.load(path, weights_only=True)
    for part, module in state.items():
        module.load_state_dict(saved[part])
    optimizer.load_state_dict(saved["optimizer"])
    history = json.loads((scratch / "history.json").read_text())
    return history[: saved["epoch"] + 1], saved["step"]
