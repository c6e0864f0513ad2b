"""Claims in the README come from committed JSON."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def test_the_results_table_is_the_committed_json() -> None:
    module = _load("results_table")
    evaluation = json.loads((ROOT / "benchmarks" / "results" / "quickstart.json").read_text())
    assert module.markdown(evaluation) in (ROOT / "README.md").read_text()


def test_the_shipped_models_table_is_the_committed_json() -> None:
    module = _load("results_table")
    facts = json.loads((ROOT / "benchmarks" / "results" / "default.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert module.shipped(facts) in readme
    assert f"{facts['interval']['test clips held by the shipped file']:.0%} of the test clips" in readme
    assert f"{facts['interval']['folds']['held']:.0%} of the folds' clips" in readme


def test_the_refits_table_is_the_committed_json() -> None:
    facts = json.loads((ROOT / "benchmarks" / "results" / "level.json").read_text())
    assert _load("level").markdown(facts) in (ROOT / "README.md").read_text()


def test_what_keeping_frozen_layers_saves_is_the_committed_json() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "keep_frozen.json").read_text())["rows"]
    assert all(row["losses_agree"] for row in rows)
    paragraphs = (ROOT / "README.md").read_text().split("\n\n")
    (paragraph,) = [text for text in paragraphs if "keep_frozen.json" in text]
    assert re.findall(r"([\d.]+)\s+times", paragraph) == [f"{row['times_as_fast']:.1f}" for row in rows]
    seconds = f"{rows[0]['seconds_kept']:.1f} s against {rows[0]['seconds_each_time']:.1f} s"
    assert seconds in " ".join(paragraph.split())


def test_what_students_cost_and_gain_is_the_committed_json() -> None:
    facts = json.loads((ROOT / "benchmarks" / "results" / "students.json").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    weights = {(row["model"], row.get("size"), row.get("stem_stages")): row["weights"] for row in facts["costs"]}
    for model in ("mamba", "swin"):
        parts = [
            " / ".join(f"{weights[model, size, stages] / 1e6:.1f} M" for size in ("nano", "small")) for stages in (3, 5)
        ]
        assert f"{parts[0]} (3 stages in front), {parts[1]} (5)" in readme
    rows = {(row["codecs"], row["student"], row["variant"]): row for row in facts["rows"]}
    assert facts["split"] == "test"
    for key in (
        ("all", "", "teacher"), ("all", "", "log-bitrate"), ("all", "mamba", "small: distribution, feature, relation"),
        ("all", "swin", "small: distribution, feature, relation"), ("all", "mamba", "small: label only"),
        ("all", "swin", "small: label only"),
    ):  # fmt: skip
        assert _interval(rows[key]["srcc"]) in readme, key
    for student in ("mamba", "swin"):
        for variant in ("StylePrompt tuning", "full tuning"):
            assert _interval(rows["av1, vp9", student, variant]["gain"]) in readme


def _interval(figures: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*figures).replace("0.", ".")


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_score_costs_is_the_committed_json() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "cost.json").read_text())
    assert _load("cost").markdown(found) in (ROOT / "README.md").read_text()


def test_what_precisions_lose_is_the_committed_json() -> None:
    readme = (ROOT / "README.md").read_text()
    for student in ("mamba", "swin"):
        facts = json.loads((ROOT / "benchmarks" / "results" / f"export_{student}.json").read_text())
        assert all(gate["passed"] for gate in facts["gates"])
        figures = {(gate["name"], gate["precision"]): gate["figure"] for gate in facts["gates"]}
        for name in ("SRCC loss", "pair loss", "mean score deviation"):
            cells = " | ".join(
                f"{figures[name, precision]:.4f}".replace("0.", ".", 1) for precision in ("fp16", "int8")
            )
            assert f"| {student.capitalize()} `small`, {name} | {cells} |" in readme
        assert f"| {len(facts['left_in_float']['student.int8.onnx'])} |" in readme


def test_how_long_an_evaluation_takes_is_the_committed_json() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "evaluation.json").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    small, large = found["tables"]["published"], found["tables"]["large"]
    assert (
        f"67 metrics on 1022 encodes take {small['seconds']:.0f} seconds with {small['resamples']} resamples" in readme
    )
    assert f"20 on 100,000 {large['seconds']:.0f} with {large['resamples']}" in readme
    assert f"made {found['quick_against_plain']['plcc']['plain_to_quick']:.0f} times as fast" in readme
