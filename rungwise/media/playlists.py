"""HLS and DASH playlists: the files or byte ranges that make up each variant."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from rungwise.media.dash import read_dash
from rungwise.media.hls import read_hls
from rungwise.media.playlist_files import LocalFiles, PlaylistFiles
from rungwise.media.remote import Network, is_url
from rungwise.media.remote_files import remote_files
from rungwise.media.suffixes import PLAYLIST_SUFFIXES
from rungwise.media.variants import Piece, UnfinishedError, Variant, write_whole

__all__ = ["Piece", "UnfinishedError", "Variant", "read_playlist", "write_whole"]


def read_playlist(source: Path | str, notes: list[str] | None = None, network: Network | None = None) -> list[Variant]:
    """The video variants of an HLS playlist or a DASH manifest; one that can't be read has its `problem` set.

    Args:
        source: the playlist's path or URL.
        notes: collects a line for each skipped variant that may be video, such as a redundant one.
        network: what may be read if it is a URL.

    Raises:
        ValueError: the playlist is missing, invalid or live, or lists no video.
        OSError: it can't be read now.
    """
    address = str(source)
    if not is_url(address) and not Path(source).is_file():
        raise ValueError(f"{source}: no such file")
    notes = [] if notes is None else notes
    files = playlist_files(address, network or Network())
    read = read_hls if is_hls(address) else read_dash
    variants = read(address, files, notes)
    if not variants:
        raise ValueError(f"{source}: lists no video{': ' if notes else ''}{'; '.join(notes)}")
    return variants


def is_hls(address: str) -> bool:
    """Whether a playlist is HLS, by its suffix; else it is DASH."""
    path = urlsplit(address).path if is_url(address) else address
    return path.lower().endswith(".m3u8")


def is_playlist(address: str) -> bool:
    """Whether an input is a playlist, by its suffix."""
    path = urlsplit(address).path if is_url(address) else address
    return path.lower().endswith(PLAYLIST_SUFFIXES)


def playlist_files(address: str, network: Network) -> PlaylistFiles:
    """What a playlist may point to."""
    return remote_files(address, network) if is_url(address) else LocalFiles(Path(address))
