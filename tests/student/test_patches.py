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
from student.head import HybridHead
from student.int8 import Quantizer
from student.models import STUDENTS
from student.patches import NUM_PATCH_STATISTICS, PATCH_WEIGHT, PatchPool, cut_patches
from student.targets import EXPORT_TARGETS, CalibrationInputs, Source
from student.texture import NUM_TEXTURE
from student.trace import trace

PX, GRID = 32, 3
SHAPES: dict[str, dict[str, Any]] = {
    "mamba": {"embed_dim": (16, 24), "depths": (1, 1), "state_dim": (9, 4)},
    "swin": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window": 4, "view_px": PX},
}
SETTINGS: dict[str, Any] = {
    "feature_dim": 32, "stem_stages": 3, "tuned_stem": True, "pairs": True, "prompts": 2, "aleatoric": False,
    "stream_px": PX, "num_levels": 5, "minimum": 0.0, "maximum": 100.0, "patch_px": PX,
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
def test_hybrid_scores_prompts_and_the_stem_run_apart_go_on_as_before(name: str) -> None:
    student, frames, terms = make(name), views(2), torch.full((2, BITSTREAM_INPUT_DIM), 0.5)
    whole = make(name, patch_px=..., **({"view_px": GRID * PX} if name == "swin" else {}))
    with torch.inference_mode():
        judged, hidden = student(frames, terms), student.lower(frames)
        again, plain = student.upper(hidden, terms), whole(frames, terms)
    assert hidden.shape[:3] == (2, 2, GRID * GRID)
    torch.testing.assert_close(again.fused, judged.fused)
    torch.testing.assert_close(judged.texture[:, :NUM_TEXTURE], plain.texture)  # of the whole view, in either
    assert (judged.frame_scores.shape, plain.patch_scores) == (plain.frame_scores.shape, None)
    assert "patches.score.weight" not in whole.state_dict()
    student.tune_prompts()
    assert {key.split(".")[0] for key, p in student.named_parameters() if p.requires_grad} == {"prompts", "head"}


@pytest.mark.parametrize("name", STUDENTS)
def test_the_clips_score_alone_trains_scores_weights_and_pooling_of_patches(name: str) -> None:
    student = make(name, stream_px=None).train()
    student(views(2)).score.sum().backward()
    assert student.patches is not None
    gradients = {key: p.grad for key, p in student.patches.named_parameters()}
    # A softmax sees no shift of all weights.
    assert [key for key, grad in gradients.items() if grad is None or grad.abs().sum() < 1e-6] == ["weight.bias"]


@pytest.mark.parametrize("weight", [0.0, PATCH_WEIGHT])
def test_the_regression_tells_clips_apart_by_patch_scores(weight: float) -> None:
    head = HybridHead(8, minimum=0, maximum=100, patch_statistics=NUM_PATCH_STATISTICS, patch_weight=weight).eval()
    scores, clips = torch.linspace(20, 90, 40), torch.zeros(40, NUM_TEXTURE + NUM_PATCH_STATISTICS)
    clips[:, NUM_TEXTURE:] = scores.unsqueeze(1) / 100
    terms = torch.zeros(40, BITSTREAM_INPUT_DIM)
    head.fit_closed_form(clips[::2], terms[::2], scores[::2], torch.ones(20))
    error = (100 * head.regressed(clips[1::2], terms[1::2]) - scores[1::2]).abs().mean()
    assert error < 6 if weight else error > 12


@pytest.mark.parametrize("patches", [1, 4, 9])
def test_the_pooled_statistics_by_hand(patches: int) -> None:
    torch.manual_seed(0)
    pool = PatchPool(8, minimum=0, maximum=100)
    pool.pool = nn.Sequential(nn.Identity())
    feature = torch.randn(2, 3, patches, 8)
    with torch.no_grad():
        pooled, scores, statistics = pool(feature)
        weight = pool.weight(feature).squeeze(3).softmax(2).numpy()
    own, features = (scores.numpy() - 50) / 25, feature.numpy()
    ordered, quarter = np.sort(own, 2), max(1, patches // 4)
    expected = [
        features.mean(2), features.std(2), (weight[..., None] * features).sum(2),
        *(column[..., None] for column in (
            own.mean(2), own.std(2), ordered[..., :quarter].mean(2), ordered[..., -quarter:].mean(2),
            np.median(own, 2), (weight * own).sum(2),
        )),
    ]  # fmt: skip
    np.testing.assert_allclose(pooled.numpy(), np.concatenate(expected, 2), atol=2e-3)
    assert torch.equal(statistics, pooled[:, :, 24:28])
    assert pooled.shape == (2, 3, 30)
    assert torch.isfinite(pooled).all()


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
    student, frames = make("mamba", stream_px=None), views(4).numpy()
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
