"""The Dockerfiles: two stages, an unprivileged user, hash-pinned packages, and only the scorer's files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.train"])
def test_an_image_is_built_in_two_stages_from_pinned_packages_and_not_run_by_root(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    assert sum(line.startswith("FROM ") for line in lines) == 2
    last = lines[len(lines) - lines[::-1].index("FROM python:3.11-slim") :]
    assert sum(line.startswith("COPY . ") for line in lines) == 1
    assert [line for line in last if line.startswith("COPY")] == ["COPY --from=build /opt/rungwise /opt/rungwise"]
    assert last.index("USER 10001") < next(i for i, line in enumerate(last) if line.startswith("ENTRYPOINT"))
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    ignored = (ROOT / (".dockerignore" if name == "Dockerfile" else f"{name}.dockerignore")).read_text().splitlines()
    assert ignored[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!"))


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    files = ["Dockerfile", "Dockerfile.train"]
    done = subprocess.run([hadolint, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_recorded_builds_fit_their_limit_and_score_alike() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "container.json").read_text())
    assert result["scorer"]["megabytes"] <= result["scorer"]["limit_megabytes"]
    assert len({score for image in result.values() for score in image["scores"]}) == 1
