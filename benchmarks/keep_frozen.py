"""What caching the frozen layers' output saves: the same tuning with and without it, side by side in one run.

    python benchmarks/keep_frozen.py --out benchmarks/results/keep_frozen.json

Built-in scenes and random weights, so no hub: InternVideo2-S's shape with its last block tuned, and Q-CLIP's adapters
on the last six of twelve layers. The losses of both are compared before their times.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from distill.pipeline import run
from rungwise.artifact import write_json
from rungwise.config import load_config

ROOT = Path(__file__).parents[1]
SCENES = ["street_a", "fog_b", "screen_a", "water_a", "film_c", "night_city_a", "foliage_a", "street_b"]
VIEWS = {"per_clip": 1, "recipe": {"num_frames": 4, "frame_choice": "uniform", "grid": 4, "patch_px": 28}}
S_SHAPE = {
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
    "mlp_ratio": 4,
    "attn_pool_num_heads": 16,
    "clip_embed_dim": 768,
}
CASES: dict[str, dict[str, Any]] = {
    "internvideo2": {"size": S_SHAPE, "tune": "last_block"},
    "q_clip": {"adapter": "release", "adapted_layers": 6},
}
TOLERANCE = 1e-3  # relative, of every loss of every epoch


def measure(base: dict[str, Any], model: str, clip: Path, runs: Path, epochs: int) -> dict[str, Any]:
    """Both ways of one teacher, each in a runs folder of its own that shares the ladder."""
    spec = importlib.util.spec_from_file_location("teachers", ROOT / "benchmarks" / "teachers.py")
    assert spec is not None
    assert spec.loader is not None
    teachers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(teachers)
    clip = clip if clip.is_dir() else teachers.write_tiny_clip(clip, patch_px=14, num_layers=12, vision_width=256)
    seconds, histories = {}, []
    for way, keep in (("each time", False), ("kept", True)):
        execution = teachers.PLAIN | {"keep_frozen": keep}
        config = teachers.run_config(base, model, clip, epochs=epochs, execution=execution, **CASES[model])
        config["views"] = VIEWS
        config["teacher"]["training"] |= {"augment": None, "validate_every": epochs}
        path = runs / f"{model}-{way.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump(config))
        own = runs / path.stem
        own.mkdir(parents=True, exist_ok=True)
        for stage in ("masters", "ladder", "views"):
            if not (own / stage).exists():
                (own / stage).symlink_to((runs / stage).resolve())
        run(load_config(path), runs, until="views")
        artifact = run(load_config(path), own, until="teach").artifacts["teach"]
        seconds[way] = artifact.seconds
        histories.append(json.loads((artifact.path / "history.json").read_text()))
    worst = max(
        abs(left[name] - right[name]) / max(abs(left[name]), 1e-6)
        for left, right in zip(*histories, strict=True)
        for name in left
    )
    return {
        "teacher": model,
        "epochs": epochs,
        "seconds_each_time": seconds["each time"],
        "seconds_kept": seconds["kept"],
        "times_as_fast": seconds["each time"] / seconds["kept"],
        "largest_relative_difference_of_losses": worst,
        "losses_agree": worst < TOLERANCE,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What keeping the frozen layers' output saves")
    parser.add_argument("--runs", type=Path, default=Path("runs_keep_frozen"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    base = yaml.safe_load((ROOT / "tests" / "distill" / "small.yaml").read_text())
    base["sources"] |= {"builtin": SCENES, "width": 320, "height": 180, "num_frames": 8, "fps": 8.0}
    base["ladder"] |= {"label": "vmaf_v0.6.1"}
    base["splits"] = {"validation": 1, "test": 1, "seed": 0}
    arguments.runs.mkdir(parents=True, exist_ok=True)
    rows = [measure(base, model, arguments.runs / "clip", arguments.runs, arguments.epochs) for model in CASES]
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )
    if arguments.out:
        write_json(
            arguments.out,
            {"command": " ".join(sys.argv), "cores": os.cpu_count(), "torch": torch.__version__, "rows": rows},
        )
    if not all(row["losses_agree"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
