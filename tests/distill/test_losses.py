"""Losses: hand-computed values, invariances, gradients in float64, the awkward batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from distill import losses

S = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
Y = torch.tensor([0.1, 0.6, 0.7], dtype=torch.float64)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_label_loss_by_hand() -> None:
    assert float(losses.label_loss(S, Y)) == pytest.approx((0.01 + 0.01 + 0.04) / 3)


def test_plcc_loss_by_hand_and_its_invariance() -> None:
    s, y = S - S.mean(), Y - Y.mean()
    rho = float((s * y).sum() / (s.norm() * y.norm()))
    assert float(losses.plcc_loss(S, Y)) == pytest.approx((1 - rho) / 2, abs=1e-9)
    assert float(losses.plcc_loss(3 * S + 7, Y)) == pytest.approx((1 - rho) / 2, abs=1e-9)
    assert float(losses.plcc_loss(Y, Y)) == pytest.approx(0, abs=1e-9)
    assert float(losses.plcc_loss(-Y, Y)) == pytest.approx(1, abs=1e-9)


def test_rank_loss_by_hand() -> None:
    # Only the pair (0.9 before 0.5) is out of order when labels say 0.7 and 0.8: 0.4 twice over nine pairs.
    label = torch.tensor([0.1, 0.8, 0.7], dtype=torch.float64)
    assert float(losses.rank_loss(S, label)) == pytest.approx(2 * 0.4 / 9)
    assert float(losses.rank_loss(S, Y)) == 0
    assert float(losses.rank_loss(S, torch.full_like(S, 0.5))) == 0  # ties cost nothing


def test_soft_target_loss_by_hand() -> None:
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    logits = torch.zeros(2, 2, dtype=torch.float64)
    assert float(losses.soft_target_loss(logits, target)) == pytest.approx(math.log(2) / 2)
    assert float(losses.soft_target_loss(target.log().clamp(min=-800), target)) == pytest.approx(0, abs=1e-12)


def test_feature_loss_is_blind_to_scale_and_shift() -> None:
    features = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    assert float(losses.feature_loss(5 * features - 3, features)) == pytest.approx(0, abs=1e-8)
    # LN of (1, 0) is (1, -1) and of (0, 1) is (-1, 1): differences of 2, SmoothL1 with beta 2 gives 2^2 / (2 * 2) = 1.
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(losses.feature_loss(one, other)) == pytest.approx(1.0, abs=1e-3)


def test_the_smooth_hybrid_loss_by_hand() -> None:
    score, label = torch.tensor([0.5, 0.5]), torch.tensor([0.52, 0.9])
    expected = (0.5 * 0.02**2 / 0.05 + (0.4 - 0.5 * 0.05)) / 2
    assert float(losses.smooth_hybrid_loss(score, label)) == pytest.approx(expected, rel=1e-5)


def test_patch_loss_by_hand() -> None:
    # Errors of 0.01 and 0.2: 0.01^2 / (2 * 0.05) and 0.2 - 0.05 / 2, each of two patches.
    score = torch.tensor([[[0.51, 0.5], [0.3, 0.7]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[0.5, 0.5], [0.5, 0.7]]], dtype=torch.float64, requires_grad=True)
    loss = losses.patch_loss(score, target)
    assert float(loss.detach()) == pytest.approx((0.001 + 0.175) / 4)
    loss.backward()
    assert score.grad is not None
    assert target.grad is None


def test_score_target_loss_by_hand() -> None:
    assert float(losses.score_target_loss(S, Y)) == pytest.approx(0.06 / 3)


def test_cosine_target_loss_by_hand() -> None:
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    logits = torch.zeros(2, 2, dtype=torch.float64)  # level distribution (1/2, 1/2): cosines of 1 and 1 / sqrt(2)
    assert float(losses.cosine_target_loss(logits, target)) == pytest.approx((1 - 0.5**0.5) / 2)
    assert float(losses.cosine_target_loss(target.log().clamp(min=-800), target)) == pytest.approx(0, abs=1e-12)


def test_feature_cosine_loss_by_hand() -> None:
    # After LN, (1, 2, 3) is along (-1, 0, 1) and (1, 3, 2) along (-1, 1, 0): a cosine of 1/2. Opposites cost 2.
    one = torch.tensor([[1.0, 2, 3], [1, 2, 3]], dtype=torch.float64)
    other = torch.tensor([[1.0, 3, 2], [3, 2, 1]], dtype=torch.float64)
    assert float(losses.feature_cosine_loss(one, other)) == pytest.approx((0.5 + 2) / 2)
    assert float(losses.feature_cosine_loss(torch.ones_like(one), other)) == 1  # constant rows have no direction


def test_relation_loss_by_hand() -> None:
    # Student cosines 1/2, -1 and -1/2 of the rows' three pairs, as above; teacher cosines 1, -1 and -1.
    student = torch.tensor([[1.0, 2, 3], [1, 3, 2], [3, 2, 1]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 1], [0, 2], [1, 0]], dtype=torch.float64)
    assert float(losses.relation_loss(student, teacher)) == pytest.approx((0.5**2 + 0 + 0.5**2) / 3, abs=1e-4)
    assert float(losses.relation_loss(student, student)) == pytest.approx(0, abs=1e-12)
    assert float(losses.relation_loss(student[:1], teacher[:1])) == 0


def test_relation_loss_is_blind_to_rotation() -> None:
    # LN takes each row's mean away, so the rotations are those that keep the direction (1, ..., 1).
    student, teacher = _noise(5, 4), _noise(5, 6)
    basis = torch.linalg.qr(torch.cat([torch.ones(4, 1, dtype=torch.float64), _noise(4, 3)], 1)).Q
    rotation = (
        basis @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), torch.linalg.qr(_noise(3, 3)).Q) @ basis.T
    )
    loss = float(losses.relation_loss(student, teacher))
    assert loss > 0.01
    assert float(losses.relation_loss(student @ rotation, teacher)) == pytest.approx(loss)
    assert float(losses.relation_loss(student, teacher.flip(1))) == pytest.approx(loss)


# Rows 0, 1 and 5 share group 0, rows 0 and 5 also their content; row 4 has no group, row 3 has no positive.
GROUP, CONTENT = torch.tensor([0, 0, 1, 2, -1, 0, 1]), torch.tensor([0, 1, 0, 1, 2, 0, 2])


def test_coarse_loss_by_the_sums() -> None:
    z, tau = functional.normalize(_noise(7, 3), dim=1), 0.2
    positives = {0: [1], 1: [0, 5], 2: [6], 5: [1], 6: [2]}
    left_out = {0: [0, 5], 1: [1], 2: [2], 5: [0, 5], 6: [6]}
    terms = []
    for i, positive in positives.items():
        similar = (z @ z[i] / tau).tolist()
        log_sum = math.log(sum(math.exp(similar[k]) for k in range(7) if k not in left_out[i]))
        terms.append(log_sum - sum(similar[j] for j in positive) / len(positive))
    assert float(losses.coarse_loss(z, GROUP, CONTENT, tau)) == pytest.approx(sum(terms) / 5)
    assert float(losses.coarse_loss(z, GROUP, CONTENT, torch.tensor(tau))) == pytest.approx(sum(terms) / 5)
    # Other names for the groups change nothing; so do other names for the contents.
    renamed = torch.tensor([9, 9, 4, 0, -1, 9, 4])
    assert float(losses.coarse_loss(z, renamed, 7 - CONTENT, tau)) == pytest.approx(sum(terms) / 5)


@pytest.mark.parametrize(
    ("group", "content"), [([0, 1, 2], [0, 1, 2]), ([0, 0, 0], [5, 5, 5]), ([-1, -1, -1], [0, 1, 2])]
)
def test_coarse_loss_without_a_positive_teaches_nothing(group: list[int], content: list[int]) -> None:
    z = functional.normalize(_noise(3, 4), dim=1).requires_grad_()
    loss = losses.coarse_loss(z, torch.tensor(group), torch.tensor(content))
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_fine_loss_by_hand() -> None:
    # Pairs of group 0: (0, 1) wants 0.25 and has 0.3; (0, 3) wants 0.4 and has 0.1; (1, 3) wants 0.15, has -0.2.
    # The pair of group 1 is a tie in the label; group -1 makes no pair.
    score = torch.tensor([0.2, 0.5, 0.9, 0.3, 0.1, 0.8, 0.1], dtype=torch.float64)
    label = torch.tensor([0.1, 0.6, 0.7, 0.9, 0.7, 0.2, 0.9], dtype=torch.float64)
    group = torch.tensor([0, 0, 1, 0, 1, -1, -1])
    assert float(losses.fine_loss(score, label, group)) == pytest.approx((0 + 0.3 + 0.35) / 3)
    assert float(losses.fine_loss(score + 5, label - 3, group)) == pytest.approx((0 + 0.3 + 0.35) / 3)
    assert float(losses.fine_loss(score, label, group, margin=0.0)) == pytest.approx(0.2 / 3)
    assert float(losses.fine_loss(score, torch.ones_like(label), group)) == 0


def test_likelihood_loss_by_hand() -> None:
    deviation = torch.tensor([0.1, 0.1, 0.2], dtype=torch.float64)
    expected = (2 * (math.log(0.1) + 0.5) + math.log(0.2) + 0.5) / 3  # each score is one deviation away
    assert expected < 0
    assert float(losses.likelihood_loss(S, deviation, Y)) == pytest.approx(expected)
    # The best deviation is the distance itself.
    assert float(losses.likelihood_loss(S, 1.1 * deviation, Y)) > expected
    assert float(losses.likelihood_loss(S, 0.9 * deviation, Y)) > expected


LABEL = torch.tensor([0.1, 0.6, 0.7, 0.9, 0.7, 0.2, 0.65], dtype=torch.float64)  # rows 2 and 4 tie
LEVELS = _noise(7, 5).flip(0).softmax(-1)
# Each loss of the student's output at the rows `r` of one batch of seven clips, and that output.
Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, tuple[Loss, Tensor]] = {
    "label": (lambda s, r: losses.label_loss(s, LABEL[r]), _noise(7)),
    "plcc": (lambda s, r: losses.plcc_loss(s, LABEL[r]), _noise(7)),
    "rank": (lambda s, r: losses.rank_loss(s, LABEL[r]), _noise(7)),
    "fine": (lambda s, r: losses.fine_loss(s, LABEL[r], GROUP[r]), _noise(7)),
    "score_target": (lambda s, r: losses.score_target_loss(s, LABEL[r]), _noise(7)),
    "likelihood": (lambda s, r: losses.likelihood_loss(s[:, 0], s[:, 1].exp(), LABEL[r]), _noise(7, 2)),
    "vector": (lambda s, r: losses.vector_loss(s, LABEL[r]), _noise(7, 5)),
    "soft_target": (lambda s, r: losses.soft_target_loss(s, LEVELS[r]), _noise(7, 5)),
    "cosine_target": (lambda s, r: losses.cosine_target_loss(s, LEVELS[r]), _noise(7, 5)),
    "contrast": (lambda s, r: losses.contrast_loss(functional.normalize(s, dim=-1), GROUP[r]), _noise(7, 2, 3)),
    "coarse": (lambda s, r: losses.coarse_loss(functional.normalize(s, dim=-1), GROUP[r], CONTENT[r]), _noise(7, 3)),
    "feature": (lambda s, r: losses.feature_loss(s, LEVELS[r]), _noise(7, 5)),
    "layers": (lambda s, r: losses.layers_loss(s, LEVELS[r]), _noise(7, 5)),
    "feature_cosine": (lambda s, r: losses.feature_cosine_loss(s, LEVELS[r]), _noise(7, 5)),
    "relation": (lambda s, r: losses.relation_loss(s, LEVELS[r]), _noise(7, 4)),
}
ROWS = torch.arange(7)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    loss, output = LOSSES[name]
    assert torch.autograd.gradcheck(lambda s: loss(s, ROWS), (output.clone().requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    loss, output = LOSSES[name]
    order = torch.tensor([3, 6, 0, 5, 2, 4, 1])
    value = loss(output, ROWS)
    assert value.shape == ()
    assert name == "likelihood" or value > 0
    torch.testing.assert_close(loss(output[order], order), value)


@pytest.mark.parametrize("batch", ["one", "constant", "same rows"])
@pytest.mark.parametrize("name", LOSSES)
def test_awkward_batches_have_finite_gradients(name: str, batch: str) -> None:
    loss, output = LOSSES[name]
    rows = ROWS[:1] if batch == "one" else ROWS
    awkward = {"one": output[:1], "constant": torch.full_like(output, 0.4), "same rows": output[:1].expand_as(output)}
    student = awkward[batch].clone().requires_grad_()
    value = loss(student, rows)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() < 1e4  # a norm's epsilon must not blow it up either
    pairs_alone = {"plcc", "rank", "fine", "coarse", "relation"}
    if (batch == "one" and name in pairs_alone) or (batch == "constant" and name in {"feature_cosine", "relation"}):
        assert (student.grad == 0).all()


@pytest.mark.parametrize("name", ["feature", "feature_cosine", "relation"])
def test_feature_losses_are_blind_to_scale_and_shift_of_each_row(name: str) -> None:
    loss, output = LOSSES[name]
    scale, shift = torch.linspace(0.5, 9, 7).double().unsqueeze(1), _noise(7, 1)
    torch.testing.assert_close(loss(scale * output + shift, ROWS), loss(output, ROWS), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["score_target", "cosine_target", "feature", "layers", "feature_cosine", "relation"])
def test_targets_are_constants(name: str) -> None:
    target = (LABEL if name == "score_target" else LEVELS).clone().requires_grad_()
    getattr(losses, f"{name}_loss")(LOSSES[name][1].clone().requires_grad_(), target).backward()
    assert target.grad is None


def test_total_loss_is_the_weighted_sum() -> None:
    terms = {"label": torch.tensor(2.0), "rank": torch.tensor(3.0)}
    assert float(losses.total_loss(terms, {"label": 0.5, "rank": 2.0, "plcc": 9.0})) == 7.0


def test_vector_loss_by_hand() -> None:
    label = torch.tensor([0.0, 0.5], dtype=torch.float64)
    levels = torch.arange(6, dtype=torch.float64)
    target = (-(label[:, None] * 5 - levels).square()).softmax(-1)
    assert float(losses.vector_loss(target.log(), label)) == pytest.approx(0, abs=1e-12)
    logits = torch.zeros(2, 6, dtype=torch.float64)
    cosines = [float(row.sum() / (row.norm() * 6**0.5)) for row in target]
    assert float(losses.vector_loss(logits, label)) == pytest.approx(1 - sum(cosines) / 2)


def test_contrast_loss_by_the_sums_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    z = functional.normalize(torch.randn(4, 2, 3, generator=generator, dtype=torch.float64), dim=-1)
    classes, tau = [0, 1, 0, 2], 0.1
    rows = [(clip, view) for clip in range(4) for view in range(2)]
    terms = []
    for i in rows:
        others = [k for k in rows if k != i]
        positives = [k for k in others if classes[k[0]] == classes[i[0]]]
        similar = {k: float(z[i] @ z[k]) / tau for k in others}
        log_sum = math.log(sum(math.exp(value) for value in similar.values()))
        terms.append(log_sum - sum(similar[k] for k in positives) / len(positives))
    assert float(losses.contrast_loss(z, torch.tensor(classes))) == pytest.approx(sum(terms) / len(terms))


def test_contrast_loss_is_least_where_classes_lie_together() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    together = axes[torch.tensor([0, 0, 1])].unsqueeze(1).repeat(1, 2, 1)
    apart = axes[torch.tensor([0, 1, 1])].unsqueeze(1).repeat(1, 2, 1)
    classes = torch.tensor([4, 4, 7])
    assert losses.contrast_loss(together, classes) < losses.contrast_loss(apart, classes)
