"""Score held-out encodes with the packaged model and the usual metrics: the tables of README and model card.

    python benchmarks/accuracy.py --runs RUNS --out benchmarks/results/accuracy.csv \\
        --unseen benchmarks/results/unseen.csv
    rungwise metrics benchmarks/results/accuracy.csv --by lines,generation --against previous,log-bitrate \\
        --pred psnr,ssim,pixel_only,hybrid,previous,vmaf_v0 --json > benchmarks/results/accuracy.json

RUNS is where `make default-model` left its artifacts; masters/ and photographs/ must lie where it found them. Only the
test contents of benchmarks/default.yaml are scored. `--unseen` encodes those below 720 lines with codecs and encoders
that the ladder does not have, and scores those. `--previous CSV` adds the hybrid scores of an earlier table of the same
encodes. The second command needs no videos: anyone can repeat it on the committed CSV.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from unseen_codecs import unseen_encodes

from distill.pipeline import run
from rungwise.artifact import write_text
from rungwise.config import load_config
from rungwise.dataset_table import assign_splits
from rungwise.ladder.label import label
from rungwise.ladder.make import read_ladder
from rungwise.progress import track
from rungwise.score.scorer import Scorer

CONFIG = Path(__file__).with_name("default.yaml")
VMAF_V0 = "vmaf_v0.6.1"
LARGE_LINES = 720
COLUMNS = [
    "clip", "content", "codec", "preset", "width", "height", "display_height", "lines", "generation", "bitrate_kbps",
    "score", "score_polarity", "score_min", "score_max", "psnr", "ssim", "vmaf_v0", "pixel_only", "hybrid", "low",
    "high",
]  # fmt: skip


def score_table(table: pd.DataFrame, masters: dict[str, Path], scorer: Scorer) -> pd.DataFrame:
    """The table with a column for each metric; PSNR and SSIM come with the ladder. "hybrid" is the packaged file's
    score, pixel-only where a file has no QP, in an interval from "low" to "high"."""
    rows = []
    columns = zip(table["path"], table["content"], table["display_height"], strict=True)
    for path, content, height in track(columns, "accuracy", total=len(table)):
        own = scorer.score(path, display_height=int(height))
        vmaf_v0 = label(masters[content], Path(path), models=(VMAF_V0,)).metrics[VMAF_V0].mean
        rows.append({
            "hybrid": own.score, "pixel_only": own.pixel_score, "vmaf_v0": vmaf_v0, "low": own.low, "high": own.high
        })  # fmt: skip
    scored = table.reset_index(drop=True).join(pd.DataFrame(rows))
    scored = scored.rename(columns={"psnr_mean": "psnr", "ssim_mean": "ssim"})
    add_parts(scored)
    others = ["kind"] if "kind" in scored else []
    return scored.reindex(columns=[*COLUMNS, *others]).sort_values("clip").round(4)


def add_parts(table: pd.DataFrame) -> None:
    """Add the columns by which tables are split: "lines" and "generation"."""
    is_large = table["display_height"] >= LARGE_LINES
    table["lines"] = np.where(is_large, f"{LARGE_LINES} and more", f"below {LARGE_LINES}")
    table["generation"] = "master"
    if "first_crf" in table:
        table["generation"] = np.where(table["first_crf"].notna(), "re-encode", "master")


def main() -> None:
    """Score the encodes and write the CSV files."""
    parser = argparse.ArgumentParser(description="Score held-out encodes with the packaged model and the usual metrics")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, help=".csv of the ladder's own encodes")
    parser.add_argument("--unseen", type=Path, help=".csv of codecs and encoders that the ladder does not have")
    parser.add_argument("--previous", type=Path, help=".csv of an earlier file's scores of the same encodes")
    parser.add_argument("--workers", type=int, default=2, help="encodes made side by side")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    assert config.ladder is not None, "--config is of a run with masters"
    outcome = run(config, arguments.runs, until="ladder")
    table = read_ladder(outcome.artifacts["ladder"])
    splits = assign_splits(dict(zip(table["content"], table["group"], strict=True)), **config.splits.model_dump())
    table = table[table["content"].map(splits) == "test"]
    masters = {master.content: master.path for master in outcome.masters if splits.get(master.content) == "test"}
    if arguments.out is not None:
        scored = score_table(table, masters, Scorer())
        if arguments.previous is not None:
            earlier = pd.read_csv(arguments.previous).set_index("clip")["hybrid"]
            scored["previous"] = scored["clip"].map(earlier)
        write_text(arguments.out, scored.to_csv(index=False))
    if arguments.unseen is not None:
        small = set(table["content"][table["display_height"] < LARGE_LINES])
        small_masters = {content: path for content, path in masters.items() if content in small}
        encodes = unseen_encodes(small_masters, arguments.runs / "unseen", arguments.workers, config.ladder.label)
        write_text(arguments.unseen, score_table(encodes, masters, Scorer()).to_csv(index=False))


if __name__ == "__main__":
    main()
