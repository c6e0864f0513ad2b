"""The encodes of one title: from a folder, a table, or a local HLS or DASH playlist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rungwise.dataset_table import POLARITIES
from rungwise.failures import failure
from rungwise.ladder.rungs import Rung
from rungwise.media.codec_names import codec_name
from rungwise.media.container import field_problem
from rungwise.media.limits import is_absurd_aspect
from rungwise.media.playlists import is_playlist, read_playlist, write_whole
from rungwise.media.remote import Network, is_url
from rungwise.media.suffixes import PLAYLIST_SUFFIXES, VIDEO_SUFFIXES, is_video_name, unread_files
from rungwise.media.video import VideoInfo, probe
from rungwise.progress import warn
from rungwise.tables import TABLE_SUFFIXES, read_table_file, to_numbers

if TYPE_CHECKING:
    import pandas as pd

CODEC_ORDER = ("h264", "hevc", "vp9", "av1", "vvc")
# Parts of column names where lower is better; the values are tested as well.
LOWER_IS_BETTER = ("dmos", "lpips", "dists", "mse", "rmse", "niqe", "brisque", "flip")
LADDER_COLUMNS = ("codec", "height", "width", "bitrate_kbps", "content", "clip", "name", "path")
MAX_LENGTH_SPREAD = 0.02  # longest over shortest encode of one title, minus 1
MAX_ASPECT_SPREAD = 0.02  # of display aspects of one title; widths and heights are rounded to even ones
DECLARED_SLACK = 1.1


@dataclass(frozen=True)
class Encode:
    """A rung and its file; without a file its quality comes from a table's column."""

    rung: Rung
    path: Path | None
    row: int = 0
    seconds: float | None = None
    display_aspect: float | None = None


@dataclass
class TitleEncodes:
    """The encodes of one title, why other files are none, and the rows of that title where the source is a table."""

    encodes: list[Encode] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    table: pd.DataFrame | None = None


def find_encodes(
    source: Path | str,
    scratch: Path,
    *,
    content: str | None = None,
    without: Path | None = None,
    network: Network | None = None,
) -> TitleEncodes:
    """The rungs of a source, by codec, then by bitrate.

    Args:
        source: a folder of videos (its own, not its subfolders'), a `.parquet` or `.csv` table, a `.m3u8` or `.mpd`,
            or the URL of a playlist.
        scratch: an existing folder, where segments are joined.
        content: which title of a table.
        without: the reference, a video that is not a rung.
        network: what may be read if the source is a URL.

    Raises:
        ValueError: the source does not exist, is remote but no playlist, or holds no rung.
    """
    address = str(source)
    if not is_url(address) and "://" in address:
        raise ValueError(f"{source}: neither a file nor an http(s) or s3 URL")
    if is_url(address) and not is_playlist(address):
        raise ValueError(f"{source}: of remote inputs only playlists are checked (.m3u8, .mpd)")
    source = Path(source)
    if is_url(address):
        title = _playlist(address, scratch, network)
    elif not source.exists():
        raise ValueError(f"{source}: no such folder, table or playlist")
    elif source.is_dir():
        title = _folder(source, without)
    elif source.suffix.lower() in TABLE_SUFFIXES:
        title = _table(source, content)
    elif source.suffix.lower() in PLAYLIST_SUFFIXES:
        title = _playlist(address, scratch, network)
    else:
        endings = ", ".join((*TABLE_SUFFIXES, *PLAYLIST_SUFFIXES))
        raise ValueError(f"{source}: expected a folder of encodes, or a file that ends in {endings}")
    if content is not None and title.table is None:
        raise ValueError(f"--content {content}: only a table holds more than one title")
    if not title.encodes:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in title.failures.items())
        raise ValueError(f"{address}: holds no rung that can be read{': ' if reasons else ''}{reasons}")
    title.encodes.sort(key=lambda encode: (*_codec_place(encode.rung.codec), encode.rung.bitrate_kbps))
    seconds = [encode.seconds for encode in title.encodes if encode.seconds]
    if seconds and max(seconds) > min(seconds) * (1 + MAX_LENGTH_SPREAD):
        title.notes.append(f"encodes last from {min(seconds):.2f} to {max(seconds):.2f} s; are they of one title?")
    return title


def leave_out_other_aspects(title: TitleEncodes) -> None:
    """Move rungs that are shown wider or narrower than most to the failures."""
    aspects = sorted(encode.display_aspect for encode in title.encodes if encode.display_aspect)
    usual = aspects[len(aspects) // 2] if aspects else 0.0
    for encode in list(title.encodes):
        aspect = encode.display_aspect
        if aspect and abs(aspect / usual - 1) > MAX_ASPECT_SPREAD:
            title.encodes.remove(encode)
            title.failures[encode.rung.name] = (
                f"is shown at an aspect ratio of {aspect:.3g}:1, the title's other rungs at {usual:.3g}:1"
            )


def _codec_place(codec: str) -> tuple[int, str]:
    return (CODEC_ORDER.index(codec) if codec in CODEC_ORDER else len(CODEC_ORDER), codec)


def _folder(folder: Path, without: Path | None) -> TitleEncodes:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    videos = [path for path in files if is_video_name(path)]
    if not videos:
        lists = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PLAYLIST_SUFFIXES)
        hint = f"; name its playlist, {folder / lists[0]}" if lists else ""
        raise ValueError(f"{folder}: no video directly in this folder ({', '.join(VIDEO_SUFFIXES)}){hint}")
    title = TitleEncodes()
    if unread := unread_files(files):
        warn(f"{folder}: {unread}")
    for path in videos:
        if without is not None and without.exists() and path.samefile(without):
            title.notes.append(f"{path.name} is the reference, not a rung")
            continue
        name = path.name.encode(errors="backslashreplace").decode()  # a report is UTF-8
        try:
            title.encodes.append(_probed(path, name, title.notes))
        except Exception as error:
            title.failures[name] = _reason(error, path)
    return title


def _reason(error: Exception, path: Path) -> str:
    return failure(str(path), error).removeprefix(f"{path}: ")


def _probed(path: Path, name: str, notes: list[str], declared_kbps: float | None = None) -> Encode:
    video = probe(path)
    if problem := field_problem(video.codec, video.interlaced, video.width, video.height):
        raise ValueError(f"{path}: {problem}")
    notes += [f"{name}: {note}" for note in video.notes]
    if not video.bitrate_kbps > 0:
        raise ValueError(f"{path}: has no duration, so no bitrate; is it a still image?")
    rung = Rung(
        name=name,
        codec=video.codec,
        width=video.width,
        height=video.height,
        bitrate_kbps=video.bitrate_kbps,
        declared_kbps=declared_kbps,
    )
    return Encode(rung, path, seconds=video.duration_seconds, display_aspect=_display_aspect(video))


def _display_aspect(video: VideoInfo) -> float:
    sample_aspect = Fraction(video.sample_aspect_ratio)
    if is_absurd_aspect(sample_aspect):
        sample_aspect = Fraction(1)
    elif video.rotation_degrees % 180:
        sample_aspect = 1 / sample_aspect
    return float(video.width * sample_aspect / video.height)


def _playlist(address: str, scratch: Path, network: Network | None) -> TitleEncodes:
    title = TitleEncodes()
    for number, variant in enumerate(read_playlist(address, title.notes, network)):
        whole = scratch / f"{number}.video"
        try:
            if variant.problem:
                raise ValueError(variant.problem)
            whole = write_whole(variant, whole)
            encode = _probed(whole, variant.name, title.notes, variant.declared_kbps)
        except Exception as error:
            title.failures[variant.name] = _reason(error, whole)
            continue
        title.encodes.append(encode)
        # A playlist declares all that is sent, so compare with all bytes, audio included.
        sent_kbps = whole.stat().st_size * 8 / 1000 / (encode.seconds or 1)
        if variant.declared_kbps and sent_kbps > DECLARED_SLACK * variant.declared_kbps:
            title.notes.append(
                f"{variant.name} sends {sent_kbps:.0f} kbps on average, "
                f"{100 * (sent_kbps / variant.declared_kbps - 1):.0f} % more than the playlist's "
                f"{variant.declared_kbps:.0f}"
            )
    return title


def _table(path: Path, content: str | None) -> TitleEncodes:
    import pandas as pd

    notes: list[str] = []
    table = _plain_names(read_table_file(path, notes=notes), LADDER_COLUMNS)
    missing = [name for name in ("codec", "height", "bitrate_kbps") if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: has no column {', '.join(missing)}; a ladder needs codec, height, bitrate_kbps and a quality"
        )
    if "content" in table.columns:
        contents = sorted(table["content"].astype(str).unique())
        if content is None and len(contents) > 1:
            raise ValueError(f"{path}: holds {len(contents)} contents; name one: --content {contents[0]}")
        if content is not None and content not in contents:
            raise ValueError(f"{path}: has no content {content!r}; it has {', '.join(contents[:20])}")
        table = table[table["content"].astype(str) == (content or contents[0])]
    elif content is not None:
        raise ValueError(f"--content {content}: {path} has no column content")
    table = _drop_duplicates(table.reset_index(drop=True), path, notes)
    written = list(dict.fromkeys(str(codec) for codec in table["codec"]))
    renamed = [f"{codec} as {codec_name(codec)}" for codec in written if codec != codec_name(codec)]
    if renamed:
        notes.append(f"codec names are normalized: {', '.join(renamed)}")
    title = TitleEncodes(table=table, notes=notes)
    for i, row in table.iterrows():
        place = int(str(i))
        name = next((str(row[key]) for key in ("clip", "name", "path") if key in table.columns), f"row {place}")
        kbps, height, width = (_number(row.get(key)) for key in ("bitrate_kbps", "height", "width"))
        if not (np.isfinite(kbps) and kbps > 0 and height > 0):
            title.failures[name] = (
                f"bitrate_kbps is {row['bitrate_kbps']}, height is {row['height']}; both must be above 0"
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
        title.encodes.append(Encode(rung, file, row=place))
    return title


def _number(cell: Any) -> float:
    """A cell as a number, or NaN."""
    import pandas as pd

    try:
        return float(to_numbers(pd.Series([cell], dtype=object), "cell", "").iloc[0])
    except ValueError:
        return float("nan")


def _plain_names(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns renamed where only case, spaces or brackets differ: "Bitrate (kbps)" to bitrate_kbps."""
    plain = {str(column): re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_") for column in table.columns}
    renamed = {}
    for name in names:
        matches = [column for column, plain_name in plain.items() if plain_name == name]
        if name not in table.columns and len(matches) == 1:
            renamed[matches[0]] = name
    return table.rename(columns=renamed)


def _drop_duplicates(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """The table without rows that repeat another in every column.

    Raises:
        ValueError: two rows of one encode, by its name, codec, height and bitrate, that differ elsewhere.
    """
    repeated = table.astype(str).duplicated()  # as text: a Parquet or JSON cell may hold a list
    if repeated.any():
        notes.append(f"{int(repeated.sum())} of {len(table)} rows are exact duplicates and count once")
        table = table[~repeated].reset_index(drop=True)
    names = [key for key in ("clip", "name", "path") if key in table.columns][:1]
    if names:
        again = table[table.duplicated([*names, "codec", "height", "bitrate_kbps"], keep=False)]
        if len(again):
            first = again.iloc[0]
            raise ValueError(
                f"{path}: {first[names[0]]} at {first['bitrate_kbps']} kbps appears more than once with other values "
                "elsewhere; keep one row per encode"
            )
    return table


@dataclass(frozen=True)
class Column:
    """A table's column as quality, higher is better; `negated` if lower was."""

    kind: str
    negated: bool
    display_height: int | None
    values: dict[int, float]


def read_column(table: pd.DataFrame, name: str, rungs: Sequence[Encode], *, lower_is_better: bool = False) -> Column:
    """A numeric column of a title's table. `score` has its kind and polarity in the table; others are higher-is-better.

    Raises:
        ValueError: no such column, mixed kinds or display heights, or a column that looks lower-is-better without
            `lower_is_better`.
    """
    if name not in table.columns:
        table = _plain_names(table, [name])
        matches = [str(column) for column in table.columns if str(column).lower() == name.lower()]
        table = table.rename(columns={matches[0]: name}) if len(matches) == 1 else table
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
            raise ValueError(f"column {name!r} looks lower-is-better by its name; give --lower-is-better")
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
            f"column {name} holds {len(values)} values, {', '.join(map(str, values[:5]))}; expected one per title"
        )
    return values[0]


def _check_direction(name: str, values: dict[int, float], rungs: Sequence[Encode], negated: bool) -> None:
    """Refuse a quality that falls as bitrate rises within a codec."""
    from rungwise.metrics.statistics import srcc

    correlations = []
    for codec in {encode.rung.codec for encode in rungs}:
        pairs = [(e.rung.bitrate_kbps, values[e.row]) for e in rungs if e.rung.codec == codec]
        pairs = [pair for pair in pairs if np.isfinite(pair[1])]
        rate, q = np.asarray(pairs, np.float64).reshape(-1, 2).T
        if len(rate) > 3 and np.ptp(q) > 0 and np.ptp(rate) > 0:
            correlations.append(float(srcc(rate, q)))
    if correlations and np.mean(correlations) < -0.5:
        fix = "leave out --lower-is-better" if negated else "if lower is better, give --lower-is-better"
        raise ValueError(
            f"column {name!r} gets worse as bitrate rises (SRCC {np.mean(correlations):.2f} within a codec); {fix}"
        )
