"""One call's state: shapes by device, the time that is left, rows and what was skipped; and the random teacher."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from teacher_throughput import TINY, build_model

from distill.teaching import make_predict
from rungwise.score.contract import Scale
from teacher.cache import Judge
from teacher.internvideo2 import SIZES, InternVideo2Quality
from teacher.layers import Layers

SCALE = Scale(kind="vmaf", polarity="higher_is_better", minimum=0.0, maximum=100.0)


class TimeSpentError(Exception):
    """A part's time is over."""


@dataclass
class Run:
    """Shapes by device, the matrix rate, the deadline and the rows of the part that runs, and all that was skipped."""

    device: str
    rate: float
    deadline: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def shape(self) -> dict[str, Any]:
        """Of the teacher."""
        return (
            SIZES["1B"] | {"num_frames": 8, "img_size": 224} if self.cuda else TINY | {"num_frames": 4, "img_size": 56}
        ) | {"gelu": "tanh"}

    @property
    def left(self) -> float:
        """Seconds of this part."""
        return self.deadline - time.monotonic()

    def has_time(self, name: str, seconds: float) -> bool:
        """Whether `seconds` are left; if not, `name` is skipped."""
        if self.left > seconds:
            return True
        self.skipped[name] = f"{self.left:.0f} s left, {seconds:.0f} needed"
        return False


def random_teacher(run: Run) -> InternVideo2Quality:
    """The tower in fp32, its layer scales at 0.5: at their start of 1e-5 no output would depend on a block."""
    shape = run.shape
    model = build_model("1B" if run.cuda else "tiny", shape["num_frames"], shape["img_size"], run.device, "fp32")
    for block in model.backbone.blocks:
        block.mlp.approximate = "tanh"  # type: ignore[union-attr]
    return model


def predictor(model: InternVideo2Quality, run: Run, precision: str) -> Judge:
    return make_predict(model, Layers(model, ()), dtype="float16", precision=precision, device=run.device)


def wait(run: Run) -> None:
    if run.cuda:
        torch.cuda.synchronize()


def free() -> None:
    """Give the card's memory back."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
