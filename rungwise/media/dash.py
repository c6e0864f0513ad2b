"""DASH manifests (ISO/IEC 23009-1): the video variants, and the files or byte ranges that make up each.

Audio, subtitles, thumbnails and trick modes are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from rungwise.media.playlist_files import MAX_PLAYLIST_BYTES, PlaylistFiles
from rungwise.media.variants import MAX_SEGMENTS, Piece, Variant, make_variant, parse_kbps

TRICK_MODE = "http://dashif.org/guidelines/trickmode"
THUMBNAILS = ("http://dashif.org/guidelines/thumbnail_tile", "http://dashif.org/thumbnail_tile")
COLOR_SCHEMES = "urn:mpeg:mpegB:cicp:"  # EssentialProperty for color: primaries, transfer, matrix


def read_dash(path: str, files: PlaylistFiles, notes: list[str]) -> list[Variant]:
    """The video variants of a manifest.

    Args:
        path: address of the manifest.
        files: what it may point to.
        notes: collects a line for each skipped representation that may be video.

    Raises:
        ValueError: not a manifest, live, or with several periods.
    """
    manifest = parse_manifest(files.read(path, MAX_PLAYLIST_BYTES), path)
    if manifest.get("type") == "dynamic":
        raise ValueError(f"{path}: a live manifest (type dynamic); check a finished title")
    periods = manifest.findall("Period")
    if len(periods) != 1:
        raise ValueError(f"{path}: has {len(periods)} periods; check one title, in one period")
    length = periods[0].get("duration") or manifest.get("mediaPresentationDuration")
    try:
        seconds = iso_seconds(length) if length else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    variants: list[Variant] = []
    for group in periods[0].findall("AdaptationSet"):
        for representation in group.findall("Representation"):
            name = representation.get("id") or f"{len(variants)}"
            if not is_video(group, representation) or not is_played(group, representation, name, notes):
                continue
            declared = None
            parents = [manifest, periods[0], group, representation]
            try:
                declared = parse_kbps(representation.get("bandwidth"), path, name)
                if any(element.find("ContentProtection") is not None for element in (group, representation)):
                    raise ValueError(f"{path}: {name} is encrypted; check the encodes before packaging")
                pieces = _pieces(path, parents, seconds, files)
                variants.append(make_variant(path, name, pieces, declared, files))
            except (ValueError, KeyError) as error:
                problem = f"{path}: {name} lacks {error}" if isinstance(error, KeyError) else str(error)
                variants.append(Variant(name, (), declared, problem=problem))
    return variants


def parse_manifest(data: bytes, name: str) -> ElementTree.Element:
    """The MPD element, with tags without namespaces.

    Raises:
        ValueError: not a manifest.
    """
    try:
        manifest = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"{name}: not a DASH manifest: broken XML ({error})") from error
    for element in manifest.iter():
        element.tag = element.tag.rpartition("}")[2]  # namespaces are not needed within one manifest
    if manifest.tag != "MPD":
        raise ValueError(f"{name}: not a DASH manifest: the root element is <{manifest.tag}>, not <MPD>")
    return manifest


def is_video(group: ElementTree.Element, representation: ElementTree.Element) -> bool:
    """Whether a representation is video."""
    component = group.find("ContentComponent")
    stated = component.get("contentType") if component is not None else None
    kind = representation.get("mimeType") or group.get("mimeType") or group.get("contentType") or stated or ""
    has_size = representation.get("height") or group.get("height")
    return kind.lower().startswith("video") or (not kind and bool(has_size))


def is_played(group: ElementTree.Element, representation: ElementTree.Element, name: str, notes: list[str]) -> bool:
    """Whether a player shows a representation at normal speed.

    An element with an unknown EssentialProperty must be ignored (ISO/IEC 23009-1, 5.8.4.8).
    """
    for element in (group, representation):
        schemes = {
            tag: [(each.get("schemeIdUri") or "").strip() for each in element.findall(tag)]
            for tag in ("EssentialProperty", "SupplementalProperty")
        }
        either = [*schemes["EssentialProperty"], *schemes["SupplementalProperty"]]
        if any(scheme in (TRICK_MODE, *THUMBNAILS) for scheme in either):
            return False
        unknown = [scheme for scheme in schemes["EssentialProperty"] if not scheme.startswith(COLOR_SCHEMES)]
        if unknown:
            notes.append(f"{name} is skipped: it needs a player that supports {unknown[0]!r} (EssentialProperty)")
            return False
    return True


def iso_seconds(text: str) -> float:
    """An ISO 8601 duration in seconds, with years of 365 days and months of 30, as in players."""
    number = r"(\d+(?:[.,]\d+)?)"
    date = "".join(f"(?:{number}{unit})?" for unit in "YMWD")
    time = "".join(f"(?:{number}{unit})?" for unit in "HMS")
    match = re.fullmatch(rf"P{date}(?:T{time})?", text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration such as PT1H2M3.4S")
    day = 86400
    units = (365 * day, 30 * day, 7 * day, day, 3600, 60, 1)
    return sum(
        float((value or "0").replace(",", ".")) * unit for value, unit in zip(match.groups(), units, strict=True)
    )


def _pieces(
    path: str, parents: list[ElementTree.Element], period_seconds: float | None, files: PlaylistFiles
) -> Iterator[Piece]:
    base = base_url(parents)
    representation = parents[-1]
    if (segments := _nearest(parents, "SegmentList")) is not None:
        yield from _list(path, base, segments, files)
    elif templates := [e for parent in parents if (e := parent.find("SegmentTemplate")) is not None]:
        settings = {name: value for template in templates for name, value in template.attrib.items()}
        timelines = [e for template in templates if (e := template.find("SegmentTimeline")) is not None]
        names = {"RepresentationID": representation.get("id", ""), "Bandwidth": representation.get("bandwidth", "0")}
        if "initialization" in settings:
            yield Piece(files.join(path, urljoin(base, fill_template(settings["initialization"], names))))
        pieces = [
            Piece(files.join(path, urljoin(base, fill_template(settings["media"], names | {"Number": n, "Time": t}))))
            for n, t in _numbers(settings, timelines[-1] if timelines else None, period_seconds)
        ]
        if not timelines and len(pieces) > 1 and not files.exists(pieces[-1].address):
            pieces.pop()  # the count came from a rounded duration
        yield from pieces
    elif base and not base.endswith("/"):
        yield Piece(files.join(path, base))
    else:
        raise ValueError(f"{path}: {representation.get('id')} has neither segments nor a BaseURL file")


def base_url(parents: list[ElementTree.Element]) -> str:
    """What the addresses of a representation are relative to, itself relative to the manifest."""
    base = ""
    for element in parents:
        addresses = [(url.text or "").strip() for url in element.findall("BaseURL")]
        local = [address for address in addresses if not urlsplit(address).netloc]  # the others are remote copies
        base = urljoin(base, (local or addresses or [""])[0])
    return base


def _nearest(parents: list[ElementTree.Element], tag: str) -> ElementTree.Element | None:
    return next((e for parent in reversed(parents) if (e := parent.find(tag)) is not None), None)


def _list(path: str, base: str, segments: ElementTree.Element, files: PlaylistFiles) -> Iterator[Piece]:
    init = segments.find("Initialization")
    named = ([] if init is None else [(init.get("sourceURL"), init.get("range"))]) + [
        (segment.get("media"), segment.get("mediaRange")) for segment in segments.findall("SegmentURL")
    ]
    for address, byte_range in named:
        file = files.join(path, urljoin(base, address or ""))
        if byte_range:
            match = re.fullmatch(r"(\d+)-(\d+)", byte_range)
            if match is None or int(match[2]) < int(match[1]):
                raise ValueError(f"{path}: byte range {byte_range!r} is not FIRST-LAST")
            yield Piece(file, int(match[1]), int(match[2]) - int(match[1]) + 1)
        else:
            yield Piece(file)


def _numbers(
    settings: Mapping[str, str], timeline: ElementTree.Element | None, period_seconds: float | None
) -> Iterator[tuple[int, int]]:
    """(number, time) of every segment, cut off a little above `MAX_SEGMENTS`."""
    number, scale = int(settings.get("startNumber", 1)), int(settings.get("timescale", 1))
    end = None if period_seconds is None else period_seconds * scale + int(settings.get("presentationTimeOffset", 0))
    if timeline is None:
        length = positive_duration(settings["duration"])
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
        time, length = int(entry.get("t", time)), positive_duration(entry.attrib["d"])
        repeats = int(entry.get("r", 0))
        if repeats < 0:  # until the next entry, or the end of the period
            until = float(entries[place + 1].attrib["t"]) if place + 1 < len(entries) else end
            if until is None:
                raise ValueError("an S with r=-1 needs the period's duration")
            repeats = math.ceil((until - time) / length - 1e-6) - 1
        for _ in range(min(repeats, MAX_SEGMENTS) + 1):
            yield number, time
            number, time = number + 1, time + length


def positive_duration(duration: str) -> int:
    """A segment's duration in units of the timescale.

    Raises:
        ValueError: not above 0.
    """
    if int(duration) <= 0:
        raise ValueError(f"a segment's duration is {duration}; it must be above 0")
    return int(duration)


def fill_template(template: str, names: Mapping[str, object]) -> str:
    """$Number%05d$ and its kin; $$ is a dollar."""

    def value(match: re.Match[str]) -> str:
        if not match[1]:
            return "$"
        known = names[match[1]]
        return match[2] % int(str(known)) if match[2] else str(known)

    return re.sub(r"\$(\w*)(%0\d{1,2}d)?\$", value, template)
