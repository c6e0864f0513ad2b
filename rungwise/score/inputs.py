"""Videos to score, from command-line arguments: files, globs, folders, a pipe, local playlists."""

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
    """One video to score: a file, the pipe, or a playlist variant; or the `problem` that prevents it."""

    name: str
    path: Path | None = None
    variant: Variant | None = None
    problem: str = ""


def find_inputs(arguments: Iterable[str]) -> Iterator[Input]:
    """Videos in the order of the arguments, without duplicates; folders and globs give theirs sorted by name."""
    identities: set[str] = set()
    for argument in arguments:
        for item in _inputs_of(argument):
            # `realpath` resolves a loop of links without an error; opening the file then reports it.
            is_file = item.path is not None and item.variant is None
            identity = os.path.realpath(item.path) if item.path is not None and is_file else item.name
            if identity not in identities:
                identities.add(identity)
                yield item


def _inputs_of(argument: str) -> Iterator[Input]:
    try:
        yield from _expand(argument)
    except Exception as error:
        yield Input(argument, problem=failure(argument, error))


def _expand(argument: str) -> Iterator[Input]:
    path = Path(argument)
    if argument == PIPE:
        yield Input(PIPE)
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        videos = [file for file in files if is_video_name(file)]
        if unread := unread_files(files):
            warn(f"{argument}: {unread}")
        if not videos:
            yield Input(argument, problem=f"{argument}: no video in this folder")
        yield from (Input(str(video), video) for video in videos)
    elif not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            yield Input(argument, problem=f"{argument}: no file matches")
        for match in matches:
            yield from _inputs_of(match)
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


def join_variant(item: Input, folder: Path) -> Path:
    """A playlist variant as one file; its segments are joined in `folder`.

    Raises:
        ValueError: a segment is missing or too short.
    """
    assert item.variant is not None
    return write_whole(item.variant, folder / "variant")
