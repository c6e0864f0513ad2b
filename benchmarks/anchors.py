"""Reference metrics on the same encodes: BRISQUE and NIQE from PyPI packages, and VMAF v0 against the master.

    pip install "brisque[opencv-python-headless]" scikit-video

benchmarks/default_model.py calls `anchors_of`; nothing else needs those packages. BRISQUE and NIQE are computed on a
clip's middle frame at the display height, as most of their users do. Both fall as quality rises, so they are negated.
scikit-video was written for older NumPy and SciPy: `_niqe_module` restores the names that were removed since.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rungwise.artifact import write_json
from rungwise.ladder.label import label
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import rgb_frames
from rungwise.progress import track

VMAF_V0 = "vmaf_v0.6.1"
LEAST_NIQE_LINES = 193  # of two patches of 96 and one line
Job = tuple[str, str, str, int]  # clip, its path, its master's path, display height


def require_packages() -> None:
    """Stop in one line where BRISQUE's or NIQE's package is missing: the benchmark would fail after an hour."""
    if missing := [name for name in ("brisque", "skvideo") if importlib.util.find_spec(name) is None]:
        sys.exit(f"no {' or '.join(missing)} here: pip install 'brisque[opencv-python-headless]' scikit-video")


def anchors_of(jobs: list[Job], path: Path, workers: int) -> dict[str, dict[str, float]]:
    """Clip -> anchor -> value; stored in the JSON `path`, so that only new clips are computed."""
    values_by_clip: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    left = [job for job in jobs if job[0] not in values_by_clip]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = pool.map(judge, left, chunksize=8)
        for number, (job, values) in enumerate(zip(left, track(results, "anchors", total=len(left)), strict=True)):
            values_by_clip[job[0]] = values
            if number % 100 == 99:
                write_json(path, values_by_clip)
    write_json(path, values_by_clip)
    return values_by_clip


def judge(job: Job) -> dict[str, float]:
    """One clip's anchors, higher is better."""
    _, path, master, lines = job
    [(_, frame)] = rgb_frames(Path(path), [len(timestamps_seconds(Path(path))) // 2])
    picture = Image.fromarray(frame)
    if picture.height != lines:
        picture = picture.resize((round(picture.width * lines / picture.height), lines), Image.Resampling.BICUBIC)
    pixels = np.asarray(picture)
    v0 = label(Path(master), Path(path), models=(VMAF_V0,)).metrics[VMAF_V0].mean
    return {"brisque": -_brisque(pixels), "niqe": -_niqe(pixels), "vmaf_v0": v0}


@cache
def _brisque_model() -> Any:
    from brisque import BRISQUE

    class Flat(BRISQUE):  # type: ignore[misc]
        """Its features are arrays of one number, which newer NumPy does not take for numbers."""

        def scale_features(self, features: Any) -> Any:
            """As the package's, of plain numbers."""
            return super().scale_features([float(np.ravel(feature)[0]) for feature in features])

    return Flat(url=False)


def _brisque(picture: NDArray[np.uint8]) -> float:
    return float(_brisque_model().score(img=picture))


@cache
def _niqe_module() -> Any:
    import scipy.misc

    np.int, np.float, np.bool = int, float, bool  # type: ignore[attr-defined, assignment, misc]

    def imresize(values: NDArray[Any], share: float, **_: Any) -> NDArray[Any]:
        size = int(values.shape[1] * share), int(values.shape[0] * share)
        return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))

    scipy.misc.imresize = imresize
    import skvideo.measure

    return skvideo.measure


def _niqe(picture: NDArray[np.uint8]) -> float:
    if picture.shape[0] < LEAST_NIQE_LINES:
        return float("nan")
    luma = np.asarray(Image.fromarray(picture).convert("L"))
    return float(_niqe_module().niqe(luma[None, :, :, None])[0])
