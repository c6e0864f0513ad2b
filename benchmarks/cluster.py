"""A small ladder made by a Slurm array of which one task is canceled, compared with one process byte for byte.

    python benchmarks/cluster.py --work /tmp/cluster --out benchmarks/results/cluster.json

Needs a Slurm cluster whose hosts see the work folder; one machine will do (Debian's slurm-wlm).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from rungwise.artifact import write_json

SHARDS = 4
BASE = Path(__file__).parents[1] / "tests" / "distill" / "small.yaml"
CHANGES: dict[str, Any] = {
    "sources": {"builtin": ["street_a", "fog_b"], "width": 192, "height": 108, "num_frames": 6, "fps": 6.0},
    "ladder": {
        "label": "vmaf_v0.6.1",
        "extra_labels": [],
        "rungs": [
            {"codec": "h264", "preset": "ultrafast", "scales": [1.0, 0.5], "crf": [25, 35, 45]},
            {"codec": "hevc", "preset": "ultrafast", "scales": [1.0], "crf": [35]},
        ],
    },
}


def make(config: Path, runs: Path, *options: str) -> dict[str, Any]:
    """The JSON that `rungwise ladder make` prints."""
    command = [sys.executable, "-m", "rungwise", "ladder", "make", str(config), "--runs", str(runs), "--json", *options]
    printed: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return printed


def run_array(config: Path, runs: Path, indices: str, *, canceled: int | None = None) -> None:
    """Run the shards of an array job; one task is canceled as soon as it is queued."""
    job = f"{sys.executable} -m rungwise ladder make {config} --runs {runs} --quiet --shard auto/{SHARDS}"
    submit = ["sbatch", "--parsable", f"--array={indices}", f"--output={runs.parent}/slurm-%A_%a.log", f"--wrap={job}"]
    number = subprocess.run(submit, check=True, capture_output=True, text=True).stdout.strip()
    if canceled is not None:
        subprocess.run(["scancel", f"{number}_{canceled}"], check=True)
    while subprocess.run(["squeue", "-h", "-j", number], capture_output=True, text=True, check=False).stdout:
        time.sleep(0.5)


def content(table: str) -> str:
    """Hash of all files of the artifact that holds a table."""
    digest: str = json.loads((Path(table).parent / "manifest.json").read_text())["content_sha256"]
    return digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder that all hosts see")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    config = work / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(BASE.read_text()) | CHANGES))
    alone = make(config, work / "alone")
    run_array(config, work / "array", f"0-{SHARDS - 1}", canceled=2)
    missing = make(config, work / "array", "--missing", str(SHARDS))["missing"]
    run_array(config, work / "array", ",".join(map(str, missing)))
    still_missing = make(config, work / "array", "--missing", str(SHARDS))["missing"]
    merged = make(config, work / "array")
    version = subprocess.run(["sinfo", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    results = {
        "scheduler": version,
        "shards": SHARDS,
        "encodes": merged["encodes"],
        "missing after one task was canceled": missing,
        "missing after those ran again": still_missing,
        "same bytes as one process": content(merged["table"]) == content(alone["table"]),
    }
    write_json(options.out, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
