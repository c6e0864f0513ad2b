"""The teacher that sees the master: libvmaf compares every patch of encode and master, a small network scores the clip.

It is for training alone: a score of it needs the master. Patch scores are the patches' own VMAF v1, whatever the label.
A clip's score is no mean of them. VMAF v1 pools ADM over a frame by cubes, so a patch counts by the detail that its
master has there. The same is done here with ADM's own terms, and the network is left with a function of a few numbers.

Shapes: B clips, T frames, U pairs of frames, P patches, F parts of a patch, S scales of ADM, Q pooled parts, D width.
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

NUM_SCALES: Final = 4
EXTREME: Final = 6.0  # in standard deviations; pooled parts beyond it are clipped
# Pooled parts with mean and standard deviation over frames of 275 encodes; all but ADM and AIM after log(1 + x).
STANDARD: Final = {
    "adm3": (0.94, 0.045),
    "motion3": (1.07, 0.7),
    "cambi": (0.64, 0.73),
    "speed_chroma_uv": (1.4, 0.5),
    "aim": (0.032, 0.029),
    "adm_scale0": (0.9, 0.07),
    "adm_scale1": (0.84, 0.11),
    "adm_scale2": (0.9, 0.088),
    "adm_scale3": (0.95, 0.055),
}


class FullReference(QualityTeacher):
    """Pools the parts of a frame's patches as VMAF v1 does, then predicts the distribution over quality levels."""

    full_precision = ("levels",)
    sees_master = True

    def __init__(self, *, num_levels: int, feature_dim: int, patch_px: int, minimum: float, maximum: float) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.head = nn.Sequential(nn.Linear(len(STANDARD), feature_dim), nn.GELU(), nn.Linear(feature_dim, feature_dim))
        self.levels = nn.Linear(feature_dim, num_levels)
        self.level_values: Tensor
        self.standard_2Q: Tensor
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)
        self.register_buffer("standard_2Q", torch.tensor([*STANDARD.values()]).T, persistent=False)

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
        mean_Q, deviation_Q = self.standard_2Q
        pooled_BUQ = ((pooled_parts(hidden.float()) - mean_Q) / deviation_Q).clamp(-EXTREME, EXTREME)
        feature = self.head(pooled_BUQ).mean(1)
        logits = in_fp32(self.levels, feature)
        score = logits.softmax(-1) @ self.level_values
        return Prediction(score, logits, feature, patch_scores=hidden[..., PARTS.index("vmaf")])


def pooled_parts(parts_BUPF: Tensor) -> Tensor:
    """`STANDARD`'s parts of each frame, (B, U, Q), from those of its patches."""

    def scales(name: str) -> Tensor:
        first = PARTS.index(f"{name}0")
        return parts_BUPF[..., first : first + NUM_SCALES]

    def part(name: str) -> Tensor:
        return parts_BUPF[..., PARTS.index(name)]

    master_BUPS = scales("adm_den_scale")
    kept_BUS, master_BUS = _cubic_mean(scales("adm_scale") * master_BUPS), _cubic_mean(master_BUPS)
    detail_BUP = master_BUPS.sum(-1)
    aim_BU = _cubic_mean(part("aim") * detail_BUP) / _cubic_mean(detail_BUP)
    adm3_BU = (kept_BUS.sum(-1) / master_BUS.sum(-1) + 1 - aim_BU) / 2  # as libvmaf has it of ADM2 and AIM
    means = [part(name).mean(2).log1p() for name in ("motion3", "cambi", "speed_chroma_uv")]
    return torch.cat([torch.stack([adm3_BU, *means, aim_BU], -1), kept_BUS / master_BUS], -1)


def _cubic_mean(values_BUP: Tensor) -> Tensor:
    """Over patches; never 0, by which its users divide."""
    return values_BUP.double().pow(3).mean(2).clamp(min=1e-9).pow(1 / 3).float()


def full_reference_settings(teacher: FullReferenceTeacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from the config's section."""
    return teacher.model_dump(include={"num_levels", "feature_dim"}) | {"patch_px": recipe.patch_px}


def load_full_reference(model: FullReference, teacher: FullReferenceTeacher) -> None:
    """There are no pretrained weights."""
