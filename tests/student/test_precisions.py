"""fp16 and int8: what they keep, what is refused; operator lists; intervals by content."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from rungwise.score.contract import Calibration, Contract, Scale
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe
from student.export import check_operators, seal
from student.fp16 import to_fp16
from student.gates import Gate, Labeled, loss_gates, rerun_gate
from student.int8 import FIRST_LAYERS, Quantizer
from student.models import STUDENTS
from student.trace import trace, write_graph

COMMON = {
    "feature_dim": 32,
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
SETTINGS: dict[str, dict[str, Any]] = {
    "mamba": COMMON | {"embed_dim": (16, 24, 32), "depths": (1, 1, 1), "state_dim": (9, 4, 4)},
    "swin": COMMON | {"embed_dim": 32, "depths": (1, 1), "num_heads": (1, 2), "window": 4, "view_px": 64},
}
SCALE = Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100)
CLIPS, CONTENTS = 24, 4


class Case(NamedTuple):
    """A tiny student's fp32 graph, its contract, calibration views, validation clips and their fp32 scores."""

    graph: onnx.ModelProto
    contract: Contract
    views: np.ndarray
    validation: Labeled
    exact: np.ndarray


@pytest.fixture(scope="module", params=["mamba", "swin"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Either student, untrained, its head's weights raised so that scores spread as a trained one's do; with biases."""
    torch.manual_seed(0)
    model = STUDENTS[request.param](**SETTINGS[request.param])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    head: Any = model.head
    head.levels.weight.data *= 20
    contract = Contract(
        model=request.param,
        view=ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=32),
        scale=SCALE,
        calibration=None,
        golden=None,
        training_id="0123",
        dataset_sha256="4567",
    )
    graph = trace(model, contract.view, opset=20)
    pixels = smooth_pixels(CLIPS + 8)
    path = tmp_path_factory.mktemp(request.param) / "student.onnx"
    exact = seal(graph, contract, path).predict(pixels[:CLIPS])
    rng = np.random.default_rng(0)
    labels = exact.astype(float) + rng.normal(0, 0.2 * exact.std(), CLIPS)
    contents = np.array([f"content {clip % CONTENTS}" for clip in range(CLIPS)])
    return Case(graph, contract, pixels[CLIPS:], Labeled(pixels[:CLIPS], labels, contents, SCALE), exact)


def smooth_pixels(count: int) -> np.ndarray:
    """Views of 2 frames of 64x64: gradients and noise of different strength."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 1, 64)[None, None, :, None, None] * rng.uniform(0, 200, (count, 1, 1, 1, 3))
    noise = rng.normal(0, 1, (count, 2, 64, 64, 3)) * rng.uniform(0, 60, (count, 1, 1, 1, 1))
    return np.clip(ramp + noise + rng.uniform(0, 80, (count, 1, 1, 1, 1)), 0, 255).astype(np.uint8)


def test_halves_say_what_fp32_says_in_half_the_bytes(case: Case, tmp_path: Path) -> None:
    scorer = seal(to_fp16(case.graph), case.contract.model_copy(update={"precision": "fp16"}), tmp_path / "h.onnx")
    scores = scorer.predict(np.asarray(case.validation.pixels))
    gates = loss_gates("fp16", scores, case.exact, case.validation)
    assert {gate.name for gate in gates} == {"SRCC loss", "pair loss", "mean score deviation"}
    assert np.abs(scores - case.exact).mean() < 0.5
    assert rerun_gate(scorer, scores, case.validation).passed
    graph = onnx.load(tmp_path / "h.onnx")
    assert {output.type.tensor_type.elem_type for output in graph.graph.output} == {onnx.TensorProto.FLOAT}
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert (tmp_path / "h.onnx").stat().st_size < 0.7 * len(case.graph.SerializeToString())


def test_sums_and_the_level_head_stay_single(case: Case) -> None:
    graph = onnx.shape_inference.infer_shapes(to_fp16(case.graph))
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.graph.value_info, *graph.graph.output)}
    for node in graph.graph.node:
        if node.op_type in ("Softmax", "LayerNormalization", "ReduceMean", "Sqrt", "Pow"):
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT, node.op_type
        if node.op_type == "Conv":
            assert kinds[node.output[0]] == onnx.TensorProto.FLOAT16
    levels = next(node for node in graph.graph.node if any("levels.weight" in name for name in node.input))
    assert kinds[levels.output[0]] == onnx.TensorProto.FLOAT


def test_integers_are_calibrated_standard_and_smaller(case: Case, tmp_path: Path) -> None:
    quantizer = Quantizer(case.graph, case.contract, case.views, folder=tmp_path)
    attempts = list(islice(quantizer.attempts(), FIRST_LAYERS + 2))
    first = list(quantizer.layers.values())
    assert [left for _, left in attempts[:2]] == [tuple(first[:1]), tuple(first[:2])]
    assert [len(left) for _, left in attempts] == [*range(1, FIRST_LAYERS + 1), 1, 2]
    for graph, left in attempts[::3]:
        contract = case.contract.model_copy(update={"precision": "int8", "left_in_float": left})
        scorer = seal(graph, contract, tmp_path / "student.int8.onnx")
        operators = {node.op_type for node in graph.graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators
        assert scorer.contract.left_in_float == left
    whole = attempts[0][0]
    assert {tensor.data_type for tensor in whole.graph.initializer} >= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    # Seven bits: no product of a pair of weights can overflow 16 bits on processors without VNNI.
    weights = [numpy_helper.to_array(t) for t in whole.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    paired = [weight for weight in weights if weight.size and not (weight.ndim == 4 and weight.shape[1] == 1)]
    assert all(np.abs(weight.astype(int)).max() <= 64 for weight in paired)


def test_nothing_is_float_between_quantized_operators(case: Case, tmp_path: Path) -> None:
    """Else a runtime converts to float and back, which takes as long as 8 bits save."""
    quantizer = Quantizer(case.graph, case.contract, case.views, folder=tmp_path)
    graph = quantizer.quantize(quantizer.candidates).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    requantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        inputs = [makers.get(name) == "DequantizeLinear" for name in node.input]
        assert node.op_type != "Clip" or not inputs[0], node.name
        assert node.op_type != "Add" or not all(inputs) or node.output[0] in requantized, node.name
    stem = [node for node in graph.node if node.op_type == "Conv" and "backbone" in node.input[1]]
    assert len(stem) > 10
    assert all(node.output[0] in requantized for node in stem)


def test_biases_keep_the_mean_of_each_channel(case: Case, tmp_path: Path) -> None:
    quantizer = Quantizer(case.graph, case.contract, case.views, folder=tmp_path)
    nodes = quantizer.graph.graph.node
    names = [node.name for node in nodes if node.op_type == "Conv" and node.name in quantizer.candidates][:6]
    outputs = [node.output[0] for node in quantizer.quantize(names).graph.node if node.name in names]
    exact = quantizer.channel_means(quantizer.graph, outputs)

    def error(graph: onnx.ModelProto) -> float:
        means = quantizer.channel_means(graph, [f"{output}_DequantizeLinear_Output" for output in outputs])
        return sum(float(np.abs(a - b).mean()) for a, b in zip(exact.values(), means.values(), strict=True))

    assert error(quantizer.correct(names)) < 0.3 * error(quantizer.quantize(names))


def test_quantizing_twice_gives_the_same_bytes(case: Case, tmp_path: Path) -> None:
    graphs = [
        Quantizer(case.graph, case.contract, case.views, folder=tmp_path).quantize(names).SerializeToString()
        for names in (first_candidates(case),) * 2
    ]
    assert graphs[0] == graphs[1]


def first_candidates(case: Case) -> list[str]:
    return [node.name for node in case.graph.graph.node if node.op_type == "Conv"][:5]


def test_outlier_weights_make_halves_no_number_and_integers_hopeless(case: Case, tmp_path: Path) -> None:
    """1e6 is no fp16 number. Where one weight of a channel is 300 times the others, 7 bits say nothing of these."""
    ruined = with_outliers(case.graph, 1e6)
    exact = judge(ruined, case, tmp_path)
    (gate,) = loss_gates("fp16", judge(to_fp16(ruined), case, tmp_path), exact, case.validation)
    assert (gate.name, gate.passed) == ("non-finite scores", False)

    uneven = with_outliers(case.graph, 300)
    quantizer = Quantizer(uneven, case.contract, case.views, folder=tmp_path)
    integers = judge(quantizer.quantize(quantizer.candidates), case, tmp_path)
    gates = loss_gates("int8", integers, judge(uneven, case, tmp_path), case.validation)
    assert not all(gate.passed for gate in gates)


def with_outliers(graph: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The graph with one weight of each 1x1 filter so many times the largest of all."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for tensor in changed.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[1] > 1 and tensor.dims[2] == 1:
            weight = numpy_helper.to_array(tensor).copy()
            weight[:, 0, 0, 0] = factor * np.abs(weight).max()
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return changed


def judge(graph: onnx.ModelProto, case: Case, folder: Path) -> np.ndarray:
    write_graph(graph, case.contract, folder / "judged.onnx")
    return Scorer(folder / "judged.onnx", check=False).predict(np.asarray(case.validation.pixels))


def test_operators_off_the_list_are_refused(case: Case) -> None:
    check_operators(case.graph, "fp32")
    changed = onnx.ModelProto()
    changed.CopyFrom(case.graph)
    changed.graph.node.append(onnx.helper.make_node("NonMaxSuppression", [], ["a"]))
    changed.graph.node.append(onnx.helper.make_node("QuantizeLinear", [], ["b"]))
    with pytest.raises(ValueError, match="not on the fp32 list: NonMaxSuppression, QuantizeLinear"):
        check_operators(changed, "fp32")
    with pytest.raises(ValueError, match=r"not on the int8 list: NonMaxSuppression$"):
        check_operators(changed, "int8")
    changed.graph.node.append(onnx.helper.make_node("QGemm", [], ["c"], domain="com.microsoft"))
    with pytest.raises(ValueError, match=r"outside the standard domain: com\.microsoft::QGemm"):
        check_operators(changed, "int8")


def test_gates_know_loss_shift_and_no_number() -> None:
    labels, contents = np.arange(40.0) * 2, np.repeat(["a", "b", "c", "d"], 10)
    validation = Labeled(np.zeros((40, 1, 1, 1, 3), np.uint8), labels, contents, SCALE)
    exact = labels.astype(np.float32)
    by_name = {gate.name: gate for gate in loss_gates("int8", exact, exact, validation)}
    assert [gate.figure for gate in by_name.values()] == [0, 0, 0]
    assert all(gate.passed for gate in by_name.values())
    shifted = {gate.name: gate for gate in loss_gates("int8", exact + 1, exact, validation)}
    assert shifted["SRCC loss"].passed
    assert shifted["pair loss"].passed
    assert not shifted["mean score deviation"].passed  # a point of 100 is over .005 of the scale
    swapped = exact.copy()
    swapped[[0, 5]] = swapped[[5, 0]]  # 9 of the 45 pairs of content a, less those within 5 points: 5 lost of 132
    loss = {gate.name: gate for gate in loss_gates("int8", swapped, exact, validation)}["pair loss"]
    gaps = [(i, j) for i in range(10) for j in range(i) if 2 * (i - j) > 5]
    lost = sum(swapped[j] > swapped[i] for i, j in gaps)
    assert loss.figure == pytest.approx(lost / (4 * len(gaps)))
    assert not loss.passed
    broken = exact.copy()
    broken[3] = np.nan
    (gate,) = loss_gates("fp16", broken, exact, validation)
    assert (gate.name, gate.passed) == ("non-finite scores", False)
    assert gate.figure == pytest.approx(1 / 40)
    assert "FAIL" in str(gate)
    nothing = Gate("fp16", "SRCC loss", float("nan"), 0.005, "")
    assert not nothing.passed
    json.dumps(nothing.as_dict(), allow_nan=False)


def test_contracts_of_the_first_version_still_load() -> None:
    old = {
        "version": 1,
        "views_version": 1,
        "model": "mamba",
        "view": {"num_frames": 4, "frame_choice": "uniform", "grid": 4, "patch_px": 40},
        "scale": {"kind": "mos", "polarity": "higher_is_better", "minimum": 1, "maximum": 5},
        "calibration": {"coverage": 0.9, "half_width": 0.5, "num_clips": 30},
        "golden": {"input_sha256": "00", "scores": [1.0, 2.0], "tolerance": 0.001},
        "training_id": "01",
        "dataset_sha256": "02",
        "licence": "Apache-2.0",
    }
    contract = Contract.model_validate_json(json.dumps(old))
    assert (contract.version, contract.precision, contract.left_in_float) == (1, "fp32", ())
    assert contract.calibration == Calibration(coverage=0.9, half_width=0.5, num_clips=30)
