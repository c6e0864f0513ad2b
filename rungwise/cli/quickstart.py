"""`rungwise quickstart`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rungwise.cli.options import Config, Device, Json, Quiet, Runs, SourcesOption
from rungwise.cli.pipeline import report_failures, training_packages


def quickstart(
    config: Config = Path("configs/quickstart.yaml"),
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run every stage from masters to an evaluated model; a second run reuses what is finished."""
    with training_packages():
        from distill.pipeline import run
    from rungwise.config import load_config

    outcome = run(load_config(config, sources=sources), runs, device=device)
    evaluation, exported = outcome.artifacts["evaluate"].path, outcome.artifacts["export"].path
    model = exported / "student.onnx"
    if as_json:
        facts = {
            "evaluation": json.loads((evaluation / "evaluation.json").read_text()),
            "report": str(evaluation / "report.html"),
            "model": str(model),
            "seconds": {stage: round(value, 1) for stage, value in outcome.seconds.items()},
            "failures": outcome.failures,
        }
        print(json.dumps(facts))
    else:
        print((evaluation / "table.txt").read_text())
        spent = ", ".join(f"{stage} {value:.0f}" for stage, value in outcome.seconds.items())
        print(f"seconds:  {spent}; total {sum(outcome.seconds.values()):.0f}")
        print(f"report:   {evaluation / 'report.html'}")
        print(f"model:    {model}")
        print(f"score your own file:  {Path(sys.argv[0])} score --model {model} YOUR_VIDEO")
    report_failures(outcome.failures)
