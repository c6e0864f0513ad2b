"""Variants of a playlist as pieces of files, for HLS and DASH.

The concatenated pieces of a variant are a decodable video: MPEG-TS segments, or fragmented MP4 after its initialization
segment. What a playlist may point to is in playlist_files.py.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rungwise.media.playlist_files import PlaylistFiles

MAX_SEGMENTS = 200_000  # per variant: 55 hours of 1 s segments; a broken duration or repeat count may state billions


@dataclass(frozen=True)
class Piece:
    """A file, or `length` bytes of it from `start`."""

    address: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True)
class Variant:
    """One rung of a playlist; `declared_kbps` is its average bandwidth where stated, else its peak."""

    name: str
    pieces: tuple[Piece, ...]
    declared_kbps: float | None
    files: PlaylistFiles | None = None
    problem: str = ""


class UnfinishedError(ValueError):
    """A playlist of a live or truncated title, which can't be checked."""


def make_variant(
    playlist: str, name: str, pieces: Iterator[Piece], declared_kbps: float | None, files: PlaylistFiles
) -> Variant:
    """A variant of pieces.

    Raises:
        ValueError: there are no pieces or too many, or one must not be read.
    """
    listed = []
    for piece in pieces:
        listed.append(piece)
        if len(listed) > MAX_SEGMENTS:
            raise ValueError(f"{playlist}: {name} lists more than {MAX_SEGMENTS:,} segments")
    if not listed:
        raise ValueError(f"{playlist}: {name} lists no segments")
    return Variant(name, tuple(listed), declared_kbps, files)


def has_same_bytes(one: Variant, other: Variant) -> bool:
    """Whether two variants have the same bytes, piece by piece."""
    if one.problem or other.problem or len(one.pieces) != len(other.pieces):
        return False
    for a, b in zip(one.pieces, other.pieces, strict=True):
        if (a.start, a.length) != (b.start, b.length):
            return False
        if a.address != b.address and not _has_same_bytes(_local(one, a), _local(other, b)):
            return False
    return True


def _local(variant: Variant, piece: Piece) -> Path | None:
    path = None if variant.files is None else variant.files.local(piece.address)
    return path if path is not None and path.is_file() else None


def _has_same_bytes(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and filecmp.cmp(one, other, shallow=False)


def write_whole(variant: Variant, destination: Path) -> Path:
    """The variant as one file: its only piece if that is a whole local file, else `destination` with all pieces joined.

    Raises:
        ValueError: a piece is missing or shorter than the playlist states.
    """
    assert variant.files is not None
    whole = _local(variant, variant.pieces[0])
    if len(variant.pieces) == 1 and variant.pieces[0].length is None and whole is not None:
        return whole
    with destination.open("wb") as out:
        for piece in variant.pieces:
            try:
                variant.files.copy(piece.address, out, piece.start, piece.length)
            except FileNotFoundError as error:
                raise ValueError(f"{piece.address}: a segment of the playlist, but there is no such file") from error
    return destination


def parse_kbps(bits_per_second: str | None, playlist: str, name: str) -> float | None:
    """A stated bandwidth in kbps; None if it is missing or 0.

    Raises:
        ValueError: it is not a number.
    """
    if not bits_per_second:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", bits_per_second):
        raise ValueError(f"{playlist}: the bandwidth of {name} is {bits_per_second!r}, not a number")
    return float(bits_per_second) / 1000 or None
