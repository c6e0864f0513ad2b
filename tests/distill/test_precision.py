"""The precision of products: as configured, in plain PyTorch and under every ZeRO stage, and never TF32."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.engine import Engine
from distill.precision import check_products, fp32_products
from distill.teaching import make_predict
from teacher.layers import Layers

ROOT = Path(__file__).parents[2]

# Trains a small net in one process and prints the dtypes of its products and its losses. DeepSpeed asks CUDA's autocast
# flag whatever the device; here the CPU's stands for it, so that DeepSpeed does as on a card.
TRAINING = """
import json, sys
import torch
from torch import nn
from distill.engine import make_engine
from rungwise.config import Execution
from rungwise.ranks import ranks

cpu_flag = torch.is_autocast_enabled
torch.is_autocast_enabled = lambda device="cpu": cpu_flag(device)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 1))
        self.projector = nn.Linear(16, 4)

    def forward(self, x):
        hidden = self.layers[:3](x)
        return self.layers[3](hidden), self.projector(hidden)

def train(zero_stage, precision):
    torch.manual_seed(0)
    net = Net()
    dtypes = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _, __, output, name=name: dtypes.update({name: str(output.dtype)[6:]}))
    groups = [
        {"params": [*net.layers.parameters()], "lr": 0.05, "clip": True},
        {"params": [*net.projector.parameters()], "lr": 0.05, "clip": False},
    ]
    execution = Execution(zero_stage=zero_stage, gradient_checkpointing=False, keep_frozen=False)
    engine = make_engine(net, groups, weight_decay=0.01, device="cpu", precision=precision, execution=execution)
    x, losses, norms = torch.randn(4, 8), [], []
    for _ in range(4):
        score, projected = (output.float() for output in engine(4, x[engine.own_rows(4)]))
        loss = (score - 3).square().mean() + 30 * (projected - 1).square().mean()
        losses.append(loss.item())
        norms.append(engine.step(loss))
    return {"dtypes": dtypes, "losses": losses, "norms": norms}

stages = [None if stage == "null" else int(stage) for stage in sys.argv[1:]]
trainings = {p: {json.dumps(s): train(s, p) for s in stages} for p in ("fp32", "bf16")}
if ranks().rank == 0:
    print(json.dumps(trainings))
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.distributed
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds a part of itself: needs a C++ compiler")
def test_every_zero_stage_computes_in_the_configured_precision_to_one_loss(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install -e '.[multi]'")
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    stages = ["0", "1", "2", "3"]
    alone, together = (train(str(script), "null", *stages), train(*two, str(script), *stages))
    for precision, dtype, tolerance in (("fp32", "float32", 1e-4), ("bf16", "bfloat16", 2e-2)):
        plain = alone[precision]["null"]
        for stage, training in [*alone[precision].items(), *together[precision].items()]:
            assert training["dtypes"] == dict.fromkeys(("layers.0", "layers.3", "projector"), dtype), (precision, stage)
            assert training["losses"] == pytest.approx(plain["losses"], rel=tolerance), (precision, stage)
            assert training["norms"] == pytest.approx(plain["norms"], rel=tolerance), (precision, stage)


def train(*arguments: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    trainings: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return trainings


def test_a_model_that_runs_in_another_precision_is_an_error() -> None:
    for precision, run_in in (("bf16", False), ("fp32", True)):
        module = nn.Linear(2, 2)
        check_products(module, precision)
        with torch.autocast("cpu", torch.bfloat16, enabled=run_in), pytest.raises(AssertionError, match=precision):
            module(torch.ones(1, 2))


def test_fp32_products_on_a_card_are_no_tf32() -> None:
    def teacher_and_cache() -> None:
        make_predict(nn.Identity(), Layers(nn.Identity(), ()), dtype="float16", precision="fp32", device="cpu")

    def training() -> None:
        net = nn.Linear(2, 1)
        Engine(net, [{"params": [*net.parameters()], "lr": 0.1}], weight_decay=0.0, device="cpu", precision="fp32")

    for user in (teacher_and_cache, training):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        assert fp32_products() == "tf32"
        user()
        assert fp32_products() == "ieee"
