"""Readers of selected frames, side by side over H.264 made here by PyAV, and the teacher with the best in its loop."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from gpu_run import Run, TimeSpentError, predictor, random_teacher, short
from numpy.typing import NDArray
from teacher_throughput import measure_decode, unlike_clips

from distill.teaching import matrices_to_bf16
from rungwise.media.video import rgb
from rungwise.progress import note
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import View, ViewRecipe, make_views, read_views
from teacher.cache import Clock, Judge, judge_stream
from teacher.layers import time_calls

Frames = Iterator[tuple[int, NDArray[np.uint8]]]
Reader = Callable[[Path, Sequence[View]], NDArray[np.uint8]]
NUM_FRAMES = 60
PRIMARY_CONTEXT = 1  # AV_CUDA_USE_PRIMARY_CONTEXT: the one that PyTorch has


def is_importable(name: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(name) is not None


def nvdec_frames(path: Path, indices: Sequence[int]) -> Frames:
    """PyAV on the card's decoder; frames come back to memory and are converted there."""
    requested = set(indices)
    accelerator = HWAccel("cuda", allow_software_fallback=False, flags=PRIMARY_CONTEXT)
    with av.open(str(path), hwaccel=accelerator) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in requested:
                yield index, rgb(frame)
            if index == max(requested):
                return


def torchcodec_frames(path: Path, indices: Sequence[int], *, device: str = "cpu") -> Frames:
    """torchcodec, exact seeks, one thread a clip."""
    from torchcodec.decoders import VideoDecoder

    requested = sorted(set(indices))
    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, device=device)
    frames = decoder.get_frames_at(requested).data.cpu().numpy()
    yield from zip(requested, frames, strict=True)


def decord_frames(path: Path, indices: Sequence[int]) -> Frames:
    """decord2, one thread a clip."""
    from decord import VideoReader, cpu

    requested = sorted(set(indices))
    frames = VideoReader(str(path), ctx=cpu(0), num_threads=1).get_batch(requested).asnumpy()
    yield from zip(requested, frames, strict=True)


def readers() -> dict[str, tuple[Reader | None, str]]:
    """Each reader, or None and why it can't be tried here."""
    made: dict[str, tuple[Reader | None, str]] = {
        "PyAV, all frames whole": (read_views, ""),
        "PyAV, needed pixels": (read_needed_pixels, ""),
        "PyAV on NVDEC": (None, "PyAV is built without it"),
    }
    if "cuda" in hwdevices_available():
        made["PyAV on NVDEC"] = (partial(read_views, read=nvdec_frames), "")
    for name, package, frames in (
        ("torchcodec", "torchcodec", torchcodec_frames),
        ("torchcodec on NVDEC", "torchcodec", partial(torchcodec_frames, device="cuda")),
        ("decord2", "decord", decord_frames),
    ):
        is_there = is_importable(package)
        made[name] = (partial(read_views, read=frames), "") if is_there else (None, f"{package} is not installed")
    return made


READERS = readers()


def encode_clips(folder: Path, height: int, *, count: int, workers: int) -> list[Path]:
    """`count` clips of 60 frames, 16:9, x264 veryfast with its default B-frames."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(partial(_encode_clip, folder, height), range(count)))


def _encode_clip(folder: Path, height: int, number: int) -> Path:
    """A smooth random texture that drifts, with a little grain of its own in each frame."""
    path, width, rng = folder / f"{height}-{number}.mp4", round(height * 16 / 9) // 2 * 2, np.random.default_rng(number)
    coarse = rng.integers(40, 216, (height // 8 + 40, width // 8 + 40, 3), np.uint8)
    texture = coarse.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(NUM_FRAMES):
            window = texture[2 * index : 2 * index + height, 3 * index : 3 * index + width]
            grain = rng.integers(0, 12, (height, width, 1), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(window + grain), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode(run: Run) -> dict[str, Any]:
    """Readers side by side over H.264 made here, and the prepared teacher with the best one in its loop."""
    lines = (1080, 540) if run.cuda else (270,)
    model = random_teacher(run)
    model.prepare_for_inference() if run.cuda else None
    matrices_to_bf16(model)
    predict, batch, shape = predictor(model, run, "bf16"), 16 if run.cuda else 2, run.shape
    pixels = unlike_clips(batch, shape["num_frames"], shape["img_size"], run.device)
    pure = batch / (time_calls(lambda: predict(pixels), run.device, 3) / 3)
    recipe = ViewRecipe(num_frames=shape["num_frames"], frame_choice="uniform", grid=4, patch_px=shape["img_size"] // 4)
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for height in lines:
            paths = encode_clips(Path(folder), height, count=8 if run.cuda else 2, workers=workers)
            views = [make_views(path, recipe) for path in paths]
            expected = read_views(paths[0], views[0])
            best: tuple[float, str] = (0.0, "")
            for name, (reader, reason) in READERS.items():
                if reader is None or not run.has_time(f"decode: {name} at {height}", 3):
                    run.skipped.setdefault(f"decode: {name}", reason)
                    continue

                def read(row: int, reader: Any = reader, paths: Any = paths, views: Any = views) -> NDArray[np.uint8]:
                    pixels: NDArray[np.uint8] = reader(paths[row % len(paths)], views[row % len(paths)])
                    return pixels

                row: dict[str, Any] = {"lines": height, "reader": name, "workers": workers}
                try:
                    row["equal"] = bool(np.array_equal(read(0), expected))
                    row["clips_per_second"] = measure_decode(read, workers, 1.5 if run.cuda else 0.3)
                except TimeSpentError:
                    raise
                except Exception as error:
                    row["error"] = short(error)
                if row.get("equal") and row["clips_per_second"] > best[0]:
                    best = (row["clips_per_second"], name)
                note(f"decode: {row}")
                run.rows.append(row)
            if best[1] and run.has_time(f"decode: loop at {height}", 6):
                loop = in_the_loop(run, predict, batch, pure, best, paths, views, workers)
                note(f"decode: {loop}")
                run.rows.append({"lines": height} | loop)
    return {"pure_clips_per_second": pure, "bar": "busy 90 % at 540 lines, 70 % at 1080 (H200)"}


def in_the_loop(
    run: Run, predict: Judge, batch: int, pure: float, best: tuple[float, str], paths: Any, views: Any, workers: int
) -> dict[str, Any]:
    """Clips a second with decoding in the loop, and which fraction of the time the card needs for them."""
    rate, name = best
    reader = READERS[name][0]
    assert reader is not None
    count = max(4, int(min(pure, rate) * (5 if run.cuda else 0.3) / batch)) * batch

    def read(row: int) -> NDArray[np.uint8]:
        return reader(paths[row % len(paths)], views[row % len(paths)])

    batches = iter([range(start, start + batch) for start in range(0, count, batch)])
    clock, started = Clock(), time.perf_counter()
    ahead = max(3, -(-2 * workers // batch))
    stream = judge_stream(batches, read, predict, device=run.device, workers=workers, clock=clock, ahead=ahead)
    clips = sum(len(fields["scores"]) for fields in stream)
    wall = time.perf_counter() - started
    return {"reader": f"{name}, in the loop", "clips_per_second": clips / wall, "busy": clips / pure / wall}
