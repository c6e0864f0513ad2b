"""Every training loss, as a pure function, and the one weighted sum that the trainer uses.

Shapes: B clips, K quality levels, D features. Scores are divided by the label's range before they come here, so
all score losses have the same unit whatever the label. All return a 0-d tensor >= 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def label_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean squared error, mean((s - y)^2) (InternVQA, arXiv 2502.19026)."""
    return (score_B - label_B).square().mean()


def plcc_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """(1 - rho) / 2 with rho the Pearson correlation, in 0..1; 0 where a side is constant (methods, section 7).

    A batch of one, or constant scores, has no correlation: it teaches nothing.
    """
    score, label = score_B - score_B.mean(), label_B - label_B.mean()
    # Under the root, not after it: the root's gradient at 0 is infinite.
    power = score.square().sum() * label.square().sum()
    rho = (score * label).sum() / (power + 1e-12).sqrt()
    return torch.where(power > 1e-10, (1 - rho) / 2, 0 * rho)


def rank_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean over i, j of relu((s_i - s_j) sign(y_j - y_i)); ties in the label cost nothing (section 7)."""
    score_gap = score_B.unsqueeze(1) - score_B.unsqueeze(0)
    label_order = (label_B.unsqueeze(0) - label_B.unsqueeze(1)).sign()
    return (score_gap * label_order).relu().mean()


def soft_target_loss(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """KL(target || softmax(logits)), the teacher's level distribution being the target; mean over clips."""
    return functional.kl_div(logits_BK.log_softmax(-1), target_BK, reduction="batchmean")


def feature_loss(feature_BD: Tensor, target_BD: Tensor) -> Tensor:
    """SmoothL1(LN(f_S), LN(f_T); beta = 2), LN without affine (InternVQA). The target is a constant."""
    width = feature_BD.shape[-1:]
    student = functional.layer_norm(feature_BD, width)
    teacher = functional.layer_norm(target_BD.detach(), width)
    return functional.smooth_l1_loss(student, teacher, beta=2.0)


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of named terms; a term without a weight is our mistake."""
    assert terms, "no loss term has a weight above 0"
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()
