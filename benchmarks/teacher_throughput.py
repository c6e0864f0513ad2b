"""Measure how many clips a second an InternVideo2 teacher predicts, and which fraction of the device that uses.

    python benchmarks/teacher_throughput.py --out benchmarks/results/NAME.json

On a GPU: the 1B tower, 8 frames of 224 px, bf16 as the cache runs it. On a CPU: a tiny one, to try the script.
Weights are random. All rates are of one run, so compare their ratios; seconds alone depend on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distill.cache_audit import VERIFY_TOLERANCE
from distill.teaching import MATRIX_SIZE, make_predict, matrices_to_bf16
from rungwise.artifact import write_json
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.media.video import probe
from rungwise.progress import note
from rungwise.scenes import SCENES, write_master
from rungwise.score.views import ViewRecipe, make_views, read_views
from teacher.cache import Clock, Fields, Judge, Read, judge_stream
from teacher.internvideo2 import SIZES, InternVideo2Quality
from teacher.layers import Layers, count_flops, matrix_rate, time_calls

TINY = {"embed_dim": 96, "depth": 3, "num_heads": 6, "mlp_ratio": 4, "clip_embed_dim": 48, "attn_pool_num_heads": 6}
VIDEO_SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".y4m"}
CHECKED_CLIPS = 64  # of the stream; its last ones, for a race shows when all stages are busy
SCORE_RANGE = 100.0
# Where time is booked: the end of a module's name -> kind. What a listed module does outside the listed modules
# within it is its own: of `attn` the attention proper, of `mlp` the GELU, of the backbone the blocks' sums.
KINDS = {
    ".qkv": "attention, products",
    ".attn.proj": "attention, products",
    ".attn": "attention, softmax",
    ".fc1": "mlp, products",
    ".fc2": "mlp, products",
    ".mlp": "mlp, gelu",
    **dict.fromkeys((".norm1", ".norm2", ".q_norm", ".k_norm"), "norms"),
    **dict.fromkeys((".ls1", ".ls2"), "layer scales"),
    "backbone": "sums and positions",
    ".patch_embed": "patches",
    "normalize": "normalize",
}
REST = "the rest"


def build_model(size: str, frames: int, px: int, device: str, precision: str) -> InternVideo2Quality:
    """A tower of random weights, ready to judge."""
    shape = (TINY if size == "tiny" else SIZES[size]) | {"num_frames": frames, "img_size": px}
    torch.manual_seed(0)
    with torch.device(device):  # 6B weights are drawn much faster there
        model = InternVideo2Quality(shape=shape, tune="head", num_levels=5, minimum=0.0, maximum=SCORE_RANGE)
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):  # at its start of 1e-5 no output would depend on a block
            nn.init.constant_(parameter, 0.5)
    model = model.to(device).eval()
    if precision == "bf16":
        matrices_to_bf16(model)
    return model


def unlike_clips(count: int, frames: int, px: int, device: str) -> Tensor:
    """Noise over coarse blocks of color, pixels_MVTSSC: clips whose judgments differ."""
    rng = np.random.default_rng(0)
    cell = -(-px // 4)
    coarse = rng.integers(0, 200, (count, 1, frames, 4, 4, 3), np.uint8).repeat(cell, 3).repeat(cell, 4)[:, :, :, :px]
    return torch.from_numpy(coarse[..., :px, :] + rng.integers(0, 56, (px, px, 3), np.uint8)).to(device)


def deviation(fields: Fields, expected: Fields) -> float:
    """Largest difference of scores and features over their scale: the label's range, and the largest feature."""
    features = expected["features"].double()
    return max(
        float((fields["scores"].double() - expected["scores"].double()).abs().max()) / SCORE_RANGE,
        float((fields["features"].double() - features).abs().max() / features.abs().max()),
    )


def joined(parts: Sequence[Fields]) -> Fields:
    """Fields of several batches as those of one, on the CPU."""
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def measure_batch(judge: Judge, pixels: Tensor, tolerance: float, seconds: float) -> dict[str, Any]:
    """Check a batch against its clips one by one, then time it."""
    device, clips = str(pixels.device), len(pixels)
    singly = joined([judge(pixels[row : row + 1]) for row in range(clips)])
    off = deviation(joined([judge(pixels)]), singly)
    if not off <= tolerance:
        raise ValueError(f"batch {clips}: outputs are {off:.2g} of their scale off those one by one, over {tolerance}")
    repeats = max(3, round(seconds / time_calls(lambda: judge(pixels), device, 1)))
    if pixels.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    rate = clips * repeats / time_calls(lambda: judge(pixels), device, repeats)
    peak = torch.cuda.max_memory_allocated() if pixels.is_cuda else None
    note(f"batch {clips}: {rate:.2f} clips/s")
    facts = {"batch": clips, "clips_per_second": rate, "repeats": repeats, "peak_memory_bytes": peak, "deviation": off}
    if clips > 1:  # the check means something only where other clips' outputs lie further off
        facts["clips_differ_by"] = deviation(singly, {name: value.roll(1, 0) for name, value in singly.items()})
    return facts


def by_kind(
    model: nn.Module, call: Callable[[], object], mark: Callable[[], Any], between: Callable[[Any, Any], float]
) -> dict[str, float]:
    """One call's cost by kind of module: the differences of marks taken on entering and leaving each."""
    marks: list[tuple[str | None, Any]] = []
    hooks: list[Any] = []

    def watch(module: nn.Module, kind: str) -> None:
        hooks.append(module.register_forward_pre_hook(lambda *_: marks.append((kind, mark()))))
        hooks.append(module.register_forward_hook(lambda *_: marks.append((None, mark()))))

    for name, module in model.named_modules():
        for kind in [kind for end, kind in KINDS.items() if name.endswith(end)][:1]:
            watch(module, kind)
    marks.append((REST, mark()))
    call()
    marks.append((None, mark()))
    for hook in hooks:
        hook.remove()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # events have times only once they are reached
    inside: list[str] = []
    costs = dict.fromkeys([*KINDS.values(), REST], 0.0)
    for (entered, start), (_, stop) in pairwise(marks):
        inside = inside[:-1] if entered is None else [*inside, entered]
        costs[inside[-1]] += between(start, stop)
    return costs


def profile(model: nn.Module, judge: Judge, pixels: Tensor, rate: float) -> list[dict[str, Any]]:
    """Share of time by kind and, where there are products, the share of the matrix rate they reach.

    Events on the card's own timeline, so nothing waits; still passes of their own, for marks cost a little.
    """

    def event() -> Any:
        return torch.cuda.current_stream().record_event(torch.cuda.Event(enable_timing=True))

    def time_between(start: Any, stop: Any) -> float:
        return float(start.elapsed_time(stop) / 1000 if pixels.is_cuda else stop - start)

    clock = event if pixels.is_cuda else time.perf_counter
    passes = [by_kind(model, lambda: judge(pixels), clock, time_between) for _ in range(4)][1:]
    seconds = {kind: sum(costs[kind] for costs in passes) / len(passes) for kind in passes[0]}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        flops = by_kind(model, lambda: judge(pixels[:1]), counter.get_total_flops, lambda start, stop: stop - start)
    return [
        {
            "kind": kind,
            "time_share": spent / sum(seconds.values()),
            "flop_share": flops[kind] / sum(flops.values()),
            "of_matrix_rate": len(pixels) * flops[kind] / spent / rate if spent > 0 else 0.0,
        }
        for kind, spent in sorted(seconds.items(), key=lambda item: -item[1])
    ]


@contextlib.contextmanager
def clip_files(folder: Path | None) -> Iterator[list[Path]]:
    """The folder's videos, or four built-in scenes encoded for the time of the context."""
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            for name in [name for name in SCENES if name.endswith("_a")][:4]:
                write_master(name, Path(scratch, "master.mkv"), width=640, height=360, num_frames=48, fps=24.0)
                encode(Path(scratch, "master.mkv"), Path(scratch, f"{name}.mp4"), EncodeSpec("h264", 360, crf=28))
            Path(scratch, "master.mkv").unlink()
        videos = sorted(path for path in (folder or Path(scratch)).rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        if not videos:
            raise ValueError(f"{folder}: no video here ({', '.join(sorted(VIDEO_SUFFIXES))})")
        yield videos


def measure_stream(
    judge: Judge, read: Read, device: str, batch: int, pure: float, seconds: float, tolerance: float
) -> dict[str, Any]:
    """The same with decoding in the loop; `pure` is the clips a second that the batch reaches without."""
    workers = os.cpu_count() or 1
    decode_rate = measure_decode(read, workers, seconds / 4)
    count = -(-max(int(min(pure, decode_rate) * seconds), 4 * batch) // batch) * batch
    note(f"decoding alone: {decode_rate:.1f} clips/s with {workers} workers; now {count} clips in the stream")

    def run(rows: int, clock: Clock) -> list[Fields]:
        batches = iter([range(start, start + batch) for start in range(0, rows, batch)])
        return list(judge_stream(batches, read, judge, device=device, workers=workers, clock=clock))

    run(2 * batch, Clock())  # first use of pinned memory is slow
    clock, started = Clock(), time.perf_counter()
    parts = run(count, clock)
    wall = time.perf_counter() - started
    checked = range(max(0, count - CHECKED_CLIPS), count)
    direct = joined([judge(torch.from_numpy(read(row))[None].to(device)) for row in checked])
    off = deviation({name: value[-len(checked) :] for name, value in joined(parts).items()}, direct)
    if not off <= tolerance:
        raise ValueError(f"the stream's outputs are {off:.2g} of their scale off direct ones, over {tolerance}")
    return {
        "batch": batch,
        "clips": count,
        "clips_per_second": count / wall,
        "wall_seconds": wall,
        "busy_share": count / pure / wall,
        "clock_shares": {part: value / sum(clock.seconds.values()) for part, value in clock.seconds.items()},
        "decode_alone_clips_per_second": decode_rate,
        "workers": workers,
        "deviation": off,
    }


def measure_decode(read: Read, workers: int, seconds: float) -> float:
    """Clips a second that the workers read with nothing else going on."""
    started, done = time.perf_counter(), 0
    with ThreadPoolExecutor(workers) as pool:
        while done == 0 or time.perf_counter() - started < seconds:
            done += len(list(pool.map(read, range(done, done + 4 * workers))))
    return done / (time.perf_counter() - started)


def environment(device: str) -> dict[str, Any]:
    """What the figures were measured on, and by what."""
    here = Path(__file__).parent
    commit = None
    if shutil.which("git"):
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
        commit = git.stdout.strip() or None
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "git_commit": commit,
    }


def measure(args: argparse.Namespace, paths: Sequence[Path]) -> dict[str, Any]:
    """Everything, in one run."""
    device, dtype = args.device, torch.bfloat16 if args.precision == "bf16" else torch.float32
    tolerance, side = VERIFY_TOLERANCE[args.precision], MATRIX_SIZE if device.startswith("cuda") else 1024
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device).index or 0)
    model = build_model(args.size, args.frames, args.px, device, args.precision)
    judge = make_predict(model, Layers(model, ()), dtype="float16", precision=args.precision, device=device)
    pixels = unlike_clips(max(args.batch), args.frames, args.px, device)
    flops = count_flops(lambda: judge(pixels[:1]))
    rates, batches = [matrix_rate(device, dtype, side)], []
    for clips in sorted(args.batch):
        try:
            batches.append(measure_batch(judge, pixels[:clips], tolerance, args.seconds / 4))
        except torch.OutOfMemoryError:
            if not batches:
                raise
            note(f"batch {clips}: out of memory, so no larger one is tried")
            break
    rates.append(matrix_rate(device, dtype, side))  # again, for clocks change as a device warms up
    for row in batches:
        row["flops_per_second"] = row["clips_per_second"] * flops
        row["utilization"] = row["flops_per_second"] / max(rates)
    best = max(batches, key=lambda row: float(row["clips_per_second"]))
    kinds = profile(model, judge, pixels[: best["batch"]], max(rates)) if args.profile else []
    recipe = ViewRecipe(num_frames=args.frames, frame_choice="uniform", grid=1, patch_px=args.px)
    views = [make_views(path, recipe) for path in paths]

    def read(row: int) -> NDArray[np.uint8]:
        return read_views(paths[row % len(paths)], views[row % len(paths)])

    stream = measure_stream(judge, read, device, best["batch"], best["clips_per_second"], args.seconds, tolerance)
    files = {"count": len(paths), "first": probe(paths[0]).model_dump(exclude={"path"})}
    return {
        "shape": {"size": args.size, "frames": args.frames, "px": args.px, "precision": args.precision},
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "flops_per_clip": flops,
        "matrix_rates": rates,
        "matrix_size": side,
        "tolerance": tolerance,
        "batches": batches,
        "kinds": kinds,
        "stream": stream | {"flops_per_second": stream["clips_per_second"] * flops, "files": files},
        "environment": environment(device),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as aligned columns."""
    shape, stream, rate = result["shape"], result["stream"], max(result["matrix_rates"])
    rows = [["batch", "clips/s", "TFLOP/s", "of matrix rate", "peak GiB", "deviation"]]
    for row in [*result["batches"], stream | {"batch": f"{stream['batch']}, decoded"}]:
        peak = row.get("peak_memory_bytes")
        rate_cells = [f"{row['clips_per_second']:.2f}", f"{row['flops_per_second'] / 1e12:.4g}"]
        last_cells = ["-" if peak is None else f"{peak / 2**30:.2f}", f"{row['deviation']:.1e}"]
        rows.append([str(row["batch"]), *rate_cells, f"{row['flops_per_second'] / rate:.1%}", *last_cells])
    rows += [["", "of time", "of FLOP", "of matrix rate"]] if result["kinds"] else []
    for row in result["kinds"]:
        rows.append([row["kind"], *(f"{row[name]:.1%}" for name in ("time_share", "flop_share", "of_matrix_rate"))])
    widths = [max(len(row[column]) for row in rows if len(row) > column) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    clock = ", ".join(f"{part} {share:.0%}" for part, share in stream["clock_shares"].items())
    return "\n".join([
        f"InternVideo2-{shape['size']}, {shape['frames']} x {shape['px']} px, {shape['precision']}, "
        f"{result['flops_per_clip'] / 1e12:.4g} TFLOP a clip; {result['environment']['device']}, matrix rate "
        f"{rate / 1e12:.4g} TFLOP/s", *lines,
        f"decoded: device busy {stream['busy_share']:.1%} (aim 90 %); judging thread: {clock}; decoding alone "
        f"{stream['decode_alone_clips_per_second']:.1f} clips/s with {stream['workers']} workers",
    ])  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line, its defaults by device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=[*SIZES, "tiny"], help="[1B on cuda, tiny on cpu]")
    parser.add_argument("--frames", type=int, help="[8; tiny: 4]")
    parser.add_argument("--px", type=int, help="side of a view, a multiple of 14 [224; tiny: 56]")
    parser.add_argument("--batch", type=int, nargs="+", help="[1 2 4 8 16 32 on cuda, 1 2 4 on cpu]")
    parser.add_argument("--precision", choices=["bf16", "fp32"], help="[bf16 on cuda, fp32 on cpu]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="[cuda if there]")
    parser.add_argument("--clips", type=Path, help="folder of videos to decode [four built-in scenes, made now]")
    parser.add_argument("--seconds", type=float, help="work in the stream; a batch takes a quarter [20; cpu: 3]")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True, help="where time goes")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    args.size = args.size or ("1B" if cuda else "tiny")
    args.frames = args.frames or (4 if args.size == "tiny" else 8)
    args.px = args.px or (56 if args.size == "tiny" else 224)
    args.batch = args.batch or ([1, 2, 4, 8, 16, 32] if cuda else [1, 2, 4])
    args.precision = args.precision or ("bf16" if cuda else "fp32")
    args.seconds = args.seconds or (20.0 if cuda else 3.0)
    return args


if __name__ == "__main__":
    args = parse()
    with clip_files(args.clips) as paths:
        result = measure(args, paths)
    write_json(args.out, result)
    print(table(result))
