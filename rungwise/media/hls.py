"""HLS playlists (RFC 8216): the video variants, and the files or byte ranges that make up each.

Playlists are parsed with the m3u8 library; EXT-X-DEFINE, which it does not support, is resolved first. Audio-only
variants and I-frame playlists are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import m3u8

from rungwise.media.hls_variables import substitute_variables
from rungwise.media.playlist_files import MAX_PLAYLIST_BYTES, PlaylistFiles
from rungwise.media.variants import (
    Piece,
    UnfinishedError,
    Variant,
    has_same_bytes,
    make_variant,
    parse_kbps,
)

AUDIO_OR_TEXT = (
    *("mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "vorbis", "dtsc", "dtse", "dtsx", "mhm1", "mha1"),
    *("stpp", "wvtt"),
)
# Tags that are parsed; all others are ignored, so that they can't break a playlist.
TAGS = ("STREAM-INF", "BYTERANGE", "DISCONTINUITY", "KEY", "MAP", "GAP", "I-FRAMES-ONLY", "ENDLIST")


def read_hls(address: str, files: PlaylistFiles, notes: list[str]) -> list[Variant]:
    """The video variants of a multivariant playlist, or the single one of a media playlist.

    Args:
        address: of the playlist.
        files: what it may point to.
        notes: collects a line for each skipped variant that may be video.

    Raises:
        ValueError: not an HLS playlist, broken, live or truncated.
    """
    lines, query = playlist_lines(files.read(address, MAX_PLAYLIST_BYTES), address), urlsplit(address).query
    if any(line.startswith("#EXTINF") for line in lines):
        return [_variant(address, {}, address, files, query=query)]
    lines, variables = substitute_variables(lines, address, query)
    variants: dict[str, Variant] = {}  # by URI: a video is often listed once per audio track
    attributes_by_address = video_addresses(parse_playlist(lines, address))
    for uri, attributes in attributes_by_address.items():
        try:
            media, query = files.join(address, uri), urlsplit(uri).query
            variants[uri] = _variant(media, attributes, address, files, query=query, imported=variables)
        except UnfinishedError:
            raise
        except (ValueError, OSError) as error:
            variants[uri] = Variant(unquote(urlsplit(uri).path), (), None, problem=str(error))
    return _merge_redundant(variants, attributes_by_address, notes)


def video_addresses(multivariant: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Attributes of a multivariant playlist's variants that may hold video, by URI."""
    attributes_by_address: dict[str, dict[str, Any]] = {}
    for playlist in multivariant["playlists"]:
        attributes = playlist["stream_info"]
        codecs = [codec.strip().lower() for codec in attributes.get("codecs", "").split(",") if codec.strip()]
        if not (codecs and all(codec.startswith(AUDIO_OR_TEXT) for codec in codecs)):
            attributes_by_address.setdefault(playlist["uri"], attributes)
    return attributes_by_address


def playlist_lines(data: bytes, name: str) -> list[str]:
    """The lines of an HLS playlist.

    Raises:
        ValueError: it is not one.
    """
    text = data.decode("utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError(f"{name}: not an HLS playlist: the first line is not #EXTM3U")
    return lines


def parse_playlist(lines: list[str], name: str, tags: Sequence[str] = TAGS) -> dict[str, Any]:
    """The playlist as parsed by m3u8, whose exceptions have no common base class.

    Raises:
        ValueError: it is broken.
    """

    def is_skipped(line: str, *_: object) -> bool:
        return not line.startswith(("#EXTINF", *(f"#EXT-X-{tag}" for tag in tags)))

    try:
        return dict(m3u8.parse("\n".join(lines), custom_tags_parser=is_skipped))
    except Exception as error:
        raise ValueError(f"{name}: broken HLS playlist ({type(error).__name__}: {error})") from error


def _merge_redundant(
    variants: Mapping[str, Variant], attributes_by_address: Mapping[str, Mapping[str, Any]], notes: list[str]
) -> list[Variant]:
    """One variant per rendition: redundant variants are other URIs of the same rendition (RFC 8216, 6.2.4).

    A variant is redundant if it has the same bytes, or the same attributes and another pathway or a remote URI.
    """
    renditions: list[tuple[Variant, Mapping[str, Any]]] = []
    for address, variant in variants.items():
        attributes = attributes_by_address[address]
        for place, (first, first_attributes) in enumerate(renditions):
            same_attributes = video_attributes(first_attributes) == video_attributes(attributes)
            on_other_pathway = first_attributes.get("pathway_id") != attributes.get("pathway_id")
            is_remote = bool(first.problem) != bool(variant.problem) and "remote" in first.problem + variant.problem
            if has_same_bytes(first, variant) or (same_attributes and (is_remote or on_other_pathway)):
                rung, copy = (variant, first) if first.problem and not variant.problem else (first, variant)
                notes.append(f"{copy.name} is redundant, the same rendition as {rung.name}: not a rung of its own")
                if copy.declared_kbps and rung.declared_kbps:
                    rung = replace(rung, declared_kbps=min(rung.declared_kbps, copy.declared_kbps))
                renditions[place] = rung, first_attributes
                break
        else:
            renditions.append((variant, attributes))
    return [variant for variant, _ in renditions]


def video_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that tell one rendition of the video from another."""
    others = ("audio", "subtitles", "closed_captions", "pathway_id", "stable_variant_id", "name")
    return {name: value for name, value in attributes.items() if name not in others}


def _variant(
    address: str,
    attributes: Mapping[str, Any],
    multivariant: str,
    files: PlaylistFiles,
    *,
    query: str = "",
    imported: Mapping[str, str] | None = None,
) -> Variant:
    name = files.name(address)
    try:
        data = files.read(address, MAX_PLAYLIST_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{address}: listed in the playlist, but there is no such file") from error
    lines, _ = substitute_variables(playlist_lines(data, address), address, query, imported)
    playlist = parse_playlist(lines, address)
    if playlist["segments"] and not playlist["is_endlist"]:
        raise UnfinishedError(f"{address}: live or truncated (no #EXT-X-ENDLIST); check a finished title")
    kbps = declared_kbps(attributes, multivariant, name)
    return make_variant(multivariant, name, _pieces(address, playlist, files), kbps, files)


def declared_kbps(attributes: Mapping[str, Any], playlist: str, name: str) -> float | None:
    """The average bandwidth that a variant states, else its peak."""
    bandwidth = attributes.get("average_bandwidth") or attributes.get("bandwidth")
    return parse_kbps(None if bandwidth is None else str(bandwidth), playlist, name)


def _pieces(address: str, playlist: Mapping[str, Any], files: PlaylistFiles) -> Iterator[Piece]:
    segments = [segment for segment in playlist["segments"] if "uri" in segment]
    methods = {key.get("method", "NONE") for key in playlist["keys"] if key} - {"NONE"}
    if methods:
        raise ValueError(f"{address}: encrypted ({min(methods)}); check the encodes before packaging")
    if playlist["is_i_frames_only"]:
        raise ValueError(f"{address}: an I-frame playlist for trick play; give the playlist of the video")
    if any(segment["discontinuity"] for segment in segments[1:]):
        raise ValueError(f"{address}: has a discontinuity, so more than one title; check each one separately")
    gaps = [number for number, segment in enumerate(segments) if segment["gap_tag"]]
    if gaps:
        raise ValueError(f"{address}: has a gap (EXT-X-GAP) after {gaps[0]} segments; check a whole title")
    yield from _init_section(address, playlist["segment_map"], files)
    ends: dict[str, int] = {}  # end of the last range in each file, where the next one starts unless it states a start
    for segment in segments:
        file = files.join(address, segment["uri"])
        if "byterange" not in segment:
            yield Piece(file)
            continue
        length, start = parse_byte_range(segment["byterange"], address)
        start = ends.get(file, 0) if start is None else start
        ends[file] = start + length
        yield Piece(file, start, length)
    if not segments:
        raise ValueError(f"{address}: lists no segments")


def _init_section(address: str, maps: list[dict[str, str]], files: PlaylistFiles) -> Iterator[Piece]:
    pieces = []
    for attributes in maps:
        if "uri" not in attributes:
            raise ValueError(f"{address}: its EXT-X-MAP has no URI (RFC 8216, 4.3.2.5)")
        stated = attributes.get("byterange")
        length, start = (None, None) if stated is None else parse_byte_range(stated, address)
        pieces.append(Piece(files.join(address, attributes["uri"]), start or 0, length))
    if len(set(pieces)) > 1:
        raise ValueError(f"{address}: has more than one EXT-X-MAP; check the encodes before packaging")
    yield from pieces[:1]


def parse_byte_range(text: str, address: str) -> tuple[int, int | None]:
    """(length, start or None) of a byte range.

    Raises:
        ValueError: it is not one.
    """
    match = re.fullmatch(r"\s*(\d+)(?:@(\d+))?\s*", text)
    if match is None:
        raise ValueError(f"{address}: byte range {text!r} is not LENGTH or LENGTH@START")
    return int(match[1]), int(match[2]) if match[2] else None
