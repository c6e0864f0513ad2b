"""Decode selected frames of a video, bit-identical to decoding all of it.

Two shortcuts: seek to a key frame where that skips many frames, and skip non-reference frames that were not requested.
If anything differs from what the packets state, the caller reads the file from its start and decodes every frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from rungwise.media.color import StatedColor, stated_color, with_color
from rungwise.media.container import decode_all, open_video, refuse_fields, video_stream, with_chroma_siting
from rungwise.media.packets import Packets
from rungwise.media.video import filter_graph

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

Times = deque[tuple[int | None, Fraction | None]]
SEEK_GAP = 8  # frames that a seek must skip to be worth it
# Codecs whose key frames, as marked by `read_packets`, are random access points: all later frames decode exactly.
SEEKABLE_CODECS = ("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg2video", "mjpeg", "prores", "rawvideo", "dnxhd")
# Codecs that mark non-reference frames and whose decoder can skip them. HEVC marks them only within a temporal layer.
NONREF_SKIP_CODECS = ("h264", "mpeg2video")


class DecodeMismatch(Exception):
    """The decoded frames differ from those that the packets state."""


class InterlacedFrame(Exception):
    """A requested frame is interlaced and was decoded without deinterlacing."""


def read_frames(
    path: Path, packets: Packets, requested: Sequence[int], *, threads: int | None = 1, seek: bool = True
) -> Iterator[tuple[int, VideoFrame]]:
    """(index, frame) of the requested frames, ascending, identified by their times.

    Args:
        path: the video.
        packets: its packets (`read_packets`).
        requested: frame indices.
        threads: decoder threads; None lets the decoder choose.
        seek: use the shortcuts described above.

    Raises:
        DecodeMismatch: a requested frame does not decode, or a seek does not land on its key frame.
        InterlacedFrame: a requested frame is interlaced.
    """
    ticks = packets.ticks_N
    if ticks is None or len(np.unique(ticks)) != len(ticks):
        raise DecodeMismatch("times do not identify frames")
    indices = sorted(set(requested))
    index_of = {int(ticks[index]): index for index in indices}
    with open_video(path, threads) as container:
        stream = video_stream(container)
        stated = stated_color(stream)
        skips = seek and packets.codec in NONREF_SKIP_CODECS
        for start, run in decode_runs(packets, indices, seek=seek):
            missing = {int(ticks[index]) for index in run}
            landed = start == 0
            if start:
                try:
                    container.seek(int(ticks[start]), stream=stream)
                except av.error.FFmpegError as error:
                    raise DecodeMismatch(f"seek failed ({error.strerror})") from error
            for frame in _decode(container, stream, stated, missing if skips else None):
                if frame.pts is None:
                    raise DecodeMismatch("a frame has no time")
                if not landed and frame.pts >= ticks[start]:
                    if frame.pts != ticks[start] or not frame.key_frame or frame.pict_type != 1 or frame.is_corrupt:
                        raise DecodeMismatch("a seek did not land on its key frame")
                    landed = True
                if landed and frame.pts in missing:
                    if frame.interlaced_frame:
                        refuse_fields(frame, packets.codec, path)
                        raise InterlacedFrame
                    if index_of[frame.pts] != run[len(run) - len(missing)]:
                        raise DecodeMismatch("frames are not in the order of their times")
                    missing.remove(frame.pts)
                    yield index_of[frame.pts], frame
                    if not missing:
                        break
            if missing:
                raise DecodeMismatch(f"frame {index_of[min(missing)]} does not decode")


def decode_runs(packets: Packets, indices: Sequence[int], *, seek: bool = True) -> Iterator[tuple[int, list[int]]]:
    """(frame to start decoding at, requested frames decoded from there); the first run starts at frame 0."""
    seekable = seek and packets.codec in SEEKABLE_CODECS
    keys = np.flatnonzero(packets.is_key_N)
    start, run, previous = 0, list[int](), 0
    for index in indices:
        place = int(np.searchsorted(keys, index, side="right")) - 1
        key = int(keys[place]) if place >= 0 else 0
        if seekable and key - previous > SEEK_GAP:
            if run:
                yield start, run
            start, run = key, []
        run.append(index)
        previous = index
    yield start, run


def _decode(container: Any, stream: Any, stated: StatedColor, missing: set[int] | None) -> Iterator[VideoFrame]:
    """Decode from the container's position on; if `missing` is given, skip non-reference frames not in it."""
    context = stream.codec_context
    context.skip_frame = "DEFAULT"
    try:
        for packet in container.demux(stream):
            if missing is not None:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in missing else "NONREF"
            yield from with_chroma_siting(container, with_color(stated, iter(packet.decode())))
    except av.error.FFmpegError as error:
        raise DecodeMismatch(f"broken while decoding ({error.strerror})") from error


def deinterlace(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Run frames flagged as interlaced through ffmpeg's bwdif; one frame out for each frame in, times unchanged."""
    # The filter halves the time base, for field output, so the original times are restored.
    times: Times = deque()
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    for frame in frames:
        if shape != (frame.width, frame.height, frame.format.name):
            if graph is not None:
                yield from _drain(graph, times)
            graph, shape = (
                filter_graph(frame, "bwdif", "mode=send_frame:deint=interlaced"),
                (frame.width, frame.height, frame.format.name),
            )
        assert graph is not None
        times.append((frame.pts, frame.time_base))
        graph.vpush(frame)
        yield from _pull(graph, times)
    if graph is not None:
        yield from _drain(graph, times)


def _drain(graph: Graph, times: Times) -> Iterator[VideoFrame]:
    graph.vpush(None)
    yield from _pull(graph, times)


def _pull(graph: Graph, times: Times) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts, frame.time_base = times.popleft()
        yield frame


def with_decoded_times(path: Path, packets: Packets, threads: int | None = 1) -> Packets:
    """Packets with times and order of the frames that really decode, for a file that misstates them.

    Raises:
        ValueError: no frame can be decoded.
    """
    ticks: list[int | None] = []
    with open_video(path, threads) as container:
        ticks.extend(frame.pts for frame in decode_all(container, path))
    if not ticks:
        raise ValueError(f"{path}: no frame can be decoded")
    decoded_ticks: NDArray[np.int64] | None = None
    if all(tick is not None for tick in ticks) and len(set(ticks)) == len(ticks):
        decoded_ticks = np.asarray(ticks, np.int64)
    order = _packet_order(decoded_ticks, packets.ticks_N)
    packets = replace(packets, clock_ticks_N=None)
    if decoded_ticks is not None:
        decoded_ticks.sort()  # the decoder's order is more reliable than that of a container written without times
    no_keys = np.zeros(len(ticks), bool)  # seeking is not safe in such a file
    if order is None:
        empty = np.empty(0, np.int64)
        return replace(packets, ticks_N=decoded_ticks, is_key_N=no_keys, is_intra_N=no_keys, sizes_N=empty)
    return replace(
        packets,
        ticks_N=decoded_ticks,
        is_key_N=no_keys,
        is_intra_N=packets.is_intra_N[order],
        sizes_N=packets.sizes_N[order],
        log2_qsteps_N=None if packets.log2_qsteps_N is None else packets.log2_qsteps_N[order],
        pixels_N2=None if packets.pixels_N2 is None else packets.pixels_N2[order],
    )


def _packet_order(frames_N: NDArray[np.int64] | None, packets_M: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Index of each frame's packet, matched by time; None if times are missing or ambiguous."""
    if frames_N is None or packets_M is None:
        return None
    index_of = {int(tick): index for index, tick in enumerate(packets_M)}
    if len(index_of) < len(packets_M) or any(int(tick) not in index_of for tick in frames_N):
        return None
    return np.asarray([index_of[int(tick)] for tick in frames_N])
