"""The protocol of students: what training, export and checkpoints ask of one."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from rungwise.prediction import Prediction


class Student(Protocol):
    """A student is an `nn.Module` with these members; `QualityStudent` (student/quality_student.py) has defaults.

    `forward(frames_BTHWC, terms_BF=None)` is `upper(lower(frames_BTHWC), terms_BF)`. Frames are uint8 RGB, terms are
    bitstream features (rungwise/bitstream/features.py) of a hybrid student. Shapes: B clips, F features.
    """

    @property
    def lower_is_frozen(self) -> bool:
        """Whether no weight of `lower` is trained, so that its output may be stored once and reused."""

    @property
    def is_hybrid(self) -> bool:
        """Whether the student takes bitstream features beside pixels."""

    @property
    def scores_patches(self) -> bool:
        """Whether each patch has a score of its own."""

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The stem, or what else may be frozen: frames to one tensor, clips first."""

    def upper(self, hidden: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Everything above."""
