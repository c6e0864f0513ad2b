"""Losses: hand-computed values, invariances, gradients in float64, the awkward batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill import losses

S = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
Y = torch.tensor([0.1, 0.6, 0.7], dtype=torch.float64)


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


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "label": lambda s: losses.label_loss(s, Y),
    "plcc": lambda s: losses.plcc_loss(s, Y),
    "rank": lambda s: losses.rank_loss(s, torch.tensor([0.1, 0.8, 0.7], dtype=torch.float64)),
    "soft_target": lambda s: losses.soft_target_loss(s[None], torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)),
    "feature": lambda s: losses.feature_loss(s[None], torch.tensor([[0.2, 0.9, 0.5]], dtype=torch.float64)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], (S.clone().requires_grad_(),))


@pytest.mark.parametrize("score", [torch.tensor([0.4]), torch.full((4,), 0.4)], ids=["batch of one", "constant"])
@pytest.mark.parametrize("loss", [losses.label_loss, losses.plcc_loss, losses.rank_loss])
def test_awkward_batches_have_finite_gradients(score: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    score = score.clone().requires_grad_()
    value = loss(score, torch.linspace(0, 1, len(score)))
    value.backward()
    assert torch.isfinite(value)
    assert score.grad is not None
    assert torch.isfinite(score.grad).all()


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
    z = torch.nn.functional.normalize(torch.randn(4, 2, 3, generator=generator, dtype=torch.float64), dim=-1)
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
