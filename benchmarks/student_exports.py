"""Every student at a published or named size, of random weights: cost, and the ONNX file through the gates.

    python benchmarks/student_exports.py --out benchmarks/results/student_exports.json

One view is four frames of 224 pixels. Weights and multiply-adds are PyTorch's count; seconds are ONNX Runtime's on
the CPU for one view in fp32, the fastest of several runs. Gates: fp32 against torch, one by one and in a batch; the
file opened from disk again; fp16 against fp32. Labels of the fp16 gates are the fp32 scores with noise, as random
weights predict none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rungwise.artifact import write_json
from rungwise.progress import note
from rungwise.score.contract import Contract, Scale
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe

RECIPE = ViewRecipe(num_frames=4, frame_choice="uniform", grid=4, patch_px=56)
SPAN = {"num_levels": 5, "minimum": 0.0, "maximum": 100.0}
HEADS = {"prompts": 0, "aleatoric": False, "hybrid": False}
STEM = HEADS | {"stem_stages": 3, "tuned_stem": True, "pairs": False}
GRID = {"num_frames": RECIPE.num_frames, "img_size": RECIPE.size_px}
SIZES = (
    ("mamba", "small"),
    ("swin", "small"),
    ("qmamba", "nano"),
    ("swinv2", "tiny"),
    ("internvideo2", "S"),
)
CLIPS, REPEATS = 3, 3


def settings(name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """A student's constructor settings."""
    if name == "internvideo2":
        return {"shape": shape | GRID, "tune": "all"} | SPAN
    view = {"view_px": RECIPE.size_px} if name == "swin" else {}
    return shape | SPAN | view | (STEM if name in ("mamba", "swin") else HEADS)


def clips(count: int) -> NDArray[np.uint8]:
    """Gradients and noise of different strength, so that scores differ."""
    rng = np.random.default_rng(1)
    shape, side = (count, RECIPE.num_frames, RECIPE.size_px, RECIPE.size_px, 3), RECIPE.size_px
    ramp = np.linspace(0, 1, side)[None, None, :, None, None] * rng.uniform(0, 200, (count, 1, 1, 1, 3))
    noise = rng.normal(0, 1, shape) * rng.uniform(0, 60, (count, 1, 1, 1, 1))
    return np.clip(ramp + noise + rng.uniform(0, 80, (count, 1, 1, 1, 1)), 0, 255).astype(np.uint8)


def seconds_a_view(scorer: Scorer, pixels: NDArray[np.uint8]) -> float:
    """CPU seconds of the fastest of several runs: other work on the machine counts little."""
    seconds = []
    for _ in range(REPEATS):
        clock = time.process_time()
        scorer.predict(pixels[:1])
        seconds.append(time.process_time() - clock)
    return min(seconds)


def cost_of(name: str, size: str) -> dict[str, Any]:
    """One student's weights and multiply-adds."""
    from student.models import STUDENTS, cost

    kind = STUDENTS[name]
    with torch.device("meta"):  # shapes alone
        parts = cost(kind(**settings(name, dict(kind.SIZES[size]))), RECIPE)
    sums = {"weights": sum(part.weights for part in parts), "macs": sum(part.macs for part in parts)}
    return {"student": name, "size": size} | sums


def export(name: str, size: str, folder: Path) -> dict[str, Any]:
    """One student's file: its size, time and gates."""
    from distill.predict import predict
    from student.export import PARITY_SHARE, parity, seal
    from student.fp16 import to_fp16
    from student.gates import Gate, Labeled, loss_gates, rerun_gate
    from student.models import STUDENTS
    from student.trace import trace

    kind = STUDENTS[name]
    torch.manual_seed(0)
    model = kind(**settings(name, dict(kind.SIZES[size]))).eval()
    scale = Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100)
    contract = Contract(model=name, view=RECIPE, scale=scale, calibration=None, golden=None, training_id="random",
                        dataset_sha256="none", opset=20)  # fmt: skip
    pixels, graph = clips(CLIPS), trace(model, RECIPE, opset=20)
    scorer = seal(graph, contract, folder / f"{name}.onnx")
    scores = predict(model, pixels)
    difference = parity(scorer, scores, pixels)
    gates = [Gate("fp32", "parity with torch", difference, PARITY_SHARE, "fraction of the scale")]
    exact = scorer.predict(pixels)
    labels = exact + np.random.default_rng(0).normal(0, max(0.2 * float(exact.std()), 1e-3), CLIPS)
    validation = Labeled(pixels, labels, np.array([f"content {clip % 2}" for clip in range(CLIPS)]), scale)
    half = seal(to_fp16(graph), contract.model_copy(update={"precision": "fp16"}), folder / f"{name}.fp16.onnx")
    halves = half.predict(pixels)
    gates += [rerun_gate(scorer, exact, validation), *loss_gates("fp16", halves, exact, validation)]
    gates.append(rerun_gate(half, halves, validation))
    for gate in gates:
        note(f"{name} {size}: {gate}")
    return {
        "megabytes": round((folder / f"{name}.onnx").stat().st_size / 1e6, 1),
        "seconds_a_view": round(seconds_a_view(scorer, pixels), 3),
        "gates": [gate.as_dict() for gate in gates],
    }


def main() -> None:
    """Export students and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=dict(SIZES), help="one student; rows of others in --out stay")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    former: dict[str, Any] = {}
    if arguments.only and arguments.out and arguments.out.is_file():
        former = {row["student"]: row for row in json.loads(arguments.out.read_text())["rows"]}
    rows = [former.get(name, {}) | cost_of(name, size) for name, size in SIZES]
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            if arguments.only in (None, row["student"]):
                row |= export(row["student"], row["size"], Path(folder))
    print(f"{'student':20}{'weights':>10}{'GMACs':>8}{'MB':>8}{'s a view':>10}{'gates':>8}")
    for row in rows:
        gates = row.get("gates", [])
        file = f"{row['megabytes']:8.1f}{row['seconds_a_view']:10.2f}" if gates else f"{'':18}"
        passed = f"{sum(gate['passed'] for gate in gates)}/{len(gates)}"
        name, weights = f"{row['student']} {row['size']}", row["weights"] / 1e6
        print(f"{name:20}{weights:8.1f} M{row['macs'] / 1e9:8.1f}{file}{passed:>8}")
    if arguments.out:
        facts = {"command": f"python {sys.argv[0]}", "cores": os.cpu_count(), "machine": platform.machine()}
        write_json(arguments.out, facts | {"view": RECIPE.model_dump(mode="json"), "rows": rows})


if __name__ == "__main__":
    main()
