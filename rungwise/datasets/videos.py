"""Find the videos of a data set, hash them, and probe what the label files leave open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rungwise.artifact import sha256_file
from rungwise.datasets.import_report import ImportReport
from rungwise.datasets.labels import VIDEO_EXTENSIONS, without_extension
from rungwise.failures import failure

if TYPE_CHECKING:
    import pandas as pd

PROBED_COLUMNS = ("width", "height", "fps", "duration_seconds", "bitrate_kbps")
MISSING_VIDEO, SEVERAL_VIDEOS, UNREADABLE_VIDEO = "missing video", "several matching videos", "unreadable video"
RAW_VIDEO, NO_NAME = "raw YUV, convert it to .y4m or .mkv", "no video name in the label file"


def with_videos(table: pd.DataFrame, root: Path, report: ImportReport) -> pd.DataFrame:
    """The rows whose video exists and can be read, with its path, hash and missing values filled in."""
    import pandas as pd

    from rungwise.progress import track

    if not root.is_dir():
        raise ValueError(f"{root}: no such folder of videos; --no-videos imports the labels only")
    index = _index(root.resolve())
    table["path"] = ""
    paths: dict[Any, Path] = {}
    for row, video, clip in zip(table.index, table["video"], table["clip"], strict=True):
        match = find_video(index, video)
        if isinstance(match, Path):
            paths[row] = match
        else:
            report.refused.setdefault(match, []).append(video or clip)
    hdr = []
    with ThreadPoolExecutor() as pool:
        infos = pool.map(_video_info, paths.values(), table.loc[list(paths), list(PROBED_COLUMNS)].isna().any(axis=1))
        for row, info in zip(paths, track(infos, "videos", total=len(paths)), strict=True):
            if isinstance(info, str):
                report.refused.setdefault(UNREADABLE_VIDEO, []).append(info)
                continue
            if info.pop("hdr", ""):
                hdr.append(paths[row].name)
            # Values of the label file win: a lossless decode has another bitrate than the rated encode.
            unknown = [name for name in info if name in ("video_sha256", "codec") or pd.isna(table.loc[row, name])]
            for column in unknown:
                if column != "codec" or not table.loc[row, "codec"]:
                    table.loc[row, column] = info[column]
            table.loc[row, "path"] = str(paths[row])
    if hdr:
        report.notes.append(f"{len(hdr)} videos are HDR (first: {hdr[0]}): SDR models do not apply to them")
    hashes = table["video_sha256"][table["video_sha256"] != ""]
    if duplicates := int(hashes.duplicated().sum()):
        report.notes.append(f"{duplicates} videos are byte-identical to another; `rungwise dataset check` lists them")
    return table[table["path"] != ""].copy()


def _index(root: Path) -> dict[str, list[Path]]:
    """Videos in and below a folder, by file name without extension."""
    index: dict[str, list[Path]] = {}
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_EXTENSIONS:
                index.setdefault(without_extension(name), []).append(Path(folder, name))
    return index


def find_video(index: Mapping[str, list[Path]], expected: str) -> Path | str:
    """The video whose path ends with the expected one, with any extension; or the reason why there is none.

    A file with the expected extension wins over other extensions, and any container over raw YUV, which does not
    store its frame size.

    Args:
        index: paths by file name without extension.
        expected: path with "/", relative to any folder; "" if the label file has none.
    """
    if not expected:
        return NO_NAME
    parts = tuple(without_extension(expected).split("/"))
    matches = [
        path
        for path in index.get(parts[-1], [])
        if (*path.parts[:-1], without_extension(path.name))[-len(parts) :] == parts
    ]
    containers = [path for path in matches if path.suffix.lower() != ".yuv"]
    same_name = [path for path in containers if path.name == PurePosixPath(expected).name]
    for paths in (same_name, containers):
        if len(paths) == 1:
            return paths[0]
    if containers:
        return SEVERAL_VIDEOS
    return RAW_VIDEO if matches else MISSING_VIDEO


def _video_info(path: Path, probing: bool) -> dict[str, Any] | str:
    """The hash of a video and, if `probing`, its probed values; or the reason why it cannot be read."""
    from rungwise.media.video import probe

    try:
        info: dict[str, Any] = {"video_sha256": sha256_file(path)}
        if probing:
            probed = probe(path)
            info |= {name: getattr(probed, name) for name in (*PROBED_COLUMNS, "codec", "hdr")}
    except Exception as error:
        return failure(str(path), error)
    return info
