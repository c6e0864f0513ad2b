"""Packets of a video stream, read without decoding: times, sizes and key frames, one entry per shown frame."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rungwise.media.clock import Clock, shown_clock, shown_order
from rungwise.media.container import demux, open_video, stream_rate, video_stream
from rungwise.media.limits import check_frames

UNINDEXED = ("mpegts", "mpeg")  # containers in which a seek is only approximate


class BitstreamReader(Protocol):
    """Reads bitstream data packet by packet (rungwise/bitstream/qp.py)."""

    def add_packet(self, packet: Any) -> None:
        """Read the next packet in coded order."""

    def log2_qsteps(self) -> list[float]:
        """log2 quantizer step size of each packet; NaN if unknown."""

    def pixels(self) -> NDArray[np.float64]:
        """(N, 2): coded pixels and decoded pixels of each packet."""


@dataclass(frozen=True)
class HiddenKeyFrame:
    """A key frame that an edit list hides and that the first shown frames reference: its bytes, log2 quantizer step
    size and coded pixels."""

    size: int
    log2_qstep: float
    num_pixels: float


@dataclass(frozen=True)
class Packets:
    """Packets of a video stream: N shown frames in presentation order.

    Attributes:
        ticks_N: presentation times in units of `time_base`; None if the file has none. They fall where the file's
            clock restarts.
        is_key_N: frames at which decoding can start.
        is_intra_N: frames that the file marks as key frames.
        sizes_N: coded bytes.
        rate: frame rate that the file states, or the assumed one (`is_rate_assumed`).
        num_bytes: coded bytes of all frames, shown or hidden.
        codec: short codec name, such as "h264".
        log2_qsteps_N: log2 quantizer step size (rungwise/bitstream/qp.py), NaN if unknown; None if not read.
        pixels_N2: coded pixels and decoded pixels (rungwise/bitstream/coded_size.py); None if not read.
        num_hidden: coded frames that the container hides.
        num_empty: frame slots of an AVI without data.
        clock_ticks_N: `ticks_N` with clock jumps moved to where they are shown; None for `ticks_N`.
    """

    ticks_N: NDArray[np.int64] | None
    is_key_N: NDArray[np.bool_]
    is_intra_N: NDArray[np.bool_]
    sizes_N: NDArray[np.int64]
    time_base: Fraction
    rate: Fraction
    num_bytes: int
    codec: str
    log2_qsteps_N: NDArray[np.float64] | None = None
    pixels_N2: NDArray[np.float64] | None = None
    num_hidden: int = 0
    hidden_key_frame: HiddenKeyFrame | None = None
    is_rate_assumed: bool = False
    num_empty: int = 0
    clock_ticks_N: NDArray[np.int64] | None = None

    @functools.cached_property
    def clock(self) -> Clock:
        """When frames are shown."""
        if self.ticks_N is None:  # raw streams have no times: constant rate
            return Clock(np.arange(len(self.is_key_N)) / float(self.rate))
        return shown_clock(self.ticks_N if self.clock_ticks_N is None else self.clock_ticks_N, self.time_base)

    @property
    def times_N(self) -> NDArray[np.float64]:
        """Seconds from the first frame, ascending."""
        return self.clock.seconds_N

    @property
    def breaks(self) -> tuple[int, ...]:
        """Key frames at which the clock jumps or restarts."""
        return tuple(index for index in self.clock.breaks if self.is_intra_N[index])

    @property
    def restarts(self) -> bool:
        """Whether the file's clock restarts, so that times do not identify frames."""
        return self.ticks_N is not None and bool((np.diff(self.ticks_N) < 0).any())

    def bitrate_kbps(self, duration_seconds: float) -> float:
        """Bitrate of all coded frames, hidden ones included; 0 if the duration is 0."""
        num_shown = len(self.is_key_N)
        coded_seconds = duration_seconds * (num_shown + self.num_hidden) / num_shown
        return self.num_bytes * 8 / 1000 / coded_seconds if coded_seconds else 0.0

    def notes(self) -> list[str]:
        """Remarks about the file's times."""
        notes = list(self.clock.notes)
        if self.num_hidden:
            notes.append(f"trimmed: {self.num_hidden} coded frames are hidden by the container")
        if self.is_rate_assumed and len(self.is_key_N) > 1:
            notes.append(f"the file states no frame rate: {float(self.rate):g} fps assumed")
        if self.num_empty:
            notes.append(f"empty frames: {self.num_empty} have no data and are not scored")
        return notes


@dataclass(frozen=True, slots=True)
class _Packet:
    """One coded frame as stored in the container."""

    pts: int | None
    dts: int | None
    size: int
    is_key: bool
    is_intra: bool
    is_hidden: bool


def read_packets(path: Path, bitstream_reader: Callable[[Any], BitstreamReader] | None = None) -> Packets:
    """Read all packets of a file without decoding.

    Args:
        path: the video.
        bitstream_reader: makes a reader of quantizer step sizes and coded sizes for the stream.

    Raises:
        ValueError: not a video, or it has no frames.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context.codec.canonical_name
        is_seekable = container.format.name not in UNINDEXED
        coded: list[_Packet] = []
        reader = None if bitstream_reader is None else bitstream_reader(stream)
        for packet in demux(container, stream, path):
            if not packet.size:
                continue
            is_key = is_seekable and packet.is_keyframe and (codec != "h264" or _holds_idr(packet, stream))
            hidden = bool(packet.is_discard)
            coded.append(_Packet(packet.pts, packet.dts, packet.size, is_key, packet.is_keyframe, hidden))
            if reader is not None:
                reader.add_packet(packet)
            check_frames(len(coded), path)
        rate, is_rate_assumed = stream_rate(container, stream)
        num_empty = _num_empty([packet.dts for packet in coded]) if container.format.name == "avi" else 0
        base = Fraction(stream.time_base or 1)
        reorders = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    if all(packet.is_hidden for packet in coded):
        raise ValueError(f"{path}: the video stream has no frames")
    log2_qsteps = None if reader is None else np.asarray(reader.log2_qsteps())
    pixels = None if reader is None else reader.pixels()
    packets = _shown_packets(coded, log2_qsteps, pixels, base, rate, codec, reorders)
    return replace(packets, is_rate_assumed=is_rate_assumed, num_empty=num_empty)


def _num_empty(decode_ticks: list[int | None]) -> int:
    """Empty frame slots of an AVI, beyond those of a constant rate below the file's clock."""
    known = [tick for tick in decode_ticks if tick is not None]
    steps = np.diff(known)
    return int((np.round(steps / max(1.0, float(np.median(steps)))) - 1).clip(0).sum()) if len(steps) else 0


def _shown_packets(
    coded: list[_Packet],
    log2_qsteps: NDArray[np.float64] | None,
    pixels: NDArray[np.float64] | None,
    base: Fraction,
    rate: Fraction,
    codec: str,
    reorders: bool,
) -> Packets:
    """Shown frames in presentation order, from packets in coded order that include hidden ones."""
    shown = np.flatnonzero([not packet.is_hidden for packet in coded])
    ticks = _presentation_ticks(coded, reorders)
    order, clock_ticks = shown, None
    if ticks is not None:
        visible = [coded[i] for i in shown]
        display_order, clock_ticks = shown_order(
            ticks[shown], [packet.dts for packet in visible], [packet.is_intra for packet in visible], base
        )
        order = shown[display_order]
    hidden_keys = [i for i, packet in enumerate(coded[: shown[0]]) if packet.is_intra]
    hidden_key_frame = None
    if hidden_keys and not coded[shown[0]].is_intra:
        last = hidden_keys[-1]
        log2_qstep = np.nan if log2_qsteps is None else float(log2_qsteps[last])
        hidden_key_frame = HiddenKeyFrame(
            coded[last].size, log2_qstep, 1.0 if pixels is None else float(pixels[last, 0])
        )
    return Packets(
        ticks_N=None if ticks is None else ticks[order],
        clock_ticks_N=clock_ticks,
        is_key_N=np.asarray([coded[i].is_key for i in order]),
        is_intra_N=np.asarray([coded[i].is_intra for i in order]),
        sizes_N=np.asarray([coded[i].size for i in order]),
        time_base=base,
        rate=rate,
        num_bytes=sum(packet.size for packet in coded),
        codec=codec,
        log2_qsteps_N=None if log2_qsteps is None else log2_qsteps[order],
        pixels_N2=None if pixels is None else pixels[order],
        num_hidden=len(coded) - len(shown),
        hidden_key_frame=hidden_key_frame,
    )


def _presentation_ticks(coded: list[_Packet], reorders: bool) -> NDArray[np.int64] | None:
    """Presentation times in coded order, or None.

    AVI has decoding times only, which are presentation times unless frames are reordered. If they are (`reorders`),
    libav may invent presentation times at a constant offset, which are not used.
    """
    ahead = {None if p.pts is None or p.dts is None else p.pts - p.dts for p in coded[:-1]}
    if reorders and (len(ahead) == 1 or None in ahead):
        return None
    if all(packet.pts is not None for packet in coded):
        return np.asarray([packet.pts for packet in coded], np.int64)
    if any(packet.dts is None for packet in coded):
        return None
    return np.asarray([packet.dts for packet in coded], np.int64)


def _holds_idr(packet: Any, stream: Any) -> bool:
    """Whether an H.264 key frame is an IDR; frames after a non-IDR I frame may reference frames before it."""
    data, extradata = bytes(packet), stream.codec_context.extradata
    if extradata and extradata[0] == 1:  # avcC: length-prefixed NAL units
        length_size, start = (extradata[4] & 3) + 1, 0
        while start + length_size < len(data):
            if data[start + length_size] & 31 == 5:
                return True
            start += length_size + int.from_bytes(data[start : start + length_size], "big")
        return False
    start = data.find(b"\0\0\1")
    while 0 <= start < len(data) - 3:
        nal_type = data[start + 3] & 31
        if nal_type in (1, 5):
            return nal_type == 5
        start = data.find(b"\0\0\1", start + 3)
    return False


def timestamps_seconds(path: Path) -> NDArray[np.float64]:
    """Presentation times of all frames, (N,), in seconds from the first, ascending; nothing is decoded.

    Raises:
        ValueError: not a video, or it has no frames.
    """
    return read_packets(path).times_N
