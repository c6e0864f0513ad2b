"""The ONNX file: parity, contract inside, refusal of what is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from distill.checkpoint import load_checkpoint, save_checkpoint
from distill.predict import predict
from rungwise.score.contract import Calibration, Contract, Scale, golden_input
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe
from student.export import export_onnx, parity
from student.models import STUDENTS

SETTINGS: dict[str, Any] = {
    "embed_dim": (16, 24, 32),
    "depths": (1, 1, 1),
    "state_dim": (9, 4, 4),
    "feature_dim": 16,
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
CONTRACT = Contract(
    model="mamba",
    view=ViewRecipe(num_frames=3, frame_choice="uniform", grid=2, patch_px=32),
    scale=Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100),
    calibration=Calibration(coverage=0.9, half_width=7.0, num_clips=30),
    golden=None,
    training_id="0123",
    dataset_sha256="4567",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small untrained student as checkpoint and as ONNX."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    model = STUDENTS["mamba"](**SETTINGS)
    for module in model.modules():  # untrained batch norms would hide a wrong export of their statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    contract = save_checkpoint(folder / "student.safetensors", model, SETTINGS, CONTRACT)
    export_onnx(model, contract, folder / "student.onnx", opset=20)
    return folder


def test_onnx_says_what_torch_says_at_any_batch(folder: Path) -> None:
    model, _, _ = load_checkpoint(folder / "student.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64, 3), dtype=np.uint8)
    assert parity(Scorer(folder / "student.onnx"), predict(model, pixels), pixels) < 1e-5


def test_parity_refuses_another_model(folder: Path) -> None:
    pixels = golden_input(CONTRACT.view)
    with pytest.raises(ValueError, match="ONNX differs from torch"):
        parity(Scorer(folder / "student.onnx"), np.full(len(pixels), 50.0, np.float32), pixels)


def test_the_file_carries_its_contract_and_standard_operators(folder: Path) -> None:
    graph = onnx.load(folder / "student.onnx")
    assert {node.domain for node in graph.graph.node} <= {""}
    assert [output.name for output in graph.graph.output] == ["score", "levels", "frame_scores"]
    frames = graph.graph.input[0]
    assert frames.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert frames.type.tensor_type.shape.dim[0].dim_param == "batch"
    contract = Scorer(folder / "student.onnx").contract
    assert (contract.calibration, contract.precision, contract.opset) == (CONTRACT.calibration, "fp32", 20)
    assert contract.golden is not None
    assert contract.golden.scores == tuple(
        map(float, Scorer(folder / "student.onnx").predict(golden_input(CONTRACT.view)))
    )
    assert "/" not in "".join(p.value for node in graph.graph.node for p in node.metadata_props)  # no path of ours


def test_a_tampered_export_is_refused(folder: Path, tmp_path: Path) -> None:
    graph = onnx.load(folder / "student.onnx")
    weight = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("levels.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(graph, tmp_path / "tampered.onnx")
    with pytest.raises(ValueError, match="golden scores are off"):
        Scorer(tmp_path / "tampered.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    with pytest.raises(ValueError, match="no rungwise contract"):
        Scorer(tmp_path / "bare.onnx")
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(ValueError, match="can't load it"):
        Scorer(tmp_path / "text.onnx")


def test_equal_weights_are_equal_bytes(folder: Path, tmp_path: Path) -> None:
    model, contract, settings = load_checkpoint(folder / "student.safetensors")
    for attempt in range(8):  # a random order of metadata would come out the same this often once in 128
        save_checkpoint(tmp_path / f"{attempt}.safetensors", model, settings, contract)
        assert (tmp_path / f"{attempt}.safetensors").read_bytes() == (folder / "student.safetensors").read_bytes()


def test_a_checkpoint_with_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(folder / "student.safetensors", framework="pt") as stream:
        metadata = stream.metadata()
    weights = load_file(folder / "student.safetensors")
    save_file(
        weights | {"head.levels.bias": weights["head.levels.bias"] + torch.tensor([1.0, 0, 0, 0, 0])},
        tmp_path / "a.safetensors",
        metadata,
    )
    with pytest.raises(ValueError, match="golden scores are off"):
        load_checkpoint(tmp_path / "a.safetensors")
    weights.pop("head.levels.bias")
    save_file(weights, tmp_path / "b.safetensors", metadata)
    with pytest.raises(ValueError, match="weights do not fit mamba"):
        load_checkpoint(tmp_path / "b.safetensors")
    save_file(weights, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="carries no contract"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_scores_of_files_are_the_same_bits_and_state_their_height(folder: Path, clip: Path, small_clip: Path) -> None:
    scorer = Scorer(folder / "student.onnx")
    first = scorer.score(clip)
    assert first == Scorer(folder / "student.onnx").score(clip)
    assert first.low is not None
    assert first.high is not None
    assert first.low <= first.score <= first.high
    assert (first.display_height, scorer.score(small_clip).display_height) == (108, 54)
    shown = scorer.score(small_clip, display_height=108)
    assert shown.display_height == 108
    assert shown.score != scorer.score(small_clip).score
