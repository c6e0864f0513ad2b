"""The register of export targets: docs/recipes/add-an-export-target.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from rungwise.score.contract import Contract
from student.fp16 import to_fp16
from student.int8 import Quantizer

# Everything our students are made of. Plain operators that other runtimes have too; a new one is a decision.
FLOAT_OPERATORS = frozenset({
    "Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "CumSum", "Div", "Einsum", "Equal", "Erf", "Exp",
    "Expand", "Gather", "GatherND", "Gelu", "Gemm", "Greater", "LayerNormalization", "Log", "MatMul", "Max", "Mul",
    "Neg", "Not", "Pad", "Pow", "Reciprocal", "ReduceL2", "ReduceMean", "ReduceSum", "Relu", "Reshape",
    "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "TopK", "Transpose",
    "Unsqueeze", "Where",
})  # fmt: skip
INTEGER_OPERATORS = FLOAT_OPERATORS | {"QuantizeLinear", "DequantizeLinear"}


class CalibrationInputs(NamedTuple):
    """Train views, and their bitstream features where the graph takes them."""

    views_NTSSC: NDArray[np.uint8]
    bitstream_NF: NDArray[np.float32] | None


class Attempt(NamedTuple):
    """A graph to put through the gates, and which layers of it stay in float."""

    graph: onnx.ModelProto
    left_in_float: tuple[str, ...] = ()


class Source(NamedTuple):
    """What a target is made from. `calibration` reads its views when it is called; `folder` takes temporary files."""

    graph: onnx.ModelProto
    contract: Contract
    calibration: Callable[[], CalibrationInputs]
    folder: Path


@dataclass(frozen=True)
class ExportTarget:
    """One kind of exported file.

    `attempts` gives graphs, smallest first: the first that passes the gates is written. `golden_fraction` is the
    largest deviation of a file's golden scores on another machine, as a fraction of the scale: processors (and GPUs,
    which add in half precision) round fp16 and int8 otherwise.
    """

    file: str
    attempts: Callable[[Source], Iterator[Attempt]]
    golden_fraction: float
    operators: frozenset[str] = FLOAT_OPERATORS


def _fp32(source: Source) -> Iterator[Attempt]:
    yield Attempt(source.graph)


def _fp16(source: Source) -> Iterator[Attempt]:
    yield Attempt(to_fp16(source.graph))


def _int8(source: Source) -> Iterator[Attempt]:
    quantizer = Quantizer(source.graph, source.contract, *source.calibration(), folder=source.folder)
    for graph, left_in_float in quantizer.attempts():
        yield Attempt(graph, left_in_float)


FP32_FRACTION: Final = 1e-5
ROUNDED_FRACTION: Final = 5e-3
REFERENCE: Final = "fp32"  # against which the others are measured; always written
EXPORT_TARGETS: dict[str, ExportTarget] = {
    REFERENCE: ExportTarget("student.onnx", _fp32, golden_fraction=FP32_FRACTION),
    "fp16": ExportTarget("student.fp16.onnx", _fp16, golden_fraction=ROUNDED_FRACTION),
    "int8": ExportTarget("student.int8.onnx", _int8, golden_fraction=ROUNDED_FRACTION, operators=INTEGER_OPERATORS),
}
