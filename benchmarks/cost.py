"""What a score costs, compared with decoding, the model in each precision, and VMAF of the same clip.

    python benchmarks/cost.py --export runs/export/ID --out benchmarks/results/cost.json

Ten seconds of a built-in scene at 540, 1080 and 2160 lines, H.264, on one core in one run. Each figure is the fastest
of several runs, and every ratio is taken within the run. Before anything is timed, outputs are compared: the file and
its y4m pipe, frames read by seeking and in order, one thread and two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import onnxruntime

from rungwise.bitstream.qp import QstepReader
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.media.video import luma
from rungwise.scenes import write_master
from rungwise.score.frames import read_frames
from rungwise.score.score_video import map_file_windows
from rungwise.score.scorer import Scorer
from rungwise.score.video_metadata import ReadOptions
from rungwise.score.windows import WINDOW_SECONDS, frame_times, plan_windows

HEIGHTS = (540, 1080, 2160)
SCENE, PAINTED, FPS, PAINTED_FRAMES, LOOPS = "street_a", 1080, 24.0, 48, 5  # ten seconds
VMAF = {"VMAF v1": "vmaf_v1.0.16_3d0h", "VMAF v0": "vmaf_v0.6.1"}
PRECISIONS = {"fp32": "student.onnx", "fp16": "student.fp16.onnx", "int8": "student.int8.onnx"}
REPEATS = 5


def make_clips(folder: Path) -> dict[int, tuple[Path, Path]]:
    """Height -> lossless reference and its H.264 encode."""
    painted = folder / "painted.mkv"
    width = PAINTED * 16 // 9
    write_master(SCENE, painted, width=width, height=PAINTED, num_frames=PAINTED_FRAMES, fps=FPS)
    clips = {}
    for height in HEIGHTS:
        reference, encoded = folder / f"reference_{height}.mkv", folder / f"encode_{height}.mp4"
        loop = ["-stream_loop", str(LOOPS - 1), "-i", str(painted), "-vf", f"scale=-2:{height}:flags=bicubic"]
        run_ffmpeg(["-y", *loop, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", str(reference)])
        encode(reference, encoded, EncodeSpec("h264", height, crf=28))
        clips[height] = reference, encoded
    return clips


def fastest(job: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds of the quickest of several runs."""
    seconds = []
    for _ in range(repeats):
        clock = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - clock)
    return min(seconds)


def check_equal(scorer: Scorer, path: Path, indices: list[int]) -> None:
    """The paths to be timed give the same: file and pipe, jumping and reading in order."""
    packets = read_packets(path)
    ways = [[(i, luma(f).copy()) for i, f in read_frames(path, packets, indices, seek=jump)] for jump in (True, False)]
    for (i, jumped), (k, in_order) in zip(*ways, strict=True):
        assert i == k
        np.testing.assert_array_equal(jumped, in_order)
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(ffmpeg, stdout=subprocess.PIPE) as pipe:
        assert pipe.stdout is not None
        assert scorer.score(pipe.stdout).score == scorer.score(path, pixel_only=True).score  # a pipe has no stream


def vmaf(reference: Path, encoded: Path, model: str) -> None:
    """libvmaf alone, one thread, every frame."""
    inputs = ["-threads", "1", "-i", str(encoded), "-threads", "1", "-i", str(reference)]
    graph = f"[0:v]settb=1/25,setpts=N[a];[1:v]settb=1/25,setpts=N[b];[a][b]libvmaf=model=version={model}:n_threads=1"
    run_ffmpeg([*inputs, "-filter_complex_threads", "1", "-filter_complex", graph, "-f", "null", "-"])


def whole_process(model: Path, path: Path) -> dict[str, float]:
    """`rungwise score` from start to end: seconds, and peak memory in MB."""
    command = [sys.executable, "-m", "rungwise", "score", "-m", str(model), str(path)]
    script = (
        "import json, resource, subprocess, sys, time; clock = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); seconds = time.perf_counter() - clock; "
        "print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True).stdout)
        for _ in range(REPEATS)
    ]
    return {"seconds": round(min(s for s, _ in runs), 3), "peak_mb": round(max(mb for _, mb in runs), 1)}


def measure(height: int, reference: Path, encoded: Path, folder: Path) -> dict[str, Any]:
    """One height on one core."""
    scorer = Scorer(folder / PRECISIONS["fp32"])
    recipe, packets = scorer.contract.view, read_packets(encoded)
    times = frame_times(packets)
    spans = list(plan_windows(times, packets.rate, WINDOW_SECONDS, recipe, []))
    indices = sorted({0, *(index for span in spans for index in span.frame_indices)})
    check_equal(scorer, encoded, indices)
    options = ReadOptions(recipe, (WINDOW_SECONDS,))
    _, views = map_file_windows(encoded, options, lambda window, _: window.pixels)

    def decode(jump: bool) -> None:
        for _ in read_frames(encoded, packets, indices, seek=jump):
            pass

    seconds = {
        "decode every frame to the last used": fastest(lambda: decode(False)),
        "decode what it uses": fastest(lambda: decode(True)),
        "decode and view": fastest(lambda: map_file_windows(encoded, options, lambda window, _: window.pixels)),
        "model, all windows": fastest(lambda: [scorer.predict(view[None]) for view in views]),
        "read the bitstream features": fastest(lambda: read_packets(encoded, QstepReader)),
        "score, pixel-only": fastest(lambda: scorer.score(encoded, pixel_only=True)),
        "score": fastest(lambda: scorer.score(encoded)),
        **{name: fastest(partial(vmaf, reference, encoded, model), 1) for name, model in VMAF.items()},
    }
    score = seconds["score"]
    return {
        "height": height,
        "frames": len(times),
        "frames_used": len(indices) - (0 not in spans[0].frame_indices),
        "windows": len(spans),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "score_to": {name: round(score / value, 3) for name, value in seconds.items() if name != "score"},
        "process": whole_process(folder / PRECISIONS["fp32"], encoded),
    }


def judge_each(scorer: Scorer, views: np.ndarray[Any, Any]) -> None:
    """One view at a time."""
    for view in views:
        scorer.predict(view[None])


def models(folder: Path, views: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """The model alone by precision and threads, against fp32 on one thread."""
    rows: list[dict[str, Any]] = []
    exact = Scorer(folder / PRECISIONS["fp32"]).predict(views)
    for precision, name in PRECISIONS.items():
        if not (folder / name).is_file():
            continue
        for threads in (1, 2):
            scorer = Scorer(folder / name, threads=threads)
            off = float(np.abs(scorer.predict(views) - exact).max())
            assert off <= 5, (name, off)
            seconds = fastest(partial(judge_each, scorer, views), 10) / len(views)
            size = (folder / name).stat().st_size
            rows.append({"precision": precision, "threads": threads, "bytes": size, "seconds_a_view": round(seconds, 5),
                         "largest_deviation": round(off, 4)})  # fmt: skip
    for row in rows:
        row["to_fp32_one_thread"] = round(row["seconds_a_view"] / rows[0]["seconds_a_view"], 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, required=True, help="folder of student.onnx and its smaller files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as scratch:
        clips = make_clips(Path(scratch))
        os.sched_setaffinity(0, {min(cores)})
        rows = [measure(height, *clips[height], arguments.export) for height in HEIGHTS]
        os.sched_setaffinity(0, cores)
        scorer = Scorer(arguments.export / PRECISIONS["fp32"])
        options = ReadOptions(scorer.contract.view, (WINDOW_SECONDS,))
        views = np.stack(map_file_windows(clips[1080][1], options, lambda window, _: window.pixels)[1])
        facts = {
            "machine": {"processor": processor(), "cores": len(cores), "onnxruntime": onnxruntime.__version__},
            "clip": f"{SCENE}, {PAINTED_FRAMES * LOOPS / FPS:g} s at {FPS:g} fps, H.264 CRF 28",
            "rows": rows,
            "models": models(arguments.export, views),
        }
    arguments.out.write_text(json.dumps(facts, indent=2) + "\n")


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
