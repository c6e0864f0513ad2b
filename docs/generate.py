"""Rewrite the generated blocks of README.md and docs/ from the committed results and the code.

    python docs/generate.py    (make docs-data)

A block stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a key of `BLOCKS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import fidelity_tables
import references
import result_tables as tables
import student_tables

ROOT = Path(__file__).parents[1]
BLOCKS: dict[str, Callable[[], str]] = {
    "ablation": tables.ablation,
    "accuracy": tables.accuracy,
    "accuracy by part": tables.accuracy_by,
    "accuracy in full": tables.accuracy_in_full,
    "commands": references.commands,
    "config": references.config,
    "cost": tables.cost,
    "coverage": tables.coverage,
    "errors": tables.errors,
    "errors needed": fidelity_tables.errors_needed,
    "evaluation time": tables.evaluation_time,
    "frozen": tables.frozen,
    "gates": tables.gates,
    "held out": tables.held_out,
    "ladder fidelity": fidelity_tables.ladder_fidelity,
    "methods": student_tables.methods,
    "planted faults": fidelity_tables.planted_faults,
    "precisions": tables.precisions,
    "published": student_tables.published,
    "quickstart": tables.quickstart,
    "quickstart gain": tables.quickstart_gain,
    "runtimes": tables.runtimes,
    "student exports": student_tables.student_exports,
    "student gains": student_tables.student_gains,
    "student sizes": student_tables.student_sizes,
    "students": student_tables.students,
    "unseen": tables.unseen,
}
BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """The README and every page of the site."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generated(text: str) -> str:
    """A page with its blocks regenerated."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]]()}\n\n{block[4]}", text)


def main() -> None:
    """Rewrite the pages and print those that changed."""
    for path in pages():
        before = path.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
