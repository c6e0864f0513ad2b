"""Reading the wanted frames of a video and no more than that takes, with the same pixels as reading all of it.

Two savings, both exact: decoding starts again at a key frame where that passes over many frames, and frames that no
other is predicted from are not decoded unless wanted. A file in which anything is not as its packets say is read from
its start, every frame decoded.
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
from rungwise.media.container import as_meant, decode_all, open_video, refuse_fields, video_stream
from rungwise.media.packets import Packets
from rungwise.media.video import filter_graph

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

Times = deque[tuple[int | None, Fraction | None]]
SEEK_GAP = 8  # frames that must be passed over for a jump to pay
# Codecs whose key frames, as `read_packets` marks them, let all later shown frames be decoded exactly.
CLEAN_START = ("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg2video", "mjpeg", "prores", "rawvideo", "dnxhd")
# Codecs that say per frame that nothing looks back at it, and whose decoder believes them. HEVC says so only of its
# own temporal layer.
SAYS_UNREFERENCED = ("h264", "mpeg2video")


class NotAsListed(Exception):
    """The decoder's frames are not those that the packets announce."""


class Interlaced(Exception):
    """A wanted frame is interlaced, and was read without deinterlacing."""


def read_frames(
    path: Path, packets: Packets, wanted: Sequence[int], *, threads: int | None = 1, jump: bool = True
) -> Iterator[tuple[int, VideoFrame]]:
    """(index, frame) of the wanted frame numbers, ascending, found by their times.

    Args:
        path: the video.
        packets: what `read_packets` said of it.
        wanted: frame numbers.
        threads: of the decoder, as many as pay if None.
        jump: pass over what need not be decoded.

    Raises:
        NotAsListed: a wanted frame does not come, or a jump does not land on its key frame.
        Interlaced: a wanted frame is interlaced.
    """
    ticks = packets.ticks_N
    if ticks is None or len(np.unique(ticks)) != len(ticks):
        raise NotAsListed("frames can't be told apart by their times")
    indices = sorted(set(wanted))
    index_of = {int(ticks[index]): index for index in indices}
    with open_video(path, threads) as container:
        stream = video_stream(container)
        stated = stated_color(stream)
        skips = jump and packets.codec in SAYS_UNREFERENCED
        for start, run in runs(packets, indices, jump=jump):
            missing = {int(ticks[index]) for index in run}
            landed = start == 0
            if start:
                try:
                    container.seek(int(ticks[start]), stream=stream)
                except av.error.FFmpegError as error:
                    raise NotAsListed(f"seeking fails ({error.strerror})") from error
            for frame in _decode(container, stream, stated, missing if skips else None):
                if frame.pts is None:
                    raise NotAsListed("a frame has no time")
                if not landed and frame.pts >= ticks[start]:
                    if frame.pts != ticks[start] or not frame.key_frame or frame.pict_type != 1 or frame.is_corrupt:
                        raise NotAsListed("a jump did not land on its key frame")
                    landed = True
                if landed and frame.pts in missing:
                    if frame.interlaced_frame:
                        refuse_fields(frame, packets.codec, path)
                        raise Interlaced
                    if index_of[frame.pts] != run[len(run) - len(missing)]:
                        raise NotAsListed("frames come in another order than their times")
                    missing.remove(frame.pts)
                    yield index_of[frame.pts], frame
                    if not missing:
                        break
            if missing:
                raise NotAsListed(f"frame {index_of[min(missing)]} does not decode")


def runs(packets: Packets, indices: Sequence[int], *, jump: bool = True) -> Iterator[tuple[int, list[int]]]:
    """(frame to start at, wanted frames from there on); the first run starts where the file does."""
    clean = jump and packets.codec in CLEAN_START
    keys = np.flatnonzero(packets.is_key_N)
    start, run, at = 0, list[int](), 0
    for index in indices:
        place = int(np.searchsorted(keys, index, side="right")) - 1
        key = int(keys[place]) if place >= 0 else 0
        if clean and key - at > SEEK_GAP:
            if run:
                yield start, run
            start, run = key, []
        run.append(index)
        at = index
    yield start, run


def _decode(container: Any, stream: Any, stated: StatedColor, missing: set[int] | None) -> Iterator[VideoFrame]:
    """Decode on from where the container stands; if `missing` is given, leave out what nothing needs."""
    context = stream.codec_context
    context.skip_frame = "DEFAULT"
    try:
        for packet in container.demux(stream):
            if missing is not None:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in missing else "NONREF"
            yield from as_meant(container, with_color(stated, iter(packet.decode())))
    except av.error.FFmpegError as error:
        raise NotAsListed(f"broken while decoding ({error.strerror})") from error


def deinterlace(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """As many frames as come in, those flagged as interlaced run through ffmpeg's bwdif, others untouched."""
    # The filter counts time in half ticks, for the fields that it could give.
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


def decoded_times(path: Path, packets: Packets, threads: int | None = 1) -> Packets:
    """The packets' facts replaced by those of the frames that really come, for a file that is not as it says.

    Raises:
        ValueError: no frame can be decoded.
    """
    ticks: list[int | None] = []
    with open_video(path, threads) as container:
        ticks.extend(frame.pts for frame in decode_all(container, path))
    if not ticks:
        raise ValueError(f"{path}: no frame can be decoded")
    known: NDArray[np.int64] | None = None
    if all(tick is not None for tick in ticks) and len(set(ticks)) == len(ticks):
        known = np.asarray(ticks, np.int64)
    own = _packets_of(known, packets.ticks_N)
    packets = replace(packets, clock_ticks_N=None)
    if known is not None:
        known.sort()  # a decoder knows the order better than a container that was written without times
    never = np.zeros(len(ticks), bool)  # where decoding could start
    if own is None:
        return replace(packets, ticks_N=known, is_key_N=never, is_intra_N=never, sizes_N=np.empty(0, np.int64))
    steps = None if packets.steps_N is None else packets.steps_N[own]
    pixels = None if packets.pixels_N2 is None else packets.pixels_N2[own]
    packets = replace(packets, is_intra_N=packets.is_intra_N[own], sizes_N=packets.sizes_N[own])
    return replace(packets, ticks_N=known, is_key_N=never, steps_N=steps, pixels_N2=pixels)


def _packets_of(frames_N: NDArray[np.int64] | None, packets_M: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Which packet gave which frame, by their times; None where times don't tell."""
    if frames_N is None or packets_M is None:
        return None
    places = {int(tick): place for place, tick in enumerate(packets_M)}
    if len(places) < len(packets_M) or any(int(tick) not in places for tick in frames_N):
        return None
    return np.asarray([places[int(tick)] for tick in frames_N])
