"""Students from the pixels up: outputs, every weight in use, strict ImageNet files, StylePrompt, ONNX by the gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from timm.models.efficientvim import EfficientViM, EfficientViMDistilled
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from distill.predict import predict
from rungwise.config import QMambaStudent, Student, SwinV2Student
from rungwise.score.contract import Contract, Scale
from rungwise.score.views import ViewRecipe
from student.export import parity, seal
from student.gates import Labeled, loss_gates, rerun_gate
from student.models import STUDENTS, cost, load_pretrained, student_settings
from student.pixel_student import PixelStudent
from student.swinv2 import SwinV2Student as SwinV2
from student.targets import EXPORT_TARGETS, CalibrationInputs, Source
from student.trace import trace

SIZES: dict[str, dict[str, Any]] = {
    "qmamba": {"embed_dim": (16, 32), "depths": (1, 1), "state_dim": (9, 4), "window": 2, "feature_dim": 32},
    "swinv2": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window": 3, "feature_dim": 32},
}
NAMED = {"qmamba": ("nano", 3), "swinv2": ("tiny", 4)}  # a size, and its stages
HEADS: dict[str, Any] = {"num_levels": 5, "minimum": 0.0, "maximum": 100.0}
RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=32)
CONTRACT = Contract(
    model="qmamba",
    view=RECIPE,
    scale=Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100),
    calibration=None,
    golden=None,
    training_id="0123",
    dataset_sha256="4567",
)


def training(**losses: float) -> dict[str, Any]:
    """A training section of these losses."""
    return {
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
        "losses": losses,
    }


def section(name: str, **changes: Any) -> QMambaStudent | SwinV2Student:
    values: dict[str, Any] = {
        "model": name,
        "size": SIZES[name],
        "checkpoint": None,
        "prompts": 0,
        "aleatoric": False,
        "start": None,
        "tune": "all",
        "refit": False,
        "bitrate_groups": None,
        "precision": "fp32",
        "execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False},
        "pretrain": None,
        "training": training(label=1.0),
    }
    read = TypeAdapter[Any](Student).validate_python(values | changes)
    assert isinstance(read, QMambaStudent | SwinV2Student)
    return read


def make(name: str, **changes: Any) -> PixelStudent:
    """A student whose residual branches are open, so that they don't hide what they do. SwinV2's queries have no bias:
    those of padded places are 0, and have no direction."""
    torch.manual_seed(0)
    model = STUDENTS[name](**student_settings(section(name, **changes), RECIPE), **HEADS)
    assert isinstance(model, PixelStudent)
    for key, parameter in model.named_parameters():
        if not key.startswith("prompts.") and "q_bias" not in key and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def clips(count: int, size_px: int = 64) -> Tensor:
    """Gradients and noise of different strength."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 1, size_px)[None, None, :, None, None] * rng.uniform(0, 200, (count, 1, 1, 1, 3))
    noise = rng.normal(0, 1, (count, 2, size_px, size_px, 3)) * rng.uniform(0, 60, (count, 1, 1, 1, 1))
    return torch.from_numpy(np.clip(ramp + noise + rng.uniform(0, 80, (count, 1, 1, 1, 1)), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", SIZES)
@torch.inference_mode()
def test_scores_are_on_the_scale_and_alone_or_together(name: str) -> None:
    model = make(name)
    together = model(clips(3))
    assert (together.score.shape, together.feature.shape, together.frame_scores.shape) == ((3,), (3, 32), (3, 2))
    assert torch.all((together.frame_scores >= 0) & (together.frame_scores <= 100))
    torch.testing.assert_close(together.score[1:2], model(clips(3)[1:2]).score, rtol=1e-5, atol=1e-4)
    assert together.score.std() > 0
    assert model(clips(1, 96)).score.isfinite().all()  # parts of views, and views at half their size


@pytest.mark.parametrize("name", SIZES)
def test_every_weight_trains(name: str) -> None:
    model = make(name, aleatoric=True, training=training(label=1.0, likelihood=1.0)).train()
    prediction = model(clips(2, 128))  # stages of one place have no neighbors to scan
    (prediction.score.sum() + prediction.deviation.sum()).backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", SIZES)
def test_prompts_stand_on_every_stage_and_are_a_twentieth(name: str) -> None:
    size, stages = NAMED[name]
    plain, prompted = (
        STUDENTS[name](**student_settings(section(name, size=size, prompts=count), RECIPE), **HEADS) for count in (0, 8)
    )
    prompted.load_state_dict(plain.state_dict(), strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(plain.eval()(clips(1)).score, prompted.eval()(clips(1)).score, rtol=0, atol=0)
    prompted.tune_head()
    assert {key.split(".")[0] for key, p in prompted.named_parameters() if p.requires_grad} == {"head"}
    prompted.requires_grad_(True)
    prompted.tune_prompts()
    tuned = {key for key, p in prompted.named_parameters() if p.requires_grad}
    assert {".".join(key.split(".")[:2]) for key in tuned} == {"head.levels"} | {
        f"prompts.{stage}" for stage in range(stages)
    }
    weights = dict(prompted.named_parameters())
    assert sum(weights[key].numel() for key in tuned) <= 0.05 * sum(p.numel() for p in weights.values())


def imagenet_files() -> dict[str, dict[str, Tensor]]:
    """EfficientViM with class heads, as timm and as its authors publish it."""
    shape = {name: SIZES["qmamba"][name] for name in ("embed_dim", "depths", "state_dim")}
    torch.manual_seed(1)
    timm = EfficientViM(num_classes=10, **shape).state_dict()
    authors = EfficientViMDistilled(num_classes=10, **shape).state_dict()
    for key, value in authors.items():
        if ".norm." in key and value.ndim == 1 and "patch_embed" not in key and ".conv" not in key:
            authors[key] = value.view(1, -1, 1, 1)
    return {"qmamba timm": timm, "qmamba authors": authors} | swin_files()


def swin_files() -> dict[str, dict[str, Tensor]]:
    """SwinV2 with a class head: timm merges patches at the start of a stage, the authors' code at the end of one."""
    swin = SwinTransformerV2(img_size=32, num_classes=10, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4)
    timm = {key: torch.randn_like(value) for key, value in swin.state_dict().items()}
    authors = {
        key.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc", "head"): value
        for key, value in timm.items()
    }
    tables = {"relative_position_index": torch.zeros(16, 16), "relative_coords_table": torch.zeros(1, 7, 7, 2)}
    authors |= {f"layers.0.blocks.0.attn.{name}": value for name, value in tables.items()}
    return {"swinv2 timm": timm, "swinv2 authors": authors}


@pytest.mark.parametrize("source", imagenet_files())
def test_imagenet_files_are_read_strictly(source: str, tmp_path: Path) -> None:
    state, path, name = imagenet_files()[source], tmp_path / "model.pth", source.split()[0]
    torch.save({"model": state} if "authors" in source else state, path)
    chosen = section(name, checkpoint=str(path))
    model = make(name)
    load_pretrained(model, chosen)
    published = imagenet_files()[f"{name} timm"] if name == "swinv2" else state
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, published[key].view(value.shape)), key
    key = {"qmamba": "stages.0.blocks.0.mixer.A", "swinv2": "layers.0.blocks.0.norm1.weight"}[name]
    for change, words in (
        ({key: None}, rf"missing key\(s\), the first '{key}'"),
        ({key.replace("blocks.0", "blocks.7"): torch.ones(9)}, "unknown key"),
        ({key: torch.ones(8)}, "of another shape"),
    ):
        torch.save({key: value for key, value in (state | change).items() if value is not None}, path)
        with pytest.raises(ValueError, match=words):
            load_pretrained(model, chosen)


@pytest.mark.parametrize("name", SIZES)
def test_its_files_pass_the_gates(name: str, tmp_path: Path) -> None:
    model = make(name, prompts=2)
    for parameter in model.prompts.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.head.levels.weight.data *= 20  # so that scores spread as a trained student's do
    graph, pixels = trace(model, RECIPE, opset=20), clips(16).numpy()
    contract = CONTRACT.model_copy(update={"model": name})
    scorer = seal(graph, contract, tmp_path / "student.onnx")
    assert parity(scorer, predict(model, pixels), pixels) < 1e-5
    exact = scorer.predict(pixels)
    rng = np.random.default_rng(0)
    contents = np.array([f"content {clip % 4}" for clip in range(16)])
    validation = Labeled(pixels, exact + rng.normal(0, 0.2 * exact.std(), 16), contents, CONTRACT.scale)
    source = Source(graph, contract, lambda: CalibrationInputs(pixels[:8], None), tmp_path)
    for precision in ("fp16", "int8"):
        attempt = next(EXPORT_TARGETS[precision].attempts(source))
        smaller = seal(attempt.graph, contract.model_copy(update={"precision": precision}), tmp_path / precision)
        scores = smaller.predict(pixels)
        assert rerun_gate(smaller, scores, validation).passed
        if precision == "fp16":
            assert all(gate.passed for gate in loss_gates("fp16", scores, exact, validation))


@pytest.mark.parametrize("name", SIZES)
def test_cost_is_counted_by_part(name: str) -> None:
    model = make(name)
    parts = {part.name: part for part in cost(model, RECIPE)}
    assert sum(part.weights for part in parts.values()) == sum(p.numel() for p in model.parameters())
    # The first convolution by hand, of two frames: 3 to 2 channels, 3 x 3, half of 64 x 64; 3 to 16, 4 x 4, a quarter.
    first = {"qmamba": 2 * 27 * 2 * 32 * 32, "swinv2": 2 * 48 * 16 * 16 * 16}[name]
    assert parts["backbone.patch_embed"].macs >= first


@torch.inference_mode()
def test_swins_local_features_keep_their_places() -> None:
    model = make("swinv2")
    assert isinstance(model, SwinV2)
    maps = [torch.zeros(1, 16, 8, 8), torch.zeros(1, 32, 4, 4)]
    before = model.local_features(maps)[0]
    maps[0][:, :, 2:4, 6:8] = torch.randn(16, 2, 2)  # the fine stage's cell over row 1, column 3 of the coarse one
    moved = (model.local_features(maps)[0] - before).norm(dim=-1).view(4, 4)
    assert moved.argmax() == 1 * 4 + 3
    assert moved.flatten().sort().values[-2] < 0.5 * moved.max()


def test_keys_that_do_not_go_together_are_named() -> None:
    kept = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True}
    for changes, words in (
        ({"execution": kept}, "no layers below those that train"),
        ({"start": "a.safetensors", "checkpoint": "b.bin"}, "give `start` or `checkpoint`, not both"),
        ({"tune": "styleprompt"}, "needs `start`"),
        ({"training": training(patch=1.0)}, "scores no patches"),
        ({"stem": "tuned"}, "Extra inputs are not permitted"),
    ):
        with pytest.raises(ValueError, match=words):
            section("qmamba", **changes)
