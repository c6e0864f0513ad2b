"""Time of int8 files against fp32, by the number of layers left in float, of a student with the packaged architecture.

    python benchmarks/int8_time.py --out benchmarks/results/int8_time.json

The stem has its ImageNet weights and the heads random ones, so that no trained model is needed: time does not depend on
them. CPU time of one view on one thread, in turns in one run; a ratio is of the fastest of all rounds. Before, the
scores of each file are compared with fp32's.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from rungwise.artifact import write_json
from rungwise.config import load_config
from rungwise.score.contract import Contract, Scale, golden_input
from rungwise.score.scorer import Scorer

ROUNDS, MOST_IN_FLOAT, LARGEST_DEVIATION = 15, 4, 5.0
SCALE = Scale(kind="vmaf_v1.0.16_3d0h", polarity="higher_is_better", minimum=0, maximum=100)


def write_files(folder: Path) -> dict[str, Path]:
    """fp32, and int8 with no layer to the first `MOST_IN_FLOAT` in float."""
    from student.int8 import Quantizer
    from student.models import STUDENTS, load_imagenet, student_settings
    from student.trace import trace, write_graph

    config = load_config(Path(__file__).with_name("default.yaml"))
    recipe = config.views.recipe
    torch.manual_seed(0)
    span = {"num_levels": config.teacher.num_levels, "minimum": SCALE.minimum, "maximum": SCALE.maximum}
    model = STUDENTS[config.student.model](**student_settings(config.student, recipe), **span).eval()
    load_imagenet(model)
    contract = Contract(model=config.student.model, view=recipe, scale=SCALE, calibration=None, golden=None,
                        training_id="random", dataset_sha256="none", opset=config.export.opset)  # fmt: skip
    graph = trace(model, recipe, opset=config.export.opset)
    views = golden_input(recipe)
    bitstream = np.full((len(views), 17), 0.5, np.float32)
    quantizer = Quantizer(graph, contract, views, bitstream, folder=folder)
    files = {"fp32": folder / "fp32.onnx"}
    write_graph(graph, contract, files["fp32"])
    for count in range(MOST_IN_FLOAT + 1):
        path = files[f"int8, first {count} layers in float"] = folder / f"int8_{count}.onnx"
        contract = contract.model_copy(update={"precision": "int8"})
        write_graph(quantizer.correct(quantizer.candidates[count:]), contract, path)
    return files


def measure(files: dict[str, Path]) -> list[dict[str, Any]]:
    """A row for each file; the first is what the others are compared with."""
    scorers = {name: Scorer(path, check=False, threads=1) for name, path in files.items()}
    view = golden_input(next(iter(scorers.values())).contract.view)[1:2]
    scores = {name: float(scorer.predict(view)[0]) for name, scorer in scorers.items()}
    exact = next(iter(scores.values()))
    for name, score in scores.items():
        if abs(score - exact) > LARGEST_DEVIATION:
            raise SystemExit(f"{name}: {score:.2f} for {exact:.2f}")
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, scorer in scorers.items():
            clock = time.process_time()
            scorer.predict(view)
            seconds[name].append(time.process_time() - clock)
    fastest = min(next(iter(seconds.values())))
    return [
        {
            "file": name,
            "bytes": path.stat().st_size,
            "milliseconds": round(1000 * min(seconds[name]), 2),
            "time_to_fp32": round(min(seconds[name]) / fastest, 3),
            "deviation": round(abs(scores[name] - exact), 4),
        }
        for name, path in files.items()
    ]


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path)
    out: Path | None = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(write_files(Path(folder)))
    for row in rows:
        print(f"{row['file']:34}{row['bytes'] / 1e6:6.2f} MB{row['time_to_fp32']:8.3f} of fp32's time")
    if out:
        facts = {"machine": platform.processor() or platform.machine(), "onnxruntime": onnxruntime.__version__}
        write_json(out, facts | {"rounds": ROUNDS, "rows": rows})


if __name__ == "__main__":
    main()
