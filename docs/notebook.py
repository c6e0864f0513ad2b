"""Execute docs/notebook.ipynb in an empty folder and write its outputs into it.

    python docs/notebook.py    (make notebook)

tests/docs/test_notebook.py fails when the outputs are no longer what its cells print.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run every cell; what a cell prints to stderr is progress and left out."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, kernel_name="python3", resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    del notebook.metadata["language_info"]  # this machine's Python


def main() -> None:
    """Rewrite the notebook."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    execute(notebook)
    NOTEBOOK.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
