"""What is trained on, by row, and the batches made of it.

Shapes: N rows, V views a clip, T frames, S pixels a side: pixels_NVTSSC uint8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.config import Augment
from teacher.shard_files import StoredRows

LAYER = "layer."  # begins the names of targets that are outputs of the teacher's layers
UNNAMED_FRACTION: Final = 0.15  # of clips are trained on as of no known codec, so that unseen codecs can be scored


@dataclass(frozen=True)
class Examples:
    """What is trained on, by row. `targets` holds the teacher's tensors by view, or nothing."""

    inputs: NDArray[Any] | StoredRows  # pixels (N, V, T, S, S, 3) uint8, or what frozen layers gave, (N, V, ...) float
    scores: NDArray[np.float32]  # (N,), label's scale, higher is better; NaN: unlabelled, the teacher's targets alone
    contents: tuple[str, ...]
    codecs: tuple[str, ...]
    classes: NDArray[np.int64]  # (N,), same encoder settings, same class: what contrast is taken over
    groups: NDArray[np.int64]  # (N,), bitrate group within the content's own ladder, -1 where there is none
    patch_px: int  # side of the patches a view is stitched from
    frames_each: int  # 2 where frames come in pairs of neighbors, else 1
    stream: NDArray[np.float32]  # (N, F) bitstream features (rungwise/bitstream/features.py), NaN where there are none
    stream_weights: NDArray[np.float32]  # (N,) 0 to 1, of a clip in the losses of bitstream features
    # "levels" (N, V, K), "features" (N, V, D), "layer.NAME" (N, V, D'), "scores" (N, V), and "patch_scores"
    # (N, V, U, P) of U pairs of frames and P patches where the teacher gives them
    targets: Mapping[str, NDArray[np.float32] | StoredRows]
    sets: NDArray[np.int64] | None = None  # (N,), number of the rated set, where there are several

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def first_views(self) -> NDArray[Any] | StoredRows:
        """The view of each row that is validated, (N, ...)."""
        return self.inputs.first_views if isinstance(self.inputs, StoredRows) else self.inputs[:, 0]


def make_batch(
    train: Examples,
    rows: list[int],
    augment: Augment | None,
    *,
    seed: int,
    epoch: int,
    device: str,
    own: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """One batch's tensors. Each row shows one of its views, or a sample of it, drawn again each epoch.

    Inputs are read of the rows at the positions `own` alone, if given; all else is the whole batch's.
    """
    generator = np.random.default_rng([seed, epoch, rows[0]])
    views = generator.integers(train.inputs.shape[1], size=len(rows))
    shape = train.inputs.shape[2:]
    samples = [
        None if augment is None else draw_sample(shape, train.patch_px, augment, generator, train.frames_each)
        for _ in rows
    ]
    inputs = []
    for position in range(len(rows)) if own is None else own:
        view, sample = train.inputs[rows[position], views[position]], samples[position]
        inputs.append(view if sample is None else cut_sample(view, train.patch_px, sample))
    contents = [train.contents[row] for row in rows]
    terms = train.stream[rows]
    terms[generator.random(len(rows)) < UNNAMED_FRACTION, NUM_BITSTREAM_FEATURES:] = 0
    terms[generator.random(len(rows)) >= train.stream_weights[rows]] = np.nan  # so often that their weight comes out
    batch = {
        "inputs": torch.from_numpy(np.stack(inputs)),
        "label": torch.from_numpy(train.scores[rows]).to(device),
        "setting": torch.from_numpy(train.classes[rows]).to(device),
        "group": torch.from_numpy(train.groups[rows]).to(device),
        "bitstream": torch.from_numpy(terms).to(device),
        "content": torch.from_numpy(np.unique(contents, return_inverse=True)[1]).to(device),
    }
    if train.sets is not None:
        batch["set"] = torch.from_numpy(train.sets[rows]).to(device)
    layers = (name for name in train.targets if name.startswith(LAYER))
    for field in ("scores", "levels", "features", *layers):
        if field in train.targets:
            batch[field] = torch.from_numpy(train.targets[field][rows, views]).to(device)
    if "patch_scores" in train.targets:
        scores = zip(train.targets["patch_scores"][rows, views], samples, strict=True)
        shown = [whole if sample is None else cut_patch_scores(whole, sample, train.frames_each)
                 for whole, sample in scores]  # fmt: skip
        batch["patch_scores"] = torch.from_numpy(np.stack(shown)).to(device)
    return batch


@dataclass(frozen=True)
class Sample:
    """A part of a view: some frames, or pairs of them, in order, some patches in any order, maybe mirrored."""

    frames: NDArray[np.int64]
    cells: NDArray[np.int64] | None  # patches, by row and column; None: whole frames
    mirrored: bool = False


def draw_sample(
    shape: Sequence[int], patch_px: int, augment: Augment, generator: np.random.Generator, frames_each: int = 1
) -> Sample:
    """A random part of a view of `shape` (T, S, S, C).

    The label is the whole clip's, so any part must bear it; and a patch's artifacts look the same wherever it
    lies. Parts are cheap and many, which a student that starts from nothing needs more than whole views.
    """
    steps = shape[0] // frames_each
    steps_chosen = np.sort(generator.choice(steps, min(augment.sample_frames, steps), replace=False))
    frames = (steps_chosen[:, None] * frames_each + np.arange(frames_each)).ravel()
    if augment.sample_grid is None:
        return Sample(frames, None)
    grid = shape[1] // patch_px
    side = min(augment.sample_grid, grid)
    return Sample(frames, generator.permutation(grid * grid)[: side * side], generator.random() < 0.5)


def cut_sample(view_TSSC: NDArray[Any], patch_px: int, sample: Sample) -> NDArray[Any]:
    """The sample of a view, (T', S', S', C)."""
    if sample.cells is None:
        frames_alone: NDArray[Any] = view_TSSC[sample.frames]
        return frames_alone
    num_frames, grid, side = len(sample.frames), view_TSSC.shape[1] // patch_px, math.isqrt(len(sample.cells))
    patches = view_TSSC[sample.frames].reshape(num_frames, grid, patch_px, grid, patch_px, 3)
    chosen = patches[:, sample.cells // grid, :, sample.cells % grid]  # (cells, T, P, P, C): indexed axes come first
    if sample.mirrored:
        chosen = chosen[:, :, :, ::-1]
    parts = chosen.reshape(side, side, num_frames, patch_px, patch_px, 3).transpose(2, 0, 3, 1, 4, 5)
    return np.ascontiguousarray(parts).reshape(num_frames, side * patch_px, side * patch_px, 3)


def cut_patch_scores(scores_UP: NDArray[np.float32], sample: Sample, frames_each: int) -> NDArray[np.float32]:
    """The sample's own of a view's patch scores; a patch is mirrored in itself, so none moves."""
    chosen: NDArray[np.float32] = scores_UP[sample.frames[::frames_each] // frames_each]
    return chosen if sample.cells is None else chosen[:, sample.cells]
