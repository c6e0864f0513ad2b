"""Where a student of patches sees loss: a picture of encodes, their patches' true VMAF v1, and the student's scores.

    python benchmarks/patch_map.py CONFIG CLIP [CLIP ...] --runs RUNS --out FILE.png

CONFIG's student is trained if it is not there. CLIP is a clip's name in the ladder's table; each is a row: the frame in
the middle, the truth by libvmaf, the hybrid scores of patches and the pixel-only ones. SRCC over a frame's patches and
the mean difference stand below. A FILE.json beside the picture holds the figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from distill.checkpoint import load_checkpoint
from distill.data import read_data
from distill.pipeline import run
from rungwise.artifact import write_json
from rungwise.config import load_config
from rungwise.ladder.patch_parts import PARTS, patch_parts
from rungwise.metrics.statistics import srcc
from rungwise.progress import note
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import View, ViewRecipe, make_views
from student.frame_student import FrameStudent

WIDTH, MARGIN, LINE = 480, 8, 40  # of a panel, between panels, of text below, in pixels
# Scores 0, 25, ... 100 as colors from dark to light, even in lightness.
PALETTE = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)


class Maps(NamedTuple):
    """A frame and scores of its patches, by row and column."""

    frame_HWC: NDArray[np.uint8]
    truth: NDArray[np.float32]
    hybrid: NDArray[np.float32]
    pixel_only: NDArray[np.float32]


def grid_views(path: Path, recipe: ViewRecipe, display_height: int) -> tuple[list[View], int, int]:
    """Views that hold all whole patches of the pair in the middle, row by row, the last one repeated; rows, columns."""
    px = recipe.patch_px
    [view] = make_views(path, recipe, display_height=display_height)
    pair = slice(len(view.frame_indices) // 4 * 2, len(view.frame_indices) // 4 * 2 + 2)
    rows, columns = view.display_height // px, view.display_width // px
    corners = [(px * row, px * column) for row in range(rows) for column in range(columns)]
    corners += corners[-1:] * (-len(corners) % recipe.grid**2)
    size = recipe.grid**2
    update = {"frame_indices": view.frame_indices[pair], "timestamps_seconds": view.timestamps_seconds[pair]}
    views = [
        view.model_copy(update=update | {"corners_yx": tuple(corners[start : start + size])})
        for start in range(0, len(corners), size)
    ]
    return views, rows, columns


def make_maps(
    student: FrameStudent, clip: Path, master: Path, terms: NDArray[np.float32], recipe: ViewRecipe, display_height: int
) -> Maps:
    """The maps of one encode."""
    views, rows, columns = grid_views(clip, recipe, display_height)
    encode, original = (read_needed_pixels(path, views) for path in (clip, master))
    truth = patch_parts(encode, original, recipe.patch_px)[..., PARTS.index("vmaf")]
    with torch.inference_mode():
        prediction = student(torch.from_numpy(encode), torch.from_numpy(terms).expand(len(views), -1))
    assert prediction.fused_patch_scores is not None
    assert prediction.patch_scores is not None
    scores = (truth, prediction.fused_patch_scores.numpy(), prediction.patch_scores.numpy())
    px, shape = recipe.patch_px, (rows, columns)
    patches = encode[:, 1].reshape(len(views), recipe.grid, px, recipe.grid, px, 3).swapaxes(2, 3)
    tiles = patches.reshape(-1, px, px, 3)[: rows * columns].reshape(*shape, px, px, 3)
    frame = tiles.swapaxes(1, 2).reshape(rows * px, columns * px, 3)
    return Maps(frame, *(values.ravel()[: rows * columns].reshape(shape) for values in scores))


def colored(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scores as colors, (rows, columns, 3)."""
    stops = np.linspace(0, 100, len(PALETTE))
    return np.stack([np.interp(scores, stops, PALETTE[:, c]) for c in range(3)], -1).astype(np.uint8)


def draw(maps: dict[str, Maps], path: Path) -> None:
    """One row of panels a clip."""
    font = ImageFont.load_default(14)
    heights = [round(WIDTH * each.frame_HWC.shape[0] / each.frame_HWC.shape[1]) for each in maps.values()]
    page = Image.new("RGB", (4 * WIDTH + 5 * MARGIN, sum(heights) + len(maps) * (LINE + MARGIN)), "white")
    pen, top = ImageDraw.Draw(page), MARGIN
    for height, (clip, each) in zip(heights, maps.items(), strict=True):
        panels: dict[str, NDArray[Any]] = {clip: each.frame_HWC, "VMAF v1 by libvmaf": each.truth}
        for name, scores in (("hybrid", each.hybrid), ("pixel-only", each.pixel_only)):
            order, bias = srcc(each.truth.ravel(), scores.ravel()), float((scores - each.truth).mean())
            panels[f"{name}: SRCC {order:.2f}, {bias:+.1f} points"] = scores
        for number, (title, values) in enumerate(panels.items()):
            left = MARGIN + number * (WIDTH + MARGIN)
            picture = Image.fromarray(values if values.ndim == 3 else colored(values))
            resample = Image.Resampling.BICUBIC if values.ndim == 3 else Image.Resampling.NEAREST
            page.paste(picture.resize((WIDTH, height), resample), (left, top))
            pen.text((left, top + height + 4), title, "black", font)
            if values.ndim == 2 and values.shape[1] <= 16:
                _print_scores(pen, values, left, top, height)
        top += height + LINE
    page.save(path)


def _print_scores(pen: ImageDraw.ImageDraw, scores: NDArray[np.float32], left: int, top: int, height: int) -> None:
    font, (rows, columns) = ImageFont.load_default(11), scores.shape
    for row in range(rows):
        for column in range(columns):
            place = (left + (column + 0.5) * WIDTH / columns, top + (row + 0.5) * height / rows)
            pen.text(place, f"{scores[row, column]:.0f}", "white" if scores[row, column] < 70 else "black", font, "mm")


def main() -> None:
    """Train or find the student, score all patches of the clips, and draw them."""
    parser = argparse.ArgumentParser(description="Maps of patch scores beside the truth")
    parser.add_argument("config", type=Path)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    outcome = run(config, arguments.runs, until="distill")
    artifacts, masters = outcome.artifacts, {master.content: master.path for master in outcome.masters}
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    student, _, _ = load_checkpoint(artifacts["distill"].path / "student.safetensors")
    assert isinstance(student, FrameStudent)
    maps = {}
    for clip in arguments.clips:
        [row] = np.flatnonzero(data.table["clip"] == clip)
        facts: pd.Series = data.table.iloc[row]
        maps[clip] = make_maps(
            student.eval(), Path(facts["path"]), masters[facts["content"]], data.terms(np.array([row])),
            config.views.recipe, int(facts["display_height"]),
        )  # fmt: skip
        note(f"{clip}: {maps[clip].truth.size} patches")
    draw(maps, arguments.out)
    figures = {
        clip: {name: np.round(getattr(each, name), 1).tolist() for name in Maps._fields[1:]}
        for clip, each in maps.items()
    }
    write_json(arguments.out.with_suffix(".json"), figures)


if __name__ == "__main__":
    main()
