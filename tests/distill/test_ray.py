"""Ladder and cache on a Ray cluster of two nodes on this machine, of which one is killed in the middle of each."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import distill.pipeline
from distill.pipeline import Outcome
from rungwise.config import RunConfig
from rungwise.ladder.encode import EncodeError, EncodeSpec
from rungwise.ray_pool import _call, _rebuild

pytestmark = [pytest.mark.slow, pytest.mark.distributed]
pytest.importorskip("ray", reason="needs Ray: pip install 'rungwise[ray]'")
SECONDS = 300


@contextlib.contextmanager
def node(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node of one core, a process group of its own."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    command += ["--object-store-memory=80000000", "--disable-usage-stats", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_worker_niceness": "0"}
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(run: subprocess.Popen[str], pattern: str, folder: Path, count: int) -> None:
    """Until so many files match, or the run ended."""
    until = time.monotonic() + SECONDS
    while run.poll() is None and len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < until, pattern
        time.sleep(0.02)


def test_ladder_and_cache_of_two_nodes_have_the_bytes_of_one_process_though_a_node_dies(
    unbroken: tuple[Path, Outcome], config: RunConfig, config_path: Path, tmp_path: Path
) -> None:
    runs, _ = unbroken
    many_batches = config.cache.model_copy(update={"clips_per_shard": 3, "clips_per_batch": 1})
    outcome = distill.pipeline.run(config.model_copy(update={"cache": many_batches}), runs, until="cache")
    values = yaml.safe_load(config_path.read_text())
    values["cache"] |= {"clips_per_shard": 3, "clips_per_batch": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    for stage in ("masters", "teach"):
        shutil.copytree(runs / stage, tmp_path / stage)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "rungwise", "cache", "make", str(tmp_path / "config.yaml")]
    command += ["--runs", str(tmp_path), "--ray", address, "--json"]
    with contextlib.ExitStack() as cluster:
        cluster.enter_context(node("--head", f"--port={port}", "--include-dashboard=false"))
        second = cluster.enter_context(node(f"--address={address}"))
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cluster.callback(run.kill)
        wait_for(run, "ladder/*.partial/encodes/*.json", tmp_path, 5)
        third = cluster.enter_context(node(f"--address={address}"))
        wait_for(run, "ladder/*.partial/encodes/*.json", tmp_path, 10)
        kill(second)
        wait_for(run, "cache/*.partial/shard-*.safetensors", tmp_path, 1)
        kill(third)
        printed, progress = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, progress
    assert json.loads(printed)["id"] == outcome.artifacts["cache"].id
    for stage in ("ladder", "views", "cache"):
        artifact = outcome.artifacts[stage]
        manifest = json.loads((tmp_path / stage / artifact.id / "manifest.json").read_text())
        assert manifest["content_sha256"] == artifact.content_sha256, stage


def test_errors_of_jobs_come_back_as_they_were() -> None:
    spec = EncodeSpec("h264", 54, preset="ultrafast", crf=30)

    def fails() -> None:
        raise EncodeError(spec, "encoder crashed")  # which pickle can't rebuild

    value, parts = _call(".", fails, (), {})
    error = _rebuild(*pickle.loads(pickle.dumps(parts)))
    assert value is None
    assert isinstance(error, EncodeError)
    assert (str(error), error.spec) == (str(EncodeError(spec, "encoder crashed")), spec)
