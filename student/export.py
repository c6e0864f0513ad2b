"""A student as ONNX: uint8 frames in, score and levels out, the contract in the file's own metadata.

Three steps, so that the gates (student/gates.py) stand between them: `trace` makes the fp32 graph, student/int8.py
makes others from it, `seal` writes a file with its own golden output and reads it back from disk.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.score.contract import METADATA_KEY, Contract, Golden, golden_input, sha256_array
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe
from student.frame_student import FrameStudent

PARITY_SHARE = 1e-5  # of the scale, fp32 against torch: ten times stricter than the 1e-4 that the project asks for
# Largest deviation of a file's golden scores on another machine, as a share of the scale. Of fp16 and int8 other
# processors (and GPUs, which add in half precision) round otherwise; beyond the gates' budget they are refused.
GOLDEN_SHARE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-3}

# Everything our students are made of. Plain operators that other runtimes have too; a new one is a decision.
FLOAT_OPERATORS = frozenset({
    "Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "CumSum", "Div", "Einsum", "Erf", "Exp", "Expand",
    "Gather", "GatherND", "Gelu", "Gemm", "Greater", "LayerNormalization", "Log", "MatMul", "Max", "Mul", "Neg", "Pad",
    "Pow", "Reciprocal", "ReduceL2", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice",
    "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
OPERATORS = {
    "fp32": FLOAT_OPERATORS,
    "fp16": FLOAT_OPERATORS,
    "int8": FLOAT_OPERATORS | {"QuantizeLinear", "DequantizeLinear"},
}

# Modules that stay in fp32 in every file: they are small, and squares of pixels and exponents want the range.
EXACT_SCOPES = ("model.backbone.texture", "model.head.stream")
EXACT = "exact."  # before the names of their nodes

OUTPUTS = ["score", "levels", "frame_scores", "fused"]


class _Outputs(nn.Module):
    """Names and order of the graph's outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        prediction = self.model(*inputs)
        named = prediction.score, prediction.logits.softmax(-1), prediction.frame_scores
        return named if prediction.fused is None else (*named, prediction.fused)


def trace(model: FrameStudent, recipe: ViewRecipe, *, opset: int) -> onnx.ModelProto:
    """The fp32 graph; dynamic batch, fixed view; outputs as `OUTPUTS`. Of a model that takes streams it has two inputs,
    `frames` and `stream`, of any other neither the second nor the last output."""
    model.eval()
    inputs = {"frames": torch.from_numpy(golden_input(recipe))}
    if model.is_hybrid:
        inputs["stream"] = torch.zeros(len(inputs["frames"]), BITSTREAM_INPUT_DIM)
    batch = {0: torch.export.Dim("batch")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _Outputs(model),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=OUTPUTS if "stream" in inputs else OUTPUTS[:-1],
            dynamic_shapes=(tuple(batch for _ in inputs),),  # of `inputs`, the one parameter
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    for node in graph.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
        if any(f"'{scope}'" in scopes for scope in EXACT_SCOPES):
            node.name = EXACT + node.name
        del node.metadata_props[:]  # where in our source a node comes from, with paths of this machine
    return graph


def check_operators(graph: onnx.ModelProto, precision: str) -> None:
    """Refuse what is not on the precision's list.

    Raises:
        ValueError: operators outside the standard domain or not on the list; all are named.
    """
    nodes = list(graph.graph.node) + [node for function in graph.functions for node in function.node]
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")})
    if foreign:
        raise ValueError(f"export: operators outside the standard domain: {', '.join(foreign)}")
    unknown = sorted({node.op_type for node in nodes} - OPERATORS[precision])
    if unknown:
        raise ValueError(f"export: operators that are not on the {precision} list: {', '.join(unknown)}")


def write_graph(graph: onnx.ModelProto, contract: Contract, path: Path) -> None:
    """Write a graph with its contract; beside and renamed."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: contract.model_dump_json()})
    onnx.checker.check_model(graph, full_check=True)
    partial = path.with_name(path.name + ".partial")
    onnx.save(graph, str(partial))
    partial.replace(path)


def seal(graph: onnx.ModelProto, contract: Contract, path: Path) -> Scorer:
    """Write `path` with golden scores of this very file, open it from disk and re-run them.

    Raises:
        ValueError: an operator is not on the list, or the file on disk does not say what it says of itself.
    """
    check_operators(graph, contract.precision)
    draft = path.with_name(path.name + ".partial.draft")
    write_graph(graph, contract.model_copy(update={"golden": None}), draft)
    frames = golden_input(contract.view)
    scores = Scorer(draft, check=False).golden_scores()
    draft.unlink()
    span = contract.scale.maximum - contract.scale.minimum
    golden = Golden(
        input_sha256=sha256_array(frames),
        scores=tuple(float(score) for score in scores),
        tolerance=GOLDEN_SHARE[contract.precision] * span,
    )
    write_graph(graph, contract.model_copy(update={"golden": golden}), path)
    return Scorer(path)


def export_onnx(model: FrameStudent, contract: Contract, path: Path, *, opset: int) -> Scorer:
    """`trace` and `seal` in fp32.

    Raises:
        ValueError: as `seal`.
    """
    return seal(trace(model, contract.view, opset=opset), contract.model_copy(update={"opset": opset}), path)


def parity(scorer: Scorer, torch_scores: NDArray[np.float32], pixels_NTSSC: NDArray[np.uint8]) -> float:
    """Largest |ONNX - torch| score on real views, judged one by one and in one batch, as a share of the scale.

    Raises:
        ValueError: it is above `PARITY_SHARE`.
    """
    singly = np.concatenate([scorer.predict(pixels_NTSSC[row : row + 1]) for row in range(len(pixels_NTSSC))])
    together = scorer.predict(np.ascontiguousarray(pixels_NTSSC))
    span = scorer.contract.scale.maximum - scorer.contract.scale.minimum
    deviation = float(max(np.abs(singly - torch_scores).max(), np.abs(together - torch_scores).max())) / span
    if not deviation <= PARITY_SHARE:
        raise ValueError(f"export: ONNX differs from torch by {deviation:.2g} of the scale, allowed {PARITY_SHARE:.0g}")
    return deviation
