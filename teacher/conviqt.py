"""CONVIQT (arXiv 2206.14713): a frame CNN and a GRU, trained without labels to tell encoder settings apart.

An encoder gives the classes for nothing: clips of one codec and one rung are one class. The score is a ridge
regression on the frozen features. As published: chunks of 16 frames through the GRU, two scales, a contrast between one
scale of one clip and the other scale of another, a projector with batch norms that is dropped. On purpose not: the CNN
is ImageNet's where no other is given, its batch norms keep their statistics, and the two clips are the halves of one
view (two chunks where it has 32 frames), so that a video is decoded once.
Shapes: B clips, T frames, C channels of the CNN, G the GRU's width, Z that of embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from rungwise.config import ConviqtTeacher
from rungwise.lite0 import match_keys, weights_path
from rungwise.prediction import Prediction
from rungwise.progress import note
from rungwise.score.views import ViewRecipe
from teacher.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from teacher.numerics import keep_batch_statistics, vectorize
from teacher.quality_teacher import QualityTeacher
from teacher.weights import account, read_foreign

RIDGE_ALPHA: Final = 0.1
CHUNK: Final = 16  # frames that the GRU sees from a fresh state
# Class heads, which a feature extractor has no use for.
EXTRAS = ("fc.", "classifier.", "head.", "conv_head.", "bn2.")


class Conviqt(QualityTeacher):
    """feature_B(2G): L2-normalized frame features at native and half scale, each through the GRU, mean over time.

    The CNN's batch norms keep the statistics they come with: batches of one ladder are no fair sample of pictures.
    """

    def __init__(
        self, *, backbone: str, gru_dim: int, contrast_dim: int, num_levels: int, minimum: float, maximum: float
    ) -> None:
        """`contrast_dim` 0: without the projector, as the model is once trained."""
        super().__init__()
        self.backbone = cast(Any, timm.create_model(backbone, pretrained=False, features_only=True))
        self.gru = nn.GRU(self.backbone.feature_info.channels()[-1], gru_dim, batch_first=True)
        self.projector = (
            nn.Sequential(
                nn.Linear(gru_dim, gru_dim, bias=False),
                nn.BatchNorm1d(gru_dim),
                nn.ReLU(),
                nn.Linear(gru_dim, contrast_dim, bias=False),
                nn.BatchNorm1d(contrast_dim),
            )
            if contrast_dim
            else None
        )
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.num_levels, self.minimum, self.maximum = num_levels, minimum, maximum
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(2 * gru_dim))
        self.register_buffer("bias", torch.tensor((minimum + maximum) / 2))

    def train(self, mode: bool = True) -> Conviqt:
        """Training mode, but for batch norm."""
        super().train(mode)
        return keep_batch_statistics(self)

    @property
    def has_closed_form(self) -> bool:
        """The score is a ridge regression."""
        return True

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips of frames_BTHWC uint8 RGB, with embeddings_B2Z while there is a projector."""
        x_NCHW = self.normalize(hidden)
        native_BTC, half_BTC = (
            functional.normalize(self.backbone(x)[-1].mean((2, 3)), dim=-1).unflatten(0, hidden.shape[:2])
            for x in (x_NCHW, functional.avg_pool2d(x_NCHW, 2))
        )
        feature = torch.cat([self.over_time(native_BTC), self.over_time(half_BTC)], -1)
        embeddings = None
        if self.projector is not None:
            middle = hidden.shape[1] // 2
            clips = self.over_time(native_BTC[:, : middle or 1]), self.over_time(half_BTC[:, middle:])
            projected = self.projector(torch.stack(clips, 1).flatten(0, 1)).unflatten(0, (-1, 2))
            embeddings = functional.normalize(projected, dim=-1)
        score = feature.float() @ self.weight + self.bias
        share = (score - self.minimum) / (self.maximum - self.minimum)
        return Prediction(score, vectorize(share, self.num_levels), feature, embeddings=embeddings)

    def over_time(self, frame_BTC: Tensor) -> Tensor:
        """Mean of the GRU's states_BG, chunk by chunk."""
        return torch.cat([self.gru(chunk_BTC)[0] for chunk_BTC in frame_BTC.split(CHUNK, 1)], 1).mean(1)

    def fit_closed_form(self, prediction: Prediction[Tensor], score_N: Tensor) -> None:
        """Ridge regression of labels on features, alpha 0.1, intercept unpenalized (section 4)."""
        weight, bias = ridge(prediction.feature.double(), score_N.double(), RIDGE_ALPHA)
        self.weight.copy_(weight)
        self.bias.copy_(bias)


def ridge(x_ND: Tensor, y_N: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(weight_D, bias) of least |y - xw - b|^2 + alpha |w|^2, by the smaller of the two normal equations."""
    x_mean, y_mean = x_ND.mean(0), y_N.mean()
    x, y = x_ND - x_mean, y_N - y_mean
    rows, columns = x.shape
    if rows < columns:
        weight = x.T @ torch.linalg.solve(x @ x.T + alpha * torch.eye(rows, dtype=x.dtype, device=x.device), y)
    else:
        weight = torch.linalg.solve(x.T @ x + alpha * torch.eye(columns, dtype=x.dtype, device=x.device), x.T @ y)
    return weight, y_mean - x_mean @ weight


def conviqt_settings(teacher: ConviqtTeacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from the config's section."""
    return teacher.model_dump(include={"backbone", "gru_dim", "contrast_dim", "num_levels"})


def load_conviqt(model: Conviqt, teacher: ConviqtTeacher) -> None:
    """Fill the CNN from `teacher.checkpoint`, strictly.

    Raises:
        ValueError: a key is unknown, missing, or of another shape; the first is named.
    """
    want = model.backbone.state_dict()
    if teacher.checkpoint is None:
        note("teach: conviqt's CNN starts from random weights (checkpoint: null)")
    elif teacher.checkpoint == "imagenet_lite0":
        foreign = torch.load(weights_path(), map_location="cpu", weights_only=True)
        keys = match_keys(want, foreign, str(weights_path()))
        model.backbone.load_state_dict({own: foreign[key] for own, key in keys.items()}, strict=True)
    else:
        state, card = read_foreign(teacher.checkpoint)
        account(state, want, card, extras=EXTRAS)
        model.backbone.load_state_dict({key: state[key] for key in card.used}, strict=True)
        note(f"teach: {card.summary()}")


def without_projector(
    settings: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Drop the projector, which only the contrast needs."""
    state = {key: value for key, value in state.items() if not key.startswith("projector.")}
    return {**settings, "contrast_dim": 0}, dict(state)
