"""HLS playlists that are still being written (RFC 8216, 6.2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from rungwise.media.hls import (
    TAGS,
    declared_kbps,
    parse_byte_range,
    parse_playlist,
    playlist_lines,
    video_addresses,
    video_attributes,
)
from rungwise.media.hls_variables import substitute_variables
from rungwise.media.live_playlist import ByteRange, LiveVariant, MediaPlaylist, Segment
from rungwise.media.playlist_files import MAX_PLAYLIST_BYTES, PlaylistFiles

LIVE_TAGS = (*TAGS, "MEDIA-SEQUENCE", "TARGETDURATION")


def live_hls(address: str, files: PlaylistFiles) -> list[LiveVariant]:
    """The variants of a multivariant playlist, or the only one of a media playlist.

    Raises:
        ValueError: not a playlist.
        OSError: it can't be read now.
    """
    lines = playlist_lines(files.read(address, MAX_PLAYLIST_BYTES), address)
    if any(line.startswith(("#EXTINF", "#EXT-X-TARGETDURATION")) for line in lines):
        name = unquote(urlsplit(address).path).rpartition("/")[2]
        return [LiveVariant(name, None, lambda: _media_playlist(address, files))]
    lines, variables = substitute_variables(lines, address, urlsplit(address).query)
    listed: list[Mapping[str, Any]] = []
    variants = []
    for uri, attributes in video_addresses(parse_playlist(lines, address)).items():
        # The same rendition on another pathway is no rung of its own.
        if any(
            video_attributes(other) == video_attributes(attributes)
            and other.get("pathway_id") != attributes.get("pathway_id")
            for other in listed
        ):
            continue
        listed.append(attributes)
        variants.append(_variant(address, uri, attributes, variables, files))
    return variants


def _variant(
    multivariant: str, uri: str, attributes: Mapping[str, Any], variables: Mapping[str, str], files: PlaylistFiles
) -> LiveVariant:
    name = unquote(urlsplit(uri).path)
    media, query = files.join(multivariant, uri), urlsplit(uri).query

    def load() -> MediaPlaylist:
        return _media_playlist(media, files, query, variables)

    return LiveVariant(name, declared_kbps(attributes, multivariant, name), load)


def _media_playlist(
    address: str, files: PlaylistFiles, query: str = "", imported: Mapping[str, str] | None = None
) -> MediaPlaylist:
    lines, _ = substitute_variables(
        playlist_lines(files.read(address, MAX_PLAYLIST_BYTES), address), address, query, imported
    )
    playlist = parse_playlist(lines, address, LIVE_TAGS)
    methods = {key.get("method", "NONE") for key in playlist["keys"] if key} - {"NONE"}
    if methods:
        raise ValueError(f"{address}: encrypted ({min(methods)}); watch the encodes before packaging")
    if playlist["is_i_frames_only"]:
        raise ValueError(f"{address}: an I-frame playlist for trick play; give the playlist of the video")
    segments = tuple(_segments(address, playlist, files))
    return MediaPlaylist(segments, bool(playlist["is_endlist"]), float(playlist.get("targetduration") or 2) / 2)


def _segments(address: str, playlist: Mapping[str, Any], files: PlaylistFiles) -> Iterator[Segment]:
    run, first = int(playlist.get("discontinuity_sequence") or 0), int(playlist.get("media_sequence") or 0)
    ends: dict[str, int] = {}  # of the last range in each file
    listed = [segment for segment in playlist["segments"] if "uri" in segment]
    for number, segment in enumerate(listed, first):
        run += bool(segment["discontinuity"])
        init = segment.get("init_section")
        yield Segment(
            run=run,
            number=number,
            next_number=number + 1,
            seconds=float(segment.get("duration") or 0),
            media=_range(address, segment, files, ends),
            init=None if not init else _range(address, init, files, {}),
            is_missing=bool(segment["gap_tag"]),
        )


def _range(address: str, attributes: Mapping[str, Any], files: PlaylistFiles, ends: dict[str, int]) -> ByteRange:
    media = files.join(address, attributes["uri"])
    if not attributes.get("byterange"):
        return media, 0, None
    length, start = parse_byte_range(attributes["byterange"], address)
    start = ends.get(media, 0) if start is None else start
    ends[media] = start + length
    return media, start, length
