"""Live sources, from command-line arguments: a pipe, growing files, live playlists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rungwise.media.live import GrowingFile, LiveSource, PipeSource, Stop
from rungwise.media.live_dash import live_dash
from rungwise.media.live_hls import live_hls
from rungwise.media.live_playlist import Limits, LivePlaylist, LiveVariant
from rungwise.media.playlist_files import PlaylistFiles
from rungwise.media.playlists import is_hls, is_playlist, playlist_files
from rungwise.media.remote import Network, is_url
from rungwise.progress import note
from rungwise.score.inputs import PIPE
from rungwise.score.watch import RungName, RungWatcher

RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Source:
    """A rung to watch: how its bytes come, and the bitrate that its playlist declares."""

    make: Callable[[RungWatcher], LiveSource]
    declared_kbps: float | None = None


def find_sources(
    arguments: Iterable[str], pipe: IO[bytes] | None, limits: Limits, stop: Stop, network: Network | None = None
) -> dict[RungName, Source]:
    """The rungs of all arguments: those of a playlist with several variants are a title, all others are one together.

    Raises:
        ValueError: a source is given twice, or a playlist can't be read or lists no video.
    """
    network, sources = network or Network(), dict[RungName, Source]()
    for argument in arguments:
        for rung, source in _sources(argument, pipe, limits, stop, network):
            if rung in sources:
                raise ValueError(f"{rung}: given twice")
            sources[rung] = source
    return sources


def _sources(
    argument: str, pipe: IO[bytes] | None, limits: Limits, stop: Stop, network: Network
) -> list[tuple[RungName, Source]]:
    if argument == PIPE:
        if pipe is None:
            raise ValueError(f"{PIPE}: stdin is closed; pipe a video to it")
        stream = pipe
        return [(RungName("", PIPE), Source(lambda watcher: PipeSource(stream)))]
    path = Path(argument)
    if not is_playlist(argument):
        if is_url(argument):
            raise ValueError(f"{argument}: only playlists are watched at a URL; pipe other streams to -")
        return [
            (
                RungName("", argument),
                Source(lambda watcher: GrowingFile(path, limits.timeout, stop, watcher.notice)),
            )
        ]
    files = playlist_files(argument, network)
    variants = _variants(argument, files, limits, stop)
    names = [RungName("", argument)] if len(variants) == 1 else [RungName(argument, v.name) for v in variants]
    return [
        (name, Source(_playlist_maker(variant, files, limits, stop), variant.declared_kbps))
        for name, variant in zip(names, variants, strict=True)
    ]


def _variants(address: str, files: PlaylistFiles, limits: Limits, stop: Stop) -> list[LiveVariant]:
    """A playlist's variants; the playlist may come later."""
    read = live_hls if is_hls(address) else live_dash
    waited = 0.0
    while True:
        try:
            variants = read(address, files)
        except OSError as error:
            if waited >= limits.timeout or stop.wait(RETRY_SECONDS):
                raise ValueError(f"{address}: {error.strerror or error}") from error
            if not waited:
                note(f"{address}: {error.strerror or error}; waiting for it")
            waited += RETRY_SECONDS
            continue
        if not variants:
            raise ValueError(f"{address}: lists no video")
        return variants


def _playlist_maker(
    variant: LiveVariant, files: PlaylistFiles, limits: Limits, stop: Stop
) -> Callable[[RungWatcher], LiveSource]:
    return lambda watcher: LivePlaylist(variant.load, files, limits, stop, watcher.notice, watcher.leave_out)
