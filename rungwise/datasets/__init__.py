"""Import rated data sets into the dataset table: one importer, one description a data set (`catalog`).

Every row of a label file is either in the table or refused under a reason, by name; nothing is swallowed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import TYPE_CHECKING, Any

from rungwise.artifact import sha256_file
from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS, write_table
from rungwise.datasets.catalog import describe
from rungwise.datasets.derive import REFERENCE, REFUSED
from rungwise.datasets.description import OWN_HEIGHT, Description, Layout
from rungwise.datasets.labels import LINE, VIDEO_ENDINGS, find_labels, read_rows, without_ending
from rungwise.failures import failure

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("width", "height", "fps", "duration_seconds", "bitrate_kbps")
FPS_RANGE = (1.0, 300.0)  # outside it a tool misread the file: 0.5, 90000 and 1000000 are on record
CODECS = {"h265": "hevc", "h.265": "hevc", "avc": "h264", "dcvc-fm": "dcvcfm", "dcvc-rt": "dcvcrt"}
SPLITS = {"val": "validation"}
MISSING_VIDEO, SEVERAL_VIDEOS, RAW_VIDEO = "missing video", "several videos fit", "raw YUV, wrap it as .y4m or .mkv"
UNREADABLE_VIDEO, NO_NAME = "unreadable video", "label file names no video"


@dataclass
class Report:
    """What became of every row of the label files. `refused`: reason -> rows by name."""

    name: str
    table: str
    labels: list[str]
    rows: int
    imported: int = 0
    contents: int = 0
    groups: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """No row was refused but references, which are no encodes."""
        return not set(self.refused) - {REFERENCE}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"clean": self.clean}


def import_dataset(name: str, root: Path, out: Path, *, labels: Path | None = None, videos: bool = True) -> Report:
    """Write a data set's table, of the good rows, and say what became of the others.

    Args:
        name: a key of the catalog.
        root: the folder of the videos, searched to its bottom.
        out: the table, `.parquet` or `.csv`; paths in it are relative to its folder.
        labels: folder of the label files, or one of them [root].
        videos: False takes the labels alone: paths are where the videos would lie, and facts are the labels'.

    Raises:
        ValueError: unknown name, no label file, a column that is not there, or no row that is good.
    """
    description = describe(name)
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{out}: a table ends in .parquet or .csv")
    layout, files, absent = find_labels(description, labels or root)
    rows, notes = read_rows(layout, files)
    report = Report(name, str(out), [str(path) for _, path in files], rows=len(rows))
    if absent:
        report.notes.append(f"not there: {', '.join(absent)}")
    report.notes += notes
    table = _table(description, layout, rows, files[0][1].parent, report)
    encodes = len(rows) - sum(len(names) for reason, names in report.refused.items() if reason == REFERENCE)
    if encodes != description.encodes:
        report.notes.append(
            f"labels of {encodes} encodes were read, the data set is known to have {description.encodes}"
        )
    if videos:
        table = _with_videos(table, root, report)
    else:
        table["path"] = [str(root.resolve() / video) if video else "" for video in table["video"]]
    folder = out.parent.resolve()
    table["path"] = [Path(os.path.relpath(path, folder)).as_posix() if path else "" for path in table["path"]]
    if table.empty:
        why = ", ".join(f"{reason} {len(names)}" for reason, names in report.refused.items())
        raise ValueError(f"{name}: none of {report.rows} rows of {report.labels[0]} is good ({why}); no table written")
    height = float(description.display_height)
    table["display_height"] = table["height"] if height == OWN_HEIGHT else height
    _clear_torn_splits(table, report)
    if (order := rate_order(table))[0] < 0:
        report.notes.append(
            f"POLARITY IN DOUBT: scores fall as bitrates rise (mean SRCC {order[0]:.2f} within content)"
        )
    report.imported, report.contents, report.groups = len(table), table["content"].nunique(), table["group"].nunique()
    report.splits = dict(Counter(table["split"]))
    ours = [*TEXT_COLUMNS, *NUMBER_COLUMNS]
    extras = [column for column in table.columns if column not in (*ours, "video") and not table[column].isna().all()]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, table[[*ours, *extras]].reset_index(drop=True))
    return report


def rate_order(table: pd.DataFrame) -> tuple[float, int]:
    """Mean SRCC of bitrate with goodness within contents of three or more rated bitrates, and how many there are.

    Goodness is the score, negated where lower is better: the figure is positive if the polarity is as stated.
    """
    import pandas as pd

    sign = table["score_polarity"].map({"higher_is_better": 1.0, "lower_is_better": -1.0})
    known = pd.DataFrame({"content": table["content"], "rate": table["bitrate_kbps"], "good": sign * table["score"]})
    figures = [
        float(one["rate"].rank().corr(one["good"].rank()))
        for _, one in known.dropna().groupby("content")
        if one["rate"].nunique() > 2 and one["good"].nunique() > 1
    ]
    return (sum(figures) / len(figures) if figures else float("nan")), len(figures)


def _table(description: Description, layout: Layout, rows: pd.DataFrame, folder: Path, report: Report) -> pd.DataFrame:
    """Rows as the table's columns, with `video` the expected path; bad rows go to the report."""
    import pandas as pd

    _need(rows, [layout.parse[0]], report.labels[0])
    unknown = pd.Series(False, index=rows.index)
    if layout.parse[0]:
        cells = rows[layout.parse[0]].str.extract(f"^{layout.parse[1]}").fillna("")
        unknown = ~rows[layout.parse[0]].str.match(f"^{layout.parse[1]}")
        rows = rows.assign(**{str(column): cells[column] for column in cells})
    source = layout.numbers["score"]
    score = source if isinstance(source, str) else source[0]
    _need(rows, [score], report.labels[0])
    if layout.derive:
        try:
            rows = layout.derive(rows, folder).sort_index()
        except KeyError as error:
            _need(rows, [str(error.args[0])], report.labels[0])
            raise

    table = pd.DataFrame(index=rows.index)
    table["video"] = _filled(layout.video, rows).str.replace("\\", "/")
    rows["clip"] = (_filled(layout.clip, rows) if layout.clip else table["video"]).map(without_ending)
    rows["content"] = _filled(layout.content, rows)
    rows["group"] = _filled(layout.group, rows)
    for column in TEXT_COLUMNS:
        table[column] = rows[column] if column in ("clip", "content", "group") else ""
    for column, template in layout.texts.items():
        table[column] = _filled(template, rows)
    table["codec"] = [CODECS.get(codec.lower(), codec.lower()) for codec in table["codec"]]
    table["split"] = table["split"].replace(SPLITS)
    kind, lowest, highest = description.scale
    table["score_kind"], table["score_polarity"] = kind, description.polarity
    table[list(NUMBER_COLUMNS)] = float("nan")
    for column, source in layout.numbers.items():
        table[column] = _numbers(rows, source, layout.decimal)
    table["score_min"], table["score_max"] = float(lowest), float(highest)
    _clean_facts(table, report)

    said = rows[score]
    outside = (table["score"] < lowest) | (table["score"] > highest)
    reasons = rows[REFUSED].copy()
    for reason, bad in (
        ("unknown content", unknown),
        ("no score", said.str.lower().isin(["", "nan", "none", "null"])),
        ("score is no number", table["score"].isna()),
        (f"score outside {lowest:g}..{highest:g}", outside),
    ):
        reasons = reasons.mask((reasons == "") & bad, reason)
    good = table[reasons == ""]
    differing = good.groupby("clip")["score"].transform("nunique") > 1
    repeated = good["clip"].duplicated() & ~differing
    reasons[differing[differing].index] = "same video, contradicting scores"
    reasons[repeated[repeated].index] = "duplicate row"
    for index in reasons.index[reasons != ""]:
        shown = rows["clip"][index] if reasons[index] != "unknown content" else rows[layout.parse[0]][index]
        doubtful = reasons[index].startswith(("line of", "duplicate", "same video")) or not shown
        name = f"{shown} ({rows[LINE][index]})" if doubtful else str(shown)
        report.refused.setdefault(reasons[index], []).append(name)
    return table[reasons == ""].copy()


def _need(rows: pd.DataFrame, columns: list[str], where: str) -> None:
    for column in columns:
        if column and column not in rows.columns:
            there = ", ".join(str(name) for name in rows.columns if not str(name).startswith("_"))
            raise ValueError(f"{where}: no column {column!r}; it has {there[:300]}")


def _filled(template: str, rows: pd.DataFrame) -> pd.Series[str]:
    """A template filled from every row; cells that no file has are empty."""
    import pandas as pd

    filled = pd.Series("", index=rows.index)
    for text, cell, _, _ in Formatter().parse(template):
        filled = filled + text + (rows[cell] if cell in rows.columns else "")
    return filled


def _numbers(rows: pd.DataFrame, source: str | tuple[str, float], decimal: str) -> pd.Series[float]:
    import pandas as pd

    column, factor = (source, 1.0) if isinstance(source, str) else source
    if column not in rows.columns:
        return pd.Series(float("nan"), index=rows.index)
    text = rows[column] if decimal == "." else rows[column].str.replace(decimal, ".")
    numbers = pd.to_numeric(text, errors="coerce").astype(float) * factor
    return numbers.where(numbers.abs() < float("inf")).round(9)


def _clean_facts(table: pd.DataFrame, report: Report) -> None:
    """What cannot be true of a video is not known."""
    facts = list(FACTS)
    table[facts] = table[facts].where(table[facts] > 0)
    odd = table["fps"].notna() & ~table["fps"].between(*FPS_RANGE)
    if odd.any():
        seen = ", ".join(f"{fps:g}" for fps in sorted(set(table["fps"][odd])))
        report.notes.append(f"fps {seen} cannot be: left unknown in {int(odd.sum())} rows")
        table.loc[odd, "fps"] = float("nan")
    if "num_frames" in table:
        table["num_frames"] = table["num_frames"].where(table["num_frames"] > 1)
        counted = table["num_frames"] / table["fps"]
        table["duration_seconds"] = table["duration_seconds"].fillna(counted)


def _clear_torn_splits(table: pd.DataFrame, report: Report) -> None:
    """A group in two official splits keeps neither."""
    torn = table.groupby("group")["split"].transform("nunique") > 1
    if torn.any():
        names = sorted(set(table["group"][torn]))
        report.notes.append(
            f"the official split tears {len(names)} groups ({', '.join(names[:5])}): "
            f"their {int(torn.sum())} rows have no split"
        )
        table.loc[torn, "split"] = ""


def _with_videos(table: pd.DataFrame, root: Path, report: Report) -> pd.DataFrame:
    """Find, hash and, where the labels leave something open, probe every video."""
    import pandas as pd

    from rungwise.progress import track

    if not root.is_dir():
        raise ValueError(f"{root}: no folder of videos; --no-videos imports the labels alone")
    index = _index(root.resolve())
    table["path"] = ""
    found: dict[Any, Path] = {}
    for row, video, clip in zip(table.index, table["video"], table["clip"], strict=True):
        place = find_video(index, video)
        if isinstance(place, Path):
            found[row] = place
        else:
            report.refused.setdefault(place, []).append(video or clip)
    hdr = []
    with ThreadPoolExecutor() as pool:
        looks = pool.map(_look, found.values(), table.loc[list(found), list(FACTS)].isna().any(axis=1))
        for row, look in zip(found, track(looks, "videos", total=len(found)), strict=True):
            if isinstance(look, str):
                report.refused.setdefault(UNREADABLE_VIDEO, []).append(look)
                continue
            if look.pop("hdr", ""):
                hdr.append(found[row].name)
            # The labels' own facts stand: a lossless decode has another bitrate than the encode that was judged.
            unknown = [name for name in look if name in ("video_sha256", "codec") or pd.isna(table.loc[row, name])]
            for column in unknown:
                if column != "codec" or not table.loc[row, "codec"]:
                    table.loc[row, column] = look[column]
            table.loc[row, "path"] = str(found[row])
    if hdr:
        report.notes.append(f"{len(hdr)} videos are HDR, the first {hdr[0]}: scores of SDR models say little of them")
    seen = table["video_sha256"][table["video_sha256"] != ""]
    if twins := int(seen.duplicated().sum()):
        report.notes.append(f"{twins} videos have the bytes of another; `dataset check` names them")
    return table[table["path"] != ""].copy()


def _index(root: Path) -> dict[str, list[Path]]:
    """Videos below a folder, by file name without ending."""
    index: dict[str, list[Path]] = {}
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_ENDINGS:
                index.setdefault(without_ending(name), []).append(Path(folder, name))
    return index


def find_video(index: Mapping[str, list[Path]], expected: str) -> Path | str:
    """The one video whose path ends as expected, whatever its file ending; or why there is none.

    A file of the very name wins over one of another ending, and any over raw YUV, which says nothing of its size.
    """
    if not expected:
        return NO_NAME
    parts = tuple(without_ending(expected).split("/"))
    fitting = [
        path
        for path in index.get(parts[-1], [])
        if (*path.parts[:-1], without_ending(path.name))[-len(parts) :] == parts
    ]
    wrapped = [path for path in fitting if path.suffix.lower() != ".yuv"]
    named = [path for path in wrapped if path.name == PurePosixPath(expected).name]
    for choice in (named, wrapped):
        if len(choice) == 1:
            return choice[0]
    if wrapped:
        return SEVERAL_VIDEOS
    return RAW_VIDEO if fitting else MISSING_VIDEO


def _look(path: Path, probing: bool) -> dict[str, Any] | str:
    """Hash, and facts if wanted; or why the file cannot be read."""
    from rungwise.media.video import probe

    try:
        facts: dict[str, Any] = {"video_sha256": sha256_file(path)}
        if probing:
            seen = probe(path)
            facts |= {name: getattr(seen, name) for name in (*FACTS, "codec", "hdr")}
    except Exception as error:
        return failure(str(path), error)
    return facts
