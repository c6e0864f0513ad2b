"""What one card does with this project, in one call: predict, tune, decode and distill; each part beside its baseline.

    python benchmarks/gpu.py --out FILE [--seconds 170] [--only judge tune decode student]

Runs from a checkout on PYTHONPATH, without ffmpeg and without a download: weights are random and clips are encoded by
PyAV. A part that fails or finds its time spent is reported with the reason and the next one goes on; the JSON is
written after every part. Without a card all shapes are tiny, to try the script.

Rows are of one run on one card: compare within it. `of matrix rate` is against a bf16 product measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from gpu_decode import decode, is_importable
from gpu_judge import judge
from gpu_run import Run, TimeSpentError, free, short
from gpu_training import student, tune
from teacher_throughput import environment

from distill.teaching import MATRIX_SIZE
from rungwise.artifact import write_json
from rungwise.progress import note
from teacher.layers import matrix_rate

SHARES = {"judge": 0.38, "tune": 0.28, "decode": 0.24, "student": 0.1}  # of the time, in order of worth
PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "judge": judge, "tune": tune, "decode": decode, "student": student,
}  # fmt: skip


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise TimeSpentError("stopped by the clock")


def measure(device: str, seconds: float, only: Sequence[str], out: Path) -> dict[str, Any]:
    """All parts, each within its share of what is left."""
    started = time.monotonic()
    rates = matrix_rate(device, torch.bfloat16, MATRIX_SIZE if device.startswith("cuda") else 512)
    run = Run(device, rates)
    versions = {name: importlib.metadata.version(name) for name in ("av", "timm", "deepspeed", "triton")
                if is_importable(name)}  # fmt: skip
    result: dict[str, Any] = {"environment": environment(device) | versions, "matrix_rate": run.rate, "parts": {}}
    signal.signal(signal.SIGALRM, _stop)
    for name in only:
        left = seconds - (time.monotonic() - started)
        share = SHARES[name] / sum(SHARES[other] for other in only[only.index(name) :])
        run.deadline = time.monotonic() + share * left
        signal.alarm(max(1, round(min(1.25 * share * left, left))))
        began, run.rows = time.monotonic(), []
        try:
            part = PARTS[name](run)
        except Exception as error:
            part = {"error": short(error)}
            note(traceback.format_exc())
        finally:
            signal.alarm(0)
        result["parts"][name] = part | {"rows": run.rows, "seconds": time.monotonic() - began}
        result |= {"skipped": run.skipped, "seconds": time.monotonic() - started}
        write_json(out, result)
        free()
    return result


def table(result: dict[str, Any]) -> str:
    """The rows by part, then what was skipped."""
    here = result["environment"]
    lines = [f"{here['device']}, torch {here['torch']}, bf16 product {result['matrix_rate'] / 1e12:.0f} TFLOP/s"]
    for name, part in result["parts"].items():
        lines.append(f"{name} ({part['seconds']:.0f} s; bar: {part.get('bar', '-')}) {part.get('error', '')}")
        for row in part["rows"]:
            cells = [
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
                if key not in ("variant", "kernels", "reader", "lines") and value not in (None, [])
            ]
            title = row.get("variant") or f"{row['lines']} lines, {row['reader']}"
            lines.append(f"  {title}: {', '.join(cells)}")
            lines += [f"    {each['share']:.1%} {each['calls']} x {each['kernel']}" for each in row.get("kernels", [])]
    lines += [f"skipped {name}: {reason}" for name, reason in result.get("skipped", {}).items()]
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--seconds", type=float, default=170.0, help="of the whole run [170]")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS], help="parts to run [all]")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu", help="[cuda:0 if there]")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse()
    print(table(measure(args.device, args.seconds, args.only, args.out)))
