"""A student of the teacher's family goes from the cache to ONNX files through the pipeline's own stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from distill.pipeline import run
from rungwise.config import load_config
from rungwise.score.contract import golden_input
from rungwise.score.scorer import Scorer

if TYPE_CHECKING:
    from tests.distill.conftest import TeacherRuns


def same_family(path: Path, shape: dict[str, Any]) -> Path:
    """The config with an InternVideo2 student of this shape, whose upper layers train from stored tokens."""
    values = yaml.safe_load(path.read_text())
    base = values["student"]
    kept = ("start", "refit", "bitrate_groups", "precision")
    values["student"] = {key: base[key] for key in kept} | {
        "model": "internvideo2",
        "size": shape,
        "checkpoint": None,
        "gelu": "exact",
        "tune": "last_block",
        "execution": base["execution"] | {"keep_frozen": True},
        "training": base["training"]
        | {
            "epochs": 2,
            "augment": None,
            "validate_every": 1,
            "contents_per_batch": 3,
            "clips_per_content": 5,
            "losses": {"label": 1.0, "feature": 1.0, "layers": 0.5},
        },
    }
    values["export"]["precisions"] = ["fp32", "fp16"]
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_it_is_distilled_from_features_and_layers_and_exported(small: TeacherRuns, teachers_benchmark: Any) -> None:
    shape = teachers_benchmark.TINY_INTERNVIDEO2
    path = same_family(small.config("internvideo2", layers=("backbone.blocks.0",)), shape)
    outcome = run(load_config(path), small.runs, until="export")
    history = json.loads((outcome.artifacts["distill"].path / "history.json").read_text())
    assert {"label", "feature", "layers", "validation_srcc"} <= history[-1].keys()
    export = outcome.artifacts["export"].path
    gates = json.loads((export / "gates.json").read_text())["gates"]
    assert {"parity with torch", "re-run from disk"} <= {gate["name"] for gate in gates if gate["passed"]}
    scorer = Scorer(export / "student.onnx")
    assert scorer.contract.model == "internvideo2"
    assert np.isfinite(scorer.predict(golden_input(scorer.contract.view))).all()
