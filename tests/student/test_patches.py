"""Patches on their own: the cut, the score of each, their pooling, and the exported graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.score.contract import Contract, Scale
from rungwise.score.views import ViewRecipe
from student.export import parity, seal
from student.frame_student import FrameStudent
from student.int8 import Quantizer
from student.models import STUDENTS as ALL_STUDENTS
from student.patches import HybridPatchHead, cut_patches
from student.styleprompt import StreamPrompt
from student.targets import EXPORT_TARGETS, CalibrationInputs, Source
from student.trace import trace

STUDENTS = {name: student for name, student in ALL_STUDENTS.items() if issubclass(student, FrameStudent)}
PX, GRID = 32, 3
SHAPES: dict[str, dict[str, Any]] = {
    "mamba": {"embed_dim": (16, 24), "depths": (1, 1), "state_dim": (9, 4)},
    "swin": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window": 4, "view_px": PX},
}
SETTINGS: dict[str, Any] = {
    "feature_dim": 32, "stem_stages": 3, "tuned_stem": True, "pairs": True, "prompts": 2, "aleatoric": False,
    "hybrid": True, "num_levels": 5, "minimum": 0.0, "maximum": 100.0, "patch_px": PX,
}  # fmt: skip
CONTRACT = Contract(
    model="mamba",
    view=ViewRecipe(num_frames=4, frame_choice="pairs", grid=GRID, patch_px=PX),
    scale=Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100),
    calibration=None,
    golden=None,
    training_id="0123",
    dataset_sha256="4567",
)


def make(name: str, **changes: Any) -> FrameStudent:
    """A student whose prompts and residual branches do something."""
    torch.manual_seed(0)
    settings = {key: value for key, value in (SHAPES[name] | SETTINGS | changes).items() if value is not ...}
    model = STUDENTS[name](**settings)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def views(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (count, 4, GRID * PX, GRID * PX, 3), dtype=np.uint8)
    )


def test_the_cut_equals_slicing_by_hand() -> None:
    frames = views(2)
    patches = cut_patches(frames, PX)
    assert patches.shape == (2, GRID * GRID, 4, PX, PX, 3)
    for place in range(GRID * GRID):
        top, left = PX * (place // GRID), PX * (place % GRID)
        assert torch.equal(patches[:, place], frames[:, :, top : top + PX, left : left + PX])


@pytest.mark.parametrize("name", STUDENTS)
def test_a_patchs_score_does_not_depend_on_its_neighbors(name: str) -> None:
    student, frames = make(name), views(1)
    other = views(1, seed=1)
    place = GRID + 1  # with neighbors on all sides
    other[:, :, PX : 2 * PX, PX : 2 * PX] = frames[:, :, PX : 2 * PX, PX : 2 * PX]
    with torch.inference_mode():
        before, after = student(frames), student(other)
    assert before.patch_scores.shape == (1, 2, GRID * GRID)
    moved = (before.patch_scores - after.patch_scores).abs().amax((0, 1))
    assert moved[place] < 1e-4
    assert (moved[[p for p in range(GRID * GRID) if p != place]] > 1e-3).all()
    assert (before.score - after.score).abs() > 1e-4


@pytest.mark.parametrize("name", STUDENTS)
def test_the_stem_run_apart_and_tuned_prompts_go_on_as_before(name: str) -> None:
    student, frames, terms = make(name), views(2), torch.full((2, BITSTREAM_INPUT_DIM), 0.5)
    whole = make(name, patch_px=..., **({"view_px": GRID * PX} if name == "swin" else {}))
    with torch.inference_mode():
        judged, hidden = student(frames, terms), student.lower(frames)
        again, plain = student.upper(hidden, terms), whole(frames, terms)
    assert hidden.shape[:3] == (2, 2, GRID * GRID)
    torch.testing.assert_close(again.fused, judged.fused)
    assert (judged.frame_scores.shape, plain.patch_scores) == (plain.frame_scores.shape, None)
    assert "patches.score.weight" not in whole.state_dict()
    student.tune_prompts()
    trained = {key.split(".")[0] for key, p in student.named_parameters() if p.requires_grad}
    assert trained == {"prompts", "head", "hybrid"}
    assert student.hybrid is not None
    assert not student.hybrid.patches.first.weight.requires_grad
    student.tune_head()
    assert {key.split(".")[0] for key, p in student.named_parameters() if p.requires_grad} == {"head", "hybrid"}


@pytest.mark.parametrize("name", STUDENTS)
def test_the_clips_score_alone_trains_scores_weights_and_pooling_of_patches(name: str) -> None:
    student = make(name).train()
    prediction = student(views(2), torch.full((2, BITSTREAM_INPUT_DIM), 0.5))
    (prediction.score + prediction.fused).sum().backward()
    assert student.patches is not None
    assert student.hybrid is not None
    for patches in (student.patches, student.hybrid.patches):
        gradients = {key: p.grad for key, p in patches.named_parameters()}
        # A softmax sees no shift of all weights.
        assert [key for key, grad in gradients.items() if grad is None or grad.abs().sum() < 1e-6] == ["weight.bias"]


@pytest.mark.parametrize("prompts", [0, 4])
def test_bitstream_features_move_hybrid_scores_of_clip_and_patches_alone(prompts: int) -> None:
    student, frames = make("mamba", prompts=prompts), views(1)
    low, high = torch.zeros(1, BITSTREAM_INPUT_DIM), torch.ones(1, BITSTREAM_INPUT_DIM)
    with torch.inference_mode():
        before, after = student(frames, low), student(frames, high)
    assert (before.fused - after.fused).abs() > 1e-3
    assert ((before.fused_patch_scores - after.fused_patch_scores).abs() > 1e-3).all()
    assert torch.equal(before.score, after.score)
    assert torch.equal(before.patch_scores, after.patch_scores)


def test_a_prompt_is_the_identity_until_it_is_trained_and_then_moves_means_and_variances() -> None:
    torch.manual_seed(0)
    prompt, feature = StreamPrompt(8, 4, 3), torch.randn(2, 1, 100, 8)
    terms = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    assert torch.equal(prompt(feature, terms), feature)
    nn.init.normal_(prompt.bank.weight)
    styled = prompt(feature, terms)
    mixture = nn.functional.gelu(prompt.choose(terms))
    gamma, beta = (mixture @ prompt.bank.weight.T).split(8, 1)
    torch.testing.assert_close(styled.mean((1, 2)), feature.mean((1, 2)) * (1 + gamma) + beta)
    torch.testing.assert_close(styled.std((1, 2)), feature.std((1, 2)) * (1 + gamma).abs())


def test_statistics_are_standardized_once() -> None:
    student = make("mamba", embed_dim=(), depths=(), state_dim=())
    hidden = student.lower(views(6))
    student.fit_scales(hidden)
    assert student.scales is not None
    standard = student.scales(student.statistics(hidden))
    torch.testing.assert_close(standard.mean(0), torch.zeros(standard.shape[1]), atol=0.05, rtol=0)
    assert standard.std(0).mean() > 0.9
    before = student.scales.centre.clone()
    student.fit_scales(2 * hidden)
    assert torch.equal(student.scales.centre, before)


def test_a_student_without_stages_packs_statistics_where_one_with_stages_packs_a_map() -> None:
    bare, whole = make("mamba", embed_dim=(), depths=(), state_dim=()), make("mamba")
    whole.backbone.load_state_dict(bare.backbone.state_dict())
    frames = views(2)
    with torch.inference_mode():
        hidden = bare.lower(frames)
        own, other = bare.statistics(hidden), whole.statistics(whole.lower(frames))
        torch.testing.assert_close(own.sort(1).values, other.sort(1).values)  # the last map's are in another order
        assert bare.upper(hidden).score.shape == (2,)
    assert hidden.shape[3] == 2 * sum(bare.backbone.channels)
    with pytest.raises(ValueError, match="patch_scores"):
        make("mamba", embed_dim=(), depths=(), state_dim=(), patch_px=...)


@pytest.mark.parametrize("patches", [1, 4])
def test_the_clips_score_by_hand(patches: int) -> None:
    torch.manual_seed(0)
    head = HybridPatchHead(5, 8, minimum=0, maximum=100, terms=3, prompts=2)
    inputs, terms = torch.randn(2, 3, patches, 5), torch.randn(2, 3)
    with torch.no_grad():
        scores, patch_scores = head(inputs, terms)
        own = head.patches(inputs, terms)
    assert torch.equal(patch_scores, own.score_BUP)
    torch.testing.assert_close(scores, 50 + 25 * own.weighted_BU.mean(1))  # nothing is added before training
    low, high = own.score_BUP.amin(2), own.score_BUP.amax(2)
    assert ((50 + 25 * own.weighted_BU >= low - 1e-3) & (50 + 25 * own.weighted_BU <= high + 1e-3)).all()
    nn.init.constant_(head.rest.bias, 100.0)
    assert head.train()(inputs, terms)[0].min() > 100
    assert torch.equal(head.eval()(inputs, terms)[0], torch.full((2,), 100.0))


@pytest.mark.parametrize("name", STUDENTS)
def test_the_file_scores_views_and_patches_as_torch_does_at_any_batch(name: str, tmp_path: Path) -> None:
    student, frames = make(name), views(3)
    graph = trace(student, CONTRACT.view, opset=20)
    assert [output.name for output in graph.graph.output][-2:] == ["fused", "patch_scores"]
    scorer = seal(graph, CONTRACT.model_copy(update={"model": name}), tmp_path / "student.onnx")
    with torch.inference_mode():
        judged = student(frames)
    parity(scorer, judged.score.numpy(), frames.numpy())
    for rows in (slice(0, 1), slice(0, 3)):
        [scores] = scorer.run(["patch_scores"], frames[rows].numpy(), None)
        np.testing.assert_allclose(scores, judged.patch_scores[rows].numpy(), atol=1e-3)


def test_smaller_files_keep_scores_of_views_and_patches(tmp_path: Path) -> None:
    student, frames = make("mamba", hybrid=False), views(4).numpy()
    graph = trace(student, CONTRACT.view, opset=20)
    source = Source(graph, CONTRACT, lambda: CalibrationInputs(frames, None), tmp_path)
    scorer = seal(graph, CONTRACT, tmp_path / "student.onnx")
    for precision in ("fp16", "int8"):
        attempt = next(EXPORT_TARGETS[precision].attempts(source))
        smaller = seal(attempt.graph, CONTRACT.model_copy(update={"precision": precision}), tmp_path / precision)
        np.testing.assert_allclose(smaller.predict(frames), scorer.predict(frames), atol=1.5)
        own, smaller_own = (each.run(["patch_scores"], frames, None)[0] for each in (scorer, smaller))
        np.testing.assert_allclose(smaller_own, own, atol=3)
    quantized = Quantizer(graph, CONTRACT, frames, folder=tmp_path).layers.values()
    assert not [name for name in quantized if name.startswith("patches.")]
