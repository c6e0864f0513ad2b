"""Stage keys: whatever changes a result is in them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import student.head
from distill.pipeline import STAGES
from distill.stage import Stage, constants
from rungwise.artifact import Artifact, StageKey
from rungwise.config import RunConfig

NO_KNOBS = {
    "LOSSES", "EXPORT_TARGETS",  # the registers
    "FLOAT_OPERATORS", "INTEGER_OPERATORS",  # refuse a file, change none
    "TARGETS", "LAYER",  # names of tensors
    "ONE_PROCESS", "BUILD_SECONDS", "MEETING",  # how a model is run, and how processes meet
}  # fmt: skip


def artifact(content: str) -> Artifact:
    return Artifact(Path("none"), StageKey("", 0, {}, {}), content, 0.0, hit=True)


def test_a_constant_of_a_listed_module_changes_the_key(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("distill", 1, {}, lambda config, artifacts: {}, lambda folder, config, inputs: None, (student.head,))
    before = stage.key(config, {})
    assert before.params["constants"]["student.head.HYBRID_DIM"] == student.head.HYBRID_DIM
    monkeypatch.setattr(student.head, "HYBRID_DIM", 32)
    assert stage.key(config, {}).id != before.id


def test_every_constant_of_the_listed_modules_is_in_the_key() -> None:
    for stage in STAGES:
        for module in stage.modules:
            assigned = set()
            for node in ast.parse(inspect.getsource(module)).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                assigned |= {target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()}
            hashed = {name.rpartition(".")[2] for name in constants(module)}
            assert assigned - hashed <= NO_KNOBS, module.__name__


def test_the_contents_of_every_input_are_in_the_key(config: RunConfig) -> None:
    """Labels too: the same encodes with other labels are another dataset, and another teacher."""
    by_name = {stage.name: stage for stage in STAGES}
    assert all("dataset" in stage.inputs for stage in STAGES)
    teach = by_name["teach"]
    keys = [teach.key(config, {"dataset": artifact(label), "views": artifact("pixels")}) for label in ("v0", "v1")]
    assert keys[0].id != keys[1].id
