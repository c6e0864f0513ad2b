"""Several processes, and DeepSpeed: the same caches and losses as of one process with plain PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from distill.pipeline import Outcome, run
from rungwise.config import load_config

if TYPE_CHECKING:
    from tests.distill.conftest import TeacherRuns

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def history(outcome: Outcome) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((outcome.artifacts["teach"].path / "history.json").read_text())
    return rows


def launch(count: int, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """`rungwise` in `count` processes under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(threads)}
    command = [*launcher, "-m", "rungwise", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT, timeout=600)


def shards(runs: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (runs / "cache").glob("*/*") if path.name != "manifest.json"}


def test_two_and_three_processes_leave_the_same_cache_as_one(small: TeacherRuns, cached: dict[str, Outcome]) -> None:
    path = small.config("internvideo2", layers=(small.bench.LAYERS["internvideo2"],))
    for count in (2, 3):
        runs = small.fresh_runs(f"many{count}")
        shutil.copytree(small.runs / "teach", runs / "teach")
        done = launch(count, "cache", "make", str(path), "--runs", str(runs), threads=count)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1  # the first process speaks for all
        alone = cached["internvideo2"].artifacts["cache"]
        assert shards(runs) == {file.name: file.read_bytes() for file in alone.path.iterdir() if file.suffix != ".json"}


def test_several_processes_without_deepspeed_are_told_what_to_set(small: TeacherRuns) -> None:
    done = launch(2, "teach", str(small.config("internvideo2")), "--runs", str(small.fresh_runs("none")))
    assert done.returncode != 0
    assert "2 processes train one model by DeepSpeed only: set execution.zero_stage" in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds a part of itself: needs a C++ compiler")
def test_deepspeed_in_two_processes_takes_the_same_losses_as_plain_pytorch_in_one(small: TeacherRuns) -> None:
    pytest.importorskip("deepspeed", reason="pip install -e '.[multi]'")
    plain = run(
        load_config(small.config("internvideo2", training={"epochs": 3})), small.fresh_runs("plain"), until="teach"
    )
    assert "gradient_norm" in history(plain)[0]  # AdamW forgives a gradient of another length; this does not
    for stage in (0, 1, 2, 3):
        execution = {"zero_stage": stage, "gradient_checkpointing": stage == 2, "keep_frozen": False}
        path = small.config("internvideo2", training={"epochs": 3}, execution=execution)
        runs = small.fresh_runs(f"zero{stage}")
        done = launch(2, *(("cache", "make") if stage == 3 else ("teach",)), str(path), "--runs", str(runs), "--json")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1, done.stdout
        (rows,) = (json.loads(file.read_text()) for file in (runs / "teach").glob("*/history.json"))
        for left, right in zip(history(plain), rows, strict=True):
            assert left == pytest.approx(right, rel=1e-4, abs=1e-4)
    # ZeRO-3's cache is that of one process with the same weights, but for rounding: gathered weights lie elsewhere in
    # memory, and a product's order of sums depends on that.
    sharded = {name: load_file(next((runs / "cache").glob(f"*/{name}"))) for name in shards(runs) if "shard" in name}
    shutil.rmtree(runs / "cache")
    run(load_config(small.config("internvideo2", training={"epochs": 3})), runs, until="cache")
    assert len(sharded) == 4
    for name, tensors in sharded.items():
        alone = load_file(next((runs / "cache").glob(f"*/{name}")))
        for field, value in tensors.items():
            torch.testing.assert_close(value, alone[field], rtol=1e-3, atol=1e-4, msg=f"{name} {field}")


@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds a part of itself: needs a C++ compiler")
def test_a_killed_deepspeed_run_goes_on_to_the_same_losses(small: TeacherRuns) -> None:
    pytest.importorskip("deepspeed", reason="pip install -e '.[multi]'")
    execution = {"zero_stage": 2, "gradient_checkpointing": False, "keep_frozen": False}
    path = small.config("internvideo2", training={"epochs": 3}, execution=execution)
    runs = {name: small.fresh_runs(name) for name in ("whole", "killed")}
    dies = (
        "import os\nfrom distill.training_state import TrainingState\n"
        "real = TrainingState.save\n"
        "def save(state, row):\n"
        "    real(state, row)\n"
        "    len(state.history) == 2 and os._exit(9)\n"
        "TrainingState.save = save\n"
        "from rungwise.cli import main\n"
        "main()\n"
    )
    script = small.folder / "dies.py"
    script.write_text(dies)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    arguments = ["teach", str(path), "--runs", str(runs["killed"])]
    command = [sys.executable, str(script), *arguments]
    killed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert killed.returncode == 9, killed.stderr
    for name, folder in runs.items():
        command = [sys.executable, "-m", "rungwise", "teach", str(path), "--runs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
        assert done.returncode == 0, (name, done.stderr)
    histories = [json.loads(next((folder / "teach").glob("*/history.json")).read_text()) for folder in runs.values()]
    assert histories[0] == histories[1]
    whole, resumed = (load_file(next((folder / "teach").glob("*/teacher.safetensors"))) for folder in runs.values())
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
