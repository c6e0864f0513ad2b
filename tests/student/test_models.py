"""Students: sizes, independence of batch neighbours, every weight in use."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rungwise.lite0 import match_keys, weights_path
from student.models import PRETRAINED, STUDENTS

SMALL = {"embed_dim": (16, 24, 32), "depths": (1, 1, 1), "state_dim": (9, 4, 4), "feature_dim": 16}


@pytest.fixture(params=STUDENTS)
def student(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return STUDENTS[request.param](**SMALL, num_levels=5, minimum=0.0, maximum=100.0)


def clips(count: int, size_px: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size_px, size_px, 3), dtype=torch.uint8, generator=generator)


def test_outputs_and_their_ranges(student: nn.Module) -> None:
    judged = student.eval()(clips(2))
    assert (judged.score.shape, judged.logits.shape) == ((2,), (2, 5))
    assert (judged.feature.shape, judged.frame_scores.shape) == ((2, 16), (2, 3))
    assert torch.all((judged.frame_scores >= 0) & (judged.frame_scores <= 100))


def test_a_score_does_not_depend_on_its_batch(student: nn.Module) -> None:
    student.eval()
    batch = clips(4)
    with torch.inference_mode():
        together, alone = student(batch).score, torch.cat([student(batch[i : i + 1]).score for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)


def test_every_weight_is_trained(student: nn.Module) -> None:
    student.train()(clips(2, 128)).score.sum().backward()
    # At 128 px: over the 1 x 1 map that 64 px leave to the last stage a softmax has no gradient.
    idle = [name for name, p in student.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    frozen = ("backbone.conv_stem.", "backbone.bn1.", "backbone.blocks.0.", "backbone.blocks.1.")
    assert idle == [name for name, _ in student.named_parameters() if name.startswith(frozen)]


def test_the_stem_holds_the_imagenet_weights(student: nn.Module) -> None:
    PRETRAINED["mamba"](student)
    weights = torch.load(weights_path(), weights_only=True)
    own = student.backbone.state_dict()
    for key, package in match_keys(own, weights, "file").items():
        torch.testing.assert_close(own[key], weights[package], rtol=0, atol=0)
    assert sum(parameter.numel() for parameter in student.backbone.parameters()) < 100_000
