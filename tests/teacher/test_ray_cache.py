"""The cache on Ray, with a stand-in for the cluster: what a dead node's teacher had goes to the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import teacher.ray_cache
from rungwise.artifact import SCRATCH
from teacher.cache import write_cache
from teacher.ray_cache import Actor, write_cache_on_ray

PIXELS = np.arange(11 * 4, dtype=np.uint8).reshape(11, 1, 1, 2, 2, 1)


class Died(Exception):
    """As Ray's own of an actor."""


class Ref:
    """A result to come; without a value where its actor died."""

    def __init__(self, value: Any) -> None:
        self.value = value


class FakeActor:
    """Answers at once; the second one of a cluster dies after one batch."""

    def __init__(self, actor: Actor, lives: int) -> None:
        self.judge = SimpleNamespace(remote=self.call)
        self.actor, self.lives = actor, lives

    def call(self, *clips: Any) -> Ref:
        self.lives -= 1
        return Ref(self.actor.judge(*clips) if self.lives >= 0 else None)


class FakeRay:
    """The part of Ray's module that the cache uses."""

    exceptions = SimpleNamespace(RayActorError=Died)

    def __init__(self, lives: list[int]) -> None:
        self.lives = lives

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(len(self.lives))}

    def remote(self, **_: object) -> Any:
        return lambda kind: SimpleNamespace(remote=lambda *args: FakeActor(kind(*args), self.lives.pop(0)))

    def wait(self, refs: list[Ref], num_returns: int) -> tuple[list[Ref], list[Ref]]:
        return refs[-1:], refs[:-1]  # out of order

    def get(self, ref: Ref) -> Any:
        if ref.value is None:
            raise Died
        return ref.value


def judge(pixels: Tensor) -> dict[str, Tensor]:
    return {"scores": pixels.float().mean((2, 3, 4, 5))}


def fill(folder: Path, lives: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def cluster(address: str) -> Iterator[FakeRay]:
        yield FakeRay(lives)

    monkeypatch.setattr(teacher.ray_cache, "cluster", cluster)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    (folder / SCRATCH).mkdir(parents=True)
    write_cache_on_ray(
        folder, len(PIXELS), lambda row: PIXELS[row], lambda: judge,
        device="cpu", address="auto", clips_per_shard=4, clips_per_batch=2,
    )  # fmt: skip


def test_batches_of_a_dead_teacher_are_predicted_by_others_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alone" / SCRATCH).mkdir(parents=True)
    write_cache(tmp_path / "alone", len(PIXELS), lambda row: PIXELS[row], judge, clips_per_shard=4, clips_per_batch=2)
    fill(tmp_path / "ray", [99, 1], monkeypatch)
    alone, ray = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("shard-*")} for name in ("alone", "ray")
    )
    assert len(alone) == 3
    assert ray == alone
    assert "a node died, 1 teachers are left" in capsys.readouterr().err


def test_no_teacher_left_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="every node that had a teacher died; run again to go on"):
        fill(tmp_path, [1, 1], monkeypatch)
