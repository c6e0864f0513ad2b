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


def vector_loss(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Mean of 1 - cos(softmax(logits), p), p_k = softmax_k(-(y - k)^2), y = label * (K - 1) (CLIPVQA, section 3)."""
    levels = torch.arange(logits_BK.shape[1], dtype=label_B.dtype, device=label_B.device)
    target_BK = (-(label_B.unsqueeze(1) * (len(levels) - 1) - levels).square()).softmax(-1)
    return 1 - functional.cosine_similarity(logits_BK.softmax(-1), target_BK).mean()


def contrast_loss(embeddings_BVZ: Tensor, class_B: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrast of unit vectors over classes (CONVIQT, section 4); V views of each clip.

    L_i = log sum_{k != i} exp(z_i.z_k / tau) - 1/|P(i)| sum_{j in P(i)} z_i.z_j / tau, P(i) the others of i's
    class, a clip's own other views among them; mean over all clips and views.
    """
    views = embeddings_BVZ.shape[1]
    z_ND, class_N = embeddings_BVZ.flatten(0, 1), class_B.repeat_interleave(views)
    similarity = z_ND @ z_ND.T / temperature
    self_NN = torch.eye(len(z_ND), dtype=torch.bool, device=z_ND.device)
    positive_NN = (class_N.unsqueeze(0) == class_N.unsqueeze(1)) & ~self_NN
    others = similarity.masked_fill(self_NN, -torch.inf).logsumexp(1)
    return (others - (similarity * positive_NN).sum(1) / positive_NN.sum(1).clamp(min=1)).mean()


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
