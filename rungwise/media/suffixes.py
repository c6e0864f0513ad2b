"""Which files of a folder are videos, by file name suffix; one list for every command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PLAYLIST_SUFFIXES = (".m3u8", ".mpd")
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".f4v", ".qt", ".mj2"),
    *(".mkv", ".mk3d", ".webm", ".avi", ".divx", ".ogv", ".ogm", ".nut", ".flv", ".wmv", ".asf", ".rm", ".rmvb"),
    *(".ts", ".m2ts", ".mts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".m2p", ".mpv", ".vob"),
    *(".mxf", ".gxf", ".dv", ".dif", ".y4m", ".ivf", ".obu", ".av1", ".h264", ".264", ".avc", ".h265", ".265", ".hevc"),
    *(".h266", ".266", ".vvc", ".h263", ".263", ".h261", ".261", ".mjpeg", ".mjpg", ".gif", ".apng"),
)
"""Suffixes of video files, lower case. `.yuv` is not among them: raw video does not state its size."""

_SIDECARS = frozenset(
    [
        *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"),
        *(".log", ".md", ".html", ".pdf", ".nfo", ".sha256", ".md5", ".svg", ".png", ".jpg", ".jpeg", ".bmp", ".tif"),
        *(".tiff", ".srt", ".vtt", ".ass", ".ssa", ".sub", ".idx", ".ttml", ".wav", ".mp3", ".m4a", ".aac", ".flac"),
        *(".opus", ".ogg", ".ac3", ".ec3", ".eac3", ".mka", ".py", ".sh", ".zip", ".gz", ".bak", ".tmp", ".part"),
        *(".partial", ".stats", ".mbtree", ".cutree", ".onnx", ".key", ".m4s", ".cmfv", ".cmfa", *PLAYLIST_SUFFIXES),
    ]
)
_MAX_NAMES = 5


def is_video_name(path: Path) -> bool:
    """Whether a file has the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def unread_files(files: Iterable[Path]) -> str:
    """One line naming files with an unknown suffix, which may be videos; "" if there are none.

    Hidden files and usual sidecars (text, tables, subtitles, audio, stills, segments) are not named.
    """
    names = sorted(
        path.name
        for path in files
        if not is_video_name(path) and path.suffix.lower() not in _SIDECARS and not path.name.startswith(".")
    )
    if not names:
        return ""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"skipped, unknown suffix: {', '.join(names[:_MAX_NAMES])}{more}"
