"""8-bit integers for a traced graph, with the worst operators left in float.

Whether the result is good enough is for student/gates.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from rungwise.score.contract import Contract
from rungwise.score.scorer import Scorer
from student.trace import EXACT, write_graph

QUANTIZED: Final = ("Conv", "Gemm", "MatMul")
MIN_WEIGHTS: Final = 256  # an operator with fewer gains nothing
RANKING_VIEWS: Final = 8
STEP: Final = 1.5  # more operators left in float from one attempt to the next


class Quantizer:
    """Static 8-bit quantization (QDQ): int8 weights a channel, uint8 activations by their range on `views_NTSSC`.

    Weights take 7 bits: with 8, processors without VNNI overflow 16 bits and give other scores.
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
        path = folder / "float.onnx"
        write_graph(graph, contract, path)
        calibrator = create_calibrator(
            path, QUANTIZED, str(folder / "calibrate.onnx"), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(views_NTSSC, bitstream_NF))
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

    def __init__(self, views_NTSSC: NDArray[np.uint8], bitstream_NF: NDArray[np.float32] | None) -> None:
        given = {"frames": views_NTSSC} | ({} if bitstream_NF is None else {"stream": bitstream_NF})
        self.inputs = ({name: values[[row]] for name, values in given.items()} for row in range(len(views_NTSSC)))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.inputs, None)
