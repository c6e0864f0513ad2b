"""Clips a second that InternVideo2 predicts from tensors on the card, by variant of its blocks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from gpu_run import Run, TimeSpentError, free, predictor, random_teacher, short
from teacher_throughput import deviation, unlike_clips
from torch.nn.attention import SDPBackend

import teacher.fast_inference
from distill.cache_audit import VERIFY_TOLERANCE
from distill.teaching import matrices_to_bf16
from rungwise.progress import note
from teacher.internvideo2 import InternVideo2Quality
from teacher.layers import count_flops, time_calls


def as_it_was(model: InternVideo2Quality) -> None:
    """Eager blocks."""


def prepared(model: InternVideo2Quality) -> None:
    """As the cache runs them on a card."""
    model.prepare_for_inference()


def gelu_apart(model: InternVideo2Quality) -> None:
    """Prepared, but the GELU in the compiled part."""
    model.prepare_for_inference()
    for block in model.backbone.blocks:
        block.mlp.gelu_in_product = False  # type: ignore[union-attr]


def bf16_tokens(model: InternVideo2Quality) -> None:
    """Prepared, and the tokens between blocks in bf16 too."""
    model.prepare_for_inference()
    position = model.backbone.pos_embed
    position.data = position.data.bfloat16()


def only_compiled(model: InternVideo2Quality) -> None:
    """Compiled, nothing folded."""
    model.compile_blocks()


FLASH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
VARIANTS: list[tuple[str, Callable[[InternVideo2Quality], None], list[SDPBackend] | None]] = [
    ("eager, as it was", as_it_was, None),
    ("prepared", prepared, None),
    ("prepared, flash attention", prepared, FLASH),
    ("prepared, bf16 tokens", bf16_tokens, None),
    ("prepared, GELU apart", gelu_apart, None),
    ("compiled only, flash attention", only_compiled, FLASH),
]


def judge(run: Run) -> dict[str, Any]:
    """Clips a second from tensors on the card, by variant, each compared with fp32 and with the eager one."""
    reference, batch = random_teacher(run), 16 if run.cuda else 2
    pixels = unlike_clips(batch, run.shape["num_frames"], run.shape["img_size"], run.device)
    checked = pixels[:4]
    exact = predictor(reference, run, "fp32")(checked)
    flops = count_flops(lambda: predictor(reference, run, "fp32")(pixels[:1]))
    eager = None
    for name, change, attention in VARIANTS:
        if run.rows and not run.has_time(f"judge: {name}", 12 if run.cuda else 60):
            continue
        row: dict[str, Any] = {"variant": name, "batch": batch}
        model = copy.deepcopy(reference)
        with attention_order(attention):
            change(model)
            matrices_to_bf16(model)
            predict = partial(predictor(model, run, "bf16"), pixels)
            try:
                started = time.perf_counter()
                fields = {key: value[: len(checked)] for key, value in predict().items()}
                row["first_call_seconds"] = time.perf_counter() - started
                eager = fields if eager is None else eager
                row |= {"from_fp32": deviation(fields, exact), "from_eager": deviation(fields, eager)}
                row |= rates(predict, batch, flops, run)
                if name == "prepared":
                    row["kernels"] = kernels(predict, run)
            except TimeSpentError:
                raise
            except Exception as error:
                row["error"] = short(error)
        if row.get("from_eager", 0.0) > VERIFY_TOLERANCE["bf16"]:
            row["error"] = f"off the eager output by {row['from_eager']:.2g} of its scale"
        note(f"judge: {without_kernels(row)}")
        run.rows.append(row)
        del model, predict
        free()
    return {"flops_per_clip": flops, "bar": "100 clips/s (H200)"}


@contextmanager
def attention_order(order: list[SDPBackend] | None) -> Iterator[None]:
    """Another order of attention kernels in the prepared blocks."""
    own = teacher.fast_inference.ATTENTION
    teacher.fast_inference.ATTENTION = order or own
    try:
        yield
    finally:
        teacher.fast_inference.ATTENTION = own


def rates(call: Callable[[], object], clips: int, flops: int, run: Run) -> dict[str, Any]:
    """Clips a second: two timings of about a second each, the faster counts."""
    if run.cuda:
        torch.cuda.reset_peak_memory_stats()
    once = time_calls(call, run.device, 1)
    repeats = max(2, round((1.2 if run.cuda else 0.2) / once))
    seconds = sorted(time_calls(call, run.device, repeats) / repeats for _ in range(2))
    return {
        "clips_per_second": clips / seconds[0],
        "spread": seconds[1] / seconds[0] - 1,
        "of_matrix_rate": clips / seconds[0] * flops / run.rate,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if run.cuda else None,
    }


def kernels(call: Callable[[], object], run: Run) -> list[dict[str, Any]]:
    """Time on the card by kernel, the longest first."""
    if not run.cuda:
        return []
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        call()
        torch.cuda.synchronize()
    events = [event for event in recorded.key_averages() if event.self_device_time_total > 0]
    total = sum(event.self_device_time_total for event in events)
    events.sort(key=lambda event: -event.self_device_time_total)
    return [
        {"kernel": event.key[:90], "calls": event.count, "share": event.self_device_time_total / total}
        for event in events[:14]
    ]


def without_kernels(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "kernels"}
