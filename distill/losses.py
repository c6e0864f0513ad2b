"""Every training loss, as a pure function, and the one weighted sum that the trainer uses.

Shapes: B clips, K quality levels, D and E features, V views, Z width of an embedding, U pairs of frames, P
patches. Scores are divided by the label's range before they come here, so all score losses have the same unit whatever
the label. All return a 0-d tensor >= 0, but for `likelihood_loss`: the log of a density has no bound at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE: Final = 0.1  # of both contrasts (CONVIQT, section 4; coarse to fine, section 6)
HYBRID_PLCC: Final = 0.25  # weight of the PLCC loss in `stream`

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss, the values that it is a function of (distill/objective.py), and the clips that it is taken over.

    Clips: "labeled"; "ordered" by a label or by the teacher's score; "hybrid", with a label and bitstream features.
    """

    function: Function
    needs: tuple[str, ...]
    clips: Literal["all", "labeled", "ordered", "hybrid"] = "all"


LOSSES: dict[str, Loss] = {}


def register(
    name: str, *needs: str, clips: Literal["all", "labeled", "ordered", "hybrid"] = "all"
) -> Callable[[Function], Function]:
    """Enter a loss under its name in `training.losses` (rungwise/config/losses.py)."""

    def enter(function: Function) -> Function:
        LOSSES[name] = Loss(function, needs, clips)
        return function

    return enter


@register("label", "set_score", "label", clips="labeled")
def label_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean squared error, mean((s - y)^2) (InternVQA, arXiv 2502.19026)."""
    return (score_B - label_B).square().mean()


@register("plcc", "set_score", "label", clips="labeled")
def plcc_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """(1 - rho) / 2 with rho the Pearson correlation, in 0..1; 0 where a side is constant (methods, section 7).

    A batch of one, or constant scores, has no correlation: it teaches nothing.
    """
    score, label = score_B - score_B.mean(), label_B - label_B.mean()
    # Under the root, not after it: the root's gradient at 0 is infinite.
    power = score.square().sum() * label.square().sum()
    rho = (score * label).sum() / (power + 1e-12).sqrt()
    return torch.where(power > 1e-10, (1 - rho) / 2, 0 * rho)


@register("rank", "set_score", "label", clips="labeled")
def rank_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean over i, j of relu((s_i - s_j) sign(y_j - y_i)); ties in the label cost nothing (section 7)."""
    score_gap = score_B.unsqueeze(1) - score_B.unsqueeze(0)
    label_order = (label_B.unsqueeze(0) - label_B.unsqueeze(1)).sign()
    return (score_gap * label_order).relu().mean()


@register("vector", "logits", "level_label", clips="labeled")
def vector_loss(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Mean of 1 - cos(softmax(logits), p), p_k = softmax_k(-(y - k)^2), y = label * (K - 1) (CLIPVQA, section 3)."""
    levels = torch.arange(logits_BK.shape[1], dtype=label_B.dtype, device=label_B.device)
    target_BK = (-(label_B.unsqueeze(1) * (len(levels) - 1) - levels).square()).softmax(-1)
    return 1 - functional.cosine_similarity(logits_BK.softmax(-1), target_BK).mean()


@register("contrast", "embeddings", "setting")
def contrast_loss(embeddings_BVZ: Tensor, class_B: Tensor, temperature: float = TEMPERATURE) -> Tensor:
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


@register("coarse", "embedding", "group", "content")
def coarse_loss(
    embeddings_BZ: Tensor, group_B: Tensor, content_B: Tensor, temperature: float | Tensor = TEMPERATURE
) -> Tensor:
    """Supervised contrast of unit vectors between bitrate groups (SwinV2, arXiv 2401.08522, reconstructed).

    L_i = log sum_{k in A(i)} exp(z_i.z_k / tau) - 1/|P(i)| sum_{j in P(i)} z_i.z_j / tau; P(i) the rows of i's group
    and another content, A(i) all rows but those of i's group and i's content; mean over the rows with a positive.
    Group -1 is unknown: a negative to others, never an anchor or a positive. 0 where no row has a positive.
    """
    similarity = embeddings_BZ @ embeddings_BZ.T / temperature
    same_group_BB = group_B.unsqueeze(0) == group_B.unsqueeze(1)
    same_content_BB = content_B.unsqueeze(0) == content_B.unsqueeze(1)
    positive_BB = same_group_BB & ~same_content_BB & (group_B >= 0)
    anchor_B = positive_BB.any(1)
    # Only anchors leave rows out: another row might have none left, and the gradient of its -inf is NaN.
    left_out_BB = same_group_BB & same_content_BB & anchor_B.unsqueeze(1)
    others = similarity.masked_fill(left_out_BB, -torch.inf).logsumexp(1)
    terms = others - (similarity * positive_BB).sum(1) / positive_BB.sum(1).clamp(min=1)
    return (terms * anchor_B).sum() / anchor_B.sum().clamp(min=1)


@register("fine", "set_score", "order", "group", "margin", clips="ordered")
def fine_loss(score_B: Tensor, label_B: Tensor, group_B: Tensor, margin: float = 0.5) -> Tensor:
    """Mean of relu(margin |y_i - y_j| - sign(y_i - y_j)(s_i - s_j)) over pairs of one bitrate group (SwinV2).

    The margin grows with the label's gap. Ties in the label and group -1 make no pair; 0 where there is none.
    """
    score_gap = score_B.unsqueeze(1) - score_B.unsqueeze(0)
    label_gap = label_B.unsqueeze(1) - label_B.unsqueeze(0)
    # Both orders of a pair cost the same, so the mean over the whole square is the mean over i < j.
    pair_BB = (group_B.unsqueeze(0) == group_B.unsqueeze(1)) & (group_B >= 0) & (label_gap != 0)
    cost = (margin * label_gap.abs() - label_gap.sign() * score_gap).relu()
    return (cost * pair_BB).sum() / pair_BB.sum().clamp(min=1)


@register("likelihood", "set_score", "deviation", "label", clips="labeled")
def likelihood_loss(score_B: Tensor, deviation_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean of log d + (s - y)^2 / (2 d^2), d > 0: Gaussian negative log likelihood up to a constant; may be < 0."""
    return (deviation_B.log() + (score_B - label_B).square() / (2 * deviation_B.square())).mean()


@register("stream", "hybrid_score", "label", clips="hybrid")
def hybrid_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Label loss of the hybrid score, and a little of its PLCC loss."""
    return label_loss(score_B, label_B) + HYBRID_PLCC * plcc_loss(score_B, label_B)


@register("stream_smooth", "hybrid_score", "label", clips="hybrid")
def smooth_hybrid_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """SmoothL1(s, y; beta = 0.05): contents that no feature tells apart pull less than in a squared error."""
    return functional.smooth_l1_loss(score_B, label_B, beta=0.05)


@register("score_target", "score", "teacher_score")
def score_target_loss(score_B: Tensor, target_B: Tensor) -> Tensor:
    """Mean squared error to the teacher's score, a constant (KVQ 2025, efficient track; methods, section 7)."""
    return (score_B - target_B.detach()).square().mean()


@register("cosine_target", "logits", "teacher_levels")
def cosine_target_loss(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Mean of 1 - cos(softmax(logits), target), in 0..1, the teacher's level distribution being the target."""
    return 1 - functional.cosine_similarity(logits_BK.softmax(-1), target_BK.detach()).mean()


@register("soft_target", "logits", "teacher_levels")
def soft_target_loss(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """KL(target || softmax(logits)), the teacher's level distribution being the target; mean over clips."""
    return functional.kl_div(logits_BK.log_softmax(-1), target_BK, reduction="batchmean")


@register("feature", "projected", "teacher_feature")
def feature_loss(feature_BD: Tensor, target_BD: Tensor) -> Tensor:
    """SmoothL1(LN(f_S), LN(f_T); beta = 2), LN without affine (InternVQA). The target is a constant."""
    width = feature_BD.shape[-1:]
    student = functional.layer_norm(feature_BD, width)
    teacher = functional.layer_norm(target_BD.detach(), width)
    return functional.smooth_l1_loss(student, teacher, beta=2.0)


@register("layers", "projected_layers", "teacher_layers")
def layers_loss(layers_BE: Tensor, target_BE: Tensor) -> Tensor:
    """SmoothL1(LN(l_S), LN(l_T); beta = 2) as `feature_loss`, of each of the teacher's layers. They come side by side,
    normalized one by one; a wide layer weighs as its width. The target is a constant."""
    return functional.smooth_l1_loss(layers_BE, target_BE.detach(), beta=2.0)


@register("patch", "patch_score", "teacher_patch_score")
def patch_loss(score_BUP: Tensor, target_BUP: Tensor) -> Tensor:
    """SmoothL1(s, t; beta = 0.05) of every patch's score to the teacher's of the same patch, a constant."""
    return functional.smooth_l1_loss(score_BUP, target_BUP.detach(), beta=0.05)


@register("stream_patch", "hybrid_patch_score", "teacher_patch_score", clips="hybrid")
def hybrid_patch_loss(score_BUP: Tensor, target_BUP: Tensor) -> Tensor:
    """`patch_loss` of the hybrid scores of patches."""
    return patch_loss(score_BUP, target_BUP)


def _unit_rows(feature_BD: Tensor) -> Tensor:
    """LN without affine, then l2 = 1; a constant row has no direction: zeros, and no gradient."""
    rows = functional.layer_norm(feature_BD, feature_BD.shape[-1:])
    power = rows.square().mean(-1, keepdim=True)
    # A plain l2 norm would multiply the gradient of a constant row by the inverse of its epsilon.
    return rows * (power > 1e-6) / (power.clamp(min=1e-6) * rows.shape[-1]).sqrt()


@register("feature_cosine", "projected", "teacher_feature")
def feature_cosine_loss(feature_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Mean of 1 - cos(LN(f_S), LN(f_T)), in 0..2, LN without affine; 1 for a constant row. The target is a constant."""
    return (1 - (_unit_rows(feature_BD) * _unit_rows(target_BD.detach())).sum(-1)).mean()


@register("relation", "feature", "teacher_feature")
def relation_loss(feature_BD: Tensor, target_BE: Tensor) -> Tensor:
    """Mean of (G_S - G_T)^2 over i != j, G = F F^T of unit rows after LN, in 0..4 (Tung and Mori 2019).

    The widths may differ. The target is a constant. A batch of one has no pair and costs 0.
    """
    student_BD, teacher_BE = _unit_rows(feature_BD), _unit_rows(target_BE.detach())
    gap_BB = student_BD @ student_BD.T - teacher_BE @ teacher_BE.T
    other_BB = ~torch.eye(len(gap_BB), dtype=torch.bool, device=gap_BB.device)
    return (gap_BB * other_BB).square().sum() / other_BB.sum().clamp(min=1)


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of named terms; a term without a weight is our mistake."""
    assert terms, "no loss term has a weight above 0"
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum()
