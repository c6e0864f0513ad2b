"""What an MP4 or MOV file says of its video tracks that the decoder library keeps to itself.

ISO base media (ISO/IEC 14496-12): a box is a 32-bit size, four letters and contents; a size of 1 puts a 64-bit one
behind the letters. Only the boxes on the way to a track's sample entry are read, at most `MAX_MOOV_BYTES` of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_MOOV_BYTES = 64 * 2**20  # ten hours at 60 frames a second take less
CONTAINERS = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"stsd": 8, b"sinf": 0, b"schi": 0}
VISUAL_ENTRY_BYTES = 78  # fields of a VisualSampleEntry before its own boxes (12.1.3)


@dataclass(frozen=True)
class VideoTrack:
    """A video track's sample entry: its four letters (`coding`), the scheme that encrypts it ("" if none), and its
    Dolby Vision profile if it has one."""

    track_id: int
    coding: str
    encryption: str = ""
    dolby_vision_profile: int | None = None


def video_tracks(path: Path) -> dict[int, VideoTrack]:
    """Video tracks by their number; none of another kind of file, or of one whose boxes are damaged."""
    moov = _find_moov(path)
    tracks = [_video_track(data) for name, data in _boxes(moov) if name == b"trak"]
    return {track.track_id: track for track in tracks if track is not None}


def _find_moov(path: Path) -> bytes:
    with path.open("rb") as stream:
        end = stream.seek(0, 2)
        at = 0
        while at + 8 <= end:
            stream.seek(at)
            head = stream.read(16)
            size, name, header = int.from_bytes(head[:4], "big"), head[4:8], 8
            if at == 0 and name not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
                return b""
            if size == 1:
                size, header = int.from_bytes(head[8:16], "big"), 16
            if name == b"moov":
                stream.seek(at + header)
                return stream.read(min(size - header if size else MAX_MOOV_BYTES, MAX_MOOV_BYTES))
            if size < header:  # 0: to the end of the file; less: damaged
                return b""
            at += size
    return b""


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
    """Contents of the first box on a path of names, without its own fields; empty if there is none."""
    for name in names:
        data = next((contents[CONTAINERS.get(name, 0) :] for found, contents in _boxes(data) if found == name), b"")
    return data


def _video_track(trak: bytes) -> VideoTrack | None:
    if _inside(trak, b"mdia", b"hdlr")[8:12] != b"vide":
        return None
    tkhd = _inside(trak, b"tkhd")
    number = int.from_bytes(tkhd[20:24] if tkhd[:1] == b"\1" else tkhd[12:16], "big")
    for name, entry in _boxes(_inside(trak, b"mdia", b"minf", b"stbl", b"stsd")):
        boxes = dict(_boxes(entry[VISUAL_ENTRY_BYTES:]))
        coding, encryption = name, ""
        if name == b"encv" or b"sinf" in boxes:
            protection = boxes.get(b"sinf", b"")
            scheme = _inside(protection, b"schm")[4:8] or b"unknown scheme"
            coding, encryption = _inside(protection, b"frma")[:4] or name, _letters(scheme)
        vision = next((boxes[kind] for kind in (b"dvcC", b"dvvC", b"dvwC") if kind in boxes), None)
        profile = None if vision is None or len(vision) < 4 else vision[2] >> 1
        return VideoTrack(number, _letters(coding), encryption, profile)
    return None


def _letters(name: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in name).strip()
