"""docs/notebook.ipynb: its cells run, and print what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import nbformat
import pytest
from notebook import NOTEBOOK

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def words(text: str) -> str:
    """A text without its numbers and alignment."""
    return " ".join(NUMBER.sub("#", text).split())


def test_the_notebook_shows_what_its_cells_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    plots = 0
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        shown = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        plots += sum("image/svg+xml" in output.get("data", {}) for output in cell.outputs)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(cell.source, names)
        assert words(printed.getvalue()) == words(shown), "run make notebook"
        numbers, committed = NUMBER.findall(printed.getvalue()), NUMBER.findall(shown)
        assert [float(n) for n in numbers] == pytest.approx([float(n) for n in committed], abs=1), "run make notebook"
    assert plots == 2
