"""TensorBoard: every epoch's figures, and what the student makes of some validation clips. Changes no result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from distill.examples import Examples
from distill.predict import predict
from distill.train import Watch

SHOWN = 6  # validation clips in the picture


def make_watch(folder: Path, student: nn.Module, validation: Examples | None) -> Watch:
    """Write events into `folder`: figures, and first frames of a few clips of `validation` with label and score.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"--tensorboard needs TensorBoard ({error}): pip install -e '.[train]'") from error
    writer = SummaryWriter(str(folder))

    def watch(epoch: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, epoch)
        if validation is not None:
            device = str(next(student.parameters()).device)
            writer.add_image("validation", picture(student, validation, device=device), epoch, dataformats="HWC")
        writer.flush()

    return watch


def picture(student: nn.Module, examples: Examples, *, device: str = "cpu") -> NDArray[np.uint8]:
    """First frames of clips from the best label to the worst, side by side, uint8 RGB; below: label and score."""
    order = np.argsort(-examples.scores)
    rows = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)]
    views = np.array(examples.inputs[rows, 0])
    scores = predict(student, views, device=device)
    size = views.shape[2]
    sheet = Image.new("RGB", (len(rows) * size, size + 16), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (row, view_TSSC, score) in enumerate(zip(rows, views, scores, strict=True)):
        sheet.paste(Image.fromarray(view_TSSC[0]), (column * size, 0))
        pen.text((column * size + 2, size + 2), f"{examples.scores[row]:.0f}, predicted {score:.0f}", fill="black")
    return np.asarray(sheet)
