"""The base class of students whose own first layers see the pixels: a backbone over each frame, a layer over time, the
shared output heads. ImageNet weights come from a file that the user has.

Shapes: B clips, T frames, N = B * T, H W pixels, C channels, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from rungwise.prediction import Prediction
from rungwise.progress import note
from student.head import HeadSettings, LevelHead
from student.quality_student import QualityStudent
from student.styleprompt import make_prompts
from teacher.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from teacher.weights import account, read_foreign


class PixelStudent(QualityStudent):
    """Subclasses set `backbone`, call `add_heads` last, and define `frame_features` and `own_keys`.

    All that a checkpoint of the backbone can fill is in `backbone`, which trains at the backbone's learning rate.
    """

    backbone: nn.ModuleDict
    EXTRAS: tuple[str, ...] = ()
    """beginnings of a checkpoint's keys that are read over: its class heads"""

    def __init__(self, **shared: Unpack[HeadSettings]) -> None:
        super().__init__()
        self.shared = shared
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)

    def add_heads(self, temporal: nn.Module, stage_channels: Sequence[int]) -> None:
        """Add the layer over time, the output heads and a prompt for each stage's map."""
        shared = self.shared
        self.temporal = temporal
        self.head = LevelHead(shared, stream=shared["hybrid"], frames_per_step=1)
        self.prompts = make_prompts(tuple(stage_channels), shared["prompts"])

    def frame_features(self, x_NCHW: Tensor) -> Tensor:
        """Each frame's feature_ND from its normalized pixels."""
        raise NotImplementedError

    def upper(self, hidden: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips of frames_BTHWC RGB."""
        frame_BTD = self.frame_features(self.normalize(hidden)).unflatten(0, (-1, hidden.shape[1]))
        prediction: Prediction[Tensor] = self.head(self.temporal(frame_BTD), terms_BF)
        return prediction

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        """The level head's."""
        return (self.head.levels,)

    @property
    def is_hybrid(self) -> bool:
        """Whether there is a head for bitstream features."""
        return self.shared["hybrid"]

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's weights under the names and shapes of `backbone`."""
        return state


def load_backbone(model: PixelStudent, checkpoint: str | None) -> None:
    """Fill the backbone from a file, strictly; what only classifies in it is left out.

    Raises:
        ValueError: a key is unknown, missing, or of another shape; the first is named.
    """
    if checkpoint is None:
        note("distill: the student's backbone starts from random weights (checkpoint: null)")
        return
    state, card = read_foreign(checkpoint)
    state, want = model.own_keys(state), model.backbone.state_dict()
    account(state, want, card, extras=model.EXTRAS)
    model.backbone.load_state_dict({key: state[key] for key in card.used}, strict=True)
    note(f"distill: {card.summary()}")
