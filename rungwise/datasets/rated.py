"""Rated data sets as a source of training: their tables joined with each other and with a ladder's.

A rated clip is an encode without a master, whose label comes from its table. All labels are brought to one scale on
which higher is better; `own_score` keeps them as their table has them. The scale is a set's own where there is one
set, and 0 to 100 where there are several: how their raters differ beyond the ends of their scales is for training to
find (distill/rated_maps.py).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.artifact import Artifact, StageKey, run_stage, sha256_json, write_json
from rungwise.dataset_table import assign_splits, read_table, write_table
from rungwise.progress import track

if TYPE_CHECKING:
    import pandas as pd

    from rungwise.config import Splits

DATASET_VERSION = 1
LADDER = "ladder"  # the set of a run's own encodes
UNIVERSAL = ("universal", 0.0, 100.0)  # kind and ends of the scale of several sets
SPREADS = ("score_std", "score_ci95")  # columns in units of the score
SCALE = ("score", "score_kind", "score_polarity", "score_min", "score_max")


def join_datasets(tables: tuple[Path, ...], runs: Path, *, ladder: Artifact | None = None) -> Artifact:
    """The artifact of one table with the rows of all sets and of the ladder, and links to their videos.

    Clips, contents and groups of a rated set are named SET/NAME, with the name of its table for SET.

    Raises:
        ValueError: a table is missing or wrong, or was imported without its videos, or a video is missing.
    """
    sets = {path.stem: _read_set(path) for path in tables}
    if LADDER in sets:
        raise ValueError(f"sources.dataset: a table can't be named {LADDER!r}: the run's own encodes are")
    failures: dict[str, str] = {}
    if ladder is not None:
        sets = {LADDER: _read_ladder(ladder)} | sets
        failures = json.loads((ladder.path / "failures.json").read_text())
    rows = {name: table.drop(columns="path").to_csv(index=False) for name, table in sets.items()}
    key = StageKey(
        "dataset", DATASET_VERSION, {"sets": list(sets)}, {name: sha256_json(text) for name, text in rows.items()}
    )
    links = {name: _link_names(name, table) for name, table in sets.items()}

    def build(folder: Path) -> None:
        _link(sets, links, folder)
        write_json(folder / "failures.json", failures)
        write_table(folder / "table.parquet", _join(sets, links))

    artifact = run_stage(runs, key, build)
    _link(sets, links, artifact.path)  # videos may have moved since
    return artifact


def _read_set(path: Path) -> pd.DataFrame:
    """A rated set's table with absolute paths."""
    if not path.is_file():
        raise ValueError(f"sources.dataset: {path} is not a file; `rungwise dataset import` makes one")
    table = read_table(path)
    if (table["video_sha256"].fillna("") == "").any():
        raise ValueError(f"sources.dataset: {path} was imported without its videos; import it without --no-videos")
    folder = path.resolve().parent
    table["path"] = [str(folder / video) for video in table["path"]]
    missing = [video for video in table["path"] if not Path(video).is_file()]
    if missing:
        raise ValueError(
            f"sources.dataset: {path}: {len(missing)} of {len(table)} videos are missing, the first {missing[0]}; "
            "paths are relative to the table's folder: put it back there, or import the data set again"
        )
    for column in ("clip", "content", "group"):
        table[column] = [f"{path.stem}/{name}" for name in table[column]]
    return table.assign(origin="rated")


def _read_ladder(ladder: Artifact) -> pd.DataFrame:
    table = read_table(ladder.path / "table.parquet")
    return table.assign(path=[str((ladder.path / video).resolve()) for video in table["path"]])


def _link_names(name: str, table: pd.DataFrame) -> list[str]:
    """Where each row's video lies in the artifact."""
    return [f"videos/{name}/{row:05d}_{Path(video).name}" for row, video in enumerate(table["path"])]


def _link(sets: dict[str, pd.DataFrame], links: dict[str, list[str]], folder: Path) -> None:
    """Link to every video whose link is missing or leads nowhere; copies where the system has no links."""
    pairs = [pair for name, table in sets.items() for pair in zip(table["path"], links[name], strict=True)]
    missing = [(video, folder / link) for video, link in pairs if not (folder / link).is_file()]
    for video, link in track(missing, "dataset", total=len(missing)):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.realpath(video))
        except OSError:  # Windows without the right to make links
            shutil.copyfile(video, link)


def _join(sets: dict[str, pd.DataFrame], links: dict[str, list[str]]) -> pd.DataFrame:
    """One table with all labels on one scale; `dataset` names a row's set."""
    import pandas as pd

    parts = []
    for name, table in sets.items():
        scale = _own_scale(name, table) if len(sets) == 1 else UNIVERSAL
        parts.append(_on_scale(table, *scale).assign(dataset=name, path=links[name]))
    return pd.concat(parts, ignore_index=True)


def _own_scale(name: str, table: pd.DataFrame) -> tuple[str, float, float]:
    """Kind and ends of the scale of a set alone; labels that are lower for better quality are mirrored on it."""
    kinds = table[list(SCALE[1:])].drop_duplicates()
    if len(kinds) > 1:
        raise ValueError(f"sources.dataset: {name} has {len(kinds)} kinds or scales of scores; split the table")
    kind, polarity, minimum, maximum = kinds.iloc[0]
    return f"{kind}_mirrored" if polarity == "lower_is_better" else kind, float(minimum), float(maximum)


def _on_scale(table: pd.DataFrame, kind: str, minimum: float, maximum: float) -> pd.DataFrame:
    """The labels on another scale, higher is better; the old ones go to columns `own_...`."""
    own = table.rename(columns={name: name.replace("score", "own_score") for name in SCALE})
    gain = (maximum - minimum) / (own["own_score_max"] - own["own_score_min"])
    above = own["own_score"] - own["own_score_min"]
    below = own["own_score_max"] - own["own_score"]
    rise = above.where(own["own_score_polarity"] == "higher_is_better", below)
    spreads: dict[str, Any] = {name: own[name].astype(float) * gain for name in SPREADS if name in own}
    return own.assign(
        score=(minimum + rise * gain).clip(minimum, maximum),
        score_kind=kind,
        score_polarity="higher_is_better",
        score_min=minimum,
        score_max=maximum,
        **spreads,
    )


def split_sets(table: pd.DataFrame, splits: Splits) -> pd.Series[str]:
    """The split of every row: a set's official ones, and for those it lacks groups drawn of the rest of that set.

    Raises:
        ValueError: as `assign_splits`.
    """
    import pandas as pd

    contents = set(table["content"])
    for name, selection in (("validation", splits.validation), ("test", splits.test)):
        unknown = sorted(set(selection) - contents) if isinstance(selection, tuple) else []
        if unknown:
            raise ValueError(f"splits.{name}: no content {unknown[0]!r} among the {len(contents)} contents")
    parts = []
    for _, rows in table.groupby("dataset", sort=False):
        official = rows["split"].where(rows["split"].isin(["validation", "test"]), "")
        rest = rows[official == ""]
        held_out: dict[str, float | tuple[str, ...]] = {}
        for name, selection in (("validation", splits.validation), ("test", splits.test)):
            if isinstance(selection, tuple):
                held_out[name] = tuple(content for content in selection if content in set(rest["content"]))
            else:
                held_out[name] = 0 if (official == name).any() else selection
        labeled = rest[rest["score"].notna()]
        groups = dict(zip(labeled["content"], labeled["group"], strict=True))
        drawn = assign_splits(groups, validation=held_out["validation"], test=held_out["test"], seed=splits.seed)
        parts.append(official.where(official != "", rows["content"].map(drawn).fillna("train")))
    split: pd.Series[str] = pd.concat(parts).reindex(table.index)
    return split
