"""The six published systems, each by its small config, from masters to exported files, on one shared ladder.

    python benchmarks/published.py --out benchmarks/results/published.json

configs/small/NAME.yaml runs whole: ladder, teacher, cache, student, ONNX files through their gates, held-out contents.
Towers are tiny and most start from random weights, so the table shows that all parts work together, not how good a
method is; log-bitrate on the same encodes stands beside. `rungwise evaluate configs/small/NAME.yaml` runs one alone;
the two of CLIP read the folder of a tiny one that this script writes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from teachers import write_tiny_clip

CONFIGS = Path(__file__).parents[1] / "configs" / "small"
METHODS = {
    "internvqa": "InternVQA",
    "q_clip": "Q-CLIP",
    "clipvqa": "CLIPVQA",
    "conviqt": "CONVIQT",
    "qmamba": "QMamba",
    "swinv2": "SwinV2 coarse-to-fine",
}
PREDICTORS = ("teacher", "student", "student-onnx", "log-bitrate")
RUNS = Path("runs/published")  # as in the configs' `clip`


def run_method(name: str) -> dict[str, Any]:
    """One system's way from masters to a table of held-out contents."""
    from distill.pipeline import run
    from rungwise.config import load_config

    config = load_config(CONFIGS / f"{name}.yaml")
    outcome = run(config, RUNS)
    evaluation = json.loads((outcome.artifacts["evaluate"].path / "evaluation.json").read_text())
    gates = json.loads((outcome.artifacts["export"].path / "gates.json").read_text())["gates"]
    predictors = {predictor["predictor"]: predictor for predictor in evaluation["predictors"]}
    return {
        "method": METHODS[name],
        "config": f"configs/small/{name}.yaml",
        "teacher": config.teacher.model,
        "student": config.student.model,
        "test_encodes": predictors["student"]["n"],
        "test_contents": predictors["student"]["contents"],
        "srcc": {predictor: predictors[predictor]["srcc"] for predictor in PREDICTORS},
        "gates": {"passed": sum(gate["passed"] for gate in gates), "all": len(gates)},
        "seconds": {
            stage: round(artifact.seconds, 1) for stage, artifact in outcome.artifacts.items() if stage != "ladder"
        },
    }


def main() -> None:
    """Run the small configs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=METHODS, help="one system")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from rungwise.artifact import write_json

    if not (RUNS / "tiny_clip").is_dir():
        RUNS.mkdir(parents=True, exist_ok=True)
        write_tiny_clip(RUNS / "tiny_clip", patch_px=14)
    rows = [run_method(name) for name in METHODS if arguments.only in (None, name)]
    print(f"{'method':24}{'teacher':>10}{'student':>10}{'log-bitrate':>13}{'gates':>8}{'seconds':>9}")
    for row in rows:
        srcc, gates = row["srcc"], row["gates"]
        figures = "".join(f"{srcc[name]['value']:{width}.3f}" for name, width in
                          (("teacher", 10), ("student-onnx", 10), ("log-bitrate", 13)))  # fmt: skip
        passed = f"{gates['passed']}/{gates['all']}"
        print(f"{row['method']:24}{figures}{passed:>8}{sum(row['seconds'].values()):9.0f}")
    if arguments.out:
        facts = {"command": f"python {sys.argv[0]}", "cores": os.cpu_count(), "torch": torch.__version__}
        write_json(arguments.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
