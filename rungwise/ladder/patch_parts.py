"""VMAF v1 of patches and its parts, by libvmaf: how each patch of an encode differs from the same patch of its master.

libvmaf compares whole pictures of a least size. Each patch becomes one: it is tiled with its own mirror images, so no
edge is new. All patches go through one run of ffmpeg as frames of a raw video, the two frames of a pair one after the
other, so that the second frame's motion is measured from its true predecessor. The first frame's values are dropped.

Shapes: K views, T frames, S pixels a side of a view, U pairs of frames, P patches, N pictures, F parts.
"""

from __future__ import annotations

import json
import tempfile
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rungwise.config import PATCH_LABEL
from rungwise.media.ffmpeg import run_ffmpeg

MODEL: Final = PATCH_LABEL
# As libvmaf calls them. ADM is detail loss: of a scale, how much of the master's detail (its denominator) is left; AIM
# is added impairment.
PARTS: Final = (
    "vmaf",
    "adm3",
    "adm2",
    "aim",
    "adm_scale0",
    "adm_scale1",
    "adm_scale2",
    "adm_scale3",
    "adm_den_scale0",
    "adm_den_scale1",
    "adm_den_scale2",
    "adm_den_scale3",
    "motion3",
    "speed_chroma_uv",
    "cambi",
)
# VMAF v1 runs on pictures of 160x216, but below about this size its chroma part is 0, and scores are points too low.
LEAST_PX: Final = 320


def patch_parts(encode_KTSSC: NDArray[np.uint8], master_KTSSC: NDArray[np.uint8], patch_px: int) -> NDArray[np.float32]:
    """parts_KUPF of the second frame of each pair, in the order of `PARTS`; the first part is the patch's VMAF v1.

    Args:
        encode_KTSSC: an encode's views (rungwise/score/views.py), whose frames are pairs of neighbors.
        master_KTSSC: its master's pixels of the same views.
        patch_px: side of the patches that the views are stitched from.

    Raises:
        FfmpegError: libvmaf can't compare them, or this ffmpeg lacks it or its VMAF v1.
    """
    pairs = [_pairs(pixels, patch_px) for pixels in (encode_KTSSC, master_KTSSC)]
    encode_N, master_N = (patches.reshape(-1, patch_px, patch_px, 3) for patches in pairs)
    parts_NF = _libvmaf_parts(_tiled(encode_N), _tiled(master_N))
    return parts_NF.reshape(*pairs[0].shape[:4], len(PARTS))[:, :, :, 1]


def _pairs(pixels_KTSSC: NDArray[np.uint8], patch_px: int) -> NDArray[np.uint8]:
    """Patches, (K, U, P, 2, patch_px, patch_px, 3), row by row as in the view."""
    views, frames, size = pixels_KTSSC.shape[:3]
    assert frames % 2 == 0, "pairs of frames"
    grid = size // patch_px
    cells = pixels_KTSSC.reshape(views, frames // 2, 2, grid, patch_px, grid, patch_px, 3)
    return cells.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(views, frames // 2, grid * grid, 2, patch_px, patch_px, 3)


def _tiled(patches_N: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each patch with as many of its mirror images as libvmaf needs; whole ones, so that all pixels count alike."""
    size = patches_N.shape[1]
    more = size * (ceil(LEAST_PX / size) - 1)
    return np.pad(patches_N, ((0, 0), (0, more), (0, more), (0, 0)), mode="symmetric")


def _libvmaf_parts(encode_N: NDArray[np.uint8], master_N: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`PARTS` of RGB pictures, (N, F)."""
    height, width = encode_N.shape[1:3]
    raw = ["-f", "rawvideo", "-video_size", f"{width}x{height}", "-pixel_format", "rgb24", "-framerate", "25"]
    convert = (
        "scale=out_range=limited:out_color_matrix=bt709:flags=bicubic+accurate_rnd+bitexact+full_chroma_inp,"
        "format=yuv420p,setparams=range=limited:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    )
    libvmaf = rf"libvmaf=model='version={MODEL}\:adm.debug=true':n_threads=1:log_fmt=json:log_path=scores.json"
    graph = f"[0:v]{convert}[d];[1:v]{convert}[r];[d][r]{libvmaf}"  # adm.debug logs the denominators
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["-filter_complex_threads", "1"]
        for file, pictures_N in (("encode.rgb", encode_N), ("master.rgb", master_N)):
            pictures_N.tofile(folder / file)
            command += ["-threads", "1", *raw, "-i", file]
        command += ["-filter_complex", graph, "-f", "null", "-"]
        run_ffmpeg(command, cwd=folder, writes=folder / "scores.json")
        frames: list[dict[str, Any]] = json.loads((folder / "scores.json").read_text())["frames"]
    assert len(frames) == len(encode_N), "libvmaf compares every picture"
    names = [_log_name(frames[0]["metrics"], part) for part in PARTS]
    return np.array([[frame["metrics"][name] for name in names] for frame in frames], np.float32)


def _log_name(metrics: dict[str, float], part: str) -> str:
    """A part's name in libvmaf's log, where the model's options follow it."""
    return next(name for name in metrics if f"{name}_".removeprefix("integer_").startswith(f"{part}_"))
