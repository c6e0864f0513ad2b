"""Claims in the README come from committed JSON."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_results_table_is_the_committed_json() -> None:
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "benchmarks" / "results_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    evaluation = json.loads((ROOT / "benchmarks" / "results" / "quickstart.json").read_text())
    assert module.markdown(evaluation) in (ROOT / "README.md").read_text()


def test_what_keeping_frozen_layers_saves_is_the_committed_json() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "keep_frozen.json").read_text())["rows"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert all(row["losses_agree"] for row in rows)
    for row in rows:
        assert f"{row['times_as_fast']:.1f} times" in readme
