"""The six published systems, each by its small config, from masters to exported files, on one shared ladder.

    python benchmarks/published.py --out benchmarks/results/published.json

configs/small/NAME.yaml runs whole: ladder, teacher, cache, student, ONNX file and its gates, held-out contents. Towers
are tiny and most start from random weights, so the table shows that every part learns, not how good a method is;
log-bitrate on the same encodes stands beside. A stopped run goes on where it was. Tiny towers that stand for published
weights are written first: a CLIP and two InternVideo2, which the configs name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from teachers import write_tiny_clip

from rungwise.config import InternVideo2Student, InternVideo2Teacher
from rungwise.score.views import ViewRecipe

CONFIGS = Path(__file__).parents[1] / "configs" / "small"
METHODS = {
    "internvqa": "InternVQA",
    "q_clip": "Q-CLIP",
    "clipvqa": "CLIPVQA",
    "conviqt": "CONVIQT",
    "qmamba": "QMamba",
    "swinv2": "SwinV2 coarse-to-fine",
}
PREDICTORS = ("teacher", "student-onnx", "log-bitrate")
FIGURES = ("srcc", "rmse", "within_content_srcc")  # RMSE in points of VMAF, after a logistic fit
RUNS = Path("runs/published")  # as in the configs' `clip` and `checkpoint`


def write_tiny_internvideo2(path: Path, section: Any, recipe: ViewRecipe) -> None:
    """A tiny InternVideo2 of random weights under official keys, its layers as strong as trained ones.

    As a tower begins its own training, every block is nearly the identity, and frozen blocks would stay so.
    """
    from teacher.internvideo2 import InternVideo2

    torch.manual_seed(0)
    tower = InternVideo2(**section.size.model_dump(), num_frames=recipe.num_frames, img_size=recipe.size_px)
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            if name.endswith("gamma"):
                weight.fill_(1.0)
            elif weight.ndim == 2:
                weight.normal_(0, weight.shape[1] ** -0.5)
        tower.pos_embed.mul_(0.2)
    save_file(tower.state_dict(), path)


def write_towers() -> None:
    """The tiny towers that are not there yet."""
    from rungwise.config import load_config

    RUNS.mkdir(parents=True, exist_ok=True)
    if not (RUNS / "tiny_clip").is_dir():
        write_tiny_clip(RUNS / "tiny_clip", patch_px=14)
    config = load_config(CONFIGS / "internvqa.yaml")
    for section in (config.teacher, config.student):
        assert isinstance(section, InternVideo2Teacher | InternVideo2Student)
        path = Path(str(section.checkpoint))
        if not path.is_file():
            write_tiny_internvideo2(path, section, config.views.recipe)


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
        "test_encodes": predictors["student-onnx"]["n"],
        "test_contents": predictors["student-onnx"]["contents"],
        "predictors": {name: {figure: predictors[name][figure] for figure in FIGURES} for name in PREDICTORS},
        "gates": {"passed": sum(gate["passed"] for gate in gates), "all": len(gates)},
        "seconds": {
            stage: round(artifact.seconds, 1) for stage, artifact in outcome.artifacts.items() if stage != "ladder"
        },
    }


def format_rows(rows: list[dict[str, Any]]) -> str:
    """The table as text: for each system its teacher and its ONNX file, then log-bitrate, which all share."""
    lines = [f"{'':36}{'SRCC':>7}{'RMSE':>7}{'per-content SRCC':>18}{'gates':>8}{'seconds':>9}"]

    def line(name: str, figures: dict[str, Any], rest: str = "") -> str:
        srcc, rmse, own = (figures[figure]["value"] for figure in FIGURES)
        return f"{name:36}{srcc:7.3f}{rmse:7.1f}{own:18.3f}{rest}"

    for row in rows:
        gates = f"{row['gates']['passed']}/{row['gates']['all']}"
        lines.append(line(f"{row['method']}, teacher", row["predictors"]["teacher"]))
        rest = f"{gates:>8}{sum(row['seconds'].values()):9.0f}"
        lines.append(line(f"{row['method']}, ONNX", row["predictors"]["student-onnx"], rest))
    return "\n".join([*lines, line("log-bitrate", rows[0]["predictors"]["log-bitrate"])])


def main() -> None:
    """Run the small configs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from rungwise.artifact import write_json

    write_towers()
    rows = [run_method(name) for name in METHODS]
    print(format_rows(rows))
    if arguments.out:
        facts = {"command": f"python {sys.argv[0]}", "cores": os.cpu_count(), "torch": torch.__version__}
        write_json(arguments.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
