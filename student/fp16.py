"""Half precision for a traced graph; whether it is good enough is for student/gates.py.

Why not `onnxruntime.transformers.float16` (1.31, tried on the quickstart's student with this module's operator lists):
the graph it returns is not valid ONNX. Cast outputs are named twice where a tensor feeds two fp32 nodes (329 times) and
nodes are not sorted. With both repaired, every tensor between two fp32 nodes is rounded to fp16 and back (1,447 casts
for 156 here), outputs too: a score of 88.71 becomes 88.75. Its pass that removes casts takes 11 s and ends at 173 casts
and the same accuracy (mean deviation 0.029 points for 0.029), so that this function is the shorter and the safer way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from student.trace import EXACT

# Large maps and products. All else stays in fp32: statistics, norms, softmax; a GPU would sum them in halves.
HALF_OPERATORS: Final = ("Add", "Clip", "Conv", "Gelu", "Gemm", "MatMul", "Mul", "Relu", "Sigmoid")
# These move values about, in whatever precision they come.
MOVING_OPERATORS: Final = (
    "Concat", "Expand", "Gather", "GatherND", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and products in fp16; outputs, normalization, statistics and the level head stay fp32."""
    model = onnx.shape_inference.infer_shapes(graph)
    half, exact = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.value_info)}
    kinds |= {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    kinds |= {name: tensor.data_type for name, tensor in weights.items()}
    exact_nodes = {
        *_level_head(model),
        *_guards(model, weights),
        *(node.name for node in model.graph.node if node.name.startswith(EXACT)),
    }
    nodes: list[onnx.NodeProto] = []
    halves: dict[str, onnx.TensorProto] = {}
    cast: set[str] = set()
    made = dict(kinds)  # as they come to be

    for node in model.graph.node:
        kind = exact
        if node.name not in exact_nodes:
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
    fp32_weights = [tensor for name, tensor in weights.items() if name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*fp32_weights, *halves.values()])
    return model


def _guards(graph: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> list[str]:
    """Names of the nodes that keep a divisor off 0 by a bound too small for a half."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Clip"
        and len(node.input) > 1
        and node.input[1] in weights
        and 0 < onnx.numpy_helper.to_array(weights[node.input[1]]) < np.finfo(np.float16).tiny
    ]


def _level_head(graph: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the outputs back to the first layer with a weight matrix, with it, or to exact nodes."""
    makers = {output: node for node in graph.graph.node for output in node.output}
    weights = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    names: list[str] = []
    pending = [output.name for output in graph.graph.output]
    while pending:
        node = makers.get(pending.pop())
        if node is None or node.name in names:
            continue
        names.append(node.name)
        ends = node.op_type in ("Gemm", "MatMul") and weights & set(node.input)
        if not (ends or node.name.startswith(EXACT)):
            pending += node.input
    return names
