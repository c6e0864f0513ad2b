"""Remote inputs: one file, or the files that a remote playlist points to."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from rungwise.media.playlist_files import MAX_SEGMENT_BYTES, PlaylistFiles
from rungwise.media.remote import CHUNK_BYTES, Network, host_port
from rungwise.media.suffixes import VIDEO_SUFFIXES


def url_suffix(url: str) -> str:
    """The suffix of a URL's path, lower case."""
    return posixpath.splitext(unquote(urlsplit(url).path))[1].lower()


def fetch_file(url: str, folder: Path, network: Network) -> Path:
    """A copy of a remote file in `folder`, read by ranges.

    Raises:
        ValueError: refused, or it can't be read.
        OSError: it can't be read now.
    """
    suffix = url_suffix(url)
    destination = folder / f"remote{suffix if suffix in VIDEO_SUFFIXES else ''}"
    if url.lower().startswith("s3://"):
        return _S3().fetch(url, destination)
    return network.fetch(url, destination)


def remote_files(url: str, network: Network) -> PlaylistFiles:
    """What the playlist at a URL may point to."""
    return _S3Files(url) if url.lower().startswith("s3://") else _HttpFiles(url, network)


class _HttpFiles:
    """Files on the playlist's own host, and on hosts that are allowed by name."""

    def __init__(self, url: str, network: Network) -> None:
        self.url, self.network, self.origin = url, network, host_port(url)

    def join(self, base: str, uri: str) -> str:
        """The URL of a link; only http(s) is followed, and not from https to http."""
        joined = urljoin(base, uri)
        self.network.check(joined, self.origin)
        if self.url.startswith("https:") and not joined.startswith("https:"):
            raise ValueError(f"{base}: points from https to {joined}; refused")
        return joined

    def name(self, address: str) -> str:
        """A URL relative to the playlist's."""
        return _relative(address, self.url)

    def exists(self, address: str) -> bool:
        """Whether a range of it can be read."""
        try:
            self.network.read(address, self.origin, 1, 0, 1)
        except (ValueError, OSError):
            return False
        return True

    def local(self, address: str) -> Path | None:
        """None: there is no local file."""
        return None

    def read(self, address: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """As `PlaylistFiles.read`."""
        return self.network.read(address, self.origin, max_bytes, start, length)

    def copy(self, address: str, out: BinaryIO, start: int = 0, length: int | None = None) -> None:
        """As `PlaylistFiles.copy`."""
        out.write(self.read(address, MAX_SEGMENT_BYTES, start, length))


class _S3:
    """Objects of S3 by fsspec; where they are comes from the user's own configuration."""

    def __init__(self) -> None:
        try:
            import fsspec

            self.system: Any = fsspec.filesystem("s3")
        except ImportError as error:
            raise ValueError(f"s3:// needs s3fs ({error}): pip install 'rungwise[s3]'") from error

    def fetch(self, url: str, destination: Path) -> Path:
        size = int(self.system.info(url)["size"])
        with destination.open("wb") as out:
            for start in range(0, size, CHUNK_BYTES):
                out.write(self.system.cat_file(url, start=start, end=min(size, start + CHUNK_BYTES)))
            if out.tell() != size:
                raise ValueError(f"{url}: {out.tell():,} bytes in place of {size:,}")
        return destination


class _S3Files:
    """Objects of the playlist's own bucket."""

    def __init__(self, url: str) -> None:
        self.url, self.system = url, _S3().system

    def join(self, base: str, uri: str) -> str:
        """The address of a relative link."""
        parts = urlsplit(uri)
        if parts.scheme or parts.netloc:
            raise ValueError(f"{base}: points to {uri}; only links within the bucket are followed")
        joined = urljoin("https" + base[2:], uri)
        return "s3" + joined.removeprefix("https")

    def name(self, address: str) -> str:
        """An address relative to the playlist's."""
        return _relative(address, self.url)

    def exists(self, address: str) -> bool:
        """Whether there is such an object."""
        return bool(self.system.exists(address))

    def local(self, address: str) -> Path | None:
        """None: there is no local file."""
        return None

    def read(self, address: str, max_bytes: int, start: int = 0, length: int | None = None) -> bytes:
        """As `PlaylistFiles.read`."""
        end = start + (max_bytes + 1 if length is None else length)
        data = bytes(self.system.cat_file(address, start=start, end=end))
        if len(data) > max_bytes or (length is not None and len(data) != length):
            raise ValueError(f"{address}: {len(data):,} bytes, not what the playlist states")
        return data

    def copy(self, address: str, out: BinaryIO, start: int = 0, length: int | None = None) -> None:
        """As `PlaylistFiles.copy`."""
        out.write(self.read(address, MAX_SEGMENT_BYTES, start, length))


def _relative(address: str, playlist: str) -> str:
    return unquote(address.removeprefix(playlist[: playlist.rfind("/") + 1]).partition("?")[0])
