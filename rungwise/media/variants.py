"""Variants of a playlist as pieces of local files, for HLS and DASH.

The concatenated pieces of a variant are a decodable video: MPEG-TS segments, or fragmented MP4 after its initialization
segment. No file outside the playlist's own folder is opened.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_SEGMENTS = 200_000  # per variant: 55 hours of 1 s segments; a broken duration or repeat count may state billions


@dataclass(frozen=True)
class Piece:
    """A file, or `length` bytes of it from `start`."""

    path: Path
    start: int = 0
    length: int | None = None


@dataclass(frozen=True)
class Variant:
    """One rung of a playlist; `declared_kbps` is its average bandwidth where stated, else its peak."""

    name: str
    pieces: tuple[Piece, ...]
    declared_kbps: float | None
    problem: str = ""


class UnfinishedError(ValueError):
    """A playlist of a live or truncated title, which can't be checked."""


def check_inside(path: Path, playlist: Path, name: str) -> None:
    """Refuse a file outside the playlist's folder.

    Raises:
        ValueError: it is outside.
    """
    if not path.resolve().is_relative_to(playlist.parent.resolve()):
        raise ValueError(f"{playlist}: {name} points to {path}, outside the playlist's own folder; refused")


def make_variant(playlist: Path, name: str, pieces: Iterator[Piece], declared_kbps: float | None) -> Variant:
    """A variant of checked pieces.

    Raises:
        ValueError: there are no pieces or too many, or one is outside the playlist's folder.
    """
    listed = []
    for piece in pieces:
        check_inside(piece.path, playlist, name)
        listed.append(piece)
        if len(listed) > MAX_SEGMENTS:
            raise ValueError(f"{playlist}: {name} lists more than {MAX_SEGMENTS:,} segments")
    if not listed:
        raise ValueError(f"{playlist}: {name} lists no segments")
    return Variant(name, tuple(listed), declared_kbps)


def has_same_bytes(one: Variant, other: Variant) -> bool:
    """Whether two variants have the same bytes, piece by piece."""
    if one.problem or other.problem or len(one.pieces) != len(other.pieces):
        return False
    for a, b in zip(one.pieces, other.pieces, strict=True):
        if (a.start, a.length) != (b.start, b.length):
            return False
        if a.path != b.path and not (
            a.path.is_file() and b.path.is_file() and filecmp.cmp(a.path, b.path, shallow=False)
        ):
            return False
    return True


def write_whole(variant: Variant, destination: Path) -> Path:
    """The variant as one file: its only piece if that is a whole file, else `destination` with all pieces joined.

    Raises:
        ValueError: a piece is missing or shorter than the playlist states.
    """
    if len(variant.pieces) == 1 and variant.pieces[0].length is None and variant.pieces[0].path.is_file():
        return variant.pieces[0].path
    with destination.open("wb") as out:
        for piece in variant.pieces:
            if not piece.path.is_file():
                raise ValueError(f"{piece.path}: a segment of the playlist, but there is no such file")
            with piece.path.open("rb") as stream:
                if piece.length is None:
                    shutil.copyfileobj(stream, out)
                    continue
                stream.seek(piece.start)
                part = stream.read(piece.length)
                if len(part) < piece.length:
                    raise ValueError(f"{piece.path}: ends before byte {piece.start + piece.length} of the playlist")
                out.write(part)
    return destination


def local_path(base: Path, address: str) -> Path:
    """The file of a URI relative to `base`.

    Raises:
        ValueError: the URI is remote.
    """
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        raise ValueError(f"{address}: remote; only local files are read, download the whole title first")
    return base / unquote(parts.path)


def parse_kbps(bits_per_second: str | None, playlist: Path | str, name: str) -> float | None:
    """A stated bandwidth in kbps; None if it is missing or 0.

    Raises:
        ValueError: it is not a number.
    """
    if not bits_per_second:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", bits_per_second):
        raise ValueError(f"{playlist}: the bandwidth of {name} is {bits_per_second!r}, not a number")
    return float(bits_per_second) / 1000 or None
