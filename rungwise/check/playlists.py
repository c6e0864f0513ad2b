"""Local HLS and DASH playlists: which files, or parts of files, make up each variant.

A variant's pieces put one after another are a video that any decoder reads: MPEG-TS segments as they are, fragmented
MP4 after its initialisation. Audio, subtitles and I-frame playlists are left out.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

PLAYLIST_SUFFIXES = (".m3u8", ".mpd")
AUDIO_OR_TEXT = (
    "mp4a",
    "ac-3",
    "ec-3",
    "opus",
    "flac",
    "fLaC",
    "alac",
    "mp3",
    "vorbis",
    "stpp",
    "wvtt",
    "dtsc",
    "ac-4",
)


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


def read_playlist(path: Path) -> list[Variant]:
    """The video variants of an HLS master playlist or a DASH manifest; one whose parts can't be read says why.

    Raises:
        ValueError: remote, not there, no playlist, or without any video.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    variants = _hls(path) if path.suffix.lower() == ".m3u8" else _dash(path)
    if not variants:
        raise ValueError(f"{path}: lists no video")
    return variants


def write_whole(variant: Variant, destination: Path) -> Path:
    """The variant as one file: its only piece if that is a whole file, else its pieces joined in `destination`.

    Raises:
        ValueError: a piece is missing or shorter than the playlist says.
    """
    if len(variant.pieces) == 1 and variant.pieces[0].length is None and variant.pieces[0].path.is_file():
        return variant.pieces[0].path
    with destination.open("wb") as out:
        for piece in variant.pieces:
            if not piece.path.is_file():
                raise ValueError(f"{piece.path}: the playlist names this segment, but there is no such file")
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


def _local(base: Path, address: str) -> Path:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        raise ValueError(f"{address}: remote; only local files are read, download the whole title first")
    return base / unquote(parts.path)


# HLS (RFC 8216)


def _attributes(line: str) -> dict[str, str]:
    pairs = re.findall(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)', line.partition(":")[2])
    return {name: value.strip('"') for name, value in pairs}


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError(f"{path}: no HLS playlist; the first line is not #EXTM3U")
    return lines


def _hls(path: Path) -> list[Variant]:
    lines = _lines(path)
    if any(line.startswith("#EXTINF") for line in lines):
        return [_hls_variant(path, {}, path)]
    variants: dict[str, Variant] = {}  # by address: one video is often listed once for each audio track
    told: dict[str, str] = {}
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            told = _attributes(line)
        elif not line.startswith("#"):
            codecs = [codec.strip() for codec in told.get("CODECS", "").split(",") if codec.strip()]
            silent_picture = bool(codecs) and all(codec.startswith(AUDIO_OR_TEXT) for codec in codecs)
            if line not in variants and not silent_picture:
                try:
                    variants[line] = _hls_variant(_local(path.parent, line), told, path)
                except ValueError as error:
                    variants[line] = Variant(_hls_name(line), (), None, problem=str(error))
            told = {}
    return list(variants.values())


def _hls_name(address: str) -> str:
    return unquote(urlsplit(address).path)


def _hls_variant(path: Path, told: Mapping[str, str], master: Path) -> Variant:
    if not path.is_file():
        raise ValueError(f"{path}: the playlist names it, but there is no such file")
    declared = told.get("AVERAGE-BANDWIDTH") or told.get("BANDWIDTH")
    name = path.relative_to(master.parent) if path.is_relative_to(master.parent) else path
    return Variant(str(name), tuple(_hls_pieces(path)), float(declared) / 1000 if declared else None)


def _hls_pieces(path: Path) -> Iterator[Piece]:
    byte_range: tuple[int, int | None] | None = None
    ends: dict[Path, int] = {}  # where the last range of each file ended: the next may leave out its start
    num_segments, init = 0, None
    for line in _lines(path):
        told = _attributes(line) if line.startswith("#EXT-X-") else {}
        if line.startswith("#EXT-X-KEY") and told.get("METHOD", "NONE") != "NONE":
            raise ValueError(f"{path}: encrypted ({told['METHOD']}); check the encodes before they are packaged")
        if line == "#EXT-X-DISCONTINUITY" and num_segments:
            raise ValueError(f"{path}: has a discontinuity, so more than one title; check each by itself")
        if line.startswith("#EXT-X-MAP"):
            if "URI" not in told:
                raise ValueError(f"{path}: its EXT-X-MAP has no URI (RFC 8216, 4.3.2.5)")
            length, start = _hls_range(told["BYTERANGE"]) if "BYTERANGE" in told else (None, None)
            piece = Piece(_local(path.parent, told["URI"]), start or 0, length)
            if init is not None and piece != init:
                raise ValueError(f"{path}: has more than one EXT-X-MAP; check the encodes before they are packaged")
            if init is None:
                init = piece
                yield piece
        elif line.startswith("#EXT-X-BYTERANGE:"):
            byte_range = _hls_range(line.partition(":")[2])
        elif not line.startswith("#"):
            segment = _local(path.parent, line)
            num_segments += 1
            if byte_range is None:
                yield Piece(segment)
                continue
            start = ends.get(segment, 0) if byte_range[1] is None else byte_range[1]
            ends[segment] = start + byte_range[0]
            yield Piece(segment, start, byte_range[0])
            byte_range = None
    if not num_segments:
        raise ValueError(f"{path}: lists no segment")


def _hls_range(text: str) -> tuple[int, int | None]:
    length, _, start = text.partition("@")
    return int(length), int(start) if start else None


# DASH (ISO/IEC 23009-1)


def _dash(path: Path) -> list[Variant]:
    try:
        manifest = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: no DASH manifest; the XML is broken ({error})") from error
    for element in manifest.iter():
        element.tag = element.tag.rpartition("}")[2]  # one manifest, one vocabulary
    if manifest.tag != "MPD":
        raise ValueError(f"{path}: no DASH manifest; the root is <{manifest.tag}>, want <MPD>")
    if manifest.get("type") == "dynamic":
        raise ValueError(f"{path}: a live manifest (type dynamic); check a finished title")
    periods = manifest.findall("Period")
    if len(periods) != 1:
        raise ValueError(f"{path}: has {len(periods)} periods; check one title, in one period")
    length = periods[0].get("duration") or manifest.get("mediaPresentationDuration")
    seconds = _iso_seconds(length) if length else None
    variants = []
    for group in periods[0].findall("AdaptationSet"):
        for number, representation in enumerate(group.findall("Representation")):
            kind = representation.get("mimeType") or group.get("mimeType") or group.get("contentType") or ""
            has_size = representation.get("height") or group.get("height")
            if not (kind.startswith("video") or (not kind and has_size)):
                continue
            name = representation.get("id") or f"{number}"
            bandwidth = representation.get("bandwidth")
            declared = float(bandwidth) / 1000 if bandwidth else None
            parents = [manifest, periods[0], group, representation]
            try:
                if any(element.find("ContentProtection") is not None for element in (group, representation)):
                    raise ValueError(f"{path}: {name} is encrypted; check the encodes before they are packaged")
                pieces = tuple(_dash_pieces(path, parents, seconds))
                variants.append(Variant(name, pieces, declared))
            except (ValueError, KeyError) as error:
                problem = f"{path}: {name} lacks {error}" if isinstance(error, KeyError) else str(error)
                variants.append(Variant(name, (), declared, problem=problem))
    return variants


def _iso_seconds(text: str) -> float:
    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration such as PT1H2M3.4S")
    return sum(float(value or 0) * unit for value, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


def _dash_pieces(path: Path, parents: list[ElementTree.Element], period_seconds: float | None) -> Iterator[Piece]:
    base = ""
    for element in parents:
        base = urljoin(base, (element.findtext("BaseURL") or "").strip())
    representation = parents[-1]
    if (segments := _nearest(parents, "SegmentList")) is not None:
        yield from _dash_list(path, base, segments)
    elif (found := [e for parent in parents if (e := parent.find("SegmentTemplate")) is not None]) != []:
        settings = {name: value for element in found for name, value in element.attrib.items()}
        timelines = [e for element in found if (e := element.find("SegmentTimeline")) is not None]
        names = {"RepresentationID": representation.get("id", ""), "Bandwidth": representation.get("bandwidth", "0")}
        if "initialization" in settings:
            yield Piece(_local(path.parent, urljoin(base, _fill(settings["initialization"], names))))
        pieces = [
            Piece(_local(path.parent, urljoin(base, _fill(settings["media"], names | {"Number": n, "Time": t}))))
            for n, t in _dash_numbers(settings, timelines[-1] if timelines else None, period_seconds)
        ]
        if not timelines and len(pieces) > 1 and not pieces[-1].path.is_file():
            pieces.pop()  # counted from a rounded duration
        yield from pieces
    elif base and not base.endswith("/"):
        yield Piece(_local(path.parent, base))
    else:
        raise ValueError(f"{path}: {representation.get('id')} has neither segments nor a BaseURL file")


def _nearest(parents: list[ElementTree.Element], tag: str) -> ElementTree.Element | None:
    return next((e for parent in reversed(parents) if (e := parent.find(tag)) is not None), None)


def _dash_list(path: Path, base: str, segments: ElementTree.Element) -> Iterator[Piece]:
    init = segments.find("Initialization")
    named = ([] if init is None else [(init.get("sourceURL"), init.get("range"))]) + [
        (segment.get("media"), segment.get("mediaRange")) for segment in segments.findall("SegmentURL")
    ]
    for address, byte_range in named:
        file = _local(path.parent, urljoin(base, address or ""))
        if byte_range:
            first, last = (int(number) for number in byte_range.split("-"))
            yield Piece(file, first, last - first + 1)
        else:
            yield Piece(file)


def _dash_numbers(
    settings: Mapping[str, str], timeline: ElementTree.Element | None, period_seconds: float | None
) -> Iterator[tuple[int, int]]:
    """(number, time) of every segment."""
    number, scale = int(settings.get("startNumber", 1)), int(settings.get("timescale", 1))
    end = None if period_seconds is None else period_seconds * scale + int(settings.get("presentationTimeOffset", 0))
    if timeline is None:
        length = int(settings["duration"])
        if period_seconds is None and "endNumber" not in settings:
            raise ValueError("a SegmentTemplate by duration needs the period's duration")
        count = int(settings.get("endNumber", 0)) - number + 1
        if "endNumber" not in settings:
            assert period_seconds is not None
            count = math.ceil(period_seconds * scale / length - 1e-6)
        yield from ((number + i, i * length) for i in range(count))
        return
    entries, time = timeline.findall("S"), 0
    for place, entry in enumerate(entries):
        time, length = int(entry.get("t", time)), int(entry.attrib["d"])
        repeats = int(entry.get("r", 0))
        if repeats < 0:  # until the next entry, or the end of the period
            until = float(entries[place + 1].attrib["t"]) if place + 1 < len(entries) else end
            if until is None:
                raise ValueError("an S with r=-1 needs the period's duration")
            repeats = math.ceil((until - time) / length - 1e-6) - 1
        for _ in range(repeats + 1):
            yield number, time
            number, time = number + 1, time + length


def _fill(template: str, names: Mapping[str, object]) -> str:
    """$Number%05d$ and its kin; $$ is a dollar."""

    def value(match: re.Match[str]) -> str:
        if not match[1]:
            return "$"
        known = names[match[1]]
        return match[2] % int(str(known)) if match[2] else str(known)

    return re.sub(r"\$(\w*)(%0\d+d)?\$", value, template)
