"""One ONNX file: uint8 frames in, score and levels out, the contract in its metadata, parity checked from disk."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rungwise.contract import METADATA_KEY, Contract, golden_input
from rungwise.scorer import Scorer

PARITY_TOLERANCE = 1e-3  # score units of 100, that is 1e-5 of the scale


class _Outputs(nn.Module):
    """Names and order of the graph's outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        judged = self.model(frames)
        return judged.score, judged.logits.softmax(-1), judged.frame_scores


def export_onnx(model: nn.Module, contract: Contract, path: Path, *, opset: int) -> None:
    """Write `path`; dynamic batch, fixed view; inputs `frames`, outputs `score`, `levels`, `frame_scores`.

    Raises:
        ValueError: the graph uses operators outside ONNX's standard domain.
    """
    model.eval()
    example = torch.from_numpy(golden_input(contract.view))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            _Outputs(model),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["frames"],
            output_names=["score", "levels", "frame_scores"],
            dynamic_shapes={"frames": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    foreign = sorted(
        {f"{node.domain}::{node.op_type}" for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if foreign:
        raise ValueError(f"export: operators outside the standard domain: {', '.join(foreign)}")
    onnx.helper.set_model_props(graph, {METADATA_KEY: contract.model_dump_json()})
    onnx.checker.check_model(graph)
    partial = path.with_name(path.name + ".partial")
    onnx.save(graph, str(partial))
    partial.replace(path)


def parity(scorer: Scorer, torch_scores: NDArray[np.float32], pixels_NTSSC: NDArray[np.uint8]) -> float:
    """Largest |ONNX - torch| score on real views, judged one by one and in one batch.

    Raises:
        ValueError: it is above `PARITY_TOLERANCE`.
    """
    singly = np.concatenate([scorer.judge(pixels_NTSSC[row : row + 1]) for row in range(len(pixels_NTSSC))])
    together = scorer.judge(np.ascontiguousarray(pixels_NTSSC))
    deviation = float(max(np.abs(singly - torch_scores).max(), np.abs(together - torch_scores).max()))
    if not deviation <= PARITY_TOLERANCE:
        raise ValueError(f"export: ONNX differs from torch by {deviation:.3g}, allowed {PARITY_TOLERANCE:.3g}")
    return deviation
