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
