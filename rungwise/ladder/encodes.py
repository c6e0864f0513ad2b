"""Where rungs come from: a folder, a table, or a local HLS or DASH playlist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rungwise.dataset_table import POLARITIES
from rungwise.failures import failure
from rungwise.ladder.rungs import Rung
from rungwise.media.codec_names import codec_name
from rungwise.media.container import field_problem
from rungwise.media.playlists import read_playlist, write_whole
from rungwise.media.suffixes import PLAYLIST_SUFFIXES, VIDEO_SUFFIXES, is_video_name, unread_files
from rungwise.media.video import VideoInfo, probe
from rungwise.progress import warn
from rungwise.tables import TABLE_SUFFIXES as TABLE_SUFFIXES
from rungwise.tables import read_table_file, to_numbers

if TYPE_CHECKING:
    import pandas as pd

CODEC_ORDER = ("h264", "hevc", "vp9", "av1", "vvc")
# Columns whose names say that less is better; the data are looked at as well.
LOWER_IS_BETTER = ("dmos", "lpips", "dists", "mse", "rmse", "niqe", "brisque", "flip")
LADDER_COLUMNS = ("codec", "height", "width", "bitrate_kbps", "content", "clip", "name", "path")
MAX_LENGTH_SPREAD = 0.02  # longest over shortest encode of one title, less 1
DECLARED_SLACK = 1.1


@dataclass(frozen=True)
class Encode:
    """A rung, and the file to look at; without one its quality comes from a table's column."""

    rung: Rung
    path: Path | None
    row: int = 0
    seconds: float | None = None


@dataclass
class TitleEncodes:
    """The encodes of one title, why other files are none, and the rows of that title where the source is a table."""

    encodes: list[Encode] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    table: pd.DataFrame | None = None


def find_encodes(
    source: Path, scratch: Path, *, content: str | None = None, without: Path | None = None
) -> TitleEncodes:
    """The rungs of a source, by codec, then by bitrate.

    Args:
        source: a folder of videos (its own, not its subfolders'), a `.parquet` or `.csv` table, a `.m3u8` or `.mpd`.
        scratch: an existing folder, where segments are joined.
        content: which title of a table.
        without: a video that is no rung, the reference.

    Raises:
        ValueError: remote, not there, or not one rung in it.
    """
    if "://" in str(source) or str(source).startswith(("http:/", "https:/")):
        raise ValueError(f"{source}: remote; only local files are read, download the whole title first")
    if not source.exists():
        raise ValueError(f"{source}: no such folder, table or playlist")
    if source.is_dir():
        found = _folder(source, without)
    elif source.suffix.lower() in TABLE_SUFFIXES:
        found = _table(source, content)
    elif source.suffix.lower() in PLAYLIST_SUFFIXES:
        found = _playlist(source, scratch)
    else:
        endings = ", ".join((*TABLE_SUFFIXES, *PLAYLIST_SUFFIXES))
        raise ValueError(f"{source}: want a folder of encodes, or a file that ends in {endings}")
    if content is not None and found.table is None:
        raise ValueError(f"--content {content}: only a table holds more than one title")
    if not found.encodes:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.failures.items())
        raise ValueError(f"{source}: holds no rung that can be read{': ' if reasons else ''}{reasons}")
    found.encodes.sort(key=lambda encode: (*_codec_place(encode.rung.codec), encode.rung.bitrate_kbps))
    seconds = [encode.seconds for encode in found.encodes if encode.seconds]
    if seconds and max(seconds) > min(seconds) * (1 + MAX_LENGTH_SPREAD):
        found.notes.append(f"encodes last from {min(seconds):.2f} to {max(seconds):.2f} s; are they of one title?")
    return found


def _codec_place(codec: str) -> tuple[int, str]:
    return (CODEC_ORDER.index(codec) if codec in CODEC_ORDER else len(CODEC_ORDER), codec)


def _folder(folder: Path, without: Path | None) -> TitleEncodes:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    videos = [path for path in files if is_video_name(path)]
    if not videos:
        lists = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PLAYLIST_SUFFIXES)
        hint = f"; name its playlist, {folder / lists[0]}" if lists else ""
        raise ValueError(f"{folder}: holds no video of its own ({', '.join(VIDEO_SUFFIXES)}){hint}")
    found = TitleEncodes()
    if unread := unread_files(files):
        warn(f"{folder}: {unread}")
    for path in videos:
        if without is not None and without.exists() and path.samefile(without):
            found.notes.append(f"{path.name} is the reference, so no rung")
            continue
        name = path.name.encode(errors="backslashreplace").decode()  # bytes that are no UTF-8 can't be in a report
        try:
            found.encodes.append(_probed(path, name, found.notes))
        except Exception as error:
            found.failures[name] = _reason(error, path)
    return found


def _reason(error: Exception, path: Path) -> str:
    return failure(str(path), error).removeprefix(f"{path}: ")


def _probed(
    path: Path, name: str, notes: list[str], declared_kbps: float | None = None, seen: VideoInfo | None = None
) -> Encode:
    seen = seen or probe(path)
    if fields := field_problem(seen.codec, seen.interlaced, seen.width, seen.height):
        raise ValueError(f"{path}: {fields}")
    notes += [f"{name}: {note}" for note in seen.notes]
    if not seen.bitrate_kbps > 0:
        raise ValueError(f"{path}: has no duration, so no bitrate; is it a single picture?")
    rung = Rung(
        name=name,
        codec=seen.codec,
        width=seen.width,
        height=seen.height,
        bitrate_kbps=seen.bitrate_kbps,
        declared_kbps=declared_kbps,
    )
    return Encode(rung, path, seconds=seen.duration_seconds)


def _playlist(path: Path, scratch: Path) -> TitleEncodes:
    found = TitleEncodes()
    for number, variant in enumerate(read_playlist(path, found.notes)):
        whole = scratch / f"{number}.video"
        try:
            if variant.problem:
                raise ValueError(variant.problem)
            whole = write_whole(variant, whole)
            encode = _probed(whole, variant.name, found.notes, variant.declared_kbps)
        except Exception as error:
            found.failures[variant.name] = _reason(error, whole)
            continue
        found.encodes.append(encode)
        # Declared is all that is sent, so compare it with all bytes, an audio track among them included.
        sent_kbps = whole.stat().st_size * 8 / 1000 / (encode.seconds or 1)
        if variant.declared_kbps and sent_kbps > DECLARED_SLACK * variant.declared_kbps:
            found.notes.append(
                f"{variant.name} sends {sent_kbps:.0f} kbps on average, "
                f"{100 * (sent_kbps / variant.declared_kbps - 1):.0f} % more than the playlist's "
                f"{variant.declared_kbps:.0f}"
            )
    return found


def _table(path: Path, content: str | None) -> TitleEncodes:
    import pandas as pd

    notes: list[str] = []
    table = _usual_names(read_table_file(path, notes=notes), LADDER_COLUMNS)
    missing = [name for name in ("codec", "height", "bitrate_kbps") if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; want codec, height, bitrate_kbps and a quality")
    if "content" in table.columns:
        contents = sorted(table["content"].astype(str).unique())
        if content is None and len(contents) > 1:
            raise ValueError(f"{path}: holds {len(contents)} contents; name one: --content {contents[0]}")
        if content is not None and content not in contents:
            raise ValueError(f"{path}: has no content {content!r}; it has {', '.join(contents[:20])}")
        table = table[table["content"].astype(str) == (content or contents[0])]
    elif content is not None:
        raise ValueError(f"--content {content}: {path} has no column content")
    table = _merge_alike(table.reset_index(drop=True), path, notes)
    written = list(dict.fromkeys(str(codec) for codec in table["codec"]))
    renamed = [f"{codec} as {codec_name(codec)}" for codec in written if codec != codec_name(codec)]
    if renamed:
        notes.append(f"codecs are read by their usual names: {', '.join(renamed)}")
    found = TitleEncodes(table=table, notes=notes)
    for i, row in table.iterrows():
        place = int(str(i))
        name = next((str(row[key]) for key in ("clip", "name", "path") if key in table.columns), f"row {place}")
        kbps, height, width = (_number(row.get(key)) for key in ("bitrate_kbps", "height", "width"))
        if not (np.isfinite(kbps) and kbps > 0 and height > 0):
            found.failures[name] = (
                f"bitrate_kbps is {row['bitrate_kbps']}, height is {row['height']}; want numbers above 0"
            )
            continue
        rung = Rung(
            name=name,
            codec=codec_name(str(row["codec"])),
            height=int(height),
            width=int(width) if width > 0 else None,
            bitrate_kbps=kbps,
        )
        file = path.parent / str(row["path"]) if "path" in table.columns and pd.notna(row["path"]) else None
        found.encodes.append(Encode(rung, file, row=place))
    return found


def _number(cell: Any) -> float:
    """A cell as a number, NaN where it is none."""
    import pandas as pd

    try:
        return float(to_numbers(pd.Series([cell], dtype=object), "cell", "").iloc[0])
    except ValueError:
        return float("nan")


def _usual_names(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns by our names where only case, spaces or brackets differ: "Bitrate (kbps)" is bitrate_kbps."""
    plain = {str(column): re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_") for column in table.columns}
    renamed = {}
    for name in names:
        alike = [column for column, usual in plain.items() if usual == name]
        if name not in table.columns and len(alike) == 1:
            renamed[alike[0]] = name
    return table.rename(columns=renamed)


def _merge_alike(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """Rows that are the same in every column once.

    Raises:
        ValueError: two rows of one encode, by its name, codec, height and bitrate, that differ elsewhere.
    """
    repeated = table.astype(str).duplicated()  # as text: a Parquet or JSON cell may hold a list
    if repeated.any():
        notes.append(f"{int(repeated.sum())} of {len(table)} rows repeat another in every column, and count once")
        table = table[~repeated].reset_index(drop=True)
    names = [key for key in ("clip", "name", "path") if key in table.columns][:1]
    if names:
        again = table[table.duplicated([*names, "codec", "height", "bitrate_kbps"], keep=False)]
        if len(again):
            first = again.iloc[0]
            raise ValueError(
                f"{path}: {first[names[0]]} at {first['bitrate_kbps']} kbps is there more than once, with other values "
                "elsewhere; leave one row an encode"
            )
    return table


@dataclass(frozen=True)
class Column:
    """A table's column as quality: higher is better now, `negated` if it was not."""

    kind: str
    negated: bool
    display_height: int | None
    values: dict[int, float]


def read_column(table: pd.DataFrame, name: str, rungs: Sequence[Encode], *, lower_is_better: bool = False) -> Column:
    """A numeric column of a title's table; `score` by its own kind and polarity, others higher-is-better unless told.

    Raises:
        ValueError: no such column, mixed kinds or display heights, or one that looks lower-is-better and isn't said
            to be.
    """

    if name not in table.columns:
        table = _usual_names(table, [name])
        alike = [str(column) for column in table.columns if str(column).lower() == name.lower()]
        table = table.rename(columns={alike[0]: name}) if len(alike) == 1 else table
    if name not in table.columns:
        numeric = ", ".join(str(column) for column in table.select_dtypes("number").columns)
        raise ValueError(f"the table has no column {name!r}; its numeric ones are {numeric}")
    values = to_numbers(table[name], name, "the table").to_numpy(dtype=float)
    if name == "score" and "score_polarity" in table.columns:
        polarity = _single(table, "score_polarity")
        if polarity not in POLARITIES:
            raise ValueError(f"score_polarity is {polarity!r}; it must be one of {', '.join(POLARITIES)}")
        negated = polarity == "lower_is_better"
    else:
        negated = lower_is_better
        if not negated and any(part in LOWER_IS_BETTER for part in name.lower().replace("-", "_").split("_")):
            raise ValueError(f"column {name!r} is named like one where lower is better; say so with --lower-is-better")
    kind = _single(table, "score_kind") if name == "score" and "score_kind" in table.columns else name
    kind = f"vmaf ({name})" if "vmaf" in kind.lower() and not kind.lower().startswith("vmaf") else kind
    height = int(_single(table, "display_height")) if "display_height" in table.columns else None
    chosen = {encode.row: float(-values[encode.row] if negated else values[encode.row]) for encode in rungs}
    _check_direction(name, chosen, rungs, negated)
    return Column(kind, negated, height, chosen)


def _single(table: pd.DataFrame, name: str) -> Any:
    values = table[name].dropna().unique()
    if len(values) != 1:
        raise ValueError(
            f"column {name} holds {len(values)} values, {', '.join(map(str, values[:5]))}; want one a title"
        )
    return values[0]


def _check_direction(name: str, values: dict[int, float], rungs: Sequence[Encode], negated: bool) -> None:
    """Refuse what falls as bitrate rises: within a codec no quality does."""
    from rungwise.metrics.statistics import srcc

    found = []
    for codec in {encode.rung.codec for encode in rungs}:
        pairs = [(e.rung.bitrate_kbps, values[e.row]) for e in rungs if e.rung.codec == codec]
        pairs = [pair for pair in pairs if np.isfinite(pair[1])]
        rate, q = np.asarray(pairs, np.float64).reshape(-1, 2).T
        if len(rate) > 3 and np.ptp(q) > 0 and np.ptp(rate) > 0:
            found.append(float(srcc(rate, q)))
    if found and np.mean(found) < -0.5:
        fix = "leave out --lower-is-better" if negated else "if lower is better, say --lower-is-better"
        raise ValueError(
            f"column {name!r} gets worse as bitrate rises (SRCC {np.mean(found):.2f} within a codec); {fix}"
        )
