"""What a user asks to have scored: files, globs, folders, lists of them, a pipe, local playlists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rungwise.failures import failure
from rungwise.media.playlists import Variant, read_playlist, write_whole
from rungwise.media.suffixes import PLAYLIST_SUFFIXES, is_video_name, unread_files
from rungwise.progress import warn

PIPE = "-"


@dataclass(frozen=True)
class Input:
    """One thing to score: a file, the pipe, a playlist's variant; or why there is none."""

    name: str
    path: Path | None = None
    variant: Variant | None = None
    problem: str = ""


def find_inputs(arguments: Iterable[str]) -> Iterator[Input]:
    """Each once, in the order given; what lies in a folder or matches a pattern in the order of its names."""
    seen: set[str] = set()
    for argument in arguments:
        for found in _found(argument):
            # `realpath` follows a loop of links without an error; opening the file reports it.
            where = found.name if found.path is None or found.variant is not None else os.path.realpath(found.path)
            if where not in seen:
                seen.add(where)
                yield found


def _found(argument: str) -> Iterator[Input]:
    try:
        yield from _expand(argument)
    except Exception as error:
        yield Input(argument, problem=failure(argument, error))


def _expand(argument: str) -> Iterator[Input]:
    path = Path(argument)
    if argument == PIPE:
        yield Input(PIPE)
    elif path.is_dir():
        held = sorted(file for file in path.rglob("*") if file.is_file())
        files = [file for file in held if is_video_name(file)]
        if unread := unread_files(held):
            warn(f"{argument}: {unread}")
        if not files:
            yield Input(argument, problem=f"{argument}: no video in this folder")
        yield from (Input(str(file), file) for file in files)
    elif not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            yield Input(argument, problem=f"{argument}: no file matches")
        for match in matches:
            yield from _found(match)
    elif path.suffix.lower() in PLAYLIST_SUFFIXES:
        yield from _variants(path)
    else:
        yield Input(argument, path)


def _variants(path: Path) -> Iterator[Input]:
    notes: list[str] = []
    try:
        variants = read_playlist(path, notes)
    except ValueError as error:
        yield Input(str(path), problem=str(error))
        return
    for text in notes:
        warn(f"{path}: {text}")
    for variant in variants:
        yield Input(f"{path}#{variant.name}", path, variant, variant.problem)


def join_variant(found: Input, folder: Path) -> Path:
    """A playlist's variant as one file, joined in `folder` where it lies in pieces.

    Raises:
        ValueError: a piece is missing or too short.
    """
    assert found.variant is not None
    return write_whole(found.variant, folder / "variant")
