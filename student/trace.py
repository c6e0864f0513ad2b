"""A student's fp32 graph: uint8 frames in, score and levels out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.score.contract import METADATA_KEY, Contract, golden_input
from rungwise.score.views import ViewRecipe
from student.quality_student import QualityStudent

# Modules that stay in fp32 in every file: they are small, scores come from them, and squares of pixels and exponents
# want the range.
EXACT_SCOPES = ("model.temporal", "model.head", "model.scales", "model.patches", "model.hybrid")
EXACT = "exact."  # before the names of their nodes

OUTPUTS = ["score", "levels", "frame_scores"]


class _Outputs(nn.Module):
    """Names and order of the graph's outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        prediction = self.model(*inputs)
        named = prediction.score, prediction.logits.softmax(-1), prediction.frame_scores
        more = (prediction.fused, prediction.patch_scores)
        return (*named, *(output for output in more if output is not None))


def trace(model: QualityStudent, recipe: ViewRecipe, *, opset: int) -> onnx.ModelProto:
    """The fp32 graph; dynamic batch, fixed view; outputs as `OUTPUTS`. A hybrid student has a second input, `stream`,
    and an output `fused`; one that scores patches has an output `patch_scores`."""
    model.eval()
    inputs = {"frames": torch.from_numpy(golden_input(recipe))}
    if model.is_hybrid:
        inputs["stream"] = torch.zeros(len(inputs["frames"]), BITSTREAM_INPUT_DIM)
    more = {"fused": model.is_hybrid, "patch_scores": model.scores_patches}
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
            output_names=[*OUTPUTS, *(name for name, is_given in more.items() if is_given)],
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


def write_graph(graph: onnx.ModelProto, contract: Contract, path: Path) -> None:
    """Write a graph with its contract; beside and renamed."""
    onnx.helper.set_model_props(graph, {METADATA_KEY: contract.model_dump_json()})
    onnx.checker.check_model(graph, full_check=True)
    partial = path.with_name(path.name + ".partial")
    onnx.save(graph, str(partial))
    partial.replace(path)
