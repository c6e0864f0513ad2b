"""The base class of teachers: defaults for a teacher without frozen layers or a closed-form part."""

from __future__ import annotations

from torch import Tensor, nn

from rungwise.prediction import Prediction
from teacher.protocol import Teacher


class QualityTeacher(nn.Module, Teacher):
    """Subclasses define `upper`, and `lower` too where layers are frozen."""

    sees_master: bool = False
    full_precision: tuple[str, ...] = ()

    def forward(self, frames_BTHWC: Tensor) -> Prediction[Tensor]:
        """Score clips of uint8 RGB frames on the label's scale."""
        return self.upper(self.lower(frames_BTHWC))

    @property
    def lower_is_frozen(self) -> bool:
        """By default all layers train."""
        return False

    @property
    def has_closed_form(self) -> bool:
        """By default all parts are trained by gradient."""
        return False

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The frames themselves: `upper` is the whole model."""
        return frames_BTHWC

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Everything above `lower`."""
        raise NotImplementedError

    def fit_closed_form(self, prediction: Prediction[Tensor], score_N: Tensor) -> None:
        """There is no such part."""
        raise NotImplementedError

    def recompute_activations(self) -> None:
        """Not supported."""
        raise NotImplementedError

    def compile_blocks(self) -> None:
        """By default nothing is compiled."""

    def prepare_for_inference(self) -> None:
        """By default the model is as fast as it gets."""
