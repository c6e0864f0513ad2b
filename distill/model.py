"""What the trainer takes: a teacher, a student, or the upper part of either."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from rungwise.prediction import Prediction
from student.quality_student import QualityStudent
from teacher.quality_teacher import QualityTeacher

Model: TypeAlias = QualityTeacher | QualityStudent


class Upper(nn.Module):
    """A model without its frozen lower layers; it takes their stored output."""

    def __init__(self, model: Model, name: str) -> None:
        """
        Raises:
            ValueError: the model's lower layers train, so their output can't be stored.
        """
        super().__init__()
        if not model.lower_is_frozen:
            raise ValueError(f"execution.keep_frozen: {name} so tuned has no frozen lower layers; set it to false")
        self.model = model

    def forward(self, hidden: Tensor, *more: Tensor) -> Prediction[Tensor]:
        """Predict from the lower layers' output, and from what else the model takes."""
        return self.model.upper(hidden, *more)


Trainable: TypeAlias = Model | Upper


def closed_form(model: Trainable) -> QualityTeacher | None:
    """The teacher, if a part of it is fitted in closed form after the gradient steps."""
    whole = model.model if isinstance(model, Upper) else model
    return whole if isinstance(whole, QualityTeacher) and whole.has_closed_form else None
