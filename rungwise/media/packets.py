"""What a file's packets tell without decoding: times, sizes and key frames, one entry a shown frame."""

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

UNINDEXED = ("mpegts", "mpeg")  # containers in which a seek finds some place near the wanted time


class BitstreamReader(Protocol):
    """Reads what the coded stream tells, packet by packet (rungwise/bitstream/qp.py)."""

    def take(self, packet: Any) -> None:
        """The next packet in coded order."""

    def log2_qsteps(self) -> list[float]:
        """Of each packet, log2 of its quantizer step size; NaN if unknown."""

    def pixels(self) -> NDArray[np.float64]:
        """Of each packet, (pixels as coded, pixels as decoded)."""


@dataclass(frozen=True)
class HiddenKeyFrame:
    """A key frame that an edit list hides and that the first shown frames look back at: its bytes, its step and its
    coded pixels."""

    size: int
    log2_qstep: float
    num_pixels: float


@dataclass(frozen=True)
class Packets:
    """What the packets of a video stream say, one entry a shown frame in presentation order.

    `ticks_N` are int64 presentation times in units of `time_base`, None where the file carries none; they fall where
    the file's clock restarts. Decoding can be started exactly at `is_key_N`; `is_intra_N` are all that the file calls
    key frames. `sizes_N` are coded bytes, `num_bytes` those of all coded frames, of which `num_hidden` are not shown.
    `rate` is the rate that the file states, `codec` the short name. `log2_qsteps_N`, where asked for, are log2 of each
    frame's quantizer step (rungwise/bitstream/qp.py), NaN if unknown; `pixels_N2`, with them, the pixels of each frame
    as coded and as decoded (rungwise/bitstream/coded_size.py). `is_rate_assumed`: the file states no rate.
    `num_empty` places for a frame hold no data.
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
    clock_ticks_N: NDArray[np.int64] | None = None  # `ticks_N`, but with a jump where it is shown; None: `ticks_N`

    @functools.cached_property
    def clock(self) -> Clock:
        """When frames are shown."""
        if self.ticks_N is None:  # raw streams carry no times: equal steps at the stated rate
            return Clock(np.arange(len(self.is_key_N)) / float(self.rate))
        return shown_clock(self.ticks_N if self.clock_ticks_N is None else self.clock_ticks_N, self.time_base)

    @property
    def times_N(self) -> NDArray[np.float64]:
        """Seconds from the first frame, ascending."""
        return self.clock.seconds_N

    @property
    def breaks(self) -> tuple[int, ...]:
        """Frames with which something new begins: the clock jumps or restarts, and they look back at nothing."""
        return tuple(index for index in self.clock.breaks if self.is_intra_N[index])

    @property
    def restarts(self) -> bool:
        """Whether the file's clock restarts, so that a time names more than one frame."""
        return self.ticks_N is not None and bool((np.diff(self.ticks_N) < 0).any())

    def bitrate_kbps(self, duration_seconds: float) -> float:
        """Bytes of all coded frames over the time that they would be shown; 0 without a duration."""
        shown = len(self.is_key_N)
        coded_seconds = duration_seconds * (shown + self.num_hidden) / shown
        return self.num_bytes * 8 / 1000 / coded_seconds if coded_seconds else 0.0

    def notes(self) -> list[str]:
        """What is odd about the file's times."""
        notes = list(self.clock.notes)
        if self.num_hidden:
            notes.append(f"trimmed: {self.num_hidden} coded frames are hidden by the container")
        if self.is_rate_assumed and len(self.is_key_N) > 1:
            notes.append(f"the file states no frame rate: {float(self.rate):g} frames a second are assumed")
        if self.num_empty:
            notes.append(f"empty frames: {self.num_empty} hold no data, the others are scored")
        return notes


@dataclass(frozen=True, slots=True)
class _Packet:
    """A coded frame as the container has it."""

    pts: int | None
    dts: int | None
    size: int
    is_key: bool
    is_intra: bool
    is_hidden: bool


def read_packets(path: Path, bitstream_reader: Callable[[Any], BitstreamReader] | None = None) -> Packets:
    """Read a file once without decoding; a `bitstream_reader` of its stream adds quantizer steps and coded sizes.

    Raises:
        ValueError: not a video, or no frame in it.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context.codec.canonical_name
        seeks = container.format.name not in UNINDEXED
        coded: list[_Packet] = []
        reader = None if bitstream_reader is None else bitstream_reader(stream)
        for packet in demux(container, stream, path):
            if not packet.size:
                continue
            is_key = seeks and packet.is_keyframe and (codec != "h264" or _holds_idr(packet, stream))
            hidden = bool(packet.is_discard)
            coded.append(_Packet(packet.pts, packet.dts, packet.size, is_key, packet.is_keyframe, hidden))
            if reader is not None:
                reader.take(packet)
            check_frames(len(coded), path)
        rate, is_rate_assumed = stream_rate(container, stream)
        num_empty = _num_empty([packet.dts for packet in coded]) if container.format.name == "avi" else 0
        base = Fraction(stream.time_base or 1)
        reorders = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    if all(packet.is_hidden for packet in coded):
        raise ValueError(f"{path}: the video stream holds no frame")
    log2_qsteps = None if reader is None else np.asarray(reader.log2_qsteps())
    pixels = None if reader is None else reader.pixels()
    packets = _shown_packets(coded, log2_qsteps, pixels, base, rate, codec, reorders)
    return replace(packets, is_rate_assumed=is_rate_assumed, num_empty=num_empty)


def _num_empty(decode_ticks: list[int | None]) -> int:
    """Places of an AVI between its frames that hold none. A steady rate below the file's clock leaves no such place."""
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
    """Packets in coded order, hidden ones among them, as shown frames in presentation order."""
    shown = np.flatnonzero([not packet.is_hidden for packet in coded])
    ticks = _presentation_ticks(coded, reorders)
    order, clock_ticks = shown, None
    if ticks is not None:
        visible = [coded[i] for i in shown]
        own, clock_ticks = shown_order(
            ticks[shown], [packet.dts for packet in visible], [packet.is_intra for packet in visible], base
        )
        order = shown[own]
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
    """Presentation times in coded order. A container without them (AVI) has decoding times, which are the same where no
    frame is reordered; where some are (`reorders`), libav may make times up, each as far from its decoding time."""
    ahead = {None if p.pts is None or p.dts is None else p.pts - p.dts for p in coded[:-1]}
    if reorders and (len(ahead) == 1 or None in ahead):
        return None
    if all(packet.pts is not None for packet in coded):
        return np.asarray([packet.pts for packet in coded], np.int64)
    if any(packet.dts is None for packet in coded):
        return None
    return np.asarray([packet.dts for packet in coded], np.int64)


def _holds_idr(packet: Any, stream: Any) -> bool:
    """Whether an H.264 key frame is an IDR: what follows a mere I frame may look back over it."""
    data, setup = bytes(packet), stream.codec_context.extradata
    if setup and setup[0] == 1:  # avcC: each unit after its length
        width, place = (setup[4] & 3) + 1, 0
        while place + width < len(data):
            if data[place + width] & 31 == 5:
                return True
            place += width + int.from_bytes(data[place : place + width], "big")
        return False
    place = data.find(b"\0\0\1")
    while 0 <= place < len(data) - 3:
        kind = data[place + 3] & 31
        if kind in (1, 5):
            return kind == 5
        place = data.find(b"\0\0\1", place + 3)
    return False


def timestamps_seconds(path: Path) -> NDArray[np.float64]:
    """Presentation times of all frames, (N,), ascending, in seconds from the first; reads packets, decodes nothing.

    Raises:
        ValueError: not a video, or no frame in it.
    """
    return read_packets(path).times_N
