"""Seconds of a training step: the 1B tuned by InternVQA's rule, and the student of the shipped recipe."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gpu_decode import is_importable
from gpu_run import SCALE, Run, TimeSpentError, free, short, wait
from numpy.typing import NDArray
from torch import Tensor

from distill.examples import Examples
from distill.model import Upper
from distill.train import Trainer, fit
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.config import Execution, RunConfig, Training, load_config
from rungwise.progress import note
from student.models import STUDENTS, student_settings
from teacher.internvideo2 import InternVideo2Quality

ROOT = Path(__file__).parent.parent
STEPS_BEFORE = 14.0  # seconds of a tuning step on an H200 before DeepSpeed ran it in bf16


def tune(run: Run) -> dict[str, Any]:
    """Seconds of a tuning step by InternVQA's rule, 8 contents of 4 clips, in the trainer as it is."""
    config = load_config(ROOT / "configs/internvideo2_1b.yaml")
    zero_stage: Literal[2] | None = 2 if is_importable("deepspeed") and run.cuda else None
    if zero_stage is None:
        run.skipped["tune under DeepSpeed"] = "no deepspeed here, or no card: the plain engine instead"
    for compiled, recompute in ((True, True), (False, True), (True, False)):
        name = f"{'compiled' if compiled else 'eager'}, {'recomputed' if recompute else 'activations kept'}"
        if run.rows and not run.has_time(f"tune: {name}", 15 if run.cuda else 60):
            continue
        torch.manual_seed(0)
        with torch.device(run.device):
            model = InternVideo2Quality(
                shape=run.shape, tune="internvqa", num_levels=5, minimum=SCALE.minimum, maximum=SCALE.maximum
            )
        if recompute:
            model.recompute_activations()
        if compiled:
            model.compile_blocks()
        clips = 4 if run.cuda else 2
        train = tuning_examples(run, steps=6 if run.cuda else 2)
        training = config.teacher.training.model_copy(update={"epochs": 1, "contents_per_batch": 2 * clips})
        execution = Execution(zero_stage=zero_stage, gradient_checkpointing=recompute, keep_frozen=False)
        row = {"variant": name} | steps_of(model, train, training, run, "bf16", execution)
        note(f"tune: {row}")
        run.rows.append(row)
        del model
        free()
    return {"zero_stage": zero_stage, "bar": f"1.5 s a step (H200), {STEPS_BEFORE:g} before"}


def tuning_examples(run: Run, *, steps: int) -> Examples:
    frames, px = run.shape["num_frames"], run.shape["img_size"]
    return examples(np.random.default_rng(0).integers(0, 256, (32 * steps, 1, frames, px, px, 3), np.uint8), 8)


def examples(inputs: NDArray[Any], contents: int, targets: dict[str, NDArray[np.float32]] | None = None) -> Examples:
    """Rows of random labels."""
    rows, rng = len(inputs), np.random.default_rng(1)
    return Examples(
        inputs=inputs,
        scores=rng.uniform(0, 100, rows).astype(np.float32),
        contents=tuple(f"content {row % contents}" for row in range(rows)),
        codecs=("h264",) * rows,
        classes=np.arange(rows) % 7,
        groups=np.full(rows, -1),
        patch_px=56,
        frames_each=1,
        stream=rng.normal(size=(rows, BITSTREAM_INPUT_DIM)).astype(np.float32),
        stream_weights=np.ones(rows, np.float32),
        targets=targets or {},
    )


def steps_of(
    model: Any, train: Examples, training: Training, run: Run, precision: str, execution: Execution, device: str = ""
) -> dict[str, Any]:
    """Seconds of each step of one epoch of `fit`, the card's peak memory and use."""
    seconds: list[float] = []
    step = Trainer.step

    def timed(trainer: Trainer, update: Sequence[list[int]], batches: Iterator[dict[str, Tensor]]) -> Any:
        if seconds and run.left < 1.5 * max(seconds[-1], 0.02):
            raise TimeSpentError
        wait(run)
        started = time.perf_counter()
        answer = step(trainer, update, batches)
        wait(run)
        seconds.append(time.perf_counter() - started)
        return answer

    row: dict[str, Any] = {}
    if run.cuda:
        torch.cuda.reset_peak_memory_stats()
    Trainer.step = timed  # type: ignore[assignment, method-assign]
    try:
        with tempfile.TemporaryDirectory() as scratch, card_use(run) as use:
            fit(
                model, train, None, training, SCALE, seed=0, scratch=Path(scratch), name="benchmark",
                device=device or run.device, precision=precision, execution=execution,
            )  # fmt: skip
    except TimeSpentError:
        row["error"] = "stopped: its time was spent"
    except Exception as error:
        row["error"] = short(error)
        note(traceback.format_exc())
    finally:
        Trainer.step = step  # type: ignore[method-assign]
    if seconds:
        later = seconds[1:] or seconds
        row |= {"first_step_seconds": seconds[0], "step_seconds": statistics.median(later), "steps": len(later)}
        row |= {"steps_per_second": 1 / row["step_seconds"], "card_use": use and statistics.fmean(use)}
    if run.cuda:
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row


@contextmanager
def card_use(run: Run) -> Iterator[list[float]]:
    """Samples of the fraction of time in which the card runs some kernel, as its driver counts."""
    samples: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.2):
            try:
                samples.append(torch.cuda.utilization() / 100)
            except Exception as error:
                run.skipped["card use"] = short(error)
                return

    thread = threading.Thread(target=sample, daemon=True)
    if run.cuda:
        thread.start()
    try:
        yield samples
    finally:
        over.set()
        if run.cuda:
            thread.join()


def student(run: Run) -> dict[str, Any]:
    """Steps a second of the shipped recipe's student, on the card and on two CPU threads."""
    config = load_config(ROOT / "benchmarks/default.yaml")
    threads = torch.get_num_threads()
    execution = Execution(zero_stage=None, gradient_checkpointing=False, keep_frozen=True)
    for name, device in [("card", run.device)] * run.cuda + [("2 CPU threads", "cpu")]:
        for stored in (True, False):
            what = f"{name}, {'stored stem output' if stored else 'pixels'}"
            if run.rows and not run.has_time(f"student: {what}", 3):
                continue
            torch.set_num_threads(2 if device == "cpu" else threads)
            model, train = student_examples(config, stored=stored, steps=60 if device != "cpu" else 12)
            training = config.student.training.model_copy(update={"epochs": 1})
            fitted = Upper(model, config.student.model) if stored else model
            row = {"variant": what} | steps_of(fitted, train, training, run, "fp32", execution, device)
            note(f"student: {row}")
            run.rows.append(row)
    torch.set_num_threads(threads)
    return {"bar": "20 times two CPU cores, card busy 60 %"}


def student_examples(config: RunConfig, *, stored: bool, steps: int) -> tuple[Any, Examples]:
    """The student of random weights, and rows of what it trains on."""
    section, recipe = config.student, config.views.recipe
    torch.manual_seed(0)
    settings = student_settings(section, recipe)
    settings |= {"num_levels": config.teacher.num_levels, "minimum": SCALE.minimum, "maximum": SCALE.maximum}
    model = STUDENTS[section.model](**settings)
    rng, count = np.random.default_rng(0), 24 * steps
    px = recipe.size_px
    inputs = rng.integers(0, 256, (24, 1, recipe.num_frames, px, px, 3), np.uint8)
    if stored:
        with torch.no_grad():
            inputs = model.eval().lower(torch.from_numpy(inputs[:, 0])).numpy()[:, None]
    inputs = inputs[np.arange(count) % 24]
    targets = {
        "scores": rng.uniform(0, 100, (count, 1)).astype(np.float32),
        "levels": np.full((count, 1, config.teacher.num_levels), 1 / config.teacher.num_levels, np.float32),
        "features": rng.normal(size=(count, 1, 128)).astype(np.float32),
    }
    made = examples(inputs, 48, targets)
    return model, replace(made, patch_px=recipe.patch_px, frames_each=1 if stored else recipe.choice.frames_per_step)
