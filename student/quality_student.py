"""The base class of students: defaults for one without frozen layers or bitstream features."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from rungwise.prediction import Prediction
from student.protocol import Student
from student.styleprompt import StreamPrompt, StylePrompt


class QualityStudent(nn.Module, Student):
    """Subclasses define `upper`, and `lower` too where layers are frozen."""

    SIZES: ClassVar[dict[str, dict[str, Any]]]
    """named sizes: constructor settings"""

    def forward(self, frames_BTHWC: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips of uint8 RGB frames, with their bitstream features if given."""
        return self.upper(self.lower(frames_BTHWC), terms_BF)

    @property
    def lower_is_frozen(self) -> bool:
        """By default all layers train."""
        return False

    @property
    def is_hybrid(self) -> bool:
        """By default pixels are all that is taken."""
        return False

    @property
    def scores_patches(self) -> bool:
        """By default views are scored whole."""
        return False

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """The frames themselves: `upper` is the whole model."""
        return frames_BTHWC

    def recompute_activations(self) -> None:
        """Recompute activations in the backward pass to save memory; by default they are kept."""

    def tune_prompts(self) -> None:
        """Freeze everything but the prompts and the heads' last layers.

        Raises:
            ValueError: there are no prompts.
        """
        prompts = [module for module in self.modules() if isinstance(module, StylePrompt | StreamPrompt)]
        if not prompts:
            raise ValueError("student.tune styleprompt: the student has no prompts; set student.prompts above 0")
        self.requires_grad_(False)
        for module in (*prompts, *self.last_layers):
            module.requires_grad_(True)

    def tune_head(self) -> None:
        """Freeze everything but `head`, what comes after the pooled feature, and the other heads' last layers."""
        self.requires_grad_(False)
        for module in (self.get_submodule("head"), *self.last_layers):
            module.requires_grad_(True)

    @property
    def last_layers(self) -> tuple[nn.Module, ...]:
        """The heads' last layers."""
        return ()
