"""Smaller arithmetic for a traced graph: half precision, and 8-bit integers with their worst operators left in float.

Both take the fp32 graph and give another in the standard domain; whether it is good enough is for student/gates.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rungwise.score.contract import Contract
from rungwise.score.scorer import Scorer
from student.export import EXACT, write_graph

# Large maps and products. All else stays in fp32: statistics, norms, softmax; a GPU would sum them in halves.
HALF_OPERATORS = frozenset({"Add", "Clip", "Conv", "Gelu", "Gemm", "MatMul", "Mul", "Relu", "Sigmoid"})
# These move values about, in whatever precision they come.
MOVING_OPERATORS = frozenset({
    "Concat", "Expand", "Gather", "GatherND", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
QUANTIZED = ("Conv", "Gemm", "MatMul")
MIN_WEIGHTS = 256  # an operator with fewer gains nothing
RANKING_VIEWS = 8
STEP = 1.5  # more operators left in float from one attempt to the next


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and products in fp16; outputs, normalization, statistics and the level head stay fp32."""
    model = onnx.shape_inference.infer_shapes(graph)
    half, exact = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.value_info)}
    kinds |= {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    kinds |= {name: tensor.data_type for name, tensor in weights.items()}
    kept = {*_level_head(model), *(node.name for node in model.graph.node if node.name.startswith(EXACT))}
    nodes: list[onnx.NodeProto] = []
    halves: dict[str, onnx.TensorProto] = {}
    cast: set[str] = set()
    made = dict(kinds)  # as they come to be

    for node in model.graph.node:
        kind = exact
        if node.name not in kept:
            moves = node.op_type in MOVING_OPERATORS and any(made.get(name) == half for name in node.input)
            kind = half if moves or node.op_type in HALF_OPERATORS else exact
        for place, name in enumerate(node.input):
            if kinds.get(name) != exact or made[name] == kind:
                continue
            node.input[place] = other = f"{name}.{'half' if kind == half else 'exact'}"
            if name in weights:
                array = onnx.numpy_helper.to_array(weights[name])
                with np.errstate(over="ignore"):  # the gates see what that does
                    halves[other] = onnx.numpy_helper.from_array(array.astype(np.float16), other)
            elif other not in cast:
                cast.add(other)
                nodes.append(onnx.helper.make_node("Cast", [name], [other], name=f"{other}.cast", to=kind))
        made |= {name: kind for name in node.output if kinds.get(name) == exact}
        nodes.append(node)

    used = {name for node in nodes for name in node.input}
    kept_weights = [tensor for name, tensor in weights.items() if name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept_weights, *halves.values()])
    return model


def _level_head(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the outputs back to the first layer with a weight matrix, with it, or to exact nodes."""
    makers = {output: node for node in graph.graph.node for output in node.output}
    weights = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    names: list[str] = []
    wanted = [output.name for output in graph.graph.output]
    while wanted:
        node = makers.get(wanted.pop())
        if node is None or node.name in names:
            continue
        names.append(node.name)
        ends = node.op_type in ("Gemm", "MatMul") and weights & set(node.input)
        if not (ends or node.name.startswith(EXACT)):
            wanted += node.input
    return names


class Quantizer:
    """Static 8-bit quantization (QDQ): int8 weights a channel, uint8 activations by their range on `views_NTSSC`.

    Weights take 7 bits: with 8, processors without VNNI overflow 16 bits and give other scores.
    """

    def __init__(
        self,
        graph: onnx.ModelProto,
        contract: Contract,
        views_NTSSC: NDArray[np.uint8],
        folder: Path,
        terms_NF: NDArray[np.float32] | None = None,
    ) -> None:
        """Calibrates on views, with their streams' terms where the graph takes them; `folder` takes temporary files."""
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        self.contract, self.views, self.folder = contract, views_NTSSC, folder
        path = folder / "float.onnx"
        write_graph(graph, contract, path)
        calibrator = create_calibrator(
            path, QUANTIZED, str(folder / "calibrate.onnx"), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(views_NTSSC, terms_NF))
        self.ranges = calibrator.compute_data()
        self.graph: onnx.ModelProto = load_model_with_shape_infer(path)
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.graph.initializer}
        self.layers: dict[str, str] = {}  # operator -> the student's layer, where its weight says so
        for node in self.graph.graph.node:
            weight = max(node.input, key=lambda name: sizes.get(name, 0))
            small = node.name.startswith(EXACT) or sizes.get(weight, 0) < MIN_WEIGHTS
            if node.op_type in QUANTIZED and not small:
                named = weight.startswith("model.")
                self.layers[node.name] = weight.removeprefix("model.").removesuffix(".weight") if named else node.name
        self.candidates = tuple(self.layers)

    def quantize(self, names: Sequence[str]) -> onnx.ModelProto:
        """The graph with these operators in 8 bits."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        if not names:
            return graph
        quantizer = QDQQuantizer(
            graph,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=list(names),
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTIZED),
            extra_options={"MatMulConstBOnly": True},
        )
        with np.errstate(all="ignore"):  # ranges of a broken model; the gates see what that does
            quantizer.quantize_model()
        quantizer.model.topological_sort()
        quantized: onnx.ModelProto = quantizer.model.model
        return quantized

    def worst_first(self) -> list[str]:
        """Candidates by how much the scores of some calibration views move when each is quantized alone."""
        views = self.views[:: max(1, len(self.views) // RANKING_VIEWS)][:RANKING_VIEWS]
        exact = self.judge(self.quantize(()), views)
        moved = {name: np.abs(self.judge(self.quantize([name]), views) - exact).mean() for name in self.candidates}
        return sorted(self.candidates, key=lambda name: -float(np.nan_to_num(moved[name], nan=np.inf)))

    def judge(self, graph: onnx.ModelProto, views_NTSSC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores_N of a graph."""
        path = self.folder / "try.onnx"
        write_graph(graph, self.contract, path)
        return Scorer(path, check=False).predict(views_NTSSC)

    def attempts(self) -> Iterator[tuple[onnx.ModelProto, tuple[str, ...]]]:
        """(graph, layers left in float, worst first), most of it in 8 bits first: none in float, 1, 2, 3, 4, 6, ...

        The last leaves at most half in float: with more it would be an fp32 file by another name.
        """
        yield self.quantize(self.candidates), ()
        ranked, count = self.worst_first(), 1
        while count <= len(ranked) // 2:
            rest = [name for name in self.candidates if name not in ranked[:count]]
            yield self.quantize(rest), tuple(self.layers[name] for name in ranked[:count])
            count = max(count + 1, int(count * STEP))


class _Reader:
    """Calibration views one by one, as onnxruntime asks for them."""

    def __init__(self, views_NTSSC: NDArray[np.uint8], terms_NF: NDArray[np.float32] | None) -> None:
        given = {"frames": views_NTSSC} | ({} if terms_NF is None else {"stream": terms_NF})
        self.inputs = ({name: values[[row]] for name, values in given.items()} for row in range(len(views_NTSSC)))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.inputs, None)
