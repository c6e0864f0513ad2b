"""Students: sizes, independence of batch neighbors, every weight in use, the stem run apart, what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rungwise.lite0 import match_keys, weights_path
from rungwise.score.views import ViewRecipe
from student.frame_student import FrameStudent
from student.models import STUDENTS as ALL_STUDENTS
from student.models import cost, load_imagenet
from student.stem import images_and_changes

STUDENTS = {name: student for name, student in ALL_STUDENTS.items() if issubclass(student, FrameStudent)}
SHAPES: dict[str, dict[str, Any]] = {
    "mamba": {"embed_dim": (16, 24, 32), "depths": (1, 1, 1), "state_dim": (9, 4, 4), "feature_dim": 32},
    "swin": {"embed_dim": 16, "depths": (2, 1), "num_heads": (1, 2), "window": 3, "feature_dim": 32, "view_px": 128},
}
SETTINGS: dict[str, Any] = {
    "stem_stages": 3,
    "tuned_stem": True,
    "pairs": False,
    "prompts": 0,
    "aleatoric": False,
    "hybrid": False,
    "num_levels": 5,
    "minimum": 0.0,
    "maximum": 100.0,
}


def make(name: str, **changes: Any) -> FrameStudent:
    torch.manual_seed(0)
    model = STUDENTS[name](**SHAPES[name] | SETTINGS | changes)
    assert isinstance(model, FrameStudent)
    for parameter in model.parameters():  # SwinV2's residual branches start at 0, and would hide what they do
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(params=STUDENTS)
def student(request: pytest.FixtureRequest) -> FrameStudent:
    return make(request.param)


def clips(count: int, size_px: int = 128) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size_px, size_px, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size_px", [64, 96, 128])
def test_outputs_and_their_ranges(student: nn.Module, size_px: int) -> None:
    judged = student.eval()(clips(2, size_px))
    assert (judged.score.shape, judged.logits.shape) == ((2,), (2, 5))
    assert (judged.feature.shape, judged.frame_scores.shape) == ((2, 32), (2, 3))
    assert torch.all((judged.frame_scores >= 0) & (judged.frame_scores <= 100))
    torch.testing.assert_close(judged.score, judged.logits.softmax(-1) @ torch.tensor([0.0, 25.0, 50.0, 75.0, 100.0]))


def test_pairs_are_seen_as_a_frame_and_its_change() -> None:
    frames = clips(2, 64).repeat_interleave(2, dim=1)[:, :4]
    frames[:, 1] = frames[:, 0] // 2
    pictures = images_and_changes(frames)
    assert pictures.shape == (4, 2, 64, 64, 3)
    torch.testing.assert_close(pictures[:2], frames[:, 0::2].float())
    change = frames[:, 1::2].numpy().astype(int) - frames[:, 0::2].numpy().astype(int)
    assert (pictures[2:].numpy() == np.clip(128 + 4 * change, 0, 255)).all()


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_of_pairs_is_its_upper_over_its_lower_and_scores_every_frame(name: str) -> None:
    student = make(name, pairs=True).eval()
    frames = clips(2)[:, [0, 1, 1, 2]]
    with torch.inference_mode():
        judged = student(frames)
        packed = student.lower(frames)
        still = student(frames[:, [0, 0, 1, 1]])
        again = student.upper(packed)
    assert packed.shape[:2] == (2, 2)
    assert judged.frame_scores.shape == (2, 4)
    assert (judged.frame_scores[:, 0] == judged.frame_scores[:, 1]).all()
    torch.testing.assert_close(again.score, judged.score)
    assert (still.score - judged.score).abs().max() > 1e-4  # the second frame of a pair counts


def test_a_score_does_not_depend_on_its_batch(student: FrameStudent) -> None:
    student.eval()
    batch = clips(4)
    with torch.inference_mode():
        together, alone = student(batch).score, torch.cat([student(batch[i : i + 1]).score for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    assert together.std() > 0


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("tuned", [True, False])
def test_every_weight_is_trained_but_the_frozen_stem(name: str, tuned: bool) -> None:
    student = make(name, tuned_stem=tuned)
    student.train()(clips(2)).score.sum().backward()
    idle = [key for key, p in student.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    frozen: tuple[str, ...] = ("backbone.conv_stem.", "backbone.bn1.", "backbone.blocks.0.", "backbone.blocks.1.")
    frozen = frozen if tuned else ("backbone.",)
    assert idle == [key for key, _ in student.named_parameters() if key.startswith(frozen)]


def test_the_stem_holds_the_imagenet_weights(student: FrameStudent) -> None:
    load_imagenet(student)
    weights = torch.load(weights_path(), weights_only=True)
    own = student.backbone.state_dict()
    for key, package in match_keys(own, weights, "file").items():
        torch.testing.assert_close(own[key], weights[package], rtol=0, atol=0)
    assert sum(parameter.numel() for parameter in student.backbone.parameters()) < 100_000


def test_a_student_is_its_upper_part_after_its_lower(student: FrameStudent) -> None:
    student.eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            student(clips(2)).score, student.upper(student.lower(clips(2))).score, rtol=0, atol=0
        )


@pytest.mark.parametrize("name", STUDENTS)
def test_its_expected_error_is_positive_and_starts_small(name: str) -> None:
    judged = make(name, aleatoric=True).eval()(clips(2))
    assert judged.deviation.shape == (2,)
    assert torch.all((judged.deviation > 0) & (judged.deviation < 50))


@pytest.mark.parametrize(("name", "sizes"), [(name, student.SIZES) for name, student in STUDENTS.items()])
def test_sizes_keep_their_bounds_and_cost_adds_up(name: str, sizes: dict[str, dict[str, Any]]) -> None:
    recipe = ViewRecipe(num_frames=2, frame_choice="uniform", grid=4, patch_px=40)
    for size, most in (("nano", 2_000_000), ("small", 10_000_000)):
        own = sizes[size] | ({"view_px": 160} if name == "swin" else {})
        student = STUDENTS[name](**own, **SETTINGS)
        parts = cost(student, recipe)
        assert sum(part.weights for part in parts) == sum(p.numel() for p in student.parameters()) <= most
        macs = {part.name: part.macs for part in parts}
        assert all(macs[f"stages.{stage}"] > 0 for stage in range(3))
        assert macs.get("other", 0) < 0.01 * sum(macs.values())
        # The stem's first convolution by hand: 3 to 32 channels, 3 x 3, half of 160 x 160, two frames.
        assert macs["backbone"] > 2 * 27 * 32 * 80 * 80
    twice = cost(student, recipe.model_copy(update={"num_frames": 4}))
    assert sum(part.macs for part in twice) == pytest.approx(2 * sum(macs.values()), rel=0.01)
