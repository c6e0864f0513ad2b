"""Open every video of a table and say what is wrong with it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.artifact import sha256_file
from rungwise.dataset_table import TEXT_COLUMNS, check_table
from rungwise.failures import failure
from rungwise.tables import read_table_file

if TYPE_CHECKING:
    import pandas as pd

FPS_TOLERANCE = 0.01  # share; labels say 30 where files say 29.97
DURATION_TOLERANCE_SECONDS, DURATION_TOLERANCE = 0.25, 0.02  # the larger; tools count the last frame or not


def check_videos(path: Path) -> tuple[dict[str, list[str]], int]:
    """Problems of a table and its videos, clip -> what is wrong (the table's own under its path), and all clips.

    Every video is hashed, all of its packets are read and its first and last frames decoded. One bad clip never
    stops the rest. The stated size may also be that of a file upscaled to the display height.

    Raises:
        ValueError: the file is no table, or has no clips and paths.
    """
    from rungwise.progress import track

    table = _read(path)
    problems: dict[str, list[str]] = defaultdict(list)
    rows: list[Mapping[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    try:
        check_table(table, str(path))
    except ValueError as error:
        problems[str(path)].append(str(error))
    first_of: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:
        looks = pool.map(lambda row: _check_video(row, path.parent), rows)
        for row, (found, sha256) in zip(rows, track(looks, "videos", total=len(rows)), strict=True):
            clip = str(row["clip"])
            if sha256 and first_of.setdefault(sha256, clip) != clip:
                found.append(f"same bytes as {first_of[sha256]}")
            if found:
                problems[clip] += found
    return dict(problems), len(rows)


def _read(path: Path) -> pd.DataFrame:
    """A table as it is, its contract not yet asked for."""
    table = read_table_file(path, text_columns=TEXT_COLUMNS)
    for column in ("clip", "path"):
        if column not in table.columns:
            raise ValueError(f"{path}: missing column {column!r}")
    return table


def _check_video(row: Mapping[str, Any], folder: Path) -> tuple[list[str], str]:
    """What is wrong with one clip, and its file's hash ("" if there is no file)."""
    from rungwise.media.video import probe

    score, low, high = (_number(row, name) for name in ("score", "score_min", "score_max"))
    found = [f"score {score:g} outside {low:g}..{high:g}"] if score < low or score > high else []
    if not row["path"]:
        return [*found, "no path"], ""
    video = folder / row["path"]
    if not video.is_file():
        return [*found, f"missing: {video}"], ""
    try:
        sha256 = sha256_file(video)
    except OSError as error:
        return [*found, f"unreadable: {error}"], ""
    if row.get("video_sha256") and row["video_sha256"] != sha256:
        found.append(f"hash differs: {sha256[:12]}, the table has {row['video_sha256'][:12]}")
    try:
        seen = probe(video)
        _decode_last_frame(video)
    except Exception as error:
        return [*found, f"unreadable: {failure(str(video), error)}"], sha256
    width, height, fps, duration = (_number(row, name) for name in ("width", "height", "fps", "duration_seconds"))
    sizes_differ = (not math.isnan(width) and width != seen.width) or (not math.isnan(height) and height != seen.height)
    if sizes_differ and _number(row, "display_height") != seen.height:
        found.append(f"size differs: {seen.width}x{seen.height}, the table has {width:g}x{height:g}")
    if abs(fps - seen.fps) > FPS_TOLERANCE * seen.fps:
        found.append(f"fps differs: {seen.fps:g}, the table has {fps:g}")
    if abs(duration - seen.duration_seconds) > max(DURATION_TOLERANCE_SECONDS, DURATION_TOLERANCE * duration):
        found.append(f"duration differs: {seen.duration_seconds:g} s, the table has {duration:g} s")
    if seen.hdr:
        found.append(f"HDR: {seen.hdr}")
    return found, sha256


def _number(row: Mapping[str, Any], column: str) -> float:
    """A number of a row, NaN where it is not known; comparisons with NaN find nothing wrong."""
    try:
        return float(row.get(column, math.nan))
    except (TypeError, ValueError):
        return math.nan


def _decode_last_frame(path: Path) -> None:
    """Decode from the last key frame to the end.

    Raises:
        ValueError: nothing decodes there, as in a file that was cut off.
    """
    import av

    from rungwise.media.container import open_video, video_stream

    try:
        with open_video(path) as container:
            if container.duration:
                container.seek(container.duration, backward=True)
            frames = sum(1 for _ in container.decode(video_stream(container)))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken at the end ({error.strerror})") from None
    if not frames:
        raise ValueError(f"{path}: the last frame cannot be decoded")
