"""A small run of six scenes through all stages, and tiny runs of every kind of teacher."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.pipeline import Outcome, run
from rungwise.config import RunConfig, load_config

CHANGES = {
    "sources": {
        "builtin": ["street_a", "fog_b", "screen_a", "water_a", "film_c", "night_city_a"],
        "width": 192,
        "height": 108,
        "num_frames": 6,
        "fps": 6.0,
    },
    "ladder": {
        "label": "vmaf_v0.6.1",  # v1 wants larger pictures
        "extra_labels": [],
        "rungs": [
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0, 0.5], "crf": [25, 45]},
            {"codec": "hevc", "preset": "ultrafast", "scales": [1.0], "crf": [35]},
        ],
    },
    "splits": {"validation": 1, "test": 2, "seed": 0},
    "views": {
        "per_clip": 2,
        "recipe": {"num_frames": 2, "frame_choice": "uniform", "grid": 2, "patch_px": 32},
    },
    "cache": {"clips_per_shard": 12, "clips_per_batch": 5, "feature_dtype": "float16", "layers": ["head.0"]},
    "evaluate": {"num_resamples": 100},
    # int8 has its own tests: on five clips of one content a single swap is far over its budget.
    "export": {"opset": 20, "interval_coverage": 0.9, "precisions": ["fp32", "fp16"]},
}


@pytest.fixture(scope="session")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of a small run."""
    values = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text()) | CHANGES
    size = {"embed_dim": [16, 16, 16], "depths": [1, 1, 1], "state_dim": [4, 4, 4], "feature_dim": 128}
    values["student"] |= {"size": size}
    for part in ("teacher", "student"):
        values[part]["training"] |= {"epochs": 2, "validate_every": 1, "contents_per_batch": 3, "clips_per_content": 5}
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def config(config_path: Path) -> RunConfig:
    """The small config, read."""
    return load_config(config_path)


@pytest.fixture(scope="session")
def unbroken(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole run: its folder and outcome."""
    runs = tmp_path_factory.mktemp("runs")
    return runs, run(config, runs)


TEACHER_VIEWS = {"per_clip": 2, "recipe": {"num_frames": 4, "frame_choice": "uniform", "grid": 2, "patch_px": 28}}


class TeacherRuns:
    """Configs of tiny runs that share one ladder."""

    def __init__(self, folder: Path, bench: Any) -> None:
        self.folder, self.bench, self.runs = folder, bench, folder / "runs"
        self.clip = bench.write_tiny_clip(folder / "clip", patch_px=14)
        small = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text())
        self.base = small | {section: CHANGES[section] for section in ("sources", "ladder", "splits")}
        self.num_configs = 0

    def config(self, model: str, *, layers: tuple[str, ...] = (), training: Any = None, **changes: Any) -> Path:
        """Writes a config of this kind of teacher."""
        values = self.bench.run_config(self.base, model, self.clip, epochs=2, **changes)
        values["views"] = TEACHER_VIEWS
        values["cache"]["layers"] = list(layers)
        values["teacher"]["training"] |= {"contents_per_batch": 3, "clips_per_content": 5, "augment": None} | (
            training or {}
        )
        self.num_configs += 1
        path = self.folder / f"{model}-{self.num_configs}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def fresh_runs(self, name: str) -> Path:
        """A runs folder with the ladder and the views made, and nothing after them."""
        runs = self.folder / name
        for stage in ("masters", "ladder", "views"):
            shutil.copytree(self.runs / stage, runs / stage)
        return runs


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, teachers_benchmark: Any) -> TeacherRuns:
    """Configs of tiny runs, with the ladder and the views made."""
    runs = TeacherRuns(tmp_path_factory.mktemp("teaching"), teachers_benchmark)
    run(load_config(runs.config("internvideo2")), runs.runs, until="views")
    return runs


@pytest.fixture(scope="session")
def cached(small: TeacherRuns, teachers_benchmark: Any) -> dict[str, Outcome]:
    """Every kind of teacher, trained and cached."""
    layers: dict[str, str] = teachers_benchmark.LAYERS
    return {
        kind: run(load_config(small.config(kind, layers=(layer,))), small.runs, until="cache")
        for kind, layer in layers.items()
    }
