"""Local HLS and DASH playlists: the files or byte ranges that make up each variant."""

from __future__ import annotations

from pathlib import Path

from rungwise.media.dash import read_dash
from rungwise.media.hls import read_hls
from rungwise.media.variants import Piece, UnfinishedError, Variant, write_whole

__all__ = ["Piece", "UnfinishedError", "Variant", "read_playlist", "write_whole"]


def read_playlist(path: Path, notes: list[str] | None = None) -> list[Variant]:
    """The video variants of an HLS playlist or a DASH manifest; one that can't be read has its `problem` set.

    Args:
        path: the playlist.
        notes: collects a line for each skipped variant that may be video, such as a redundant one.

    Raises:
        ValueError: the playlist is missing, invalid or live, or lists no video.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    notes = [] if notes is None else notes
    variants = read_hls(path, notes) if path.suffix.lower() == ".m3u8" else read_dash(path, notes)
    if not variants:
        raise ValueError(f"{path}: lists no video{': ' if notes else ''}{'; '.join(notes)}")
    return variants
