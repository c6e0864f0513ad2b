"""The trainer: one loop for the teacher and for the student.

Read `fit`, then `Trainer.step`. Trains on examples by row, selects on validation contents, resumes exactly.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from distill import rated_maps
from distill.batches import epoch_batches
from distill.engine import ONE_PROCESS, Engine, make_engine
from distill.examples import Examples, make_batch
from distill.model import Trainable, closed_form
from distill.objective import Bundle, Objective, make_bundle
from distill.training_state import TrainingState
from rungwise.config import BitrateGroups, Execution, Training
from rungwise.metrics.statistics import srcc
from rungwise.prediction import Prediction
from rungwise.progress import note, track, warn
from rungwise.score.contract import Scale

WARM_UP: Final = 0.1  # fraction of the steps in which the learning rate rises
BACKBONES: Final = ("backbone.", "images.")  # pretrained parameters: they train at the backbone's learning rate
Watch = Callable[[int, Mapping[str, float]], None]  # epoch from 1, its figures


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
    sets: Sequence[str] = (),
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Train `model`; return its history and the state dict with the averaged weights of the best epoch.

    Each epoch ends in a checkpoint in `scratch`; a killed run resumes from it and, on a CPU with the same number of
    threads, ends in the same bits. The best epoch is the one of least validation RMSE: with few validation contents
    SRCC jumps more. A teacher that `has_closed_form` has a part that is fitted in closed form (ridge, an affine map)
    on the whole train split before each validation. Without `validation` the last epoch is taken. `watch` is
    called with every epoch's figures, the model being as it then is. `sets` names the rated sets, where there are
    several: each gets a map of the score, whose figures are in the history.

    Returns:
        One dict an epoch: mean of every loss term and of the gradient's norm before clipping and, where validated,
        validation SRCC and RMSE (label units). And the state dict, whole in the first process.

    Raises:
        ValueError: a loss needs a teacher's targets and there are none, or several processes without DeepSpeed.
    """
    objective = Objective(training.losses.used, scale, coarse_to_fine, sets)
    objective.check_targets(train, name)
    torch.manual_seed(seed)
    bundle = make_bundle(model, train, objective)
    engine = make_engine(
        bundle,
        parameter_groups(bundle, training),
        weight_decay=training.weight_decay,
        device=device,
        precision=precision,
        execution=execution,
    )
    state = TrainingState(engine, scratch)
    trainer = Trainer(model, state, objective, train, training, seed)
    epochs = range(len(state.history), training.epochs)
    for epoch in track(epochs, name, total=len(epochs)):
        row = trainer.epoch(epoch)
        if epoch + 1 == training.epochs or (validation is not None and (epoch + 1) % training.validate_every == 0):
            row |= trainer.validate(validation)
        state.save(row)
        if watch is not None and engine.where.rank == 0:
            watch(epoch + 1, row)
        if ("validation_srcc" in row or validation is None) and engine.where.rank == 0:
            figures = ", ".join(f"{figure} {value:.4f}" for figure, value in row.items())
            note(f"{name}: epoch {epoch + 1}/{training.epochs}: {figures}")
    best = state.read_best()
    model.eval()
    return state.history, {key.removeprefix("model."): best[key] for key in best if key.startswith("model.")}


def batch_kinds(train: Examples, training: Training, groups: BitrateGroups | None) -> Sequence[str] | None:
    """What the clips of a content should differ in within a batch, by row; null: in nothing."""
    if groups is not None and groups.mix:
        return [str(group) for group in train.groups]
    return train.codecs if training.mix_codecs else None


class Trainer:
    """One training: steps, epochs and validations."""

    def __init__(
        self,
        model: Trainable,
        state: TrainingState,
        objective: Objective,
        train: Examples,
        training: Training,
        seed: int,
    ) -> None:
        self.model, self.state, self.engine, self.objective = model, state, state.engine, objective
        self.train, self.training, self.seed = train, training, seed
        first = self.updates(0)
        total = training.epochs * len(first)  # epochs differ in their rows, not in their number of batches
        largest, world = max(len(rows) for batches in first for rows in batches), self.engine.where.world
        if world > largest and self.engine.where.rank == 0:
            warn(f"{world} processes, but a batch has {largest} clips at most: the others repeat work; "
                 "raise training.contents_per_batch or clips_per_content")  # fmt: skip
        self.schedule = LambdaLR(self.engine.adamw, lambda step: one_cycle(step / total), last_epoch=state.step - 1)

    def updates(self, epoch: int) -> list[list[list[int]]]:
        """The rows of each batch, by update of the weights."""
        batches = epoch_batches(
            self.train.contents,
            contents_per_batch=self.training.contents_per_batch,
            clips_per_content=self.training.clips_per_content,
            kinds=batch_kinds(self.train, self.training, self.objective.groups),
            seed=self.seed,
            epoch=epoch,
        )
        size = self.training.batches_per_step
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch; returns the mean of every loss term and of the gradient's norm."""
        self.engine.module.train()
        means: dict[str, float] = {}
        norms = []
        plan = self.updates(epoch)
        num_batches = sum(len(batches) for batches in plan)
        batches = self.read_ahead(itertools.chain(*plan), epoch)
        for update in plan:
            terms, norm = self.step(update, batches)
            norms.append(norm)
            for term, value in terms:
                means[term] = means.get(term, 0.0) + value / num_batches
        return means | {"gradient_norm": sum(norms) / len(norms)}

    def read_ahead(self, plan: Iterable[list[int]], epoch: int) -> Iterator[dict[str, Tensor]]:
        """The tensors of each batch; the next one is read from disk while the model works on this one."""
        waiting: deque[Future[dict[str, Tensor]]] = deque()
        with ThreadPoolExecutor(1) as reader:
            for rows in plan:
                make = partial(make_batch, self.train, rows, self.training.augment, seed=self.seed, epoch=epoch)
                own = self.engine.own_rows(len(rows))
                waiting.append(reader.submit(make, device=self.engine.device, own=own))
                if len(waiting) > 1:
                    yield waiting.popleft().result()
            yield waiting.popleft().result()

    def step(
        self, update: Sequence[list[int]], batches: Iterator[dict[str, Tensor]]
    ) -> tuple[list[tuple[str, float]], float]:
        """One update of the weights, by the mean gradient of some batches, given by their rows: terms of every batch,
        and the gradient's norm before clipping."""
        values, norm = [], None
        for number, rows in enumerate(update):
            batch, own = next(batches), self.engine.own_rows(len(rows))
            bitstream = [batch["bitstream"].nan_to_num()[own]] if "hybrid_score" in self.objective.needs else []
            prediction = Prediction(*self.engine(len(rows), batch.pop("inputs"), *bitstream))
            loss, terms = self.objective(prediction, batch)
            norm = self.engine.step(loss / len(update), update=number + 1 == len(update))
            values += [(term, float(value.detach())) for term, value in terms.items()]
        assert norm is not None, "the last batch updates the weights"
        self.schedule.step()
        self.state.update_average(self.training.ema_decay)
        return values, norm

    def validate(self, validation: Examples | None) -> dict[str, float]:
        """Fit what is fitted in closed form, and keep the averaged weights if they are the best yet; without
        `validation` they are."""
        with self.state.averaged():
            self.fit_closed_form()
            maps = rated_maps.figures(self.objective.sets, self.state.average)
            if validation is None:
                self.state.save_best()
                return maps
            scores = self.predict_scores(validation)
        rmse = float(np.sqrt(np.mean((scores - validation.scores) ** 2)))
        if rmse <= min((row.get("validation_rmse", math.inf) for row in self.state.history), default=math.inf):
            self.state.save_best()
        return {"validation_srcc": srcc(validation.scores, scores), "validation_rmse": rmse} | maps

    def predict_scores(self, validation: Examples) -> NDArray[np.float32]:
        """scores_N by which epochs are compared: hybrid ones where steps train them and a clip has its features."""
        terms = "hybrid_score" in self.objective.needs
        prediction = predict_all(self.engine, validation, terms=terms)
        scores: NDArray[np.float32] = prediction.score.cpu().numpy()
        if prediction.fused is not None:
            scores = np.where(np.isnan(validation.stream).any(1), scores, prediction.fused.cpu().numpy())
        if prediction.set_maps is None or validation.sets is None:
            return scores
        scale_N, offset_N = rated_maps.of_rows(prediction.set_maps.cpu(), torch.from_numpy(validation.sets))
        return rated_maps.on_own_scale(scores, scale_N.numpy(), offset_N.numpy(), self.objective.scale)

    def fit_closed_form(self) -> None:
        """Fit what the model fits in closed form, in the averaged weights."""
        teacher = closed_form(self.model)
        if teacher is None:
            return
        labels = torch.from_numpy(self.train.scores).to(self.engine.device)
        teacher.fit_closed_form(predict_all(self.engine, self.train), labels)
        self.state.replace_average()


def parameter_groups(bundle: Bundle, training: Training) -> list[dict[str, Any]]:
    """What trains, with its peak learning rate; what only the losses need is not clipped."""
    named = [(key.removeprefix("model."), p) for key, p in bundle.model.named_parameters() if p.requires_grad]
    backbone = [p for key, p in named if key.startswith(BACKBONES)]
    heads = [p for key, p in named if not key.startswith(BACKBONES)]
    embedder = [] if bundle.embedder is None else [p for p in bundle.embedder.parameters() if p.requires_grad]
    groups = (
        (backbone, training.backbone_learning_rate, True),
        (heads, training.learning_rate, True),
        ([*bundle.projector.parameters()], training.learning_rate, False),
        (embedder, training.learning_rate, False),
        (
            [] if bundle.sets is None else [*bundle.sets.parameters()],
            training.learning_rate * rated_maps.MAP_RATE,
            False,
        ),
    )
    return [{"params": params, "lr": peak, "initial_lr": peak, "clip": clip} for params, peak, clip in groups if params]


def one_cycle(progress: float) -> float:
    """Fraction of the peak learning rate: linear rise, then half a cosine down to 0."""
    if progress < WARM_UP:
        return (progress + 1e-3) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def predict_all(engine: Engine, examples: Examples, *, terms: bool = False, batch_size: int = 16) -> Prediction[Tensor]:
    """Predict every row's first view, in batches split over the processes; all of them get all predictions.

    `terms`: with bitstream features.
    """
    engine.module.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(examples), batch_size):
            rows = np.arange(start, min(start + batch_size, len(examples)))
            own = rows[engine.own_rows(len(rows))]
            inputs = [torch.from_numpy(np.array(examples.inputs[own, 0]))]
            if terms:
                inputs.append(torch.from_numpy(np.nan_to_num(examples.stream[own])))
            parts.append(Prediction(*engine(len(rows), *inputs)))
    columns = zip(*parts, strict=True)
    joined: list[Any] = [None if column[0] is None else torch.cat(column).float() for column in columns]
    return Prediction(*joined)
