"""The InternVideo2 student: the teacher's own tower, smaller (InternVQA, arXiv 2502.19026).

As published, x = fc_norm(pool(tokens)) is the feature, matched to the teacher's x of the same width without a
projector, and the score is Linear(x). A frame's own score, which the paper has not, is Linear(x) of its tokens alone.
Shapes: B clips, T frames, N tokens, D width.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from rungwise.config import InternVideo2Student as Section
from rungwise.prediction import Prediction
from rungwise.progress import note
from rungwise.score.views import ViewRecipe
from student.head import in_fp32
from student.quality_student import QualityStudent
from teacher.internvideo2 import SIZES, ScoredTower, fill_tower, internvideo2_shape
from teacher.numerics import vectorize
from teacher.weights import read_foreign


class InternVideo2Student(ScoredTower, QualityStudent):
    """`shape` goes to the tower; `tune` says what of it trains, as for the teacher."""

    SIZES: ClassVar = {size: SIZES[size] for size in ("S", "B")}

    def upper(self, hidden: Tensor, terms_BF: Tensor | None = None) -> Prediction[Tensor]:
        """Score clips by what `lower` gave."""
        x_BND = self.tokens(hidden)
        feature_BD = self.backbone.pool(x_BND)
        num_frames = self.backbone.grid_THW[0]
        frame_BTD = self.backbone.pool(x_BND[:, 1:].unflatten(1, (num_frames, -1)).flatten(0, 1)).unflatten(
            0, (-1, num_frames)
        )
        fraction_B, fraction_BT = (in_fp32(self.score, feature).squeeze(-1) for feature in (feature_BD, frame_BTD))
        return Prediction(
            self._scaled(fraction_B),
            vectorize(0.5 + fraction_B, self.num_levels),
            feature_BD,
            self._scaled(fraction_BT),
            projected=feature_BD,
        )

    def _scaled(self, fraction: Tensor) -> Tensor:
        """Scores on the label's scale from its middle, in units of its range."""
        return self.minimum + (self.maximum - self.minimum) * (0.5 + fraction)


def internvideo2_settings(section: Section, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings, but for the label's range and levels; a checkpoint is looked into."""
    return {"shape": internvideo2_shape(section, recipe), "tune": section.tune}


def load_internvideo2(model: InternVideo2Student, section: Section) -> None:
    """Fill the tower from `student.checkpoint`, strictly; a class head in the file is dropped."""
    if section.checkpoint is None:
        note("distill: internvideo2 starts from random weights (checkpoint: null)")
        return
    state, card = read_foreign(section.checkpoint)
    fill_tower(model.backbone, state, card)
    note(f"distill: {card.summary()}")
