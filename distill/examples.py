"""What is trained on, by row, and the batches made of it.

Shapes: N rows, V views a clip, T frames, S pixels a side: pixels_NVTSSC uint8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.config import Augment

UNNAMED_FRACTION: Final = 0.15  # of clips are trained on as of no known codec, so that unseen codecs can be scored


@dataclass(frozen=True)
class Examples:
    """What is trained on, by row. `targets` holds the teacher's tensors by view, or nothing."""

    inputs: NDArray[Any]  # pixels (N, V, T, S, S, 3) uint8, or the frozen layers' output of them, (N, V, ...) float
    scores: NDArray[np.float32]  # (N,), label's scale, higher is better; NaN: unlabelled, the teacher's targets alone
    contents: tuple[str, ...]
    codecs: tuple[str, ...]
    classes: NDArray[np.int64]  # (N,), same encoder settings, same class: what contrast is taken over
    groups: NDArray[np.int64]  # (N,), bitrate group within the content's own ladder, -1 where there is none
    patch_px: int  # side of the patches a view is stitched from
    frames_each: int  # 2 where frames come in pairs of neighbors, else 1
    stream: NDArray[np.float32]  # (N, F) bitstream features (rungwise/bitstream/features.py), NaN where there are none
    stream_weights: NDArray[np.float32]  # (N,) 0 to 1, of a clip in the losses of bitstream features
    targets: Mapping[str, NDArray[np.float32]]  # "levels" (N, V, K), "features" (N, V, D), "scores" (N, V)

    def __len__(self) -> int:
        return len(self.contents)


def make_batch(
    train: Examples, rows: list[int], augment: Augment | None, *, seed: int, epoch: int, device: str
) -> dict[str, Tensor]:
    """One batch's tensors. Each row shows one of its views, or a sample of it, drawn again each epoch."""
    generator = np.random.default_rng([seed, epoch, rows[0]])
    views = generator.integers(train.inputs.shape[1], size=len(rows))
    samples = [train.inputs[row, view] for row, view in zip(rows, views, strict=True)]
    if augment is not None:
        samples = [sample_view(view, train.patch_px, augment, generator, train.frames_each) for view in samples]
    contents = [train.contents[row] for row in rows]
    terms = train.stream[rows]
    terms[generator.random(len(rows)) < UNNAMED_FRACTION, NUM_BITSTREAM_FEATURES:] = 0
    terms[generator.random(len(rows)) >= train.stream_weights[rows]] = np.nan  # so often that their weight comes out
    batch = {
        "inputs": torch.from_numpy(np.stack(samples)),
        "label": torch.from_numpy(train.scores[rows]).to(device),
        "setting": torch.from_numpy(train.classes[rows]).to(device),
        "group": torch.from_numpy(train.groups[rows]).to(device),
        "bitstream": torch.from_numpy(terms).to(device),
        "content": torch.from_numpy(np.unique(contents, return_inverse=True)[1]).to(device),
    }
    for field in ("scores", "levels", "features"):
        if field in train.targets:
            batch[field] = torch.from_numpy(train.targets[field][rows, views]).to(device)
    return batch


def sample_view(
    view_TSSC: NDArray[Any], patch_px: int, augment: Augment, generator: np.random.Generator, frames_each: int = 1
) -> NDArray[Any]:
    """A part of a view: some frames, or pairs of them, in order, some patches in any order, maybe mirrored.

    The label is the whole clip's, so any part must bear it; and a patch's artifacts look the same wherever it
    lies. Parts are cheap and many, which a student that starts from nothing needs more than whole views.
    """
    frames, size = view_TSSC.shape[:2]
    steps = frames // frames_each
    steps_chosen = np.sort(generator.choice(steps, min(augment.sample_frames, steps), replace=False))
    frames_chosen = (steps_chosen[:, None] * frames_each + np.arange(frames_each)).ravel()
    if augment.sample_grid is None:
        frames_alone: NDArray[Any] = view_TSSC[frames_chosen]
        return frames_alone
    grid = size // patch_px
    side = min(augment.sample_grid, grid)
    cells = generator.permutation(grid * grid)[: side * side]
    patches = view_TSSC[frames_chosen].reshape(len(frames_chosen), grid, patch_px, grid, patch_px, 3)
    chosen = patches[:, cells // grid, :, cells % grid]  # (cells, T, P, P, C): indexed axes come first
    if generator.random() < 0.5:
        chosen = chosen[:, :, :, ::-1]
    parts = chosen.reshape(side, side, len(frames_chosen), patch_px, patch_px, 3).transpose(2, 0, 3, 1, 4, 5)
    return np.ascontiguousarray(parts).reshape(len(frames_chosen), side * patch_px, side * patch_px, 3)
