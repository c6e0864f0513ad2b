"""Tables of scores from anywhere, read as the table that `rungwise.metrics.evaluate` judges.

A table of ours says itself what its label is. Any other must have its columns named, and nothing about it is guessed
silently: what was assumed comes back as notes.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS
from rungwise.failures import failure
from rungwise.metrics.evaluate import PREDICTOR_LOG_BITRATE
from rungwise.tables import read_table_file, to_numbers

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("content", "codec", "preset", "width", "height", "bitrate_kbps", "score_ci95", "score_std", "score_raters")
"""What `columns` may point at columns of other names."""
_IMPAIRMENT_WORDS = ("dmos", "impair", "degrad", "distort", "jod_loss")
_NAMES_SHOWN = 5


def read_scores(
    path: Path,
    truth: str,
    predictors: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    polarity: Literal["higher", "lower"] | None = None,
    value_range: tuple[float, float] | None = None,
    falling: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A table ready for `evaluate_predictors`, its prediction columns, and notes on what was assumed or left out.

    Args:
        path: the table; one row an encode.
        truth: the label column; rows without a label are left out and counted.
        predictors: prediction columns, or patterns such as "vmaf*"; "*" takes every other number column.
        columns: our column -> the table's, for `COLUMNS`; a column already called as ours needs none.
        polarity: of the label; needed where the table has no score_polarity and the label is called like a DMOS.
        value_range: (lowest, highest) label the scale knows; without it, and without score_min and score_max, the
            labels' own.
        falling: predictors (or patterns) that are lower for better quality: they are negated.

    Raises:
        ValueError: a column is missing, a label or prediction is no number (how many, which first), the polarity is
            not known or contradicts the table's own, nothing is left.
    """
    import pandas as pd

    notes: list[str] = []
    table = read_table_file(path, notes=notes)
    renamed = {ours: theirs for ours, theirs in (columns or {}).items() if theirs != ours}
    missing = [name for name in (truth, *renamed.values()) if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
    # copies, so that a column can be truth or group and still be judged, and two may trade their names
    table = table.assign(**{ours: table[theirs] for ours, theirs in renamed.items()})
    names = _expand(predictors, table, {truth, *renamed.values(), *COLUMNS}, path)
    falls = set(_expand(falling, table, set(), path))
    if unknown := falls - set(names):
        raise ValueError(f"{path}: {sorted(unknown)[0]!r} is said to be lower for better, but is no predictor here")
    labels = to_numbers(table[truth], truth, path)
    for name in names:
        table[name] = to_numbers(table[name], name, path) * (-1 if name in falls else 1)
    table[truth] = labels
    for name in COLUMNS[3:]:
        if name in table.columns:
            table[name] = to_numbers(table[name], name, path)
    if "content" not in table.columns:
        table["content"] = [f"row {i}" for i in range(len(table))]
        notes.append("No content column was named: every row counts as a content of its own, and where rows share one "
                     "the intervals are too narrow.")  # fmt: skip
    table["content"] = table["content"].map(lambda value: value if pd.isna(value) else str(value))
    if "bitrate_kbps" in table.columns and (bad := int((table["bitrate_kbps"] <= 0).sum())):
        table["bitrate_kbps"] = table["bitrate_kbps"].where(table["bitrate_kbps"] > 0)
        notes.append(f"{bad} bitrates were not above 0, and count as unknown.")

    notes += _scale(table, truth, path, polarity, value_range)
    unlabelled = table[labels.isna()]
    if len(unlabelled):
        clips = [str(clip) for clip in (unlabelled["clip"] if "clip" in table.columns else unlabelled.index)]
        more = ", ..." if len(clips) > _NAMES_SHOWN else ""
        notes.append(
            f"{len(unlabelled)} of {len(table)} rows have no {truth} and were left out: "
            f"{', '.join(clips[:_NAMES_SHOWN])}{more}."
        )
        table = table[labels.notna()].reset_index(drop=True)
    if len(table) < 2:
        raise ValueError(f"{path}: {len(table)} rows with a {truth!r}; two or more are needed")
    if falls:
        notes.append(f"Lower for better, so negated: {', '.join(sorted(falls))}.")
    return table, names, notes


def _scale(
    table: pd.DataFrame,
    truth: str,
    path: Path,
    polarity: Literal["higher", "lower"] | None,
    value_range: tuple[float, float] | None,
) -> list[str]:
    """Fill in score_polarity, score_min and score_max, which hold for the column "score" alone; say what was
    assumed."""
    notes = []
    stated = f"{polarity}_is_better" if polarity else None
    if truth == "score" and "score_polarity" in table.columns:
        own = set(table["score_polarity"])
        if stated and own != {stated}:
            raise ValueError(f"{path}: score_polarity is {', '.join(map(str, own))}, which contradicts {stated}")
    elif stated:
        table["score_polarity"] = stated
    elif any(word in truth.lower() for word in _IMPAIRMENT_WORDS):
        raise ValueError(
            f"{path}: {truth!r} sounds like a DMOS, which may be higher or lower for better quality; "
            "say --polarity higher or --polarity lower"
        )
    else:
        table["score_polarity"] = "higher_is_better"
        notes.append(f"The table doesn't say the polarity of {truth!r}: it was read as higher for better quality.")
    if value_range is not None:
        table["score_min"], table["score_max"] = value_range
    elif truth != "score" or not {"score_min", "score_max"} <= set(table.columns):
        table["score_min"], table["score_max"] = table[truth].min(), table[truth].max()
        notes.append(f"The table doesn't say the range of {truth!r}: that of its values was taken.")
    outside = int(((table[truth] < table["score_min"]) | (table[truth] > table["score_max"])).sum())
    if outside:
        raise ValueError(
            f"{path}: {outside} of {len(table)} values of {truth!r} lie outside {value_range or 'its range'}"
        )
    return notes


def _expand(patterns: Sequence[str], table: pd.DataFrame, taken: set[str], path: Path) -> list[str]:
    """Column names for names and patterns, in their order, each once."""
    found: dict[str, None] = {}
    ours = {*TEXT_COLUMNS, *NUMBER_COLUMNS, *taken, PREDICTOR_LOG_BITRATE}
    for pattern in patterns:
        if pattern in table.columns:
            found[pattern] = None
            continue
        numeric = [str(name) for name in table.columns if table[name].dtype.kind in "fiu" and str(name) not in ours]
        matched = fnmatch.filter(numeric, pattern) if any(c in pattern for c in "*?[") else []
        if not matched:
            raise ValueError(f"{path}: no column {pattern!r}; number columns are {', '.join(numeric) or 'none'}")
        found |= dict.fromkeys(matched)
    return list(found)


def score_videos(
    table: pd.DataFrame, model: Path, folder: Path, *, keep: Path | None = None
) -> tuple[list[float], dict[str, str]]:
    """Score every video of a table with an exported model, at the table's display heights.

    Args:
        table: `path` (relative to `folder`), and `clip`, `display_height` (NaN: the video's own) and `score_kind`.
        model: the .onnx file.
        folder: that of the table.
        keep: a .jsonl file that takes each score as it is made, so that a killed run goes on; scores in it of other
            bytes, another model or another height are not used.

    Returns:
        Scores, higher for better, in the table's order, NaN where there is none; and clip -> why not.

    Raises:
        ValueError: the model can't be used, or the table has no paths.
    """
    from rungwise.artifact import sha256_file
    from rungwise.progress import track, warn
    from rungwise.score.scorer import SCORER_VERSION, Scorer

    if "path" not in table.columns:
        raise ValueError("the table has no column 'path', so there is no video to score")
    scorer, model_sha256 = Scorer(model), sha256_file(model)
    sign = -1.0 if scorer.contract.scale.polarity == "lower_is_better" else 1.0
    done = _kept(keep)
    scores: list[float] = []
    failures: dict[str, str] = {}
    for row in track(table.to_dict("records"), "scored", total=len(table)):
        path, height = folder / str(row["path"]), row.get("display_height")
        clip = str(row.get("clip") or path)
        display_height = int(height) if height is not None and np.isfinite(height) else None
        try:
            if not path.is_file():
                raise ValueError(f"{path}: no such file")
            key = f"{SCORER_VERSION} {model_sha256} {sha256_file(path)} {display_height}"
            if key not in done:
                done[key] = scorer.score(path, display_height=display_height).score
                if keep is not None:
                    with keep.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps([key, done[key]]) + "\n")
            scores.append(sign * done[key])
        except Exception as error:
            failures[clip] = failure(str(path), error)
            scores.append(float("nan"))
            warn(f"left out: {clip}: {failures[clip]}")
    return scores, failures


def _kept(keep: Path | None) -> dict[str, float]:
    if keep is None or not keep.is_file():
        return {}
    found = {}
    for line in keep.read_text(encoding="utf-8").splitlines():
        try:
            key, score = json.loads(line)
            found[str(key)] = float(score)
        except (ValueError, TypeError):  # the line that a killed run did not finish
            continue
    return found
