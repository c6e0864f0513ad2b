"""The dataset table: one row per encode, in Parquet or CSV.

| column | meaning |
|---|---|
| clip | unique name of the encode |
| path | the video, relative to the table's folder |
| content | the source scene; splits are by content |
| group | contents that share a source; a group is in one split only |
| codec, width, height, fps, duration_seconds, bitrate_kbps, rate_control | encoder settings and results |
| display_height | height in pixels at which the score holds |
| score, score_std | the label and its standard deviation (NaN if unknown) |
| score_kind | kind of label: mos, dmos, vmaf_v1.0.16_3d0h, ... |
| score_polarity | higher_is_better or lower_is_better |
| score_min, score_max | range of the label |
| split | train, validation, test, or empty |
| video_sha256 | hash of the video file's bytes |

Further columns (psnr, ssim, predictions, ...) are not changed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rungwise.tables import read_table_file

if TYPE_CHECKING:
    import pandas as pd

TEXT_COLUMNS = (
    "clip",
    "path",
    "content",
    "group",
    "codec",
    "rate_control",
    "score_kind",
    "score_polarity",
    "split",
    "video_sha256",
)
NUMBER_COLUMNS = (
    "width",
    "height",
    "fps",
    "duration_seconds",
    "bitrate_kbps",
    "display_height",
    "score",
    "score_std",
    "score_min",
    "score_max",
)
POLARITIES = ("higher_is_better", "lower_is_better")
SPLITS = ("train", "validation", "test", "")


def check_table(table: pd.DataFrame, where: str = "table") -> pd.DataFrame:
    """Validate a table and return it.

    Raises:
        ValueError: lists all problems: missing columns, duplicate clips, unknown polarity or split, scores outside
            their range, a group in more than one split.
    """
    problems = [f"missing column {name!r}" for name in (*TEXT_COLUMNS, *NUMBER_COLUMNS) if name not in table.columns]
    if problems:
        raise ValueError(f"{where}: " + "; ".join(problems))
    duplicates = table["clip"][table["clip"].duplicated()]
    if len(duplicates):
        problems.append(f"{len(duplicates)} duplicate clips, the first {duplicates.iloc[0]!r}")
    for column, allowed in (("score_polarity", POLARITIES), ("split", SPLITS)):
        unknown = sorted(set(table[column]) - set(allowed))
        if unknown:
            problems.append(f"{column} {unknown[0]!r} is not one of {', '.join(repr(value) for value in allowed)}")
    outside = table[(table["score"] < table["score_min"]) | (table["score"] > table["score_max"])]
    if len(outside):
        row = outside.iloc[0]
        problems.append(
            f"{len(outside)} scores outside their range, the first {row['clip']!r}: "
            f"{row['score']} not in {row['score_min']}..{row['score_max']}"
        )
    splits_per_group = table.groupby("group")["split"].nunique()
    divided = splits_per_group[splits_per_group > 1]
    if len(divided):
        problems.append(f"group {divided.index[0]!r} is in more than one split")
    if problems:
        raise ValueError(f"{where}: " + "; ".join(problems))
    return table


def read_table(path: Path) -> pd.DataFrame:
    """Read and validate a table in any format of `read_table_file`.

    Raises:
        ValueError: as `check_table` and `read_table_file`.
    """
    table = read_table_file(path, text_columns=TEXT_COLUMNS)
    return check_table(table, str(path))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Validate a table and write it atomically, as `.parquet` or `.csv`."""
    check_table(table, str(path))
    partial = path.with_name(f"{path.name}.partial")
    if path.suffix == ".csv":
        table.to_csv(partial, index=False)
    else:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        partial.write_bytes(buffer.getvalue())
    os.replace(partial, path)


def assign_splits(
    groups: Mapping[str, str], *, validation: float | Sequence[str], test: float | Sequence[str], seed: int
) -> dict[str, str]:
    """Assign each content a split, by group.

    Args:
        groups: content -> group.
        validation, test: number of groups to hold out, drawn by a seeded hash; a fraction below 1 of them, at least
            one; or names of contents, whose whole groups are held out.
        seed: of the draw. The same seed and groups give the same splits, in any order of contents.

    Raises:
        ValueError: a named content is unknown or in both splits, or no group is left to train on.
    """
    ranked = sorted(set(groups.values()), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).hexdigest())
    held_out: dict[str, str] = {}
    validation, test = (
        max(1, round(part * len(ranked))) if isinstance(part, float) else part for part in (validation, test)
    )
    for split, selection in (("test", test), ("validation", validation)):
        if not isinstance(selection, int):
            unknown = sorted(set(selection) - set(groups))
            if unknown:
                raise ValueError(f"splits.{split}: no content {unknown[0]!r} among the {len(groups)} contents")
            for content in selection:
                if held_out.setdefault(groups[content], split) != split:
                    raise ValueError(f"splits.{split}: {content!r} shares its group with a test content")
    for split, selection in (("test", test), ("validation", validation)):
        if isinstance(selection, int):
            left = [group for group in ranked if group not in held_out]
            held_out |= dict.fromkeys(left[:selection], split)
            if len(left) <= selection:
                raise ValueError(
                    f"splits: {validation} validation + {test} test leave none of {len(ranked)} groups to train on"
                )
    if len(held_out) == len(ranked):
        raise ValueError(f"splits: all {len(ranked)} groups are held out and none is left to train on")
    return {content: held_out.get(group, "train") for content, group in groups.items()}
