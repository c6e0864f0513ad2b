"""From a batch's prediction to its loss: the values that losses are functions of, and the modules only they need.

Shapes: B clips, V views, T frames, D feature width, Z embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill import rated_maps
from distill.examples import LAYER, Examples
from distill.losses import LOSSES, TEMPERATURE, total_loss
from distill.predict import predict_batches
from rungwise.config import BitrateGroups
from rungwise.prediction import Prediction
from rungwise.score.contract import Scale

EMBEDDING_DIM: Final = 64
TARGETS = {
    "teacher_score": "scores",
    "teacher_levels": "levels",
    "teacher_feature": "features",
    "teacher_patch_score": "patch_scores",
}


class Objective:
    """The weighted losses of one training."""

    def __init__(
        self,
        weights: Mapping[str, float],
        scale: Scale,
        groups: BitrateGroups | None = None,
        sets: Sequence[str] = (),
    ) -> None:
        """`sets`: names of the rated sets, where there are several."""
        self.weights, self.scale, self.groups, self.sets = weights, scale, groups, sets
        self.needs = {need for name in weights for need in LOSSES[name].needs}

    def check_targets(self, train: Examples, name: str) -> None:
        """
        Raises:
            ValueError: a loss needs a target of the teacher and there is none.
        """
        for term, weight in self.weights.items():
            for need in LOSSES[term].needs:
                if need == "teacher_layers" and not any(field.startswith(LAYER) for field in train.targets):
                    raise ValueError(f"{name}: loss {term!r} has weight {weight} but the cache holds no layers")
                if need in TARGETS and TARGETS[need] not in train.targets:
                    raise ValueError(f"{name}: loss {term!r} has weight {weight} but there are no teacher "
                                     f"{TARGETS[need]}")  # fmt: skip

    def __call__(self, prediction: Prediction[Tensor], batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its terms by name."""
        terms = self.terms(prediction, batch)
        return total_loss(terms, self.weights), terms

    def terms(self, prediction: Prediction[Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each loss over the clips that it is for; 0 where the batch has none."""
        values = self.values(prediction, batch)
        clips = {"labeled": ~values["label"].isnan(), "ordered": ~values["order"].isnan()}
        if "bitstream" in batch:
            clips["hybrid"] = clips["labeled"] & ~batch["bitstream"].isnan().any(1)
        chosen = {"all": values}  # each set of clips is cut out once: gradients then add up in one order
        terms = {}
        for name in self.weights:
            loss = LOSSES[name]
            if loss.clips not in chosen:
                rows = clips[loss.clips]
                chosen[loss.clips] = {need: value[rows] if value.ndim else value for need, value in values.items()}
            arguments = [chosen[loss.clips][need] for need in loss.needs]
            terms[name] = loss.function(*arguments) if len(arguments[0]) else 0 * prediction.score.sum()
        return terms

    def values(self, prediction: Prediction[Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What losses may need, one row a clip. Scores and labels are fractions of the label's range."""

        def fraction(score: Tensor) -> Tensor:
            return (score.float() - self.scale.minimum) / (self.scale.maximum - self.scale.minimum)

        label = fraction(batch["label"])
        values = {
            "score": fraction(prediction.score),
            "logits": prediction.logits.float(),
            "feature": prediction.feature.float(),
            "label": label,
            "order": label,
            "margin": torch.tensor(self.groups.margin if self.groups else 0.0),
        }
        values |= {name: batch[name] for name in ("setting", "group", "content") if name in batch}
        if prediction.embeddings is not None:
            embeddings = prediction.embeddings.float()
            values |= {"embeddings": embeddings, "embedding": embeddings[:, 0]}
        if prediction.projected is not None:
            values["projected"] = prediction.projected.float()
        if prediction.deviation is not None:
            values["deviation"] = prediction.deviation.float() / (self.scale.maximum - self.scale.minimum)
        if prediction.fused is not None:
            values["hybrid_score"] = fraction(prediction.fused)
        if "scores" in batch:
            values["teacher_score"] = fraction(batch["scores"])
            values["order"] = torch.where(label.isnan(), values["teacher_score"], label)
        values["level_label"], values["set_score"] = label, values["score"]
        if prediction.patch_scores is not None:
            values["patch_score"] = fraction(prediction.patch_scores)
        if prediction.fused_patch_scores is not None:
            values["hybrid_patch_score"] = fraction(prediction.fused_patch_scores)
        if "patch_scores" in batch:
            values["teacher_patch_score"] = fraction(batch["patch_scores"])
        if prediction.projected_layers is not None:
            values["projected_layers"] = prediction.projected_layers.float()
            layers = [batch[field] for field in batch if field.startswith(LAYER)]
            values["teacher_layers"] = torch.cat([_normalized(layer) for layer in layers], 1)
        if prediction.set_maps is not None and "set" in batch:
            scale_B, offset_B = rated_maps.of_rows(prediction.set_maps, batch["set"])
            for need in ("set_score", "hybrid_score"):
                if need in values:
                    values[need] = values[need] * scale_B + offset_B
            shared = (label - offset_B.detach()) / scale_B.detach().clamp(min=rated_maps.LOWEST_SCALE)
            values["level_label"] = shared.clamp(0, 1)
        values |= {
            need: batch[TARGETS[need]] for need in ("teacher_levels", "teacher_feature") if TARGETS[need] in batch
        }
        return values


def make_bundle(model: nn.Module, train: Examples, objective: Objective) -> Bundle:
    """The model with the projector and the embedder that its losses need."""
    projector: nn.Module = nn.Identity()
    embedder = None
    if objective.needs & {"projected", "projected_layers", "embedding", "embeddings"}:
        first = next(predict_batches(model, train.inputs[:1, 0]))
        width = first.feature.shape[-1]
        if "projected" in objective.needs:
            target_width = train.targets["features"].shape[-1]
            if first.projected is None or width != target_width:
                projector = nn.Linear(width, target_width)
        if "projected_layers" in objective.needs:
            widths = [values.shape[-1] for field, values in train.targets.items() if field.startswith(LAYER)]
            projector = LayerProjector(projector, width, widths)
        if objective.needs & {"embedding", "embeddings"} and first.embeddings is None:
            embedder = Embedder(width, objective.groups.temperature if objective.groups else TEMPERATURE)
    half_scale = "embeddings" in objective.needs
    return Bundle(model, projector, embedder, half_scale=half_scale, num_sets=len(objective.sets))


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


class LayerProjector(nn.Module):
    """The feature's projector, and one more for each of the teacher's layers; dropped after training."""

    def __init__(self, feature: nn.Module, width: int, layer_widths: Sequence[int]) -> None:
        super().__init__()
        self.feature = feature
        self.layers = nn.ModuleList([nn.Linear(width, layer_width) for layer_width in layer_widths])

    def forward(self, feature_BD: Tensor) -> Tensor:
        """The feature at the teacher's width."""
        projected: Tensor = self.feature(feature_BD)
        return projected

    def project_layers(self, feature_BD: Tensor) -> Tensor:
        """All layers side by side, each normalized."""
        return torch.cat([_normalized(layer(feature_BD)) for layer in self.layers], 1)


def _normalized(layer_BD: Tensor) -> Tensor:
    return functional.layer_norm(layer_BD.float(), layer_BD.shape[-1:])


class Bundle(nn.Module):
    """A model with what only its losses need: what an engine runs.

    `projector` takes the feature to the teacher's width, and to those of its layers. `embedder` makes embeddings where
    the model gives none; `half_scale` adds a second view of each clip to them, its frames at half their size (CONVIQT).
    `sets` maps the score to the labels of several rated sets.
    """

    def __init__(
        self,
        model: nn.Module,
        projector: nn.Module,
        embedder: nn.Module | None = None,
        *,
        half_scale: bool = False,
        num_sets: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.projector, self.embedder, self.half_scale = model, projector, embedder, half_scale
        self.sets = rated_maps.SetMaps(num_sets) if num_sets > 1 else None

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
        if isinstance(self.projector, LayerProjector):
            prediction = prediction._replace(projected_layers=self.projector.project_layers(prediction.feature))
        if self.sets is not None:
            prediction = prediction._replace(set_maps=self.sets(prediction.score))
        projected = self.projector(prediction.feature)
        return prediction._replace(frame_scores=None, embeddings=embeddings, projected=projected)


def _half(frames_BTHWC: Tensor) -> Tensor:
    x_NCHW = frames_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).float()
    half_BTHWC: Tensor = functional.avg_pool2d(x_NCHW, 2).permute(0, 2, 3, 1).unflatten(0, frames_BTHWC.shape[:2])
    return half_BTHWC
