"""Seconds and memory of every stage at 1,000, 10,000 and 100,000 clips, with tiny files and a stub teacher.

    nice -n 5 python benchmarks/scale.py --clips 1000,10000 --work /tmp/scale --out benchmarks/results/scale.json

Each stage runs in a process of its own. Clips are hard links to one tiny encode for each rung, decoded once, so
what is measured is what grows with the number of clips, not decoding. Memory is anonymous memory (RssAnon): pages of
mapped files are the system's to drop. The table prints seconds of CPU, which other programs on the machine change
little. A run that was killed goes on after the last stage in `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

import rungwise.score.views
from distill import view_store
from distill.batches import epoch_batches
from distill.pipeline import STAGES
from distill.stage import Inputs
from distill.view_store import open_pixels, read_view_lists
from rungwise.artifact import Artifact, StageKey, run_stage, write_json
from rungwise.config import RunConfig
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.ladder.make import ladder_key, make_ladder, read_ladder, shard_key
from rungwise.ladder.shards import Shard
from rungwise.ladder.sources import Master
from rungwise.scenes import write_master
from rungwise.score.views import View
from teacher.cache import CACHE_VERSION, read_cache, write_cache
from teacher.shard_files import write_index

CRFS = range(20, 40)  # rungs of a content
NUM_MASTERS = 5  # different files; contents beyond share their bytes
SIZE_PX = (112, 64)
FEATURE_DIM = 128
BASE = Path(__file__).parents[1] / "tests" / "distill" / "small.yaml"
CHANGES: dict[str, Any] = {
    "ladder": {
        "label": "vmaf_v0.6.1",
        "extra_labels": [],
        "rungs": [{"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [*CRFS]}],
    },
    "views": {"per_clip": 2, "recipe": {"num_frames": 2, "frame_choice": "uniform", "grid": 2, "patch_px": 16}},
    "splits": {"validation": 2, "test": 2, "seed": 0},
}
NANO = {"embed_dim": [16, 16, 16], "depths": [1, 1, 1], "state_dim": [4, 4, 4], "feature_dim": FEATURE_DIM}


class Work:
    """A run of `clips` clips below a folder."""

    def __init__(self, folder: Path, clips: int) -> None:
        self.folder, self.runs = folder, folder / f"runs-{clips}"
        values = yaml.safe_load(BASE.read_text()) | CHANGES
        values["student"] |= {"size": NANO}
        values["student"]["training"] |= {"epochs": 1, "validate_every": 1, "contents_per_batch": 8, "augment": None}
        self.config = RunConfig.model_validate(values)
        assert self.config.ladder is not None
        self.ladder_config = self.config.ladder
        self.masters = [
            Master(f"content{number:05d}", f"content{number:05d}", self.master(number % NUM_MASTERS), f"{number:064x}")
            for number in range(clips // len(CRFS))
        ]

    def master(self, number: int) -> Path:
        """One of the tiny masters."""
        path = self.folder / "masters" / f"{number}.mkv"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            scene = ("street_a", "fog_b", "water_a", "film_c", "screen_a")[number]
            write_master(scene, path, width=SIZE_PX[0], height=SIZE_PX[1], num_frames=6, fps=6.0)
        return path

    def encode(self, number: int, crf: int) -> Path:
        """The tiny encode of one rung of one of the masters."""
        path = self.folder / "encodes" / f"{number}-{crf}.mp4"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(self.master(number), path, EncodeSpec("h264", SIZE_PX[1], preset="ultrafast", crf=crf))
        return path

    def prepare(self) -> None:
        """A finished shard that holds every clip, as workers leave it."""
        key = shard_key(ladder_key(self.ladder_config, self.masters, []), Shard(1, 1))

        def build(folder: Path) -> None:
            encodes = folder / "encodes"
            encodes.mkdir()
            for number, master in enumerate(self.masters):
                for crf in CRFS:
                    name = f"{master.content}-h264-{SIZE_PX[1]}p-crf{crf}-ultrafast"
                    source = self.encode(number % NUM_MASTERS, crf)
                    os.link(source, encodes / f"{name}.mp4")
                    (encodes / f"{name}.json").write_text(json.dumps({"row": _row(master, name, crf)}))

        run_stage(self.runs, key, build)

    def ladder(self) -> Artifact:
        """Merge the shard: verify and copy every clip, write the table."""
        return make_ladder(self.ladder_config, self.masters, self.runs)

    def stage(self, name: str, artifacts: dict[str, Artifact]) -> Artifact:
        """A stage of the pipeline."""
        stage = next(stage for stage in STAGES if stage.name == name)
        key = stage.key(self.config, artifacts)
        build = partial(stage.build, config=self.config, inputs=Inputs(key, artifacts, self.runs))
        return run_stage(self.runs, key, build)

    def views(self) -> Artifact:
        """Choose the views of every clip, and pack their pixels; equal files are decoded once."""
        make_views, read_views = rungwise.score.views.make_views, rungwise.score.views.read_views
        views_by_bytes: dict[bytes, list[View]] = {}
        pixels_by_bytes: dict[bytes, NDArray[np.uint8]] = {}

        def views_once(path: Path, *arguments: Any, **options: Any) -> list[View]:
            file = path.read_bytes()
            if file not in views_by_bytes:
                views_by_bytes[file] = make_views(path, *arguments, **options)
            return views_by_bytes[file]

        def pixels_once(path: Path, views: Sequence[View]) -> NDArray[np.uint8]:
            file = path.read_bytes()
            if file not in pixels_by_bytes:
                pixels_by_bytes[file] = read_views(path, views)
            return pixels_by_bytes[file]

        with patch.multiple(view_store, make_views=views_once, read_views=pixels_once):
            return self.stage("views", {"dataset": self.ladder()})

    def cache(self) -> Artifact:
        """The cache of a stub teacher, whose outputs follow from the pixels' mean."""
        dataset, views = self.ladder(), self.views()
        inputs = {"dataset": dataset.content_sha256, "views": views.content_sha256}
        table = read_ladder(dataset)
        pixels = open_pixels(views)

        def judge(pixels_MVTSSC: torch.Tensor) -> dict[str, torch.Tensor]:
            means = pixels_MVTSSC.float().mean((2, 3, 4, 5))
            levels = (means[..., None] / 255 + torch.arange(5)).softmax(-1)
            features = (means[..., None] + torch.arange(FEATURE_DIM)).half()
            return {"scores": means / 2.55, "levels": levels, "features": features}

        def build(folder: Path) -> None:
            section = self.config.cache
            write_cache(
                folder, len(table), lambda row: np.array(pixels[row]), judge,
                clips_per_shard=section.clips_per_shard, clips_per_batch=section.clips_per_batch,
            )  # fmt: skip
            write_index(folder, table, read_view_lists(views), clips_per_shard=section.clips_per_shard)

        return run_stage(self.runs, StageKey("cache", CACHE_VERSION, {}, inputs), build)

    def targets(self) -> None:
        """Read the views and the teacher's targets, as every process of a training does."""
        table = read_ladder(self.ladder())
        read_cache(self.cache(), list(table["clip"]), read_view_lists(self.views()))

    def batches(self) -> None:
        """Plan one epoch."""
        contents = list(read_ladder(self.ladder())["content"])
        training = self.config.student.training
        epoch_batches(
            contents, contents_per_batch=training.contents_per_batch, clips_per_content=training.clips_per_content,
            seed=0, epoch=0,
        )  # fmt: skip

    def distill(self) -> None:
        """One epoch of a nano student."""
        self.stage("distill", {"cache": self.cache(), "dataset": self.ladder(), "views": self.views()})


def _row(master: Master, clip: str, crf: int) -> dict[str, Any]:
    return {
        "clip": clip,
        "path": f"encodes/{clip}.mp4",
        "content": master.content,
        "group": master.group,
        "origin": master.origin,
        "codec": "h264",
        "preset": "ultrafast",
        "rate_control": f"crf={crf}",
        "scaler": "",
        "bit_depth": 8,
        "first_crf": None,
        "width": SIZE_PX[0],
        "height": SIZE_PX[1],
        "fps": 6.0,
        "duration_seconds": 1.0,
        "bitrate_kbps": 1000.0 * 0.9 ** (crf - 20),
        "display_height": SIZE_PX[1],
        "score": 100.0 - 2 * (crf - 20),
        "score_std": None,
        "score_kind": "vmaf_v0.6.1",
        "score_polarity": "higher_is_better",
        "score_min": 0.0,
        "score_max": 100.0,
        "split": "",
        "video_sha256": "0" * 64,
    }


MEASURED: tuple[str, ...] = ("ladder", "views", "cache", "targets", "batches", "distill")


def measure(folder: Path, clips: int, stage: str) -> dict[str, float]:
    """Seconds, those of CPU, and peak anonymous memory of one stage in a process of its own."""
    command = [sys.executable, __file__, "--work", str(folder), "--clips", str(clips), "--stage", stage]
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        peak = max(peak, _anonymous_kib(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"scale: {stage} of {clips} clips failed after {time.monotonic() - started:.0f} s")
    assert process.stdout is not None
    seconds: dict[str, float] = json.loads(process.stdout.read())
    return seconds | {"peak_mib": round(peak / 1024, 1)}


def _anonymous_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def run_one(folder: Path, clips: int, stage: str) -> None:
    """Print the seconds of one stage, and those of CPU; its inputs exist."""
    work = Work(folder, clips)
    call: Callable[[], object] = getattr(work, stage)
    started, cpu = time.monotonic(), time.process_time()
    call()
    print(json.dumps({
        "seconds": round(time.monotonic() - started, 2), "cpu_seconds": round(time.process_time() - cpu, 2)
    }))  # fmt: skip


def print_table(results: dict[str, dict[str, dict[str, float]]], sizes: Sequence[int]) -> None:
    """A row a stage: CPU seconds and memory at each number of clips."""
    print(f"{'stage':10}" + "".join(f"{f'{clips:,} clips':>26}" for clips in sizes))
    for stage in MEASURED:
        cells = [results[str(clips)][stage] for clips in sizes]
        print(f"{stage:10}" + "".join(f"{cell['cpu_seconds']:>12.1f} s {cell['peak_mib']:>7.0f} MiB" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="1000,10000", help="numbers of clips")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder; 30 KB a clip")
    parser.add_argument("--out", type=Path, help="JSON of results; what is in it is not measured again")
    parser.add_argument("--stage", help="run this stage alone, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(word) for word in options.clips.split(",")]
    if options.stage:
        run_one(options.work, sizes[0], options.stage)
        return
    results: dict[str, dict[str, dict[str, float]]] = {}
    if options.out and options.out.is_file():
        results = json.loads(options.out.read_text())["clips"]
    for clips in sizes:
        Work(options.work, clips).prepare()
        stages = results.setdefault(str(clips), {})
        for stage in MEASURED:
            if stage in stages:
                continue
            stages[stage] = measure(options.work, clips, stage)
            print(f"{clips} {stage} {stages[stage]}", file=sys.stderr)
            if options.out:
                write_json(options.out, {"cores": os.cpu_count(), "threads": 1, "clips": results})
    print_table(results, sizes)


if __name__ == "__main__":
    main()
