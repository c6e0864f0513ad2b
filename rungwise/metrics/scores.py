"""Read a table of scores from any source into the table that `rungwise.metrics.evaluate` takes.

A Rungwise table describes its own label. For other tables the caller maps columns to names, and every assumption is
returned as a note.
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
from rungwise.metrics.evaluation_input import PREDICTOR_LOG_BITRATE
from rungwise.metrics.evaluation_notes import shortened_list
from rungwise.tables import read_table_file, to_numbers

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("content", "codec", "preset", "width", "height", "bitrate_kbps", "score_ci95", "score_std", "score_raters")
"""Names that `columns` can map to columns of the table."""
_IMPAIRMENT_WORDS = ("dmos", "impair", "degrad", "distort", "jod_loss")
_NO_CONTENT_NOTE = (
    "No content column was given: every row counts as its own content. If rows share a content, the intervals are too "
    "narrow."
)


def read_scores(
    path: Path,
    truth: str,
    predictors: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    polarity: Literal["higher", "lower"] | None = None,
    value_range: tuple[float, float] | None = None,
    lower_is_better: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A table ready for `evaluate_predictors`, its prediction columns, and notes on assumptions and omitted rows.

    Args:
        path: the table; one row per encode.
        truth: the label column; rows without a label are left out and counted.
        predictors: prediction columns, or patterns such as "vmaf*"; "*" takes every other numeric column.
        columns: maps names of `COLUMNS` to columns of the table; columns that already have the name need no entry.
        polarity: of the label; required if the table has no score_polarity and the label name suggests a DMOS.
        value_range: lowest and highest label of the scale; the default is score_min and score_max of the table, else
            the range of its labels.
        lower_is_better: predictors (or patterns) whose lower values mean better quality; they are negated.

    Raises:
        ValueError: a column is missing, a label or prediction is not a number, the polarity is unknown or contradicts
            the table, or fewer than 2 rows are left.
    """
    import pandas as pd

    notes: list[str] = []
    table = read_table_file(path, notes=notes)
    renamed = {name: source for name, source in (columns or {}).items() if source != name}
    missing = [name for name in (truth, *renamed.values()) if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; the table has {', '.join(map(str, table.columns))}")
    # Copies, so that a column can be both group and predictor, and two columns can swap names.
    table = table.assign(**{name: table[source] for name, source in renamed.items()})
    names = _expand(predictors, table, {truth, *renamed.values(), *COLUMNS}, path)
    negated = set(_expand(lower_is_better, table, set(), path))
    if unknown := negated - set(names):
        raise ValueError(f"{path}: {sorted(unknown)[0]!r} is declared lower-is-better but is not a predictor")
    labels = to_numbers(table[truth], truth, path)
    for name in names:
        table[name] = to_numbers(table[name], name, path) * (-1 if name in negated else 1)
    table[truth] = labels
    for name in COLUMNS[3:]:
        if name in table.columns:
            table[name] = to_numbers(table[name], name, path)
    if "content" not in table.columns:
        table["content"] = [f"row {i}" for i in range(len(table))]
        notes.append(_NO_CONTENT_NOTE)
    table["content"] = table["content"].map(lambda value: value if pd.isna(value) else str(value))
    if "bitrate_kbps" in table.columns and (bad := int((table["bitrate_kbps"] <= 0).sum())):
        table["bitrate_kbps"] = table["bitrate_kbps"].where(table["bitrate_kbps"] > 0)
        notes.append(f"{bad} bitrates are not above 0 and count as unknown.")

    notes += _set_scale(table, truth, path, polarity, value_range)
    if labels.isna().any():
        notes.append(_unlabeled_note(table, truth))
        table = table[labels.notna()].reset_index(drop=True)
    if len(table) < 2:
        raise ValueError(f"{path}: {len(table)} rows with a {truth!r}; at least 2 are needed")
    if negated:
        notes.append(f"Negated because lower is better: {', '.join(sorted(negated))}.")
    return table, names, notes


def _unlabeled_note(table: pd.DataFrame, truth: str) -> str:
    """The note on rows without a label, with the first of their names."""
    unlabeled = table[table[truth].isna()]
    clips = [str(clip) for clip in (unlabeled["clip"] if "clip" in table.columns else unlabeled.index)]
    return f"{len(unlabeled)} of {len(table)} rows have no {truth} and are left out: {shortened_list(clips)}."


def _set_scale(
    table: pd.DataFrame,
    truth: str,
    path: Path,
    polarity: Literal["higher", "lower"] | None,
    value_range: tuple[float, float] | None,
) -> list[str]:
    """Set score_polarity, score_min and score_max, and return notes on assumptions.

    The table's own values describe its column "score" only, so they are replaced if the label is another column.
    """
    notes = []
    requested = f"{polarity}_is_better" if polarity else None
    if truth == "score" and "score_polarity" in table.columns:
        own = set(table["score_polarity"])
        if requested and own != {requested}:
            raise ValueError(f"{path}: score_polarity is {', '.join(map(str, own))}, which contradicts {requested}")
    elif requested:
        table["score_polarity"] = requested
    elif any(word in truth.lower() for word in _IMPAIRMENT_WORDS):
        raise ValueError(
            f"{path}: {truth!r} looks like a DMOS, whose polarity varies between data sets; "
            "give --polarity higher or --polarity lower"
        )
    else:
        table["score_polarity"] = "higher_is_better"
        notes.append(f"The table does not state the polarity of {truth!r}: higher is assumed to be better.")
    if value_range is not None:
        table["score_min"], table["score_max"] = value_range
    elif truth != "score" or not {"score_min", "score_max"} <= set(table.columns):
        table["score_min"], table["score_max"] = table[truth].min(), table[truth].max()
        notes.append(f"The table does not state the range of {truth!r}: the range of its values is used.")
    outside = int(((table[truth] < table["score_min"]) | (table[truth] > table["score_max"])).sum())
    if outside:
        raise ValueError(
            f"{path}: {outside} of {len(table)} values of {truth!r} are outside {value_range or 'its range'}"
        )
    return notes


def _expand(patterns: Sequence[str], table: pd.DataFrame, taken: set[str], path: Path) -> list[str]:
    """Columns that match the names and patterns, in their order, without repeats."""
    columns: dict[str, None] = {}
    reserved = {*TEXT_COLUMNS, *NUMBER_COLUMNS, *taken, PREDICTOR_LOG_BITRATE}
    for pattern in patterns:
        if pattern in table.columns:
            columns[pattern] = None
            continue
        numeric = [str(name) for name in table.columns if table[name].dtype.kind in "fiu" and str(name) not in reserved]
        matched = fnmatch.filter(numeric, pattern) if any(c in pattern for c in "*?[") else []
        if not matched:
            raise ValueError(f"{path}: no column {pattern!r}; numeric columns are {', '.join(numeric) or 'none'}")
        columns |= dict.fromkeys(matched)
    return list(columns)


def score_videos(
    table: pd.DataFrame, model: Path, folder: Path, *, keep: Path | None = None
) -> tuple[list[float], dict[str, str]]:
    """Score every video of a table with an exported model, at the table's display heights.

    Args:
        table: columns `path` (relative to `folder`), and optionally `clip` and `display_height` (NaN: the height of
            the video).
        model: the .onnx file.
        folder: the folder of the table.
        keep: a .jsonl file that stores each score, so that an interrupted run resumes. A stored score is reused only
            for the same video bytes, model and display height.

    Returns:
        Scores (higher is better) in the order of the table, NaN where scoring failed; and reasons by failed clip.

    Raises:
        ValueError: the model cannot be loaded, or the table has no paths.
    """
    from rungwise.artifact import sha256_file
    from rungwise.progress import track, warn
    from rungwise.score.scorer import SCORER_VERSION, Scorer

    if "path" not in table.columns:
        raise ValueError("the table has no column 'path', so there are no videos to score")
    scorer, model_sha256 = Scorer(model), sha256_file(model)
    sign = -1.0 if scorer.contract.scale.polarity == "lower_is_better" else 1.0
    stored_scores = _read_stored_scores(keep)
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
            if key not in stored_scores:
                stored_scores[key] = scorer.score(path, display_height=display_height).score
                if keep is not None:
                    with keep.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps([key, stored_scores[key]]) + "\n")
            scores.append(sign * stored_scores[key])
        except Exception as error:
            failures[clip] = failure(str(path), error)
            scores.append(float("nan"))
            warn(f"left out: {clip}: {failures[clip]}")
    return scores, failures


def _read_stored_scores(keep: Path | None) -> dict[str, float]:
    if keep is None or not keep.is_file():
        return {}
    scores = {}
    for line in keep.read_text(encoding="utf-8").splitlines():
        try:
            key, score = json.loads(line)
            scores[str(key)] = float(score)
        except (ValueError, TypeError):  # the last line of an interrupted run
            continue
    return scores
