"""StylePrompt: the equation by hand, the identity at the start, and what is tuned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from student.mamba import MambaStudent
from student.models import STUDENTS
from student.styleprompt import StylePrompt
from student.swin import SwinStudent

SETTINGS: dict[str, Any] = {
    "stem_stages": 3,
    "tuned_stem": False,
    "pairs": False,
    "aleatoric": False,
    "hybrid": False,
    "num_levels": 5,
    "minimum": 0.0,
    "maximum": 100.0,
}
SIZES = [("mamba", MambaStudent.SIZES["small"]), ("swin", SwinStudent.SIZES["small"] | {"view_px": 64})]


def frames() -> torch.Tensor:
    return torch.randint(0, 256, (1, 2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_equation_by_hand() -> None:
    torch.manual_seed(0)
    prompt = StylePrompt(8, 3).double()
    for parameter in prompt.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        out = prompt(x)
        for n in range(2):
            pooled = x[n].mean((1, 2))
            w = torch.softmax(prompt.choose.weight @ pooled + prompt.choose.bias, 0)
            p = sum(w[m] * prompt.bank[m] for m in range(3))
            style = prompt.narrow.weight @ p + prompt.narrow.bias
            gamma = prompt.gamma.weight @ style + prompt.gamma.bias
            beta = prompt.beta.weight @ style + prompt.beta.bias
            for c in range(8):
                torch.testing.assert_close(out[n, c], x[n, c] * (1 + gamma[c]) + beta[c])


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_prompts_change_nothing_until_they_are_trained(name: str, size: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = STUDENTS[name](**size, **SETTINGS, prompts=0).eval()
    torch.manual_seed(0)
    prompted = STUDENTS[name](**size, **SETTINGS, prompts=8).eval()
    with torch.inference_mode():
        torch.testing.assert_close(plain(frames()).score, prompted(frames()).score, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_at_most_a_twentieth_is_tuned_and_all_of_it_learns(name: str, size: dict[str, Any]) -> None:
    torch.manual_seed(0)
    student = STUDENTS[name](**size, **SETTINGS, prompts=8)
    student.tune_prompts()
    tuned = {key: p for key, p in student.named_parameters() if p.requires_grad}
    assert all(key.startswith(("prompts.", "head.levels.")) for key in tuned)
    assert sum(p.numel() for p in tuned.values()) <= 0.05 * sum(p.numel() for p in student.parameters())
    optimizer = torch.optim.SGD(tuned.values(), lr=0.1)
    for _ in range(2):  # the bank learns once gamma and beta have left 0
        optimizer.zero_grad()
        student(frames()).logits.square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.values())
    assert len({key.split(".")[1] for key in tuned if key.startswith("prompts.")}) == 4


def test_a_student_without_prompts_can_t_be_tuned_by_them() -> None:
    student = STUDENTS["mamba"](**MambaStudent.SIZES["nano"], **SETTINGS, prompts=0)
    with pytest.raises(ValueError, match=r"student\.prompts above 0"):
        student.tune_prompts()
