"""How the scorer handles damaged files: a score, a one-line error, an unexpected error, a crash or a hang; and memory.

    python benchmarks/hostile.py --count 2000 --seed 0 --out benchmarks/results/hostile.json

Every file is scored twice, pixel-only and hybrid, by worker processes that are replaced when they crash or exceed
`--timeout` seconds on a file.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mutated_clips import MUTATIONS, make_clips, mutants

from rungwise.score.batch import Options, score_all
from rungwise.score.inputs import Input
from rungwise.score.scorer import Scorer

MODES = {"pixel-only": True, "hybrid": False}
OUTCOMES = ("scored", "one-line error", "unexpected error", "crash", "hang")
PACKAGES = ("av", "numpy", "onnxruntime", "pillow")


@dataclass(frozen=True)
class Outcome:
    """What came of one file in one mode; `text` is the error, or why the worker ended."""

    name: str
    kind: str
    mode: str
    outcome: str
    text: str
    seconds: float
    peak_mb: float


def work(model: str) -> None:
    """A worker: reads lines of JSON (path, mode), prints one of (outcome, text, peak memory) for each."""
    scorer = Scorer(model or None)
    for line in sys.stdin:
        path, mode = json.loads(line)
        reset_peak()
        [result] = score_all(scorer, [Input(path, Path(path))], Options(pixel_only=MODES[mode]))
        text = result.error
        unexpected = "please report this" in text or "\n" in text or not text.startswith(path)
        outcome = "scored" if result.score else "unexpected error" if unexpected else "one-line error"
        print(json.dumps([outcome, text, peak_mb()]), flush=True)


def reset_peak() -> None:
    """Reset the peak that `peak_mb` reports, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # no Linux: the peak is then that of all files so far
        return


def peak_mb() -> float:
    """Largest resident memory of this process, in MB."""
    try:
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        peak = None
    kilobytes = int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kilobytes / 1024, 1)


class Worker:
    """A process that scores one file after another; started at the first, and again after a crash or a hang."""

    def __init__(self, model: str, timeout_seconds: float) -> None:
        self.model, self.timeout_seconds = model, timeout_seconds
        self.process: subprocess.Popen[str] | None = None

    def score(self, path: Path, mode: str) -> tuple[str, str, float]:
        """(outcome, text, peak MB) of one file."""
        if self.process is None:
            command = [sys.executable, __file__, "--work", "--model", self.model]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.timeout_seconds, stop)
        timer.start()
        try:
            process.stdin.write(json.dumps([str(path), mode]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line and not late.is_set():
            outcome, text, peak = json.loads(line)
            return outcome, text, peak
        self.close()
        if late.is_set():
            return "hang", f"more than {self.timeout_seconds:g} s", 0.0
        return "crash", f"exit code {process.returncode}", 0.0

    def close(self) -> None:
        """End the process."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process = None


def measure(
    clips: dict[str, bytes], folder: Path, *, count: int, seed: int, model: str = "", jobs: int = 1, timeout: float = 60
) -> list[Outcome]:
    """Outcomes of `count` damaged files in both modes. Files that were neither scored nor refused stay in `folder`."""
    workers: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(jobs):
        workers.put(Worker(model, timeout))

    def run(mutant: tuple[str, str, bytes]) -> list[Outcome]:
        name, kind, data = mutant
        path = folder / name
        path.write_bytes(data)
        worker, outcomes = workers.get(), []
        for mode in MODES:
            clock = time.perf_counter()
            outcome, text, peak = worker.score(path, mode)
            seconds = round(time.perf_counter() - clock, 3)
            outcomes.append(Outcome(name, kind, mode, outcome, text.replace(f"{folder}/", ""), seconds, peak))
        workers.put(worker)
        if all(outcome.outcome in OUTCOMES[:2] for outcome in outcomes):
            path.unlink()
        return outcomes

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = [outcome for each in pool.map(run, mutants(clips, count, seed)) for outcome in each]
    for _ in range(jobs):
        workers.get().close()
    return outcomes


def summarize(outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts by mode and by kind of damage, memory, the slowest file, and all that should not have come."""
    return {
        "outcomes": {mode: _counts([o for o in outcomes if o.mode == mode]) for mode in MODES},
        "outcomes_by_kind": {kind: _counts([o for o in outcomes if o.kind == kind]) for kind in MUTATIONS},
        "peak_mb": {
            "median": sorted(o.peak_mb for o in outcomes)[len(outcomes) // 2],
            "largest": max((o.peak_mb, o.name) for o in outcomes),
        },
        "slowest": max((o.seconds, o.name) for o in outcomes),
        "errors": dict(Counter(_plain(o) for o in outcomes if o.outcome == "one-line error").most_common(20)),
        "faults": [vars(o) for o in outcomes if o.outcome not in OUTCOMES[:2]],
    }


def _counts(outcomes: list[Outcome]) -> dict[str, int]:
    counts = Counter(o.outcome for o in outcomes)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def _plain(outcome: Outcome) -> str:
    return re.sub(r"\d[\d,.]*", "N", outcome.text.replace(outcome.name, "FILE"))


def markdown(facts: dict[str, Any]) -> str:
    """The counts as a table."""
    lines = ["| | " + " | ".join(OUTCOMES) + " |", "|---" * (len(OUTCOMES) + 1) + "|"]
    for group in ("outcomes", "outcomes_by_kind"):
        for name, counts in facts[group].items():
            lines.append(f"| {name} | " + " | ".join(str(counts[outcome]) for outcome in OUTCOMES) + " |")
    peak, slowest = facts["peak_mb"], facts["slowest"]
    lines.append(
        f"\nPeak memory: median {peak['median']:.0f} MB, largest {peak['largest'][0]:.0f} MB ({peak['largest'][1]}). "
        f"Slowest: {slowest[0]:.1f} s ({slowest[1]})."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="", help="exported .onnx file [the one that is shipped]")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one file, after which it counts as hung")
    parser.add_argument("--keep", type=Path, help="folder for the files that crashed, hung or raised")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.model)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch) / "mutants"
        folder.mkdir(parents=True, exist_ok=True)
        clips = make_clips(Path(scratch))
        outcomes = measure(
            clips, folder, count=arguments.count, seed=arguments.seed, model=arguments.model, jobs=arguments.jobs,
            timeout=arguments.timeout,
        )  # fmt: skip
    facts = {
        "command": f"python benchmarks/hostile.py --count {arguments.count} --seed {arguments.seed}",
        "count": arguments.count,
        "seed": arguments.seed,
        "clips": list(clips),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        **summarize(outcomes),
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(facts, indent=2) + "\n")
    print(markdown(facts))


if __name__ == "__main__":
    main()
