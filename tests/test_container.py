"""The Dockerfile: two stages, an unprivileged user, hash-pinned packages, and only the scorer's files."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_image_holds_the_scorer_only_and_is_not_run_by_root() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    assert sum(line.startswith("FROM ") for line in lines) == 2
    last = lines[len(lines) - lines[::-1].index("FROM python:3.11-slim") :]
    assert lines.count("COPY . /source") == 1
    assert [line for line in last if line.startswith("COPY")] == ["COPY --from=build /opt/rungwise /opt/rungwise"]
    assert last.index("USER rungwise") < next(i for i, line in enumerate(last) if line.startswith("ENTRYPOINT"))
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert all((ROOT / line[1:]).exists() for line in ignored if line.startswith("!"))


def test_the_recorded_build_fits_its_limit() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "container.json").read_text())
    assert result["megabytes"] <= result["limit_megabytes"]
    assert result["scores"][0] == result["scores"][1]
