"""Videos to score, from command-line arguments: files, globs, folders, a pipe, playlists, URLs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rungwise.failures import failure
from rungwise.media.playlists import Variant, is_playlist, read_playlist, write_whole
from rungwise.media.remote import Network, is_url
from rungwise.media.suffixes import is_video_name, unread_files
from rungwise.progress import warn

PIPE = "-"


@dataclass(frozen=True)
class Input:
    """One video to score: a file, a URL, the pipe, or a playlist variant; or the `problem` that prevents it."""

    name: str
    path: Path | None = None
    variant: Variant | None = None
    problem: str = ""
    url: str = ""


def find_inputs(arguments: Iterable[str], network: Network | None = None) -> Iterator[Input]:
    """Videos in the order of the arguments, without duplicates; folders and globs give theirs sorted by name."""
    network = network or Network()
    identities: set[str] = set()
    for argument in arguments:
        for item in _inputs_of(argument, network):
            # `realpath` resolves a loop of links without an error; opening the file then reports it.
            is_file = item.path is not None and item.variant is None
            identity = os.path.realpath(item.path) if item.path is not None and is_file else item.name
            if identity not in identities:
                identities.add(identity)
                yield item


def _inputs_of(argument: str, network: Network) -> Iterator[Input]:
    try:
        yield from _expand(argument, network)
    except Exception as error:
        yield Input(argument, problem=failure(argument, error))


def _expand(argument: str, network: Network) -> Iterator[Input]:
    path = Path(argument)
    if argument == PIPE:
        yield Input(PIPE)
    elif is_url(argument) and not is_playlist(argument):
        yield Input(argument, url=argument)
    elif is_url(argument):
        yield from _variants(argument, network)
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
            yield from _inputs_of(match, network)
    elif is_playlist(argument):
        yield from _variants(argument, network)
    else:
        yield Input(argument, path)


def _variants(argument: str, network: Network) -> Iterator[Input]:
    notes: list[str] = []
    variants = read_playlist(argument, notes, network)
    for text in notes:
        warn(f"{argument}: {text}")
    path = None if is_url(argument) else Path(argument)
    for variant in variants:
        yield Input(f"{argument}#{variant.name}", path, variant=variant, problem=variant.problem)


def join_variant(item: Input, folder: Path) -> Path:
    """A playlist variant as one file; its segments are joined in `folder`.

    Raises:
        ValueError: a segment is missing or too short.
    """
    assert item.variant is not None
    return write_whole(item.variant, folder / "variant")
