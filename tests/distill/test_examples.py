"""Parts of views that are trained on: whole patches, whole pairs, and the targets that go with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distill.examples import Examples, cut_sample, draw_sample, make_batch
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.config import Augment
from student.patches import cut_patches


def test_a_sample_is_whole_patches_of_some_frames_in_order() -> None:
    view = np.arange(4 * 6 * 6 * 3, dtype=np.uint8).reshape(4, 6, 6, 3)
    generator = np.random.default_rng(1)
    augment = Augment(sample_frames=2, sample_grid=2)
    patches = {
        (frame, view[frame, y : y + 2, x : x + 2].tobytes()): (frame, y, x)
        for frame in range(4)
        for y in (0, 2, 4)
        for x in (0, 2, 4)
    }
    for _ in range(20):
        sample = cut_sample(view, 2, draw_sample(view.shape, 2, augment, generator))
        assert sample.shape == (2, 4, 4, 3)
        places = []
        for y in (0, 2):
            for x in (0, 2):
                part = sample[:, y : y + 2, x : x + 2]
                plain = [patches[key] for key in patches if key[1] == part[0].tobytes()]
                mirrored = [patches[key] for key in patches if key[1] == part[0][:, ::-1].tobytes()]
                (found,) = plain or mirrored
                frame, top, left = found
                later = next(
                    f
                    for f in range(frame + 1, 4)
                    if (
                        part[1]
                        == (
                            view[f, top : top + 2, left : left + 2]
                            if plain
                            else view[f, top : top + 2, left : left + 2][:, ::-1]
                        )
                    ).all()
                )
                places.append((frame, later, top, left))
        assert len({place[:2] for place in places}) == 1  # the same frames in every patch
        assert len(set(places)) == 4  # no patch twice


def test_pairs_of_frames_are_sampled_whole() -> None:
    view = np.zeros((6, 8, 8, 3), np.uint8) + np.arange(6, dtype=np.uint8)[:, None, None, None]
    augment = Augment(sample_frames=2, sample_grid=1)
    for seed in range(20):
        part = cut_sample(view, 4, draw_sample(view.shape, 4, augment, np.random.default_rng(seed), frames_each=2))
        numbers = part[:, 0, 0, 0]
        assert part.shape == (4, 4, 4, 3)
        assert (numbers[0::2] % 2 == 0).all()
        assert (numbers[1::2] == numbers[0::2] + 1).all()
        assert numbers[0] < numbers[2]


def numbered_views(grid: int, patch_px: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """pixels_NVTSSC in which each patch of each pair has a value of its own, and these values_NVUP."""
    values = np.random.default_rng(0).permutation(pairs * grid * grid).reshape(pairs, grid, grid).astype(np.uint8)
    frames = values.repeat(2, 0).repeat(patch_px, 1).repeat(patch_px, 2)
    return frames[None, None, ..., None].repeat(3, -1), values.reshape(1, 1, pairs, -1).astype(np.float32)


@pytest.mark.parametrize("augment", [None, (2, None), (1, 2), (3, 3), (2, 1)])
def test_patch_targets_go_with_the_patches_of_a_sample(augment: tuple[int, int | None] | None) -> None:
    pixels, values = numbered_views(grid=3, patch_px=4, pairs=3)
    part = None if augment is None else Augment(sample_frames=augment[0], sample_grid=augment[1])
    rows: dict[str, Any] = {"scores": np.zeros(1, np.float32), "contents": ("c",), "codecs": ("h264",),
            "classes": np.zeros(1, np.int64), "groups": np.zeros(1, np.int64),
            "stream": np.zeros((1, BITSTREAM_INPUT_DIM), np.float32),
            "stream_weights": np.ones(1, np.float32)}  # fmt: skip
    of_pixels = Examples(**rows, inputs=pixels, patch_px=4, frames_each=2, targets={"patch_scores": values})
    kept = replace(of_pixels, inputs=values[..., None], frames_each=1)  # as a frozen stem's output: a row a patch
    for epoch in range(20):
        batch = make_batch(of_pixels, [0], part, seed=1, epoch=epoch, device="cpu")
        shown = cut_patches(batch["inputs"], 4)[:, :, ::2, 0, 0, 0].transpose(1, 2)
        torch.testing.assert_close(shown.float(), batch["patch_scores"])
        if part is None or part.sample_grid is None:
            batch = make_batch(kept, [0], part, seed=1, epoch=epoch, device="cpu")
            torch.testing.assert_close(batch["inputs"].squeeze(-1), batch["patch_scores"])
