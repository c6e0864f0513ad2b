"""Which pixels a small model should look at: views compared by frozen ImageNet features and ridge regression.

    python benchmarks/views.py --ladder RUNS/ladder/ID --encodes-per-content 6 --leave-out TEST_CONTENT ... \\
        --out benchmarks/results/views.json

Training favors no view: the features are spatial means and standard deviations of EfficientNet-Lite0's seven stages
with ImageNet weights, averaged over frames. Scores are predicted out of fold, folds are whole groups, and every figure
is the mean over a few draws of the folds. Test contents are named with --leave-out and never opened.

The same 16 uniform frames of each clip are decoded once and scaled to the display height; views of fewer frames are
uniform frames of those. Corners are the product's own for 16 frames, so 4, 8 and 16 frames of one grid share places.

Shapes: n rows (encodes), N pictures, W feature width, A penalties.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg
from torch import Tensor

from rungwise.artifact import open_artifact, write_json
from rungwise.ladder.make import read_ladder
from rungwise.media.video import rgb_frames
from rungwise.metrics import bootstrap
from rungwise.metrics.bootstrap import Resampled
from rungwise.metrics.statistics import FloatArray, IntArray
from rungwise.progress import note, track
from rungwise.score.frame_choice import uniform_frames
from rungwise.score.views import DisplayFrame, View, ViewRecipe, make_views
from teacher.layers import count_flops
from teacher.lite0 import EfficientNetLite0, load_imagenet_lite0

NUM_FRAMES = 16  # decoded of each clip
ALPHAS = (10.0, 30.0, 100.0, 300.0, 1000.0)
OUTER_FOLDS, INNER_FOLDS = 6, 5
MAPS_BYTES = 8 << 20  # of one batch's largest maps: larger ones leave a CPU's cache and are slower


@dataclass(frozen=True)
class Pictures:
    """One picture a frame: view `number` of a grid of patches; with grid 0 the whole frame, `patch_px` square."""

    grid: int
    patch_px: int
    number: int = 0

    @property
    def size_px(self) -> int:
        """Side of the picture."""
        return max(1, self.grid) * self.patch_px


@dataclass(frozen=True)
class Way:
    """What a model is shown of a clip, and how the features of several kinds of pictures are joined."""

    frames: int
    pictures: tuple[Pictures, ...]
    join: Literal["concatenate", "average"] = "concatenate"


FRAGMENTS = Pictures(4, 40)
REFERENCE = "fragments 4 x 40, 8 frames"
LOG_BITRATE = "log-bitrate"
WAYS = {
    REFERENCE: Way(8, (FRAGMENTS,)),
    "fragments 4 x 40, 4 frames": Way(4, (FRAGMENTS,)),
    "fragments 4 x 40, 16 frames": Way(16, (FRAGMENTS,)),
    "two views 4 x 40, 4 frames": Way(4, (FRAGMENTS, Pictures(4, 40, number=1)), "average"),
    "fragments 10 x 16, 8 frames": Way(8, (Pictures(10, 16),)),
    "fragments 5 x 32, 8 frames": Way(8, (Pictures(5, 32),)),
    "fragments 2 x 80, 8 frames": Way(8, (Pictures(2, 80),)),
    "crop 1 x 160, 8 frames": Way(8, (Pictures(1, 160),)),
    "fragments 7 x 32, 4 frames": Way(4, (Pictures(7, 32),)),
    "whole frame 160, 8 frames": Way(8, (Pictures(0, 160),)),
    "fragments 4 x 40 + whole 80, 8 frames": Way(8, (FRAGMENTS, Pictures(0, 80))),
    "fragments 2 x 80, 4 frames": Way(4, (Pictures(2, 80),)),
    "fragments 3 x 80, 2 frames": Way(2, (Pictures(3, 80),)),
    "fragments 3 x 80, 4 frames": Way(4, (Pictures(3, 80),)),
    "fragments 2 x 112, 2 frames": Way(2, (Pictures(2, 112),)),
}


def chosen_rows(
    table: pd.DataFrame, leave_out: Sequence[str], encodes_per_content: int, limit: int | None
) -> pd.DataFrame:
    """Rows to use: no content of `leave_out`, some encodes of each content, evenly spaced in label order.

    Raises:
        ValueError: no such content, or one that is kept shares a group with one left out.
    """
    unknown = sorted(set(leave_out) - set(table["content"]))
    if unknown:
        raise ValueError(f"--leave-out: no content {unknown[0]!r} in the ladder")
    left_out = table["content"].isin(list(leave_out))
    torn = sorted(set(table["group"][left_out]) & set(table["group"][~left_out]))
    if torn:
        raise ValueError(f"--leave-out: leaves out only a part of group {torn[0]!r}")
    parts = []
    for _, rows in list(table[~left_out].groupby("content", sort=True))[:limit]:
        count = min(encodes_per_content or len(rows), len(rows))
        picks = np.linspace(0, len(rows) - 1, count).round().astype(int)
        parts.append(rows.sort_values(["score", "clip"]).iloc[picks])
    return pd.concat(parts, ignore_index=True)


def needed_slots() -> dict[Pictures, list[int]]:
    """Which of the 16 frames each kind of picture is needed of."""
    slots: dict[Pictures, set[int]] = defaultdict(set)
    for way in WAYS.values():
        for pictures in way.pictures:
            slots[pictures].update(uniform_frames(NUM_FRAMES, way.frames))
    return {pictures: sorted(numbers) for pictures, numbers in slots.items()}


def draw_clip(path: Path, display_height: int) -> dict[Pictures, dict[int, NDArray[np.uint8]]]:
    """Every picture that any way needs, by kind and slot, each (S, S, 3) RGB; frames are decoded once."""
    slots_by_pictures = needed_slots()
    views: dict[Pictures, View] = {}
    for grid, patch_px in sorted(
        {(pictures.grid, pictures.patch_px) for pictures in slots_by_pictures if pictures.grid}
    ):
        recipe = ViewRecipe(num_frames=NUM_FRAMES, frame_choice="uniform", grid=grid, patch_px=patch_px)
        made = make_views(path, recipe, count=2, display_height=display_height)
        views |= {Pictures(grid, patch_px, number): view for number, view in enumerate(made)}
    any_view = views[FRAGMENTS]
    drawn: dict[Pictures, dict[int, NDArray[np.uint8]]] = {pictures: {} for pictures in slots_by_pictures}
    for index, frame in rgb_frames(path, any_view.frame_indices):
        display = DisplayFrame(frame, any_view.display_width, any_view.display_height)
        here = {slot for slot, frame_index in enumerate(any_view.frame_indices) if frame_index == index}
        for pictures, slots in slots_by_pictures.items():
            if needed := here & set(slots):
                picture = _stitched(display, views[pictures]) if pictures.grid else _whole(display, pictures.size_px)
                drawn[pictures] |= dict.fromkeys(needed, picture)
    return drawn


def _stitched(display: DisplayFrame, view: View) -> NDArray[np.uint8]:
    """As `read_views` draws one frame."""
    grid = math.isqrt(len(view.corners_yx))
    patches = [display.patch(y, x, view.patch_px) for y, x in view.corners_yx]
    return np.concatenate([np.concatenate(patches[row * grid : (row + 1) * grid], axis=1) for row in range(grid)])


def _whole(display: DisplayFrame, size_px: int) -> NDArray[np.uint8]:
    """The frame at the display size, then resized to a square."""
    if display.frame is not None:
        image = Image.fromarray(display.frame)
    else:
        assert display.image is not None
        image = display.image.resize((display.width, display.height), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC))


def stage_statistics(model: EfficientNetLite0, frames_NSSC: Tensor) -> Tensor:
    """Means and deviations over space of all seven stages, (N, W) of uint8 RGB."""
    backbone = model.backbone
    x_NCHW = backbone.bn1(backbone.conv_stem(model.normalize(frames_NSSC)))
    statistics = []
    for stage in backbone.blocks:
        x_NCHW = stage(x_NCHW)
        variance, mean = torch.var_mean(x_NCHW, (2, 3), correction=0)
        statistics += [mean, (variance + 1e-6).sqrt()]
    return torch.cat(statistics, 1)


def clip_features(
    model: EfficientNetLite0, drawn: dict[Pictures, dict[int, NDArray[np.uint8]]]
) -> dict[str, FloatArray]:
    """The features of every way, each (W,) or (2 W,)."""
    rows: dict[tuple[Pictures, int], FloatArray] = {}
    for size_px in sorted({pictures.size_px for pictures in drawn}):
        keys = [(pictures, slot) for pictures in drawn if pictures.size_px == size_px for slot in drawn[pictures]]
        batch = max(1, MAPS_BYTES // (96 * (size_px // 2) ** 2 * 4))  # 96 channels at half the size
        for start in range(0, len(keys), batch):
            part = keys[start : start + batch]
            frames = torch.from_numpy(np.stack([drawn[pictures][slot] for pictures, slot in part]))
            rows |= zip(part, stage_statistics(model, frames).double().numpy(), strict=True)
    features = {}
    for name, way in WAYS.items():
        slots = uniform_frames(NUM_FRAMES, way.frames)
        means = [np.mean([rows[pictures, slot] for slot in slots], axis=0) for pictures in way.pictures]
        features[name] = np.concatenate(means) if way.join == "concatenate" else np.mean(means, axis=0)
    return features


def giga_macs(model: EfficientNetLite0) -> dict[str, float]:
    """Multiply-adds of the backbone for one clip, in 10^9."""
    of_size = {}
    for size in {pictures.size_px for way in WAYS.values() for pictures in way.pictures}:
        blank = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        of_size[size] = count_flops(partial(stage_statistics, model, blank)) / 2e9
    return {
        name: way.frames * sum(of_size[pictures.size_px] for pictures in way.pictures) for name, way in WAYS.items()
    }


def group_folds(groups: NDArray[Any], count: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows to fit and rows to predict, of each fold; folds hold whole groups, as even in number as can be."""
    names, codes = np.unique(groups, return_inverse=True)
    fold_of_group = np.random.default_rng(seed).permutation(np.arange(len(names)) % count)
    for fold in range(min(count, len(names))):
        held_out = fold_of_group[codes] == fold
        yield np.flatnonzero(~held_out), np.flatnonzero(held_out)


def ridge(x_fit: FloatArray, y_fit: FloatArray, x_new: FloatArray, alphas: Sequence[float]) -> FloatArray:
    """Predictions (A, n_new) by features standardized on the fitted rows; solved over rows, fewer than features."""
    center, scale = x_fit.mean(0), x_fit.std(0) + 1e-6
    fit, new = (x_fit - center) / scale, (x_new - center) / scale
    kernel, across, level = fit @ fit.T, new @ fit.T, y_fit.mean()
    return np.stack(
        [
            across @ linalg.solve(kernel + alpha * np.eye(len(fit)), y_fit - level, assume_a="pos") + level
            for alpha in alphas
        ]
    )


def out_of_fold(x: FloatArray, y: FloatArray, groups: NDArray[Any], seed: int) -> tuple[FloatArray, list[float]]:
    """Predictions (n,) of each row by the other folds' rows, and the penalty that each fold's own folds chose."""
    predictions, chosen = np.empty_like(y), []
    for fit, new in group_folds(groups, OUTER_FOLDS, seed):
        squares = np.zeros(len(ALPHAS))
        for inner_fit, inner_new in group_folds(groups[fit], INNER_FOLDS, seed):
            inner = ridge(x[fit[inner_fit]], y[fit[inner_fit]], x[fit[inner_new]], ALPHAS)
            squares += ((inner - y[fit[inner_new]]) ** 2).sum(1)
        chosen.append(ALPHAS[int(squares.argmin())])
        predictions[new] = ridge(x[fit], y[fit], x[new], chosen[-1:])[0]
    return predictions, chosen


def mean_of(statistics: Sequence[Resampled]) -> Resampled:
    """The mean of a statistic over fold draws, all seeing the same resamples."""
    return lambda counts: np.mean([statistic(counts) for statistic in statistics], axis=0)


def judge(
    table: pd.DataFrame, predictions: dict[str, list[FloatArray]], num_resamples: int
) -> dict[str, dict[str, Any]]:
    """Figures of every way; each figure as {value, low, high}, and as such less the reference's."""
    truth, content = table["score"].to_numpy(float), table["content"].to_numpy()
    makers: dict[str, Callable[..., Resampled]] = {
        "srcc": bootstrap.resampled_srcc,
        "rmse": bootstrap.resampled_rmse,
        "within_content_srcc": bootstrap.resampled_within_content_srcc,
    }
    once = np.ones((1, table["content"].nunique()))
    figures: dict[str, dict[str, Any]] = {name: {} for name in predictions}
    for figure, make in makers.items():
        own = {name: mean_of([make(truth, p, content) for p in draws]) for name, draws in predictions.items()}
        for name, statistic in own.items():
            if (name, figure) == (LOG_BITRATE, "rmse"):  # in no units of the score
                continue
            low, high = bootstrap.bootstrap_by_content(statistic, content, num_resamples)
            figures[name][figure] = _figure(float(statistic(once)[0]), low, high)
            if name != REFERENCE:
                difference = bootstrap.paired_bootstrap_by_content(statistic, own[REFERENCE], content, num_resamples)
                figures[name][f"{figure}_less_reference"] = _figure(*difference)
    return figures


def _figure(value: float, low: float, high: float) -> dict[str, float | None]:
    parts = {"value": value, "low": low, "high": high}
    return {name: part if math.isfinite(part) else None for name, part in parts.items()}


def _text(row: dict[str, Any], figure: str, digits: int = 3, interval: bool = True, sign: str = "") -> str:
    result = row.get(figure)
    if result is None or result["value"] is None:
        return "-"
    value = f"{result['value']:{sign}.{digits}f}"
    known = interval and result["low"] is not None
    return f"{value} [{result['low']:{sign}.{digits}f}, {result['high']:{sign}.{digits}f}]" if known else value


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line a way, 95 % intervals in brackets."""
    header = ["view", "SRCC", "less reference", "SRCC within", "less reference", "RMSE", "GMACs", "alpha"]
    lines = [header]
    for row in rows:
        macs, alpha = row["giga_macs"], row["median_alpha"]
        lines.append(
            [
                row["view"],
                _text(row, "srcc"),
                _text(row, "srcc_less_reference", sign="+"),
                _text(row, "within_content_srcc", interval=False),
                _text(row, "within_content_srcc_less_reference", sign="+"),
                _text(row, "rmse", digits=2, interval=False),
                "-" if macs is None else f"{macs:.2f}",
                "-" if alpha is None else f"{alpha:g}",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ladder", type=Path, required=True, help="a finished ladder artifact")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="contents of the test split")
    parser.add_argument("--encodes-per-content", type=int, default=0, help="evenly spaced in label order; 0: all")
    parser.add_argument("--limit", type=int, help="contents, the first by name")
    parser.add_argument("--only", nargs="+", metavar="VIEW", help="views beside the reference [all]")
    parser.add_argument("--fold-seeds", type=int, default=3, help="draws of the folds")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    for name in set(WAYS) - {REFERENCE, *(arguments.only or WAYS)}:
        del WAYS[name]
    ladder = open_artifact(arguments.ladder)
    table = chosen_rows(read_ladder(ladder), arguments.leave_out, arguments.encodes_per_content, arguments.limit)
    if table["group"].nunique() < 3:
        parser.error(f"folds of folds need 3 groups or more, there are {table['group'].nunique()}")
    model = EfficientNetLite0(num_levels=2, feature_dim=1, frozen_stages=7, pairs=False, minimum=0, maximum=100)
    load_imagenet_lite0(model)
    model.eval()
    cast(Any, model).to(memory_format=torch.channels_last)  # a fifth faster on a CPU; PyTorch's types do not know it

    features: dict[str, list[FloatArray]] = {name: [] for name in WAYS}
    draw_seconds, started = 0.0, time.monotonic()
    with torch.no_grad():
        for _, clip in track(table.iterrows(), "clips", total=len(table)):
            drawing = time.monotonic()
            drawn = draw_clip(Path(clip["path"]), int(clip["display_height"]))
            draw_seconds += time.monotonic() - drawing
            for name, row in clip_features(model, drawn).items():
                features[name].append(row)
    feature_seconds = time.monotonic() - started

    y, groups = table["score"].to_numpy(float), table["group"].to_numpy()
    started = time.monotonic()
    predictions: dict[str, list[FloatArray]] = {}
    alphas: dict[str, list[float]] = {}
    for name in track(WAYS, "ridge", total=len(WAYS)):
        draws = [out_of_fold(np.stack(features[name]), y, groups, seed) for seed in range(arguments.fold_seeds)]
        predictions[name] = [predicted for predicted, _ in draws]
        alphas[name] = [alpha for _, chosen in draws for alpha in chosen]
    predictions[LOG_BITRATE] = [np.log(table["bitrate_kbps"].to_numpy(float))]
    figures = judge(table, predictions, arguments.resamples)
    macs = giga_macs(model)
    rows = [
        {
            "view": name,
            "giga_macs": macs.get(name),
            "median_alpha": float(np.median(alphas[name])) if name in alphas else None,
            "alphas": {f"{alpha:g}": count for alpha, count in sorted(Counter(alphas.get(name, ())).items())},
            **figures[name],
        }
        for name in predictions
    ]
    note(f"ridge and intervals: {time.monotonic() - started:.0f} s")
    print(f"{table['content'].nunique()} contents, {len(table)} encodes, {feature_seconds / len(table):.2f} s a clip")
    print_table(rows)
    if arguments.out:
        facts = {
            "command": f"python benchmarks/views.py --ladder DIR --encodes-per-content {arguments.encodes_per_content}"
            " --leave-out NAMES" + (f" --only {' '.join(map(repr, arguments.only))}" if arguments.only else ""),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "ladder_sha256": ladder.content_sha256,
            "left_out": sorted(arguments.leave_out),
            "contents": sorted(table["content"].unique()),
            "encodes": len(table),
            "limit": arguments.limit,
            "fold_seeds": arguments.fold_seeds,
            "resamples": arguments.resamples,
            "reference": REFERENCE,
            "seconds_per_clip": feature_seconds / len(table),
            "draw_seconds_per_clip": draw_seconds / len(table),
        }
        write_json(arguments.out, facts | {"rows": rows})


if __name__ == "__main__":
    main()
