"""Encryption of the video of an MPEG transport stream (ISO/IEC 13818-1), which libav does not report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 4 * 2**20  # program tables repeat every 0.5 s
PACKET_BYTES = ((188, 0), (192, 4), (204, 0))  # (packet size, offset of the sync byte): plain, Blu-ray, with parity
NUM_SYNC_BYTES = 5
SAMPLE_AES_H264 = 0xDB  # stream_type (MPEG-2 Stream Encryption Format for HTTP Live Streaming)
VIDEO_TYPES = (0x01, 0x02, 0x10, 0x1B, 0x24, 0x33, 0xEA)  # MPEG-1, -2, -4, H.264, HEVC, VVC, VC-1


def transport_encryption(path: Path) -> str:
    """Encryption scheme of the video, from the first `MAX_BYTES`; "" if none."""
    with path.open("rb") as stream:
        packets = list(_packets(stream.read(MAX_BYTES)))
    map_pids = {pid for packet in packets if _pid(packet) == 0 for pid in _programs(_section(packet))}
    types = {}
    for packet in packets:
        if _pid(packet) in map_pids:
            types.update(_streams(_section(packet)))
    if SAMPLE_AES_H264 in types.values():
        return "SAMPLE-AES"
    video = [packet for packet in packets if types.get(_pid(packet)) in VIDEO_TYPES]
    scrambled = sum(packet[3] >> 6 > 1 for packet in video)  # transport_scrambling_control (2.4.3.3)
    return "scrambled transport stream" if 2 * scrambled > len(video) else ""


def _packets(data: bytes) -> Iterator[bytes]:
    for size, before in PACKET_BYTES:
        if len(data) >= size and all(data[at] == 0x47 for at in range(before, len(data), size)[:NUM_SYNC_BYTES]):
            for at in range(before, len(data) - 187, size):
                yield data[at : at + 188]
            return


def _pid(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def _section(packet: bytes) -> bytes:
    """The part of a table section that starts in this packet, without its checksum."""
    begins, has_adaptation, has_payload = packet[1] & 0x40, packet[3] & 0x20, packet[3] & 0x10
    start = 5 + packet[4] if has_adaptation else 4
    if not begins or not has_payload or start >= len(packet):
        return b""
    section = packet[start + 1 + packet[start] :]
    return section[: max(0, 3 + _length(section, 1) - 4)]


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big") & 0xFFF


def _programs(section: bytes) -> list[int]:
    """Program map PIDs of a program association section (2.4.4.3)."""
    return [
        int.from_bytes(section[at + 2 : at + 4], "big") & 0x1FFF
        for at in range(8, len(section) - 3, 4)
        if section[at : at + 2] != b"\0\0"
    ]


def _streams(section: bytes) -> dict[int, int]:
    """PID -> stream_type of a program map section (2.4.4.8)."""
    types = {}
    at = 12 + _length(section, 10)
    while section[:1] == b"\x02" and at + 5 <= len(section):
        types[int.from_bytes(section[at + 1 : at + 3], "big") & 0x1FFF] = section[at]
        at += 5 + _length(section, at + 3)
    return types
