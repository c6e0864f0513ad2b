"""The InternVideo2 student: official weights, the paper's loss, scores of clips and frames, ONNX through the gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from plain_internvideo2 import SHAPE
from published_internvideo2 import FILES
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from distill.checkpoint import load_checkpoint, save_checkpoint
from distill.examples import Examples
from distill.model import Upper
from distill.objective import Objective, make_bundle
from distill.predict import predict
from rungwise.config import InternVideo2Student as Section
from rungwise.score.contract import Contract, Scale
from rungwise.score.views import ViewRecipe
from student.export import check_operators, export_onnx, parity, seal
from student.fp16 import to_fp16
from student.gates import Labeled, loss_gates, rerun_gate
from student.internvideo2 import InternVideo2Student
from student.models import cost, load_pretrained, student_settings
from student.targets import EXPORT_TARGETS, CalibrationInputs, Source
from student.trace import trace
from teacher.weights import Card

FRAMES, SIDE = SHAPE["num_frames"], SHAPE["img_size"]
RECIPE = ViewRecipe(num_frames=FRAMES, frame_choice="uniform", grid=1, patch_px=SIDE)
CONTRACT = Contract(
    model="internvideo2",
    view=RECIPE,
    scale=Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100),
    calibration=None,
    golden=None,
    training_id="0123",
    dataset_sha256="4567",
)
CUSTOM = {name: value for name, value in SHAPE.items() if name not in ("num_frames", "img_size")}


def section(**changes: Any) -> Section:
    values: dict[str, Any] = {"size": CUSTOM, "checkpoint": None, "gelu": "exact", "tune": "all"}
    return Section.model_validate(
        {
            "model": "internvideo2",
            "start": None,
            "refit": False,
            "bitrate_groups": None,
            "precision": "fp32",
            "execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False},
            "training": {
                "epochs": 1,
                "augment": None,
                "validate_every": 1,
                "contents_per_batch": 2,
                "clips_per_content": 2,
                "mix_codecs": False,
                "batches_per_step": 1,
                "learning_rate": 1e-3,
                "backbone_learning_rate": 1e-4,
                "weight_decay": 0.05,
                "ema_decay": 0.9,
                "losses": {"label": 1.0, "feature": 1.0},
            },
            **values,
            **changes,
        }
    )


def make(**changes: Any) -> InternVideo2Student:
    """A student whose every weight is random, zeros and ones included."""
    torch.manual_seed(0)
    settings = student_settings(section(**changes), RECIPE)
    model = InternVideo2Student(**settings, num_levels=5, minimum=0.0, maximum=100.0)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


def clips(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, FRAMES, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)


@torch.inference_mode()
def test_the_feature_and_the_score_are_the_papers() -> None:
    model, frames = make(), clips(3)
    prediction = model(frames)
    normalized = model.normalize(frames).unflatten(0, (3, FRAMES)).transpose(1, 2)
    torch.testing.assert_close(prediction.feature, model.backbone.classify(normalized))
    torch.testing.assert_close(prediction.score, 50 + 100 * model.score(prediction.feature).squeeze(1))
    assert prediction.logits.shape == (3, 5)
    assert prediction.frame_scores.shape == (3, FRAMES)
    tokens = model.backbone(normalized)[:, 1 + 2 * 16 : 1 + 3 * 16]  # of the third frame, 4 x 4 patches
    alone = 50 + 100 * model.score(model.backbone.pool(tokens)).squeeze(1)
    torch.testing.assert_close(prediction.frame_scores[:, 2], alone)
    torch.testing.assert_close(prediction.score[1:2], model(frames[1:2]).score)


@pytest.mark.parametrize("tune", ["head", "last_block", "all"])
def test_what_trains_and_what_is_stored(tune: str) -> None:
    model, frames = make(tune=tune), clips(2)
    trained = {name.split(".")[1] if name.startswith("backbone") else "score" for name, p in model.named_parameters()
               if p.requires_grad}  # fmt: skip
    below = {"blocks", "clip_projector", "fc_norm", "score"}
    assert trained == {"head": {"score"}, "last_block": below}.get(
        tune, below | {"patch_embed", "pos_embed", "cls_token"}
    )
    assert model.lower_is_frozen == (tune != "all")
    with torch.inference_mode():
        assert torch.equal(model.upper(model.lower(frames)).score, model(frames).score)


@pytest.mark.parametrize(
    "file", [name for name, faked in FILES.items() if faked.size in "SB" or faked.kind == "attention pool"]
)
def test_official_files_are_read_strictly(file: str, tmp_path: Path) -> None:
    faked, dim, pooled = FILES[file], SHAPE["embed_dim"], SHAPE["clip_embed_dim"]
    shapes = faked.shapes(dim, SHAPE["depth"], int(dim * SHAPE["mlp_ratio"]), 16, pooled)
    generator = torch.Generator().manual_seed(1)
    state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    path = tmp_path / "pytorch_model.bin"
    torch.save({faked.wrapper: state} if faked.wrapper else state, path)
    chosen = section(checkpoint=str(path))
    model = InternVideo2Student(**student_settings(chosen, RECIPE), num_levels=5, minimum=0.0, maximum=100.0)
    load_pretrained(model, chosen)
    for key, value in model.backbone.state_dict().items():
        if key != "pos_embed" and (key in state or not key.startswith("fc_norm.")):
            assert torch.equal(value, state[key]), key
    assert (model.backbone.extra_mlp is not None) == (faked.kind == "attention pool")
    del state["blocks.1.norm2.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"missing key\(s\), the first 'blocks\.1\.norm2\.weight'"):
        load_pretrained(model, chosen)


@pytest.mark.parametrize("size", ["S", "B"])
def test_published_sizes(size: Any) -> None:
    recipe = ViewRecipe(num_frames=8, frame_choice="uniform", grid=4, patch_px=56)
    settings = student_settings(section(size=size), recipe)
    with torch.device("meta"):
        model = InternVideo2Student(**settings, num_levels=5, minimum=0.0, maximum=100.0)
    assert model.score.weight.shape == (1, 768)
    assert model.backbone.pos_embed.shape == (1, 2049, {"S": 384, "B": 768}[size])


def examples(features_ND: Tensor, frames: Tensor) -> Examples:
    count = len(frames)
    return Examples(
        inputs=frames.unsqueeze(1).numpy(),
        scores=np.linspace(20, 90, count, dtype=np.float32),
        contents=tuple("ab"[row % 2] for row in range(count)),
        codecs=("h264",) * count,
        classes=np.zeros(count, np.int64),
        groups=np.full(count, -1, np.int64),
        patch_px=SIDE,
        frames_each=1,
        stream=np.full((count, 1), np.nan, np.float32),
        stream_weights=np.ones(count, np.float32),
        targets={"features": features_ND.unsqueeze(1).numpy()},
    )


@pytest.mark.parametrize("keeps_frozen", [False, True])
def test_features_of_the_teachers_width_are_matched_without_a_projector(keeps_frozen: bool) -> None:
    student, frames = make(tune="last_block"), clips(4)
    model: Any = Upper(student, "internvideo2") if keeps_frozen else student
    inputs = student.lower(frames) if keeps_frozen else frames
    target = torch.randn(4, SHAPE["clip_embed_dim"])
    objective = Objective({"label": 1.0, "feature": 1.0}, CONTRACT.scale)
    bundle = make_bundle(model, examples(target, inputs), objective)
    assert isinstance(bundle.projector, nn.Identity)
    prediction = bundle(inputs)
    label = torch.tensor([20.0, 40.0, 60.0, 80.0])
    loss, _ = objective(prediction, {"label": label, "features": target})
    width = (SHAPE["clip_embed_dim"],)
    own, other = functional.layer_norm(prediction.feature, width), functional.layer_norm(target, width)
    by_hand = functional.smooth_l1_loss(own, other, beta=2.0) + ((prediction.score - label) / 100).square().mean()
    torch.testing.assert_close(loss, by_hand)
    wider = make_bundle(model, examples(torch.randn(4, 24), inputs), objective)
    assert isinstance(wider.projector, nn.Linear)
    assert wider.projector.weight.shape == (24, 16)


def test_keys_that_do_not_go_together_are_named() -> None:
    kept = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True}
    for changes, words in (
        ({"execution": kept}, "keep_frozen needs `tune: head` or `last_block`"),
        ({"start": "a.safetensors", "checkpoint": "b.bin"}, "give `start` or `checkpoint`, not both"),
        ({"prompts": 4}, "Extra inputs are not permitted"),
        ({"tune": "styleprompt"}, "Input should be 'head', 'last_block' or 'all'"),
    ):
        with pytest.raises(ValueError, match=words):
            section(**changes)
    for loss, words in (
        ("patch", "internvideo2 scores no patches"),
        ("stream", "`reencoded_weight` and losses.stream"),
    ):
        training = section().training.model_dump()
        training["losses"][loss] = 1.0
        with pytest.raises(ValueError, match=words):
            section(training=training)


def smooth_clips(count: int) -> np.ndarray:
    """Gradients and noise of different strength, so that scores differ."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 1, SIDE)[None, None, :, None, None] * rng.uniform(0, 200, (count, 1, 1, 1, 3))
    noise = rng.normal(0, 1, (count, FRAMES, SIDE, SIDE, 3)) * rng.uniform(0, 60, (count, 1, 1, 1, 1))
    return np.clip(ramp + noise + rng.uniform(0, 80, (count, 1, 1, 1, 1)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_its_onnx_files_pass_the_gates(gelu: str, tmp_path: Path) -> None:
    model = make(gelu=gelu)
    with torch.no_grad():
        model.score.weight.mul_(20)  # so that scores spread as a trained student's do
    graph = trace(model, RECIPE, opset=20)
    check_operators(graph, "fp32")
    pixels = smooth_clips(16)
    scorer = seal(graph, CONTRACT, tmp_path / "student.onnx")
    assert parity(scorer, predict(model, pixels), pixels) < 1e-5
    exact = scorer.predict(pixels)
    assert exact.std() > 2
    rng = np.random.default_rng(0)
    contents = np.array([f"content {clip % 4}" for clip in range(16)])
    validation = Labeled(pixels, exact + rng.normal(0, 0.2 * exact.std(), 16), contents, CONTRACT.scale)
    half = seal(to_fp16(graph), CONTRACT.model_copy(update={"precision": "fp16"}), tmp_path / "half.onnx")
    scores = half.predict(pixels)
    assert all(gate.passed for gate in loss_gates("fp16", scores, exact, validation))
    assert rerun_gate(half, scores, validation).passed


def test_its_int8_file_is_made_of_the_same_layers(tmp_path: Path) -> None:
    graph = trace(make(), RECIPE, opset=20)
    source = Source(graph, CONTRACT, lambda: CalibrationInputs(smooth_clips(8), None), tmp_path)
    attempt = next(EXPORT_TARGETS["int8"].attempts(source))
    check_operators(attempt.graph, "int8")
    assert {"QuantizeLinear", "MatMul"} <= {node.op_type for node in attempt.graph.graph.node}
    int8 = seal(attempt.graph, CONTRACT.model_copy(update={"precision": "int8"}), tmp_path / "int8.onnx")
    assert np.isfinite(int8.predict(smooth_clips(2))).all()


def test_a_checkpoint_comes_back_and_its_cost_adds_up(tmp_path: Path) -> None:
    model = make()
    settings = student_settings(section(), RECIPE) | {"num_levels": 5, "minimum": 0.0, "maximum": 100.0}
    save_checkpoint(tmp_path / "student.safetensors", model, settings, CONTRACT)
    again, contract, _ = load_checkpoint(tmp_path / "student.safetensors")
    assert contract.model == "internvideo2"
    assert (predict(again, clips(2).numpy()) == predict(model, clips(2).numpy())).all()
    parts = {part.name: part for part in cost(model, RECIPE)}
    assert sum(part.weights for part in parts.values()) == sum(p.numel() for p in model.parameters())
    dim, tokens, hidden = 32, 1 + FRAMES * 16, int(32 * 48 / 11)
    block = tokens * (4 * dim * dim + 2 * dim * hidden) + 2 * tokens * tokens * dim
    assert parts["backbone.blocks"].macs == 2 * block


@pytest.mark.data
def test_the_golden_familys_student_gives_the_official_pooling_and_exports(
    outside_data: Callable[[str], Path], tmp_path: Path
) -> None:
    from teacher.golden import TAKEN
    from teacher.internvideo2 import fill_tower
    from teacher.weights import read_metadata

    path = outside_data("golden/internvideo2_tiny.safetensors")
    tensors = load_file(path)
    config = json.loads(read_metadata(path)["config"])
    shape = {name: value for name, value in config.items() if name in TAKEN - {"num_classes"}}
    model = InternVideo2Student(shape=shape, tune="all", num_levels=5, minimum=0.0, maximum=100.0)
    state = {key.removeprefix("checkpoint/"): value for key, value in tensors.items() if key.startswith("checkpoint/")}
    fill_tower(model.backbone, state, Card(source=str(path), sha256=""))
    model.eval()
    with torch.inference_mode():
        tokens = model.backbone(tensors["input/video_bcthw"])
        torch.testing.assert_close(
            model.backbone.clip_projector(tokens), tensors["output/clip_projector"], rtol=1e-5, atol=1e-5
        )
    view = ViewRecipe(num_frames=shape["num_frames"], frame_choice="uniform", grid=1, patch_px=shape["img_size"])
    scorer = export_onnx(model, CONTRACT.model_copy(update={"view": view}), tmp_path / "student.onnx", opset=20)
    video = tensors["input/video_bcthw"].permute(0, 2, 3, 4, 1)
    pixels = (128 + 40 * video).clamp(0, 255).to(torch.uint8).numpy()
    assert parity(scorer, predict(model, pixels), pixels) < 1e-5
    assert onnx.load(tmp_path / "student.onnx").graph.input[0].name == "frames"
