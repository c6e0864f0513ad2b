"""Print the README's results table from a committed evaluation JSON.

    python benchmarks/results_table.py benchmarks/results/quickstart.json

The JSON is `evaluation.json` of a run's `evaluate` artefact. A test holds the README and this output equal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROWS = {
    "log-bitrate": "log-bitrate (baseline)",
    "teacher": "teacher",
    "student": "student",
    "student-onnx": "student, ONNX",
}
COLUMNS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "within_content_srcc": "SRCC within content",
}


def markdown(evaluation: dict[str, Any]) -> str:
    """The table, one row a predictor, 95 % intervals in brackets."""
    results = {result["predictor"]: result for result in evaluation["predictors"]}
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, title in ROWS.items():
        cells = [_cell(results[name][column], column) for column in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figure: dict[str, float], column: str) -> str:
    digits = 2 if column == "rmse" else 3
    value, low, high = (f"{figure[part]:.{digits}f}" for part in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
