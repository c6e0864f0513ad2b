"""Check every video of a dataset table against the table."""

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

FPS_TOLERANCE = 0.01  # relative; labels often round 29.97 to 30
DURATION_TOLERANCE_SECONDS, DURATION_TOLERANCE = 0.25, 0.02  # the larger applies; tools differ on the last frame


def check_videos(path: Path) -> tuple[dict[str, list[str]], int]:
    """Problems by clip, and the number of clips. Problems of the table itself are under its path.

    Every video is hashed, all of its packets are read, and its first and last frames are decoded. A broken clip does
    not stop the check. A file may also be the encode upscaled to the display height.

    Raises:
        ValueError: the file is not a table, or lacks the columns clip and path.
    """
    from rungwise.progress import track

    table = _read(path)
    problems: dict[str, list[str]] = defaultdict(list)
    rows: list[Mapping[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    try:
        check_table(table, str(path))
    except ValueError as error:
        problems[str(path)].append(str(error))
    first_of: dict[str, str] = {}  # clip by hash
    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda row: _check_video(row, path.parent), rows)
        for row, (clip_problems, sha256) in zip(rows, track(checks, "videos", total=len(rows)), strict=True):
            clip = str(row["clip"])
            if sha256 and first_of.setdefault(sha256, clip) != clip:
                clip_problems.append(f"same bytes as {first_of[sha256]}")
            if clip_problems:
                problems[clip] += clip_problems
    return dict(problems), len(rows)


def _read(path: Path) -> pd.DataFrame:
    """The table before `check_table`."""
    table = read_table_file(path, text_columns=TEXT_COLUMNS)
    for column in ("clip", "path"):
        if column not in table.columns:
            raise ValueError(f"{path}: missing column {column!r}")
    return table


def _check_video(row: Mapping[str, Any], folder: Path) -> tuple[list[str], str]:
    """Problems of one clip, and the hash of its file ("" if it cannot be read)."""
    from rungwise.media.video import probe

    score, low, high = (_number(row, name) for name in ("score", "score_min", "score_max"))
    problems = [f"score {score:g} outside {low:g}..{high:g}"] if score < low or score > high else []
    if not row["path"]:
        return [*problems, "no path"], ""
    video = folder / row["path"]
    if not video.is_file():
        return [*problems, f"missing: {video}"], ""
    try:
        sha256 = sha256_file(video)
    except OSError as error:
        return [*problems, f"unreadable: {error}"], ""
    if row.get("video_sha256") and row["video_sha256"] != sha256:
        problems.append(f"hash differs: {sha256[:12]}, the table has {row['video_sha256'][:12]}")
    try:
        info = probe(video)
        _decode_last_frame(video)
    except Exception as error:
        return [*problems, f"unreadable: {failure(str(video), error)}"], sha256
    width, height, fps, duration = (_number(row, name) for name in ("width", "height", "fps", "duration_seconds"))
    sizes_differ = (not math.isnan(width) and width != info.width) or (not math.isnan(height) and height != info.height)
    if sizes_differ and _number(row, "display_height") != info.height:
        problems.append(f"size differs: {info.width}x{info.height}, the table has {width:g}x{height:g}")
    if abs(fps - info.fps) > FPS_TOLERANCE * info.fps:
        problems.append(f"fps differs: {info.fps:g}, the table has {fps:g}")
    if abs(duration - info.duration_seconds) > max(DURATION_TOLERANCE_SECONDS, DURATION_TOLERANCE * duration):
        problems.append(f"duration differs: {info.duration_seconds:g} s, the table has {duration:g} s")
    if info.hdr:
        problems.append(f"HDR: {info.hdr}")
    return problems, sha256


def _number(row: Mapping[str, Any], column: str) -> float:
    """A number of a row, NaN if unknown; every comparison with NaN is false."""
    try:
        return float(row.get(column, math.nan))
    except (TypeError, ValueError):
        return math.nan


def _decode_last_frame(path: Path) -> None:
    """Decode from the last key frame to the end.

    Raises:
        ValueError: no frame decodes, as in a truncated file.
    """
    import av

    from rungwise.media.container import open_video, video_stream

    try:
        with open_video(path) as container:
            if container.duration:
                container.seek(container.duration, backward=True)
            frames = sum(1 for _ in container.decode(video_stream(container)))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: decoding fails at the end ({error.strerror})") from None
    if not frames:
        raise ValueError(f"{path}: the last frame cannot be decoded")
