"""Video track descriptions that libav does not expose: coding, encryption, Dolby Vision profile, crop.

Two container families have them: ISO base media (MP4, MOV; ISO/IEC 14496-12), with boxes of 32-bit size, four-character
type and contents, and Matroska (RFC 9559), with elements of identifier, size and contents. Only the path to the track
descriptions is parsed, at most `MAX_BYTES`. Damaged files have no tracks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 64 * 2**20  # enough for ten hours at 60 fps
MAX_BOXES = 500_000  # top-level boxes: ten hours of 150 ms fragments
FIRST_BOXES = (
    b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"sidx", b"uuid", b"pnot", b"udta", b"junk",
    b"prfl", b"ediw", b"pict", b"emsg", b"prft",
)  # fmt: skip
PLAIN_BYTES = {b"stsd": 8, b"meta": 4}  # bytes of fields before the child boxes
VISUAL_ENTRY_BYTES = 78  # fields of a VisualSampleEntry before its child boxes (12.1.3)
SEGMENT, TRACKS, ENTRY, TYPE, CODEC, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0x86, 0xE0
CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # PixelCrop: left, top, right, bottom
ENCODINGS, ENCODING, ENCRYPTION = 0x6D80, 0x6240, 0x5035
ADDITION, ADDITION_TYPE, ADDITION_DATA = 0x41E4, 0x41E7, 0x41ED


@dataclass(frozen=True)
class VideoTrack:
    """A video track as described by its file.

    Attributes:
        coding: four-character sample entry type, or Matroska codec ID.
        encryption: encryption scheme of any of its sample entries; "" if none.
        dolby_vision_profile: None if it has no Dolby Vision configuration.
        crop: crop that the container asks for; "" if none.
        number: track_ID in MP4 and MOV.
    """

    coding: str
    encryption: str = ""
    dolby_vision_profile: int | None = None
    crop: str = ""
    number: int = 0


def video_tracks(path: Path) -> tuple[VideoTrack, ...]:
    """Video tracks in file order; empty for other containers and damaged files."""
    state = path.stat()
    return _video_tracks(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)  # a file is opened several times per score
def _video_tracks(path: Path, modified: int, size: int) -> tuple[VideoTrack, ...]:
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == b"\x1a\x45\xdf\xa3":
        return tuple(_matroska_tracks(path))
    tracks = [_iso_track(data) for name, data in _boxes(_find_moov(path)) if name == b"trak"]
    return tuple(track for track in tracks if track is not None)


def _find_moov(path: Path) -> bytes:
    return next(_top_boxes(path, b"moov"), (b"", b""))[1]


def _top_boxes(path: Path, *names: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, contents) of top-level boxes of these types; none if the file is not ISO base media."""
    with path.open("rb") as stream:
        end = stream.seek(0, 2)
        at = 0
        for _ in range(MAX_BOXES):
            if at + 8 > end:
                return
            stream.seek(at)
            head = stream.read(16)
            size, name, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if at == 0 and name not in FIRST_BOXES:
                return
            if size == 1:
                size, header = int.from_bytes(head[8:16], "big"), 16
            if name in names:
                stream.seek(at + header)
                yield name, stream.read(min(size - header if size else MAX_BYTES, MAX_BYTES))
            if size < header:  # 0: to the end of the file; less: damaged
                return
            at += size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = size or len(data) - at
        if size < header:
            return
        yield name, data[at + header : at + size]
        at += size


def _inside(data: bytes, *names: bytes) -> bytes:
    """Contents of the first box on a path of types, without its leading fields; empty if there is none."""
    for name in names:
        data = next((contents[PLAIN_BYTES.get(name, 0) :] for kind, contents in _boxes(data) if kind == name), b"")
    return data


def stated_samples(path: Path) -> tuple[int, int]:
    """(video samples, all samples) that the tables of an MP4 or MOV file state; (0, 0) for other containers.

    Tables can state a count without listing samples (constant size, runs of one duration), so a few bytes can state
    billions, each of which libav allocates. The largest count of a track is used; fragments (8.8.8) are added.
    """
    state = path.stat()
    return _stated_samples(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _stated_samples(path: Path, modified: int, size: int) -> tuple[int, int]:
    num_video, num_others = 0, 0
    numbers = set()
    for name, data in _top_boxes(path, b"moov", b"moof"):
        for track in [contents for kind, contents in _boxes(data) if kind in (b"trak", b"traf")]:
            if name == b"moof":
                count = sum(_count(contents, 4) for kind, contents in _boxes(track) if kind == b"trun")
                if _count(_inside(track, b"tfhd"), 4) in numbers:
                    num_video += count
                else:
                    num_others += count
            elif _inside(track, b"mdia", b"hdlr")[8:12] == b"vide":
                header = _inside(track, b"tkhd")
                numbers.add(_count(header, 20 if header[:1] == b"\1" else 12))
                table = list(_boxes(_inside(track, b"mdia", b"minf", b"stbl")))
                sizes = [_count(contents, 8) for kind, contents in table if kind in (b"stsz", b"stz2")]
                runs = [_run_total(contents) for kind, contents in table if kind in (b"stts", b"ctts")]
                num_video += max(sizes + runs, default=0)
    return num_video, num_video + num_others


def _count(box: bytes, at: int) -> int:
    return int.from_bytes(box[at : at + 4], "big")


def _run_total(box: bytes) -> int:
    """Total samples of a box of (sample count, duration or offset) pairs (8.6.1)."""
    return sum(_count(box, at) for at in range(8, len(box) - 7, 8))


def _iso_track(trak: bytes) -> VideoTrack | None:
    if _inside(trak, b"mdia", b"hdlr")[8:12] != b"vide":
        return None
    header = _inside(trak, b"tkhd")
    number = _count(header, 20 if header[:1] == b"\x01" else 12)
    tracks = []
    for name, entry in _boxes(_inside(trak, b"mdia", b"minf", b"stbl", b"stsd")):
        boxes = dict(_boxes(entry[VISUAL_ENTRY_BYTES:]))
        coding, encryption = name, ""
        if name == b"encv" or b"sinf" in boxes:
            protection = boxes.get(b"sinf", b"")
            encryption = _letters(_inside(protection, b"schm")[4:8]) or "unknown scheme"
            coding = _inside(protection, b"frma")[:4] or name
        dolby_vision = next((boxes[kind] for kind in (b"dvcC", b"dvvC", b"dvwC") if kind in boxes), b"")
        crop = _clean_aperture(entry, boxes)
        tracks.append(VideoTrack(_letters(coding), encryption, _dolby_vision(dolby_vision), crop, number))
    # A clear lead has its own sample entry, before or after that of the encrypted rest.
    return next((track for track in tracks if track.encryption), tracks[0] if tracks else None)


def _dolby_vision(configuration: bytes) -> int | None:
    """The profile of a DOVIDecoderConfigurationRecord (Dolby Vision Streams Within ISOBMFF, 2.1)."""
    return configuration[2] >> 1 if len(configuration) > 3 else None


def _clean_aperture(entry: bytes, boxes: dict[bytes, bytes]) -> str:
    """ "WxH" of a clap box (12.1.4.2) smaller than the coded size; "" otherwise."""
    clap = boxes.get(b"clap", b"")
    if len(clap) < 32:
        return ""
    terms = [int.from_bytes(clap[at : at + 4], "big") for at in range(0, 16, 4)]
    coded = int.from_bytes(entry[24:26], "big"), int.from_bytes(entry[26:28], "big")
    if not terms[1] or not terms[3]:
        return ""
    cropped = terms[0] // terms[1], terms[2] // terms[3]
    return "" if cropped[0] >= coded[0] and cropped[1] >= coded[1] else f"{cropped[0]}x{cropped[1]}"


def _letters(name: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in name).strip()


def _matroska_tracks(path: Path) -> Iterator[VideoTrack]:
    with path.open("rb") as stream:
        data = stream.read(2**20)  # tracks come before the clusters
    for entry in _elements(data, SEGMENT, TRACKS, ENTRY):
        if _number(entry, TYPE) != 1:
            continue
        coding = next(_elements(entry, CODEC), b"").decode("ascii", "replace")
        encrypted = any(True for _ in _elements(entry, ENCODINGS, ENCODING, ENCRYPTION))
        additions = [
            next(_elements(addition, ADDITION_DATA), b"")
            for addition in _elements(entry, ADDITION)
            if _number(addition, ADDITION_TYPE).to_bytes(8, "big")[4:] in (b"dvcC", b"dvvC")
        ]
        crop = [max((_number(video, side) for video in _elements(entry, VIDEO)), default=0) for side in CROPS]
        yield VideoTrack(
            coding,
            "Matroska" if encrypted else "",
            _dolby_vision(additions[0]) if additions else None,
            "{} left, {} top, {} right, {} bottom".format(*crop) if any(crop) else "",
        )


def _number(data: bytes, name: int) -> int:
    return int.from_bytes(next(_elements(data, name), b"")[:8], "big")


def _elements(data: bytes, name: int, *inner: int) -> Iterator[bytes]:
    """Contents of all elements on a path of identifiers; the last one may be truncated."""
    at = 0
    while at < len(data):
        width = _vint_bytes(data[at])
        identifier, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at >= len(data):
            return
        width = _vint_bytes(data[at])
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        if size == (1 << 7 * width) - 1:  # unknown: to the end
            size = len(data) - at
        if identifier == name:
            contents = data[at : at + size]
            yield from _elements(contents, *inner) if inner else (contents,)
        at += size


def _vint_bytes(first: int) -> int:
    return 9 - first.bit_length() if first else 8
