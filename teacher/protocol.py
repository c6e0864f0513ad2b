"""The protocol of teachers: what training, the cache and checkpoints ask of one."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from rungwise.prediction import Prediction


class Teacher(Protocol):
    """A teacher is an `nn.Module` with these members; `QualityTeacher` (teacher/quality_teacher.py) has defaults.

    `forward(frames_BTHWC)` is `upper(lower(frames_BTHWC))`; frames are uint8 RGB. Shapes: B clips, N train clips.
    """

    sees_master: bool
    """Whether frames have six channels, the encode's RGB and its master's; `lower` is then frozen, and its output comes
    from the stage `parts` (distill/reference.py)."""

    full_precision: tuple[str, ...]
    """Names of the layers that stay in fp32 when weights are stored in bf16."""

    @property
    def lower_is_frozen(self) -> bool:
        """Whether no weight of `lower` is trained, so that its output may be stored once and reused."""

    @property
    def has_closed_form(self) -> bool:
        """Whether `fit_closed_form` fits a part of the teacher after the gradient steps."""

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The frozen layers: frames to one tensor, clips first. Where nothing is frozen, the frames themselves."""

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Everything above the frozen layers."""

    def fit_closed_form(self, prediction: Prediction[Tensor], score_N: Tensor) -> None:
        """Fit the closed-form part to the predictions of train clips and their labels."""

    def recompute_activations(self) -> None:
        """Recompute activations in the backward pass to save memory.

        Raises:
            NotImplementedError: this teacher can't.
        """

    def compile_blocks(self) -> None:
        """Compile what is worth it on a GPU; weights and their names stay."""

    def prepare_for_inference(self) -> None:
        """Change the model in place into one that gives the same output faster on a GPU and can't be trained or saved.

        Called once, before weights turn bf16.
        """
