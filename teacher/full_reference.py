"""The teacher that sees the master: libvmaf compares every patch of encode and master, a small network pools them.

It is for training alone: a score of it needs the master. Patch scores are the patches' own VMAF v1, whatever the label.
What is learned is how patches make up a clip's score: flat patches lose nothing and say little of the whole.

Shapes: B clips, T frames, U pairs of frames, P patches, N = U * P, F parts of a patch, D features.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from rungwise.config import FullReferenceTeacher
from rungwise.ladder.patch_parts import PARTS, patch_parts
from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from teacher.numerics import in_fp32
from teacher.quality_teacher import QualityTeacher

QUANTILES: Final = (0.1, 0.5, 0.9)  # of each part over a clip's patches
EXTREME: Final = 6.0  # in standard deviations; parts beyond it are clipped
LOGARITHMIC: Final = (
    "motion3",
    "cambi",
    "master_horizontal",
    "master_vertical",
    "encode_horizontal",
    "encode_vertical",
)
# Mean and standard deviation of each part, of those above after log(1 + x), over patches of 981 encodes.
STANDARD: Final = {
    "vmaf": (71, 21),
    "adm3": (0.92, 0.06),
    "adm2": (0.9, 0.07),
    "aim": (0.036, 0.036),
    "adm_scale0": (0.91, 0.08),
    "adm_scale1": (0.85, 0.11),
    "adm_scale2": (0.88, 0.1),
    "adm_scale3": (0.91, 0.09),
    "motion3": (0.9, 0.8),
    "cambi": (0.5, 0.8),
    "master_horizontal": (1.4, 0.7),
    "master_vertical": (1.4, 0.7),
    "encode_horizontal": (1.1, 0.7),
    "encode_vertical": (1.1, 0.7),
}


class FullReference(QualityTeacher):
    """Weights patches by their parts, pools them, and reads the score off a distribution over quality levels."""

    full_precision = ("levels",)
    sees_master = True

    def __init__(
        self, *, num_levels: int, patch_dim: int, feature_dim: int, patch_px: int, minimum: float, maximum: float
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.patches = nn.Sequential(
            nn.Linear(len(PARTS), patch_dim), nn.GELU(), nn.Linear(patch_dim, patch_dim), nn.GELU()
        )
        self.weights = nn.Linear(patch_dim, 1)
        width = patch_dim + (3 + len(QUANTILES)) * len(PARTS)
        self.head = nn.Sequential(nn.Linear(width, feature_dim), nn.GELU(), nn.Linear(feature_dim, feature_dim))
        self.levels = nn.Linear(feature_dim, num_levels)
        constants = {
            "level_values": torch.linspace(minimum, maximum, num_levels),
            "means": torch.tensor([STANDARD[part][0] for part in PARTS]),
            "deviations": torch.tensor([STANDARD[part][1] for part in PARTS]),
            "quantiles": torch.tensor(QUANTILES),
            "is_logarithmic": torch.tensor([part in LOGARITHMIC for part in PARTS]),
        }
        self.level_values: Tensor
        self.means: Tensor
        self.deviations: Tensor
        self.quantiles: Tensor
        self.is_logarithmic: Tensor
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    @property
    def lower_is_frozen(self) -> bool:
        """The comparison has no weights."""
        return True

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """parts_BUPF of frames with six channels: the encode's RGB and the master's."""
        frames = frames_BTHWC.cpu().numpy()
        return torch.from_numpy(patch_parts(frames[..., :3], frames[..., 3:], self.patch_px)).to(frames_BTHWC.device)

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips by parts_BUPF."""
        x_BNF = self.standardized(hidden.float().flatten(1, 2))
        h_BND = self.patches(x_BNF)
        weights_BN1 = in_fp32(self.weights, h_BND).softmax(1)
        pooled = [(weights_BN1 * h_BND).sum(1), (weights_BN1 * x_BNF).sum(1), x_BNF.mean(1), x_BNF.std(1)]
        feature = self.head(torch.cat([*pooled, *torch.quantile(x_BNF, self.quantiles, dim=1)], 1))
        logits = in_fp32(self.levels, feature)
        score = logits.softmax(-1) @ self.level_values
        return Prediction(score, logits, feature, patch_scores=hidden[..., PARTS.index("vmaf")])

    def standardized(self, parts_BNF: Tensor) -> Tensor:
        """Parts with about mean 0 and standard deviation 1."""
        values = torch.where(self.is_logarithmic, parts_BNF.clamp(min=0).log1p(), parts_BNF)
        return ((values - self.means) / self.deviations).clamp(-EXTREME, EXTREME)


def full_reference_settings(teacher: FullReferenceTeacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from the config's section."""
    return teacher.model_dump(include={"num_levels", "patch_dim", "feature_dim"}) | {"patch_px": recipe.patch_px}


def load_full_reference(model: FullReference, teacher: FullReferenceTeacher) -> None:
    """There are no pretrained weights."""
