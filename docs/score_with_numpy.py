"""Score a video with NumPy and onnxruntime alone: the crop recipe of docs/onnx.md as code, tested against our scorer.

usage: python score_with_numpy.py MODEL.onnx FRAMES.npy LINES
FRAMES.npy: the decoded frames of one window as full-range RGB, (N, H, W, 3) uint8, of square samples. LINES: display
height. Models that choose frames by their difference are refused: that needs the decoder's luma, which RGB has not.
"""

import hashlib
import json
import sys

import numpy as np
import onnxruntime


def score(model: str, frames: np.ndarray, lines: int, window: int = 0) -> float:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    recipe = json.loads(session.get_modelmeta().custom_metadata_map["rungwise"])["view"]
    steps, grid, side = recipe["num_frames"], recipe["grid"], recipe["patch_px"]
    count, height, width = frames.shape[:3]
    columns = max(1, round(width * lines / height))
    facts = {"recipe": recipe, "version": 2, "view": window}
    seed = hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    draws = (np.random.PCG64(int(seed[:32], 16)).random_raw(2 * grid**2) >> 11) / 2.0**53
    view = np.empty((1, steps, grid, side, grid, side, 3), np.uint8)
    for (i, j), (down, across) in zip(np.ndindex(grid, grid), draws.reshape(-1, 2), strict=True):
        rows = filter_weights(height, lines, place(i, lines, grid, side, down), side)
        cols = filter_weights(width, columns, place(j, columns, grid, side, across), side)
        for step in range(steps):
            view[0, step, i, :, j] = scale(scale(frames[frame_of(step, steps, count, recipe)], cols, 1), rows, 0)
    inputs = {"frames": view.reshape(1, steps, grid * side, grid * side, 3)}
    if len(session.get_inputs()) > 1:  # a hybrid model: its pixel-only score
        inputs["stream"] = np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)
    return float(session.run(["score"], inputs)[0][0])


def frame_of(step: int, steps: int, count: int, recipe: dict[str, str]) -> int:
    if recipe["frame_choice"] == "uniform":
        return int((step + 0.5) * count / steps)
    if recipe["frame_choice"] != "pairs":
        raise ValueError(f"frame_choice is {recipe['frame_choice']}; this example knows uniform and pairs only")
    first = min(int((step // 2 + 0.5) * count / (steps // 2)), max(0, count - 2))
    return min(first + step % 2, count - 1)


def place(cell: int, extent: int, grid: int, side: int, draw: float) -> int:
    start, stop = cell * extent // grid, (cell + 1) * extent // grid
    return max(0, min(start + int(draw * (max(0, stop - start - side) + 1)) // 2 * 2, extent - side))


def filter_weights(size: int, shown: int, corner: int, side: int) -> np.ndarray:
    # (side, size): bicubic, a = -0.5, in units of 2^-22
    stop, pixel = min(corner + side, shown), np.arange(size)
    low, high = np.float32(corner * (size / shown)), np.float32(stop * (size / shown))
    step = float(high - low) / (stop - corner)
    middle, blur = low + (np.arange(stop - corner)[:, None] + 0.5) * step, max(step, 1.0)
    d = np.abs((pixel - middle + 0.5) * (1 / blur))
    weight = np.where(d < 1, (1.5 * d - 2.5) * d * d + 1, np.where(d < 2, ((-0.5 * d + 2.5) * d - 4) * d + 2, 0))
    weight *= (pixel >= np.trunc(middle - 2 * blur + 0.5)) & (pixel < np.trunc(middle + 2 * blur + 0.5))
    weight = weight / weight.sum(1, keepdims=True) * (1 << 22)
    return np.pad(np.trunc(weight + np.copysign(0.5, weight)), [(0, side - len(weight)), (0, 0)], "edge").astype(int)


def scale(pixels: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    total = np.moveaxis(np.tensordot(weights, pixels.astype(int), (1, axis)), 0, axis)
    return np.asarray(np.clip((total + (1 << 21)) >> 22, 0, 255), np.uint8)


if __name__ == "__main__":
    print(score(sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])))
