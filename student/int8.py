"""8-bit integers for a traced graph, with the first operators or the worst ones left in float.

Whether the result is good enough is for student/gates.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rungwise.score.contract import Contract
from rungwise.score.scorer import Scorer
from student.trace import EXACT, write_graph

QUANTIZED: Final = ("Conv", "Gemm", "MatMul")
JOINED: Final = ("Clip", "Add")  # in 8 bits where all that they take is
MIN_WEIGHTS: Final = 256  # an operator with fewer gains nothing
RANKING_VIEWS: Final = 8
BIAS_VIEWS: Final = 12
FIRST_LAYERS: Final = 3  # of the stem, until its maps get narrow
STEP: Final = 1.5  # more operators left in float from one attempt to the next


class Quantizer:
    """Static 8-bit quantization (QDQ): int8 weights a channel, uint8 activations by their range on `views_NTSSC`.

    Weights take 7 bits: with 8, processors without VNNI overflow 16 bits and give other scores. Those of depthwise
    convolutions, whose products are not added in pairs, take 8. Clips and residual sums between quantized operators are
    quantized with them, so that a runtime converts nothing in between. Biases of convolutions are corrected: rounded
    weights shift the mean of a channel (Nagel et al. 2019, arXiv:1906.04721).
    """

    def __init__(
        self,
        graph: onnx.ModelProto,
        contract: Contract,
        views_NTSSC: NDArray[np.uint8],
        bitstream_NF: NDArray[np.float32] | None = None,
        *,
        folder: Path,
    ) -> None:
        """Calibrates on views, with their streams' terms where the graph takes them; `folder` takes temporary files."""
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        self.contract, self.views, self.folder = contract, views_NTSSC, folder
        self.inputs = [
            {"frames": views_NTSSC[[row]]} | ({} if bitstream_NF is None else {"stream": bitstream_NF[[row]]})
            for row in range(len(views_NTSSC))
        ]
        path = folder / "float.onnx"
        write_graph(graph, contract, path)
        calibrator = create_calibrator(
            path, QUANTIZED + JOINED, str(folder / "calibrate.onnx"), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(self.inputs))
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
        """The graph with these operators in 8 bits and their biases as they are."""
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
            nodes_to_quantize=[*names, *_joined(graph, names)],
            nodes_to_exclude=[],
            op_types_to_quantize=[*QUANTIZED, *JOINED],
            extra_options={"MatMulConstBOnly": True, "TensorQuantOverrides": _eight_bits(graph, names)},
        )
        with np.errstate(all="ignore"):  # ranges of a broken model; the gates see what that does
            quantizer.quantize_model()
        quantizer.model.topological_sort()
        quantized: onnx.ModelProto = quantizer.model.model
        return quantized

    def correct(self, names: Sequence[str]) -> onnx.ModelProto:
        """The graph with these operators in 8 bits and biases that keep the mean of each convolution's channels."""
        graph = self.quantize(names)
        makers = {output: node for node in graph.graph.node for output in node.output}
        weights = {tensor.name: tensor for tensor in graph.graph.initializer}
        convolutions = [
            node
            for node in graph.graph.node
            if node.op_type == "Conv" and node.name in names and len(node.input) > 2
            if len(onnx.helper.get_node_attr_value(node, "kernel_shape")) == 2
        ]
        if not convolutions:
            return graph
        means = self.channel_means(self.graph, [node.output[0] for node in convolutions])
        for node in convolutions:  # in order: the means after one depend on those before it
            [mean_C] = self.channel_means(graph, [f"{node.output[0]}_DequantizeLinear_Output"]).values()
            bias, scale = (weights[name] for name in makers[node.input[2]].input[:2])
            with np.errstate(all="ignore"):  # as in `quantize`
                steps_C = (means[node.output[0]] - mean_C) / numpy_helper.to_array(scale)
                bias_C = np.clip(np.rint(numpy_helper.to_array(bias) + steps_C), -(2**31), 2**31 - 1).astype(np.int32)
            bias.CopyFrom(numpy_helper.from_array(bias_C, bias.name))
        return graph

    def channel_means(self, graph: onnx.ModelProto, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Means_C over some calibration views of these tensors_NCHW."""
        import onnxruntime

        measured = onnx.ModelProto()
        measured.CopyFrom(graph)
        axes = numpy_helper.from_array(np.array([0, 2, 3]), "mean_axes")
        measured.graph.initializer.append(axes)
        outputs = [f"{name}.mean" for name in names]
        for name, output in zip(names, outputs, strict=True):
            node = onnx.helper.make_node("ReduceMean", [name, axes.name], [output], keepdims=0)
            measured.graph.node.append(node)
            measured.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
        measured = onnx.utils.Extractor(measured).extract_model(list(self.inputs[0]), outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(measured.SerializeToString(), options, ["CPUExecutionProvider"])
        inputs = self.inputs[:: max(1, len(self.inputs) // BIAS_VIEWS)][:BIAS_VIEWS]
        means = [session.run(outputs, given) for given in inputs]
        return {name: np.mean(values, axis=0) for name, values in zip(names, zip(*means, strict=True), strict=True)}

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
        """(graph, layers left in float), most of it in 8 bits first.

        The first 1 to `FIRST_LAYERS` in float: the rest stays one chain, and 8 bits make the very first, of three
        channels, no faster. Then the worst 1, 2, 3, 4, 6, ... The last leaves at most half in float: with more it would
        be an fp32 file by another name.
        """
        most = len(self.candidates) // 2
        for count in range(1, min(FIRST_LAYERS, most) + 1):
            yield self._attempt(self.candidates[:count])
        ranked, count = self.worst_first(), 1
        while count <= most:
            yield self._attempt(ranked[:count])
            count = max(count + 1, int(count * STEP))

    def _attempt(self, left: Sequence[str]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        rest = [name for name in self.candidates if name not in left]
        return self.correct(rest), tuple(self.layers[name] for name in left)


def _eight_bits(graph: onnx.ModelProto, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """onnxruntime's option for weights that take all 8 bits: those of depthwise convolutions."""
    depth = {tensor.name: tensor.dims[1] for tensor in graph.graph.initializer if len(tensor.dims) == 4}
    return {
        node.input[1]: [{"axis": 0, "reduce_range": False}]
        for node in graph.graph.node
        if node.op_type == "Conv" and node.name in names and depth.get(node.input[1]) == 1
    }


def _joined(graph: onnx.ModelProto, names: Sequence[str]) -> list[str]:
    """Names of the nodes of `JOINED` kinds between operators of `names`."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    quantized = {output for node in graph.graph.node if node.name in names for output in node.output}
    joined = []
    for node in graph.graph.node:
        inputs = node.input[:1] if node.op_type == "Clip" else node.input
        if node.op_type in JOINED and weights.isdisjoint(inputs) and quantized.issuperset(inputs):
            joined.append(node.name)
            quantized.add(node.output[0])
    return joined


class _Reader:
    """Calibration inputs one by one, as onnxruntime asks for them."""

    def __init__(self, inputs: Sequence[dict[str, NDArray[Any]]]) -> None:
        self.inputs = iter(inputs)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.inputs, None)
