"""Predictions of a model, in batches and without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rungwise.prediction import Prediction
from teacher.shard_files import StoredRows


def predict_batches(
    model: nn.Module, inputs: NDArray[Any] | StoredRows, *more: NDArray[Any], batch_size: int = 16, device: str = "cpu"
) -> Iterator[Prediction[Tensor]]:
    """Predictions of pixels_NTSSC, or of the frozen layers' output of them, and of what more the model takes."""
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(inputs), batch_size):
            parts = (each[start : start + batch_size] for each in (inputs, *more))
            yield model(*(torch.from_numpy(np.array(part)).to(device) for part in parts))


def predict(model: nn.Module, inputs: NDArray[Any] | StoredRows, *, device: str = "cpu") -> NDArray[np.float32]:
    """Scores of what `predict_batches` takes, (N,) float32, on the label's scale."""
    return np.concatenate([part.score.float().cpu().numpy() for part in predict_batches(model, inputs, device=device)])
