"""The lock files and the list of licenses agree with what is pinned and installed."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-all.lock")
BUILD_TOOLS = {"setuptools"}  # torch wants it; `pip freeze`, of which the constraints are made, leaves it out


@pytest.fixture(scope="module")
def licenses() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licenses", ROOT / "docs" / "licenses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain(name: str) -> str:
    """A package's name as indices compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {plain(name): pinned for name, _, pinned in (line.partition("==") for line in lines) if pinned}


def pins(lock: str) -> dict[str, tuple[str, str, int]]:
    """Package -> version, marker and number of hashes."""
    found = {}
    for block in re.split(r"\n(?=[\w])", "\n" + (ROOT / lock).read_text()):
        pin = re.match(r"\n?([\w.-]+)==([^\s;]+)(?: ; ([^\\]+))? \\\n", block)
        if pin:
            found[plain(pin[1])] = pin[2], pin[3] or "", len(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_and_constraints_agree(lock: str) -> None:
    pinned = constraints()
    for name, (locked, marker, num_hashes) in pins(lock).items():
        assert num_hashes > 0, name
        if name in pinned:
            assert locked == pinned[name], name
        else:
            assert marker or name in BUILD_TOOLS, f"{name} is in {lock} and not in constraints.txt: run make lock"


def test_locks_hold_all_that_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    scorer = {plain(re.match(r"[\w.-]+", need)[0]) for need in project["dependencies"]}  # type: ignore[index]
    assert scorer <= pins("requirements.lock").keys()
    apart = {plain(re.match(r"[\w.-]+", need)[0]) for need in project["optional-dependencies"]["ray"]}  # type: ignore[index]
    assert constraints().keys() - apart <= pins("requirements-all.lock").keys()  # `all` is without ray


def test_the_list_of_licenses_is_of_what_is_installed(licenses: ModuleType) -> None:
    listed = (ROOT / "docs" / "licenses.md").read_text()
    rows = licenses.rows(ROOT / "requirements.lock")
    assert {plain(name) for name, _, _ in rows} >= {"av", "numpy", "onnxruntime"}
    for name, installed, terms in rows:
        assert installed == version(name)
        assert terms != licenses.UNSTATED, name
        assert f"| {name} | {installed} | {terms} |" in listed, f"{name}: run make licenses"
