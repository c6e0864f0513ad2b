"""DASH manifests that are still being written (ISO/IEC 23009-1, type dynamic), with segment templates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from rungwise.media.dash import (
    base_url,
    fill_template,
    is_played,
    is_video,
    iso_seconds,
    parse_manifest,
    positive_duration,
)
from rungwise.media.live_playlist import LiveVariant, Load, MediaPlaylist, Segment
from rungwise.media.playlist_files import MAX_PLAYLIST_BYTES, PlaylistFiles
from rungwise.media.variants import parse_kbps

MAX_LISTED = 1000  # newest segments of a variant that are considered
DEFAULT_RELOAD_SECONDS = 2.0


def live_dash(address: str, files: PlaylistFiles) -> list[LiveVariant]:
    """The video representations of a manifest's newest period.

    Raises:
        ValueError: not a manifest, or a representation is encrypted.
        OSError: it can't be read now.
    """
    manifest = parse_manifest(files.read(address, MAX_PLAYLIST_BYTES), address)
    periods = manifest.findall("Period")
    variants = []
    for name, parents in _representations(manifest, periods[-1] if periods else None):
        if any(element.find("ContentProtection") is not None for element in parents):
            raise ValueError(f"{address}: {name} is encrypted; watch the encodes before packaging")
        kbps = parse_kbps(parents[-1].get("bandwidth"), address, name)
        variants.append(LiveVariant(name, kbps, _loader(address, files, name)))
    return variants


def _loader(address: str, files: PlaylistFiles, name: str) -> Load:
    def load() -> MediaPlaylist:
        try:
            return _media_playlist(address, files, name)
        except KeyError as error:
            raise ValueError(f"{address}: {name} lacks {error}") from error

    return load


def _representations(manifest: Element, period: Element | None) -> Iterator[tuple[str, list[Element]]]:
    """(name, elements from the manifest down) of each video representation."""
    number = 0
    for group in () if period is None else period.findall("AdaptationSet"):
        for representation in group.findall("Representation"):
            name = representation.get("id") or f"{number}"
            if is_video(group, representation) and is_played(group, representation, name, []):
                assert period is not None
                yield name, [manifest, period, group, representation]
                number += 1


def _media_playlist(address: str, files: PlaylistFiles, name: str) -> MediaPlaylist:
    manifest = parse_manifest(files.read(address, MAX_PLAYLIST_BYTES), address)
    is_live = manifest.get("type") == "dynamic"
    segments: list[Segment] = []
    periods = manifest.findall("Period")
    start = 0.0
    for index, period in enumerate(periods):
        start = iso_seconds(period.get("start", "")) if period.get("start") else start
        seconds = _period_seconds(manifest, periods, index, start)
        for other, parents in _representations(manifest, period):
            if other == name:
                segments += _segments(address, parents, files, start, _available_seconds(manifest, start, seconds))
        start += seconds or 0.0
    reload = manifest.get("minimumUpdatePeriod")
    return MediaPlaylist(tuple(segments), not is_live, iso_seconds(reload) if reload else DEFAULT_RELOAD_SECONDS)


def _period_seconds(manifest: Element, periods: list[Element], index: int, start: float) -> float | None:
    """A period's duration; None if it is open."""
    period = periods[index]
    if period.get("duration"):
        return iso_seconds(period.get("duration", ""))
    if index + 1 < len(periods) and periods[index + 1].get("start"):
        return iso_seconds(periods[index + 1].get("start", "")) - start
    total = manifest.get("mediaPresentationDuration")
    return iso_seconds(total) - start if total else None


def _available_seconds(manifest: Element, start: float, seconds: float | None) -> float | None:
    """How much of a period a packager has written by now, by its clock; None if the manifest does not say."""
    written = None
    if manifest.get("type") == "dynamic" and (begin := manifest.get("availabilityStartTime")):
        moment = datetime.fromisoformat(begin)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        written = max(0.0, time.time() - moment.timestamp() - start)
    both = [limit for limit in (written, seconds) if limit is not None]
    return min(both) if both else None


def _segments(
    address: str, parents: list[Element], files: PlaylistFiles, run: float, available_seconds: float | None
) -> Iterator[Segment]:
    templates = [e for parent in parents if (e := parent.find("SegmentTemplate")) is not None]
    if not templates:
        raise ValueError(
            f"{address}: only representations with a SegmentTemplate can be watched; score a finished title"
        )
    settings = {name: value for template in templates for name, value in template.attrib.items()}
    timelines = [e for template in templates if (e := template.find("SegmentTimeline")) is not None]
    scale, base, representation = int(settings.get("timescale", 1)), base_url(parents), parents[-1]
    names: dict[str, object] = {
        "RepresentationID": representation.get("id", ""),
        "Bandwidth": representation.get("bandwidth", "0"),
    }

    def join(template: str, more: dict[str, object]) -> str:
        return files.join(address, urljoin(base, fill_template(template, names | more)))

    init = join(settings["initialization"], {}) if "initialization" in settings else None
    listed = list(
        _timeline(settings, timelines[-1], available_seconds) if timelines else _steady(settings, available_seconds)
    )
    for number, at, length in listed[-MAX_LISTED:]:
        media = join(settings["media"], {"Number": number, "Time": at})
        yield Segment(run, at, at + length, length / scale, (media, 0, None), None if init is None else (init, 0, None))


def _steady(settings: Mapping[str, str], available_seconds: float | None) -> Iterator[tuple[int, int, int]]:
    """(number, time, duration) of segments of one duration, as far as they are written."""
    if available_seconds is None:
        raise ValueError("a live SegmentTemplate by duration needs availabilityStartTime")
    length, scale, first = (
        positive_duration(settings["duration"]),
        int(settings.get("timescale", 1)),
        int(settings.get("startNumber", 1)),
    )
    count = math.floor(available_seconds * scale / length + 1e-6)
    yield from ((first + i, i * length, length) for i in range(max(0, count - MAX_LISTED), count))


def _timeline(
    settings: Mapping[str, str], timeline: Element, available_seconds: float | None
) -> Iterator[tuple[int, int, int]]:
    """(number, time, duration) of the segments of a timeline."""
    number, scale, at = int(settings.get("startNumber", 1)), int(settings.get("timescale", 1)), 0
    entries = timeline.findall("S")
    for place, entry in enumerate(entries):
        at, length, repeats = int(entry.get("t", at)), positive_duration(entry.attrib["d"]), int(entry.get("r", 0))
        if repeats < 0:  # until the next entry, or as far as is written
            end = int(entries[place + 1].attrib["t"]) if place + 1 < len(entries) else (available_seconds or 0) * scale
            repeats = math.floor((end - at) / length + 1e-6) - 1
        skipped = max(0, repeats + 1 - MAX_LISTED)
        for i in range(skipped, repeats + 1):
            yield number + i, at + i * length, length
        number, at = number + max(0, repeats + 1), at + max(0, repeats + 1) * length
