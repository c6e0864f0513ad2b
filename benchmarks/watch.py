"""Measure lag, memory and CPU time of `rungwise watch` on a looped video that a pipe feeds in real time.

    python benchmarks/watch.py --minutes 60 --out benchmarks/results/watch.json

The video is 1080p30 H.264 of the built-in test source with noise. `rungwise watch` is held on one CPU core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from rungwise import __version__
from rungwise.artifact import write_json
from rungwise.media.ffmpeg import run_ffmpeg

LOOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


def make_loop(path: Path) -> None:
    """20 s of 1080p30 at 6 Mbps."""
    source = ["-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r=30:d={LOOP_SECONDS}", "-vf", "noise=alls=8:allf=t"]
    run_ffmpeg([*source, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "6M", "-g", "60",
                str(path)])  # fmt: skip


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return float(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(loop: Path, minutes: float, core: int) -> dict[str, Any]:
    """Feed the loop for some minutes; lag and memory at each window, and what was left out."""
    feed = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        str(loop),
        "-t",
        str(60 * minutes),
    ]
    lags: list[float] = []
    memory: list[float] = []
    left_out, cpu, loads = {"gap": 0.0, "skip": 0.0}, 0.0, [os.getloadavg()[0]]
    start = time.monotonic()
    with (
        subprocess.Popen([*feed, "-c", "copy", "-f", "mpegts", "pipe:1"], stdout=subprocess.PIPE) as ffmpeg,
        subprocess.Popen(
            [sys.executable, "-m", "rungwise", "watch", "-", "--json", "--max-lag", "10"],
            stdin=ffmpeg.stdout,
            stdout=subprocess.PIPE,
            text=True,
        ) as watch,
    ):
        os.sched_setaffinity(watch.pid, {core})
        assert ffmpeg.stdout is not None
        assert watch.stdout is not None
        ffmpeg.stdout.close()
        for line in watch.stdout:
            event = json.loads(line)
            if event["event"] == "window":
                lags.append(event["lag_seconds"])
                memory.append(resident_megabytes(watch.pid))
                cpu = cpu_seconds(watch.pid)
                loads.append(os.getloadavg()[0])
            elif event["event"] in left_out:
                left_out[event["event"]] += event["seconds"]
    scored = 4.0 * len(lags)
    ordered = sorted(lags)
    per_minute = [round(max(memory[at : at + 15]), 1) for at in range(0, len(memory), 15)]
    return {
        "minutes": round((time.monotonic() - start) / 60, 2),
        "windows": len(lags),
        "lag_seconds": {
            "median": statistics.median(lags),
            "p95": ordered[int(0.95 * (len(ordered) - 1))],
            "max": ordered[-1],
        },
        "left_out_seconds": {kind: round(seconds, 2) for kind, seconds in left_out.items()},
        "cpu_seconds_per_second": round(cpu / scored, 3),
        "resident_megabytes_by_minute": per_minute,
        "load_average": {"median": round(statistics.median(loads), 2), "max": round(max(loads), 2)},
    }


def main() -> None:
    """Write the JSON and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop = Path(folder) / "loop.ts"
        make_loop(loop)
        values = measure(loop, options.minutes, options.core)
    values = {"rungwise": __version__, "cpus": os.cpu_count(), "video": "1920x1080, 30 fps, H.264, 6 Mbps"} | values
    write_json(options.out, values)
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
