"""Views: which pixels of a clip a model sees, as data.

A view is {display size, frame indices, timestamps, patch corners, seed}; `read_views` turns it into pixels,
reproducibly. Corners are in display coordinates: frames are scaled bicubically to `display_height`, of which only the
sampled patches are computed. All frames of a view share its corners, so a patch shows one place over time.

Two kinds, both at the display's pixel density, which preserves compression artifacts:
- fragments: one patch at a seeded place in each cell of a grid, stitched (grid mini-patch sampling of FAST-VQA);
- crop: the same with a 1x1 grid and a large patch.

Shapes: T frames, S = grid * patch_px, a view's pixels are x_TSSC uint8 RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rungwise.artifact import canonical_json
from rungwise.media.limits import check_size
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import first_frame, rgb_frames
from rungwise.score.frame_choice import FRAME_CHOICES, Differences, FrameChoice, luma_differences

VIEWS_VERSION = 2  # 1: Pillow bicubic, PyAV RGB; 2: same places in all videos, frame pairs


def _known_choice(name: str) -> str:
    if name not in FRAME_CHOICES:
        raise ValueError(f"unknown frame choice {name!r}; it must be one of {', '.join(FRAME_CHOICES)}")
    return name


class ViewRecipe(BaseModel):
    """How views are chosen. Every field changes scores and is part of artifact ids."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_frames: int = Field(ge=1)
    """frames of a view"""
    frame_choice: Annotated[str, AfterValidator(_known_choice)] = Field(json_schema_extra={"enum": [*FRAME_CHOICES]})
    """evenly spaced frames; evenly spaced pairs of neighbors; or frames at equal steps of accumulated change"""
    grid: int = Field(ge=1)
    """cells along each side of the frame, one patch in each"""
    patch_px: int = Field(ge=8)
    """side of a patch in display pixels"""

    @model_validator(mode="after")
    def _even(self) -> ViewRecipe:
        if self.num_frames % self.choice.frames_per_step:
            raise ValueError(f"num_frames is {self.num_frames}; {self.frame_choice} of frames need an even number")
        return self

    @property
    def choice(self) -> FrameChoice:
        """The way to choose frames."""
        return FRAME_CHOICES[self.frame_choice]

    @property
    def pairs(self) -> bool:
        """Whether frames come in pairs of neighbors."""
        return self.choice.frames_per_step == 2

    def choose_frames(self, num_available: int, differences: Differences) -> tuple[int, ...]:
        """Indices of `num_frames` frames; `differences` are used by a choice that needs them."""
        return self.choice.choose(num_available, self.num_frames, differences)

    @property
    def size_px(self) -> int:
        """Side of the stitched view in pixels."""
        return self.grid * self.patch_px


class View(BaseModel):
    """One view of one clip. `corners_yx` has grid * grid patch corners, row by row, in display pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    display_width: int
    display_height: int
    frame_indices: tuple[int, ...]
    timestamps_seconds: tuple[float, ...]
    patch_px: int
    corners_yx: tuple[tuple[int, int], ...]
    seed: str

    @property
    def size_px(self) -> int:
        """Side of the stitched view in pixels."""
        return self.patch_px * isqrt(len(self.corners_yx))


def display_size(
    width: int, height: int, display_height: int | None, sample_aspect_ratio: float = 1.0
) -> tuple[int, int]:
    """(width, height) in pixels of a frame at `display_height` (None: its own height), with its display aspect ratio.

    Non-square samples change the width only.
    """
    scaled_height = height if display_height is None else display_height
    if scaled_height == height and sample_aspect_ratio == 1:
        return width, height
    return max(1, round(width * sample_aspect_ratio * scaled_height / height)), scaled_height


def make_views(path: Path, recipe: ViewRecipe, *, count: int = 1, display_height: int | None = None) -> list[View]:
    """Choose `count` views of a video; view i does not depend on `count`.

    The seed depends on the recipe only, so all rungs of a title, and remuxed or piped copies, have their patches at the
    same relative places.

    Args:
        path: the video.
        recipe: which frames and patches.
        count: number of views; they share frames and differ in patch places.
        display_height: height in pixels to which frames are scaled; None for the video's own height.

    Raises:
        ValueError: not a video.
    """
    times = timestamps_seconds(path)
    luma, sample_aspect_ratio = first_frame(path)
    height, width = luma.shape
    size = display_size(width, height, display_height, sample_aspect_ratio)
    check_size(*size, str(path), scaled=True)
    differences = luma_differences(path) if recipe.choice.needs_differences else np.empty(0)
    indices = recipe.choose_frames(len(times), differences)
    return [place_view(recipe, number, size, indices, times) for number in range(count)]


def place_view(
    recipe: ViewRecipe,
    number: int,
    size: tuple[int, int],
    indices: Sequence[int],
    times: Sequence[float] | Mapping[int, float] | NDArray[np.float64],
) -> View:
    """View `number` of a video with display size (width, height), for the frames `indices`."""
    seed_values = {"recipe": recipe.model_dump(), "version": VIEWS_VERSION, "view": number}
    seed = hashlib.sha256(canonical_json(seed_values).encode()).hexdigest()
    return View(
        display_width=size[0],
        display_height=size[1],
        frame_indices=tuple(indices),
        timestamps_seconds=tuple(round(float(times[index]), 6) for index in indices),
        patch_px=recipe.patch_px,
        corners_yx=_corners(*size, recipe, seed),
        seed=seed,
    )


def _corners(width: int, height: int, recipe: ViewRecipe, seed: str) -> tuple[tuple[int, int], ...]:
    """A seeded patch corner in each grid cell, inside the frame; patches overlap if cells are smaller than a patch."""
    # NumPy guarantees the raw output of a bit generator across versions, not its distributions.
    words = np.random.PCG64(int(seed[:32], 16)).random_raw(2 * recipe.grid**2)
    fractions = (words >> np.uint64(11)).astype(np.float64) / 2.0**53
    corners = []
    for cell in range(recipe.grid**2):
        row, column = divmod(cell, recipe.grid)
        y = _corner(row, height, recipe, float(fractions[2 * cell]))
        x = _corner(column, width, recipe, float(fractions[2 * cell + 1]))
        corners.append((y, x))
    return tuple(corners)


def _corner(cell: int, extent: int, recipe: ViewRecipe, fraction: float) -> int:
    start, stop = cell * extent // recipe.grid, (cell + 1) * extent // recipe.grid
    slack = max(0, stop - start - recipe.patch_px)
    # Even corners give every patch the same 4:2:0 chroma phase.
    corner = start + int(fraction * (slack + 1)) // 2 * 2
    return max(0, min(corner, extent - recipe.patch_px))


RgbFrames = Iterator[tuple[int, NDArray[np.uint8]]]  # (frame index, (H, W, 3) RGB)


def read_views(
    path: Path, views: Sequence[View], read: Callable[[Path, Sequence[int]], RgbFrames] = rgb_frames
) -> NDArray[np.uint8]:
    """Pixels of K views with the same frames and display size, x_KTSSC uint8; the video is decoded once.

    A frame smaller than a patch is padded with its edge pixels. `read` decodes the frames.

    Raises:
        ValueError: the views differ in frames or display size, or the video has fewer frames.
    """
    first = views[0]
    size = (first.display_width, first.display_height)
    sources = ((index, DisplayFrame(frame, *size)) for index, frame in read(path, first.frame_indices))
    return stitch_views(path, views, sources)


def stitch_views(path: Path, views: Sequence[View], sources: Iterable[tuple[int, PatchSource]]) -> NDArray[np.uint8]:
    """`read_views` from frames (index, source) of the video, each index once.

    Raises:
        ValueError: the views differ in frames or display size.
    """
    first = views[0]
    for view in views:
        if (view.frame_indices, view.display_width, view.display_height) != (
            first.frame_indices,
            first.display_width,
            first.display_height,
        ):
            raise ValueError(f"{path}: views read together must share frames and display size")
    pixels = np.empty((len(views), len(first.frame_indices), first.size_px, first.size_px, 3), np.uint8)
    for index, source in sources:
        slots = [slot for slot, requested in enumerate(first.frame_indices) if requested == index]
        for number, view in enumerate(views):
            pixels[number, slots] = stitch(source, view)
    return pixels


class PatchSource(Protocol):
    """A frame at the display size, from which patches can be taken."""

    def patch(self, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB with its top left corner at (y, x)."""


def stitch(source: PatchSource, view: View, pixels: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The patches of one frame, stitched to (S, S, 3) uint8; written to `pixels` if given."""
    patch, grid = view.patch_px, isqrt(len(view.corners_yx))
    if pixels is None:
        pixels = np.empty((view.size_px, view.size_px, 3), np.uint8)
    for cell, (y, x) in enumerate(view.corners_yx):
        row, column = divmod(cell, grid)
        pixels[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = source.patch(y, x, patch)
    return pixels


class DisplayFrame:
    """A frame scaled to the display size, of which only the requested patches are computed."""

    def __init__(self, frame: NDArray[np.uint8], width: int, height: int) -> None:
        self.width, self.height = width, height
        self.frame: NDArray[np.uint8] | None = frame if frame.shape[:2] == (height, width) else None
        self.image = None if self.frame is not None else Image.fromarray(frame)

    def patch(self, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB with its top left corner at (y, x)."""
        bottom, right = min(y + size, self.height), min(x + size, self.width)
        if self.frame is not None:
            pixels = self.frame[y:bottom, x:right]
        else:
            assert self.image is not None
            # Pillow's filter reads pixels outside the box, so a patch equals that of the fully scaled frame.
            scale_y, scale_x = self.image.height / self.height, self.image.width / self.width
            box = (x * scale_x, y * scale_y, right * scale_x, bottom * scale_y)
            resized = self.image.resize((right - x, bottom - y), Image.Resampling.BICUBIC, box=box)
            pixels = np.asarray(resized)
        padding = ((0, size - pixels.shape[0]), (0, size - pixels.shape[1]), (0, 0))
        return np.pad(pixels, padding, mode="edge") if pixels.shape[:2] != (size, size) else pixels
