"""The files that a playlist points to. A local one points to files in its own folder only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

MAX_PLAYLIST_BYTES = 32 * 2**20
MAX_SEGMENT_BYTES = 512 * 2**20


class PlaylistFiles(Protocol):
    """What a playlist's addresses point to."""

    def join(self, base: str, uri: str) -> str:
        """The address of a URI in the playlist at `base`.

        Raises:
            ValueError: it must not be read.
        """

    def name(self, address: str) -> str:
        """What an address is called: relative to the playlist where it lies below."""

    def exists(self, address: str) -> bool:
        """Whether there is such a file."""

    def local(self, address: str) -> Path | None:
        """Its path, if it is a local file."""

    def read(self, address: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, or all.

        Raises:
            ValueError: there are more than `max_bytes`, or fewer than `length`.
            OSError: it can't be read now.
        """

    def copy(self, address: str, out: BinaryIO, start: int = 0, length: int | None = None) -> None:
        """Append what `read` gives, of any size, to a file."""


class LocalFiles:
    """Files in the folder of a local playlist."""

    def __init__(self, playlist: Path) -> None:
        self.playlist = playlist

    def join(self, base: str, uri: str) -> str:
        """The path of a URI.

        Raises:
            ValueError: it is remote, or outside the folder.
        """
        parts = urlsplit(uri)
        if parts.scheme or parts.netloc:
            raise ValueError(f"{uri}: remote; only local files are read, download the whole title first")
        path = Path(base).parent / unquote(parts.path)
        if not path.resolve().is_relative_to(self.playlist.parent.resolve()):
            raise ValueError(f"{self.playlist}: {uri} points to {path}, outside the playlist's own folder; refused")
        return str(path)

    def name(self, address: str) -> str:
        """The path, relative to the playlist's folder if it lies below."""
        path = Path(address)
        return str(path.relative_to(self.playlist.parent)) if path.is_relative_to(self.playlist.parent) else address

    def exists(self, address: str) -> bool:
        """Whether there is such a file."""
        return Path(address).is_file()

    def local(self, address: str) -> Path | None:
        """The path."""
        return Path(address)

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

    def copy(self, address: str, out: BinaryIO, start: int = 0, length: int | None = None) -> None:
        """As `PlaylistFiles.copy`."""
        if length is not None:
            out.write(self.read(address, length, start, length))
            return
        with Path(address).open("rb") as stream:
            shutil.copyfileobj(stream, out)
