"""The house: which room may import which, and what lands in a user's site-packages."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "rungwise": {"rungwise"},
    "teacher": {"rungwise", "teacher"},
    "student": {"rungwise", "student"},
    "distill": {"rungwise", "teacher", "student", "distill"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        foreign = imports(path) & (set(ROOMS) - ROOMS[room])
        assert not foreign, f"{path} imports {foreign}"
        assert room != "rungwise" or not imports(path) & {"torch", "timm", "transformers"}, path


def test_the_wheel_holds_rungwise_alone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "rungwise").rglob("__init__.py")}
    assert listed == there
    assert not any("torch" in need for need in settings["project"]["dependencies"])


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {str(path): lines for path in ROOT.glob("*/**/*.py") if (lines := len(path.read_text().splitlines())) > 620}
    assert not {path: lines for path, lines in long.items() if ".venv" not in path and "/runs/" not in path}


def test_help_and_scoring_import_no_torch() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from rungwise.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "assert not {'torch', 'numpy', 'pandas', 'onnxruntime', 'av'} & sys.modules.keys(), 'help is slow'; "
        "import rungwise.scorer; assert not {'torch', 'pandas', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
