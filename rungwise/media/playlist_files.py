"""The files that a playlist points to: those in its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rungwise.media.variants import check_inside, local_path

MAX_PLAYLIST_BYTES = 32 * 2**20
MAX_SEGMENT_BYTES = 512 * 2**20


class PlaylistFiles(Protocol):
    """What a playlist's addresses point to."""

    def join(self, base: str, uri: str) -> str:
        """The address of a URI in the playlist at `base`.

        Raises:
            ValueError: it must not be read.
        """

    def read(self, address: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, or all.

        Raises:
            ValueError: there are more than `max_bytes`, or fewer than `length`.
            OSError: it can't be read now.
        """


class LocalFiles:
    """Files in the folder of a local playlist."""

    def __init__(self, playlist: Path) -> None:
        self.playlist = playlist

    def join(self, base: str, uri: str) -> str:
        """The path of a URI.

        Raises:
            ValueError: it is remote, or outside the folder.
        """
        path = local_path(Path(base).parent, uri)
        check_inside(path, self.playlist, uri)
        return str(path)

    def read(self, address: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """As `PlaylistFiles.read`."""
        with Path(address).open("rb") as stream:
            stream.seek(start)
            data = stream.read(max_bytes + 1 if length is None else min(length, max_bytes + 1))
        if len(data) > max_bytes:
            raise ValueError(f"{address}: more than {max_bytes:,} bytes")
        if length is not None and len(data) < length:
            raise ValueError(f"{address}: ends before byte {start + length} of the playlist")
        return data
