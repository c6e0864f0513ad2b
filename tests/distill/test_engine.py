"""The engine: whose rows are whose, and what is missing is said in one line."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from distill.engine import Engine, check_builds, own_device, start_deepspeed, trained_state
from rungwise.ranks import Ranks


class Pair(nn.Module):
    """Half frozen, with a buffer; gives a tuple as a bundle does."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.trained, self.norm = nn.Linear(2, 2), nn.Linear(2, 1), nn.BatchNorm1d(2)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> tuple[Any, ...]:
        return self.trained(self.norm(self.frozen(x))), None


def engine() -> Engine:
    module = Pair()
    groups = [{"params": [p for p in module.parameters() if p.requires_grad], "clip": True, "lr": 0.1}]
    return Engine(module, groups, weight_decay=0.0, device="cpu", precision="fp32")


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_every_row_is_judged_and_all_processes_judge_equally_many(rows: int, world: int) -> None:
    made, shares = engine(), []
    for rank in range(world):
        made.where = Ranks(rank, world, rank)
        shares.append(made.own_rows(rows))
    assert len({len(share) for share in shares}) == 1
    # In order of rank, cut to the batch, every row once: what `__call__` hands on.
    assert [row for share in shares for row in share][:rows] == list(range(rows))


def test_what_trains_and_what_does_not_is_the_whole_model() -> None:
    made = engine()
    trained, frozen = trained_state(made.module), made.frozen_state()
    assert set(frozen) == {"frozen.weight", "frozen.bias"}
    assert trained.keys() | frozen.keys() == made.module.state_dict().keys()
    assert "norm.running_mean" in trained


def test_a_step_moves_what_trains_alone() -> None:
    made = engine()
    before = {name: value.clone() for name, value in made.module.state_dict().items()}
    outputs = made(4, torch.randn(4, 2))
    assert outputs[1] is None
    made.step(outputs[0].square().mean())
    after = made.module.state_dict()
    assert torch.equal(after["frozen.weight"], before["frozen.weight"])
    assert not torch.equal(after["trained.weight"], before["trained.weight"])


def test_gradients_of_two_batches_are_one_step() -> None:
    torch.manual_seed(0)
    together, apart = engine(), engine()
    apart.module.load_state_dict(together.module.state_dict())
    for made in (together, apart):
        made.module.eval()
    x = torch.randn(8, 2)
    norm = together.step(together(8, x)[0].square().mean())
    assert apart.step(apart(4, x[:4])[0].square().mean() / 2, update=False) is None
    assert apart.step(apart(4, x[4:])[0].square().mean() / 2) == pytest.approx(norm)
    for name, value in together.module.state_dict().items():
        torch.testing.assert_close(apart.module.state_dict()[name], value)


def test_deepspeed_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "0") if name != "WORLD_SIZE" else monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=r"execution\.zero_stage needs DeepSpeed .*pip install -e '\.\[multi\]'"):
        start_deepspeed("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(ValueError, match="no MASTER_ADDR: start with torchrun"):
        start_deepspeed("cpu")


def test_processes_may_meet_an_hour_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(init_distributed=lambda *_, **__: None))
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda **given: settings.update(given))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    start_deepspeed("cpu")
    assert settings["timeout"] >= timedelta(hours=1)  # NCCL's own ten minutes pass while a slow host reads its data


def test_a_lock_that_a_killed_build_left_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    check_builds()
    lock = tmp_path / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir()
    lock.touch()
    check_builds()
    assert f"{lock}: another process builds this extension" in capsys.readouterr().err
    os.utime(lock, (0, 0))
    with pytest.raises(ValueError, match=r"lock: a build of an extension was killed .* delete this file"):
        check_builds()


@pytest.mark.parametrize(
    ("cards", "local", "device"),
    [(8, 3, "cuda:3"), (1, 3, "cuda:0"), (2, 3, "4 processes on this host and 2 GPUs"), (0, 0, "sees no GPU")],
)
def test_a_process_has_its_own_card(cards: int, local: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    for name, value in {"RANK": local, "WORLD_SIZE": 4, "LOCAL_RANK": local}.items():
        monkeypatch.setenv(name, str(value))
    assert own_device("cpu") == "cpu"
    if device.startswith("cuda"):
        assert own_device("cuda") == device
    else:
        with pytest.raises(ValueError, match=device):
            own_device("cuda")
