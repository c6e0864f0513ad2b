"""Local HLS and DASH playlists: which files, or parts of files, make up each variant.

A variant's pieces put one after another are a video that any decoder reads: MPEG-TS segments as they are, fragmented
MP4 after its initialization. Audio, subtitles, thumbnails and what is for trick play alone (I-frame playlists, DASH's
trick mode) are left out. Nothing outside a playlist's own folder is opened.
"""

from __future__ import annotations

import filecmp
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

from rungwise.media.hls_variables import parse_attributes, substitute_variables

MAX_SEGMENTS = 200_000  # of one variant: 55 hours of 1 s; a broken duration or repeat asks for billions
TRICK_MODE = "http://dashif.org/guidelines/trickmode"
THUMBNAILS = ("http://dashif.org/guidelines/thumbnail_tile", "http://dashif.org/thumbnail_tile")
COLOR_SCHEMES = "urn:mpeg:mpegB:cicp:"  # EssentialProperty of ordinary video: primaries, transfer, matrix
AUDIO_OR_TEXT = (
    *("mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3", "vorbis", "dtsc", "dtse", "dtsx", "mhm1", "mha1"),
    *("stpp", "wvtt"),
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


class UnfinishedError(ValueError):
    """A playlist of a live or cut off title, none of whose variants can be compared."""


def read_playlist(path: Path, notes: list[str] | None = None) -> list[Variant]:
    """The video variants of an HLS master playlist or a DASH manifest; one whose parts can't be read says why.

    Args:
        path: the playlist.
        notes: takes a line for what is left out though it may be video, such as a second address of one rendition.

    Raises:
        ValueError: remote, not there, no playlist, live, or without any video.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    notes = [] if notes is None else notes
    variants = _hls(path, notes) if path.suffix.lower() == ".m3u8" else _dash(path, notes)
    if not variants:
        raise ValueError(f"{path}: lists no video{': ' if notes else ''}{'; '.join(notes)}")
    return variants


def _check_inside(path: Path, playlist: Path, name: str) -> None:
    if not path.resolve().is_relative_to(playlist.parent.resolve()):
        raise ValueError(f"{playlist}: {name} points to {path}, outside the playlist's own folder; refused")


def _make_variant(playlist: Path, name: str, pieces: Iterator[Piece], declared_kbps: float | None) -> Variant:
    listed = []
    for piece in pieces:
        _check_inside(piece.path, playlist, name)
        listed.append(piece)
        if len(listed) > MAX_SEGMENTS:
            raise ValueError(f"{playlist}: {name} lists more than {MAX_SEGMENTS:,} segments")
    if not listed:
        raise ValueError(f"{playlist}: {name} lists no segment")
    return Variant(name, tuple(listed), declared_kbps)


def _same_bytes(one: Variant, other: Variant) -> bool:
    """Whether two variants are made of the same bytes, piece by piece."""
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


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError(f"{path}: no HLS playlist; the first line is not #EXTM3U")
    return lines


def _hls(path: Path, notes: list[str]) -> list[Variant]:
    raw = _lines(path)
    if any(line.startswith("#EXTINF") for line in raw):
        return [_hls_variant(path, {}, path)]
    lines, variables = substitute_variables(raw, path)
    variants: dict[str, Variant] = {}  # by address: one video is often listed once for each audio track
    stated: dict[str, dict[str, str]] = {}
    attributes: dict[str, str] = {}
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            attributes = parse_attributes(line)
        elif not line.startswith("#"):
            codecs = [codec.strip().lower() for codec in attributes.get("CODECS", "").split(",") if codec.strip()]
            is_video = not codecs or not all(codec.startswith(AUDIO_OR_TEXT) for codec in codecs)
            if line not in variants and is_video:
                stated[line] = attributes
                try:
                    media = _local(path.parent, line)
                    query = urlsplit(line).query
                    variants[line] = _hls_variant(media, attributes, path, query=query, imported=variables)
                except UnfinishedError:
                    raise
                except ValueError as error:
                    variants[line] = Variant(_hls_name(line), (), None, problem=str(error))
            attributes = {}
    return _merge_redundant(variants, stated, notes)


def _merge_redundant(
    variants: Mapping[str, Variant], stated: Mapping[str, Mapping[str, str]], notes: list[str]
) -> list[Variant]:
    """One variant for each rendition: redundant ones are other addresses of the same (RFC 8216, 6.2.4).

    They are of the same bytes, or state the same and can't be read (a remote copy), or have pathways of their own.
    """
    renditions: list[tuple[Variant, Mapping[str, str]]] = []
    for address, variant in variants.items():
        for place, (first, first_stated) in enumerate(renditions):
            alike = _rendition(first_stated) == _rendition(stated[address])
            pathways = first_stated.get("PATHWAY-ID"), stated[address].get("PATHWAY-ID")
            unread = bool(first.problem) != bool(variant.problem) and "remote" in first.problem + variant.problem
            if _same_bytes(first, variant) or (alike and (unread or pathways[0] != pathways[1])):
                kept, left_out = (variant, first) if first.problem and not variant.problem else (first, variant)
                notes.append(f"{left_out.name} is the same rendition as {kept.name} (redundant), so no rung of its own")
                if left_out.declared_kbps and kept.declared_kbps:
                    kept = replace(kept, declared_kbps=min(kept.declared_kbps, left_out.declared_kbps))
                renditions[place] = kept, first_stated
                break
        else:
            renditions.append((variant, stated[address]))
    return [variant for variant, _ in renditions]


def _rendition(attributes: Mapping[str, str]) -> dict[str, str]:
    """What a variant states of its video."""
    others = ("AUDIO", "SUBTITLES", "CLOSED-CAPTIONS", "PATHWAY-ID", "STABLE-VARIANT-ID", "NAME")
    return {name: value for name, value in attributes.items() if name not in others}


def _hls_name(address: str) -> str:
    return unquote(urlsplit(address).path)


def _hls_variant(
    path: Path,
    attributes: Mapping[str, str],
    master: Path,
    *,
    query: str = "",
    imported: Mapping[str, str] | None = None,
) -> Variant:
    name = str(path.relative_to(master.parent) if path.is_relative_to(master.parent) else path)
    _check_inside(path, master, name)
    if not path.is_file():
        raise ValueError(f"{path}: the playlist names it, but there is no such file")
    declared = attributes.get("AVERAGE-BANDWIDTH") or attributes.get("BANDWIDTH")
    lines, _ = substitute_variables(_lines(path), path, query, imported)
    if any(line.startswith("#EXTINF") for line in lines) and "#EXT-X-ENDLIST" not in lines:
        raise UnfinishedError(f"{path}: live or cut off (it has no #EXT-X-ENDLIST); check a finished title")
    return _make_variant(master, name, _hls_pieces(path, lines), _kbps(declared, master, name))


def _kbps(bits_per_second: str | None, playlist: Path, name: str) -> float | None:
    if not bits_per_second:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", bits_per_second):
        raise ValueError(f"{playlist}: the bandwidth of {name} is {bits_per_second!r}, which is no number")
    return float(bits_per_second) / 1000 or None


def _hls_pieces(path: Path, lines: list[str]) -> Iterator[Piece]:
    byte_range: tuple[int, int | None] | None = None
    ends: dict[Path, int] = {}  # where the last range of each file ended: the next may leave out its start
    num_segments, init = 0, None
    for line in lines:
        attributes = parse_attributes(line) if line.startswith("#EXT-X-") else {}
        if line.startswith("#EXT-X-KEY") and attributes.get("METHOD", "NONE") != "NONE":
            raise ValueError(f"{path}: encrypted ({attributes['METHOD']}); check the encodes before they are packaged")
        if line == "#EXT-X-DISCONTINUITY" and num_segments:
            raise ValueError(f"{path}: has a discontinuity, so more than one title; check each by itself")
        if line == "#EXT-X-GAP":
            raise ValueError(f"{path}: has a gap (EXT-X-GAP) after {num_segments} segments; check a whole title")
        if line == "#EXT-X-I-FRAMES-ONLY":
            raise ValueError(f"{path}: holds I-frames only, for trick play; name the playlist of the video")
        if line.startswith("#EXT-X-MAP"):
            if "URI" not in attributes:
                raise ValueError(f"{path}: its EXT-X-MAP has no URI (RFC 8216, 4.3.2.5)")
            stated = attributes.get("BYTERANGE")
            length, start = _hls_range(stated, path) if stated is not None else (None, None)
            piece = Piece(_local(path.parent, attributes["URI"]), start or 0, length)
            if init is not None and piece != init:
                raise ValueError(f"{path}: has more than one EXT-X-MAP; check the encodes before they are packaged")
            if init is None:
                init = piece
                yield piece
        elif line.startswith("#EXT-X-BYTERANGE:"):
            byte_range = _hls_range(line.partition(":")[2], path)
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


def _hls_range(text: str, path: Path) -> tuple[int, int | None]:
    match = re.fullmatch(r"\s*(\d+)(?:@(\d+))?\s*", text)
    if match is None:
        raise ValueError(f"{path}: byte range {text!r} is not LENGTH or LENGTH@START")
    return int(match[1]), int(match[2]) if match[2] else None


# DASH (ISO/IEC 23009-1)


def _dash(path: Path, notes: list[str]) -> list[Variant]:
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
    try:
        seconds = _iso_seconds(length) if length else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    variants: list[Variant] = []
    for group in periods[0].findall("AdaptationSet"):
        for representation in group.findall("Representation"):
            name = representation.get("id") or f"{len(variants)}"
            if not _is_video(group, representation) or not _is_played(group, representation, name, notes):
                continue
            declared = None
            parents = [manifest, periods[0], group, representation]
            try:
                declared = _kbps(representation.get("bandwidth"), path, name)
                if any(element.find("ContentProtection") is not None for element in (group, representation)):
                    raise ValueError(f"{path}: {name} is encrypted; check the encodes before they are packaged")
                variants.append(_make_variant(path, name, _dash_pieces(path, parents, seconds), declared))
            except (ValueError, KeyError) as error:
                problem = f"{path}: {name} lacks {error}" if isinstance(error, KeyError) else str(error)
                variants.append(Variant(name, (), declared, problem=problem))
    return variants


def _is_video(group: ElementTree.Element, representation: ElementTree.Element) -> bool:
    component = group.find("ContentComponent")
    stated = component.get("contentType") if component is not None else None
    kind = representation.get("mimeType") or group.get("mimeType") or group.get("contentType") or stated or ""
    has_size = representation.get("height") or group.get("height")
    return kind.lower().startswith("video") or (not kind and bool(has_size))


def _is_played(group: ElementTree.Element, representation: ElementTree.Element, name: str, notes: list[str]) -> bool:
    """Whether a player shows it at normal speed; whoever does not know an EssentialProperty must ignore its element
    (ISO/IEC 23009-1, 5.8.4.8)."""
    for element in (group, representation):
        schemes = {
            tag: [(found.get("schemeIdUri") or "").strip() for found in element.findall(tag)]
            for tag in ("EssentialProperty", "SupplementalProperty")
        }
        either = [*schemes["EssentialProperty"], *schemes["SupplementalProperty"]]
        if any(scheme in (TRICK_MODE, *THUMBNAILS) for scheme in either):
            return False
        unknown = [scheme for scheme in schemes["EssentialProperty"] if not scheme.startswith(COLOR_SCHEMES)]
        if unknown:
            notes.append(f"{name} was left out: it needs a player that knows {unknown[0]!r} (EssentialProperty)")
            return False
    return True


def _iso_seconds(text: str) -> float:
    """An ISO 8601 duration in seconds, a year as 365 days and a month as 30, as players take them."""
    number = r"(\d+(?:[.,]\d+)?)"
    date = "".join(f"(?:{number}{unit})?" for unit in "YMWD")
    time = "".join(f"(?:{number}{unit})?" for unit in "HMS")
    match = re.fullmatch(rf"P{date}(?:T{time})?", text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration such as PT1H2M3.4S")
    day = 86400
    units = (365 * day, 30 * day, 7 * day, day, 3600, 60, 1)
    return sum(
        float((value or "0").replace(",", ".")) * unit for value, unit in zip(match.groups(), units, strict=True)
    )


def _dash_pieces(path: Path, parents: list[ElementTree.Element], period_seconds: float | None) -> Iterator[Piece]:
    base = ""
    for element in parents:
        addresses = [(found.text or "").strip() for found in element.findall("BaseURL")]
        local = [address for address in addresses if not urlsplit(address).netloc]  # others are copies elsewhere
        base = urljoin(base, (local or addresses or [""])[0])
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
            match = re.fullmatch(r"(\d+)-(\d+)", byte_range)
            if match is None or int(match[2]) < int(match[1]):
                raise ValueError(f"{path}: byte range {byte_range!r} is not FIRST-LAST")
            yield Piece(file, int(match[1]), int(match[2]) - int(match[1]) + 1)
        else:
            yield Piece(file)


def _dash_numbers(
    settings: Mapping[str, str], timeline: ElementTree.Element | None, period_seconds: float | None
) -> Iterator[tuple[int, int]]:
    """(number, time) of every segment; of far too many, somewhat more than `MAX_SEGMENTS`."""
    number, scale = int(settings.get("startNumber", 1)), int(settings.get("timescale", 1))
    end = None if period_seconds is None else period_seconds * scale + int(settings.get("presentationTimeOffset", 0))
    if timeline is None:
        length = _positive(settings["duration"])
        if period_seconds is None and "endNumber" not in settings:
            raise ValueError("a SegmentTemplate by duration needs the period's duration")
        count = int(settings.get("endNumber", 0)) - number + 1
        if "endNumber" not in settings:
            assert period_seconds is not None
            count = math.ceil(period_seconds * scale / length - 1e-6)
        yield from ((number + i, i * length) for i in range(min(count, MAX_SEGMENTS + 2)))
        return
    entries, time = timeline.findall("S"), 0
    for place, entry in enumerate(entries):
        time, length = int(entry.get("t", time)), _positive(entry.attrib["d"])
        repeats = int(entry.get("r", 0))
        if repeats < 0:  # until the next entry, or the end of the period
            until = float(entries[place + 1].attrib["t"]) if place + 1 < len(entries) else end
            if until is None:
                raise ValueError("an S with r=-1 needs the period's duration")
            repeats = math.ceil((until - time) / length - 1e-6) - 1
        for _ in range(min(repeats, MAX_SEGMENTS) + 1):
            yield number, time
            number, time = number + 1, time + length


def _positive(duration: str) -> int:
    if int(duration) <= 0:
        raise ValueError(f"a segment's duration is {duration}; it must be above 0")
    return int(duration)


def _fill(template: str, names: Mapping[str, object]) -> str:
    """$Number%05d$ and its kin; $$ is a dollar."""

    def value(match: re.Match[str]) -> str:
        if not match[1]:
            return "$"
        known = names[match[1]]
        return match[2] % int(str(known)) if match[2] else str(known)

    return re.sub(r"\$(\w*)(%0\d{1,2}d)?\$", value, template)
