"""Views: which pixels of a clip a model looks at, as data.

A view is {display size, frame indices, timestamps, patch corners, seed}; `read_views` turns it into pixels, the
same for ever. Corners lie in display coordinates: the frame as shown at `display_height` lines, scaled bicubically
from whatever was coded; only the sampled patches are resampled. Corners hold for all frames of a view, so a
patch is a small window on one place over time.

Two kinds, both at native density, so that compression artefacts survive:
- fragments: one patch at a seeded place in each cell of a grid, stitched (FAST-VQA's grid mini-patch sampling);
- crop: the same with a grid of one cell and a large patch.

Shapes: T frames, S = grid * patch_px, a view's pixels are x_TSSC uint8 RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from rungwise.artefact import canonical_json
from rungwise.video import first_luma, luma_planes, rgb_frames, timestamps_seconds

VIEWS_VERSION = 1  # 1: Pillow bicubic, PyAV RGB


class ViewRecipe(BaseModel):
    """How views are chosen. Everything here changes scores and is hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_frames: int = Field(ge=1)
    frame_choice: Literal["uniform", "difference"]
    grid: int = Field(ge=1)
    patch_px: int = Field(ge=8)

    @property
    def size_px(self) -> int:
        """Side of the stitched view in pixels."""
        return self.grid * self.patch_px


class View(BaseModel):
    """One view of one clip. `corners_yx` has grid*grid entries, row by row, in display pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    display_width: int
    display_height: int
    frame_indices: tuple[int, ...]
    timestamps_seconds: tuple[float, ...]
    patch_px: int
    corners_yx: tuple[tuple[int, int], ...]
    seed: str


def display_size(width: int, height: int, display_height: int | None) -> tuple[int, int]:
    """(width, height) in pixels of a frame shown at `display_height` lines, its own if None; aspect kept."""
    if display_height is None or display_height == height:
        return width, height
    return max(1, round(width * display_height / height)), display_height


def uniform_frames(num_available: int, num_frames: int) -> tuple[int, ...]:
    """Centres of `num_frames` equal spans of a clip; a shorter clip repeats frames."""
    centres = (np.arange(num_frames) + 0.5) * num_available / num_frames
    return tuple(int(index) for index in np.minimum(centres.astype(int), num_available - 1))


def difference_frames(differences: NDArray[np.float64], num_frames: int) -> tuple[int, ...]:
    """Frames at equal steps of the cumulative inter-frame difference (our form of Q-CLIP's sampling).

    Args:
        differences: (N - 1,) mean absolute luma difference between frame i and i + 1, >= 0.
        num_frames: how many to take, ascending; a still clip falls back on equal spans of time.
    """
    total = float(differences.sum())
    if total <= 0:
        return uniform_frames(len(differences) + 1, num_frames)
    cumulative = np.concatenate([[0.0], np.cumsum(differences)])
    steps = (np.arange(num_frames) + 0.5) * total / num_frames
    return tuple(int(index) for index in np.searchsorted(cumulative, steps, side="left"))


def luma_differences(path: Path) -> NDArray[np.float64]:
    """Mean absolute luma difference between neighbouring frames, (N - 1,), in code values."""
    differences: list[float] = []
    previous: NDArray[np.int32] | None = None
    for plane in luma_planes(path):
        current = plane.astype(np.int32)
        if previous is not None:
            differences.append(float(np.abs(current - previous).mean()))
        previous = current
    return np.asarray(differences, dtype=np.float64)


def make_views(path: Path, recipe: ViewRecipe, *, count: int = 1, display_height: int | None = None) -> list[View]:
    """Choose `count` views of a video; view i is the same whatever `count` is.

    The seed comes from the decoded first frame, so a remuxed or piped copy gets the same views.

    Args:
        path: the video.
        recipe: what to choose.
        count: how many; they share frames and differ in places.
        display_height: lines at which the video is shown; None: its own height.

    Raises:
        ValueError: not a video.
    """
    times = timestamps_seconds(path)
    luma = np.ascontiguousarray(first_luma(path))
    height, width = luma.shape
    shown_width, shown_height = display_size(width, height, display_height)
    if recipe.frame_choice == "uniform":
        indices = uniform_frames(len(times), recipe.num_frames)
    else:
        indices = difference_frames(luma_differences(path), recipe.num_frames)
    content = hashlib.sha256(f"{luma.shape} {luma.dtype}".encode() + luma.tobytes()).hexdigest()
    views = []
    for number in range(count):
        facts = {
            "content": content,
            "recipe": recipe.model_dump(),
            "version": VIEWS_VERSION,
            "view": number,
            "shown": [shown_width, shown_height],
        }
        seed = hashlib.sha256(canonical_json(facts).encode()).hexdigest()
        views.append(
            View(
                display_width=shown_width,
                display_height=shown_height,
                frame_indices=indices,
                timestamps_seconds=tuple(round(float(times[index]), 6) for index in indices),
                patch_px=recipe.patch_px,
                corners_yx=_corners(shown_width, shown_height, recipe, seed),
                seed=seed,
            )
        )
    return views


def _corners(width: int, height: int, recipe: ViewRecipe, seed: str) -> tuple[tuple[int, int], ...]:
    """A seeded corner in each grid cell, kept inside the frame; cells smaller than a patch overlap."""
    # The generator's raw stream is fixed by NumPy's compatibility policy, its distributions are not.
    words = np.random.PCG64(int(seed[:32], 16)).random_raw(2 * recipe.grid**2)
    fractions = (words >> np.uint64(11)).astype(np.float64) / 2.0**53
    corners = []
    for cell in range(recipe.grid**2):
        row, column = divmod(cell, recipe.grid)
        y = _place(row, height, recipe, float(fractions[2 * cell]))
        x = _place(column, width, recipe, float(fractions[2 * cell + 1]))
        corners.append((y, x))
    return tuple(corners)


def _place(cell: int, extent: int, recipe: ViewRecipe, fraction: float) -> int:
    start, stop = cell * extent // recipe.grid, (cell + 1) * extent // recipe.grid
    slack = max(0, stop - start - recipe.patch_px)
    # Even corners keep the 4:2:0 chroma phase the same in every patch.
    corner = start + int(fraction * (slack + 1)) // 2 * 2
    return max(0, min(corner, extent - recipe.patch_px))


def read_views(path: Path, views: Sequence[View]) -> NDArray[np.uint8]:
    """Pixels of views that share their frames, x_KTSSC uint8, K = len(views); the video is decoded once.

    A frame smaller than a patch is continued by its edge pixels.

    Raises:
        ValueError: the views disagree on frames or size, or the video is shorter than they say.
    """
    first = views[0]
    for view in views:
        if (view.frame_indices, view.display_width, view.display_height) != (
            first.frame_indices,
            first.display_width,
            first.display_height,
        ):
            raise ValueError(f"{path}: views read together must share frames and display size")
    patch, grid = first.patch_px, round(len(first.corners_yx) ** 0.5)
    size = patch * grid
    pixels = np.empty((len(views), len(first.frame_indices), size, size, 3), np.uint8)
    for index, frame in rgb_frames(path, first.frame_indices):
        slots = [slot for slot, wanted in enumerate(first.frame_indices) if wanted == index]
        shown = Shown(frame, first.display_width, first.display_height)
        for number, view in enumerate(views):
            for cell, (y, x) in enumerate(view.corners_yx):
                row, column = divmod(cell, grid)
                pixels[number, slots, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = (
                    shown.patch(y, x, patch)
                )
    return pixels


class Shown:
    """A frame as shown at the display size, of which only patches are computed."""

    def __init__(self, frame: NDArray[np.uint8], width: int, height: int) -> None:
        self.frame, self.width, self.height = frame, width, height
        self.same_size = frame.shape[:2] == (height, width)
        self.image = None if self.same_size else Image.fromarray(frame)

    def patch(self, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 at a display corner."""
        bottom, right = min(y + size, self.height), min(x + size, self.width)
        if self.image is None:
            part = self.frame[y:bottom, x:right]
        else:
            # Pillow's kernel reaches outside the box, so a patch equals the same place of the fully scaled frame.
            down, across = self.image.height / self.height, self.image.width / self.width
            box = (x * across, y * down, right * across, bottom * down)
            resized = self.image.resize((right - x, bottom - y), Image.Resampling.BICUBIC, box=box)
            part = np.asarray(resized)
        missing = ((0, size - part.shape[0]), (0, size - part.shape[1]), (0, 0))
        return np.pad(part, missing, mode="edge") if part.shape[:2] != (size, size) else part
