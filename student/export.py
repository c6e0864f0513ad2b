"""A student as ONNX, with the contract in the file's own metadata.

Three steps, so that the gates (student/gates.py) stand between them: student/trace.py makes the fp32 graph,
student/targets.py makes others from it, `seal` writes a file with its own golden output and reads it back from disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from rungwise.score.contract import Contract, Golden, golden_input, sha256_array
from rungwise.score.scorer import Scorer
from student.quality_student import QualityStudent
from student.targets import EXPORT_TARGETS
from student.trace import trace, write_graph

PARITY_SHARE: Final = 1e-5  # of the scale, fp32 against torch


def check_operators(graph: onnx.ModelProto, precision: str) -> None:
    """Refuse what is not on the target's list.

    Raises:
        ValueError: operators outside the standard domain or not on the list; all are named.
    """
    nodes = list(graph.graph.node) + [node for function in graph.functions for node in function.node]
    foreign = sorted({f"{n.domain}::{n.op_type}" for n in nodes if n.domain not in ("", "ai.onnx")})
    if foreign:
        raise ValueError(f"export: operators outside the standard domain: {', '.join(foreign)}")
    unknown = sorted({node.op_type for node in nodes} - EXPORT_TARGETS[precision].operators)
    if unknown:
        raise ValueError(f"export: operators that are not on the {precision} list: {', '.join(unknown)}")


def seal(graph: onnx.ModelProto, contract: Contract, path: Path) -> Scorer:
    """Write `path` with golden scores of this very file, open it from disk and re-run them.

    Raises:
        ValueError: an operator is not on the list, or the file on disk does not reproduce its golden scores.
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
        tolerance=EXPORT_TARGETS[contract.precision].golden_fraction * span,
    )
    write_graph(graph, contract.model_copy(update={"golden": golden}), path)
    return Scorer(path)


def export_onnx(model: QualityStudent, contract: Contract, path: Path, *, opset: int) -> Scorer:
    """`trace` and `seal` in fp32.

    Raises:
        ValueError: as `seal`.
    """
    return seal(trace(model, contract.view, opset=opset), contract.model_copy(update={"opset": opset}), path)


def parity(scorer: Scorer, torch_scores: NDArray[np.float32], pixels_NTSSC: NDArray[np.uint8]) -> float:
    """Largest |ONNX - torch| score on real views, one by one and in one batch, as a fraction of the scale.

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
