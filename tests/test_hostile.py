"""A quick sample of benchmarks/hostile.py: damaged files are scored or refused in one line each."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def hostile() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("hostile")


@pytest.fixture(scope="module")
def clips(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    made: dict[str, bytes] = hostile.make_clips(tmp_path_factory.mktemp("clips"))
    return made


def test_damaged_files_are_scored_or_refused_in_one_line(
    hostile: ModuleType, clips: dict[str, bytes], tmp_path: Path
) -> None:
    count = 60
    outcomes = hostile.measure(clips, tmp_path, count=count, seed=20)
    found = hostile.summarize(outcomes)
    assert found["faults"] == []
    for counts in found["outcomes"].values():
        assert counts["scored"] + counts["one-line error"] == count
        assert counts["scored"] > count // 4
        assert counts["one-line error"] > count // 10
    assert all(any(counts.values()) for counts in found["outcomes_by_kind"].values())
    assert found["peak_mb"]["largest"][0] < 1000
    assert hostile.markdown(found).count("\n") > len(hostile.MUTATIONS)
    assert not list(tmp_path.iterdir())  # only faults are kept


def test_the_same_seed_gives_the_same_files(hostile: ModuleType, clips: dict[str, bytes]) -> None:
    first, again = list(hostile.mutants(clips, 50, 3)), list(hostile.mutants(clips, 60, 3))
    assert first == again[:50]
    assert first != list(hostile.mutants(clips, 50, 4))
    assert {kind for _, kind, _ in first} == set(hostile.MUTATIONS)
    assert sum(data != clips[name.split("_", 1)[1].removeprefix(f"{kind}_")] for name, kind, data in first) > 45


def test_a_worker_that_hangs_or_crashes_is_replaced(
    hostile: ModuleType, clips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"  # in place of the scorer's
    script.write_text("import os, sys, time\nos._exit(3) if 'crash' in sys.stdin.readline() else time.sleep(60)\n")
    monkeypatch.setattr(hostile, "__file__", str(script))
    worker = hostile.Worker("", 1)
    assert worker.score(Path("crash"), "hybrid")[:2] == ("crash", "exit code 3")
    assert worker.score(Path("hang"), "hybrid")[0] == "hang"
    assert worker.score(Path("crash"), "hybrid")[0] == "crash"
    assert worker.process is None
