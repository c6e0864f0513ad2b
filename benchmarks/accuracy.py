"""Score held-out encodes with the packaged model and the usual metrics: the table behind the README's accuracy figures.

    python benchmarks/accuracy.py TABLE... --masters DIR --out benchmarks/results/accuracy.csv
    rungwise metrics benchmarks/results/accuracy.csv --pred psnr,ssim,pixel_only,hybrid,vmaf_v0 --json \\
        > benchmarks/results/accuracy.json

TABLE is a ladder's table.parquet, DIR holds its masters. Only the test contents of benchmarks/default.yaml are scored.
The second command needs no videos: anyone can repeat it on the committed CSV.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rungwise.artifact import write_text
from rungwise.config import load_config
from rungwise.ladder.label import label
from rungwise.progress import track
from rungwise.score.scorer import Scorer
from rungwise.tables import read_table_file

CONFIG = Path(__file__).with_name("default.yaml")
VMAF_V0 = "vmaf_v0.6.1"
COLUMNS = (
    "clip", "content", "codec", "preset", "width", "height", "display_height", "bitrate_kbps", "score",
    "score_polarity", "score_min", "score_max", "psnr", "ssim", "pixel_only", "hybrid", "vmaf_v0",
)  # fmt: skip


def held_out_encodes(tables: list[Path], contents: tuple[str, ...]) -> pd.DataFrame:
    """Rows of the tables with these contents, with the full path of each video."""
    parts = []
    for path in tables:
        table = read_table_file(path)
        parts.append(table.assign(path=[str(path.parent / video) for video in table["path"]]))
    table = pd.concat(parts, ignore_index=True)
    return table[table["content"].isin(contents)].drop_duplicates("video_sha256").reset_index(drop=True)


def score_table(table: pd.DataFrame, masters: Path, scorer: Scorer) -> pd.DataFrame:
    """The table with a column for each metric; PSNR and SSIM come with the ladder."""
    rows = []
    columns = zip(table["path"], table["content"], table["display_height"], strict=True)
    for path, content, height in track(columns, "accuracy", total=len(table)):
        result = scorer.score(path, display_height=int(height))
        (master,) = masters.glob(f"{content}.*")
        vmaf_v0 = label(master, Path(path), models=(VMAF_V0,)).metrics[VMAF_V0].mean
        pixel_only = result.score if result.pixel_score is None else result.pixel_score
        rows.append((pixel_only, result.score, vmaf_v0))
    metrics = pd.DataFrame(rows, columns=["pixel_only", "hybrid", "vmaf_v0"])
    scored = table.join(metrics).rename(columns={"psnr_mean": "psnr", "ssim_mean": "ssim"})
    return scored[list(COLUMNS)].sort_values("clip").round(4)


def main() -> None:
    """Score the encodes and write the CSV."""
    parser = argparse.ArgumentParser(description="Score held-out encodes with the packaged model and the usual metrics")
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--masters", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    contents = load_config(CONFIG).splits.named
    table = held_out_encodes(arguments.tables, contents)
    write_text(arguments.out, score_table(table, arguments.masters, Scorer()).to_csv(index=False))


if __name__ == "__main__":
    main()
