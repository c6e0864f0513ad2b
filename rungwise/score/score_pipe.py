"""Split a video that comes through a pipe into windows: coded video in any container, or y4m.

The stream is read once, in order. Its windows equal those of a file with the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import av

from rungwise.bitstream.coded_frames import CodedFrame, CodedFrameReader
from rungwise.media.clock import StreamClock
from rungwise.media.color import stated_color, with_color
from rungwise.media.container import (
    container_notes,
    demux,
    refuse_fields,
    refuse_unshowable,
    stream_rate,
    video_stream,
    with_chroma_siting,
)
from rungwise.media.pipe import STREAMABLE_MP4, open_pipe
from rungwise.score.frames import deinterlace
from rungwise.score.score_video import DEINTERLACED
from rungwise.score.stream_windows import RecentFrames, StreamWindows, WindowCallback
from rungwise.score.video_metadata import ReadOptions, VideoMetadata, first_frame_metadata

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_UNMATCHED = 512  # packets whose frame has not come


class Pace(Protocol):
    """Decides which packets a live stream has to leave out to keep up."""

    def is_late(self, seconds: float) -> bool:
        """Whether to leave out the frames from a key frame at `seconds` to the next; called in coded order."""

    def add_packet(self, seconds: float) -> None:
        """Take the time of each packet before it is decoded or left out."""


class _CodedStream:
    """The frames of an open pipe, and the bitstream data of each."""

    def __init__(self, container: Any, name: str, options: ReadOptions, pace: Pace | None) -> None:
        self.container, self.name, self.pace = container, name, pace
        self.stream = video_stream(container)
        self.codec = str(self.stream.codec_context.codec.canonical_name)
        self.is_y4m = container.format.name == "yuv4mpegpipe"
        self.stats: Iterator[CodedFrame] = iter(())
        if options.encoder_stats is not None and not self.is_y4m:
            raise ValueError(f"{name}: has its own bitstream; --bitstream-stats goes with y4m")
        if options.encoder_stats is not None:
            self.codec, self.stats = options.encoder_stats.codec, iter(options.encoder_stats.frames)
        self.reader = CodedFrameReader(self.stream, read_qsteps=options.read_bitstream and not self.is_y4m)
        self.unmatched: dict[int | None, deque[CodedFrame]] = {}  # by timestamp, in coded order
        self.num_shown = self.num_hidden = self.num_damaged = 0
        self.hidden_key_frame: CodedFrame | None = None
        self.break_off = ""
        self.is_deinterlaced = False
        self.ticks_after_gaps: set[int] = set()  # frames before which others were left out

    def frames(self) -> Iterator[VideoFrame]:
        """Every frame in presentation order, deinterlaced from the first interlaced one on."""
        frames = with_chroma_siting(self.container, with_color(stated_color(self.stream), self._decoded()))
        previous: list[VideoFrame] = []
        for frame in frames:
            if frame.interlaced_frame:
                refuse_fields(frame, self.codec, Path(self.name))
                self.is_deinterlaced = True
                filtered = deinterlace(chain(list(previous), [frame], frames))
                for _ in previous:  # it gives the filter a neighbor
                    next(filtered, None)
                previous.clear()
                yield from filtered
                return
            previous = [frame]
            yield frame

    def _decoded(self) -> Iterator[VideoFrame]:
        try:
            packets = demux(self.container, self.stream, Path(self.name))
            for packet in packets if self.pace is None else self._paced(packets, self.pace):
                if packet is None:
                    yield from self._drained()
                    continue
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.num_damaged += 1
                    frames = []
                if packet.size and not self.is_y4m:
                    self._add_packet(packet)
                while frames:
                    yield frames.pop(0)
        except ValueError as error:  # such as a pipe that is cut off
            self.break_off = str(error).removeprefix(f"{self.name}: ")

    def _paced(self, packets: Iterator[Any], pace: Pace) -> Iterator[Any]:
        """The packets to decode; None where some before the next one are left out."""
        leaves_out = False
        for packet in packets:
            if packet.size and packet.pts is not None:
                seconds = float(packet.pts * packet.time_base)
                pace.add_packet(seconds)
                if packet.is_keyframe:
                    left_out, leaves_out = leaves_out, pace.is_late(seconds)
                    if left_out and not leaves_out:
                        self.ticks_after_gaps.add(packet.pts)
                        yield None
            if not leaves_out or not packet.size:
                yield packet

    def _drained(self) -> Iterator[VideoFrame]:
        """The frames that the decoder holds; it then starts again at a key frame."""
        try:
            for frame in self.stream.decode(None):
                frame.time_base = self.stream.time_base
                yield frame
        except av.error.FFmpegError:
            self.num_damaged += 1
        self.stream.codec_context.flush_buffers()

    def is_after_gap(self, frame: VideoFrame) -> bool:
        """Whether frames before this one were left out."""
        if frame.pts not in self.ticks_after_gaps:
            return False
        self.ticks_after_gaps.discard(frame.pts)
        return True

    def _add_packet(self, packet: Any) -> None:
        tick, is_hidden = packet.pts, packet.is_discard
        coded = self.reader.add_packet(packet)
        if is_hidden:
            self.num_hidden += 1
            if coded.is_intra and not self.num_shown:
                self.hidden_key_frame = coded
            return
        if not self.num_shown and coded.is_intra:
            self.hidden_key_frame = None
        self.num_shown += 1
        self.unmatched.setdefault(tick, deque()).append(coded)
        if len(self.unmatched) > MAX_UNMATCHED:
            del self.unmatched[next(iter(self.unmatched))]

    def coded_frame(self, frame: VideoFrame) -> CodedFrame | None:
        """The bitstream data of a decoded frame, the next one in presentation order."""
        if self.is_y4m:
            return next(self.stats, None)
        queue = self.unmatched.get(frame.pts)
        if not queue:
            return None
        coded = queue.popleft()
        if not queue:
            del self.unmatched[frame.pts]
        return coded

    def no_frame_reason(self) -> str:
        """Why nothing was decoded."""
        if self.break_off and "mp4" in self.container.format.name.split(","):
            return f"its index comes after its frames; {STREAMABLE_MP4}"
        return self.break_off or "no frame can be decoded"

    def notes(self) -> Iterator[str]:
        """Remarks once the stream has ended."""
        if self.break_off:
            yield f"the stream breaks off ({self.break_off})"
        if self.num_damaged:
            yield f"{self.num_damaged} packets do not decode"
        if self.num_hidden:
            yield f"trimmed: {self.num_hidden} coded frames are hidden by the container"
        if self.is_deinterlaced:
            yield DEINTERLACED


def map_pipe_windows(
    stream: IO[bytes], name: str, options: ReadOptions, function: WindowCallback, pace: Pace | None = None
) -> VideoMetadata:
    """Call `function` on every window of a stream, as soon as it is complete; return the metadata.

    `pace` may leave out frames. A window then ends before them, and windows begin again after them.

    Raises:
        ValueError: not a video that can be read in order, or no frame can be decoded.
    """
    with open_pipe(stream, name, options.threads) as (container, head):
        coded_stream = _CodedStream(container, name, options, pace)
        rate, is_rate_assumed = stream_rate(container, coded_stream.stream)
        frames = coded_stream.frames()
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{name}: {coded_stream.no_frame_reason()}")
        metadata = _metadata(coded_stream, head, first, options)
        clock = StreamClock(rate, None if first.pts is None else coded_stream.stream.time_base)
        recent = None
        if options.read_bitstream and (options.encoder_stats or not coded_stream.is_y4m):
            recent = RecentFrames(coded_stream.codec, metadata, coded_stream.hidden_key_frame)
        windows = StreamWindows(metadata, options, clock, recent, function)
        rest = chain([first], frames)
        del first  # a frame may be very large
        for frame in rest:
            after_gap = coded_stream.is_after_gap(frame)
            windows.push(frame, frame.pts, coded_stream.coded_frame(frame), after_gap=after_gap)
        coded_stream.reader.finish()
        if num_left := len(list(coded_stream.stats)):
            metadata.add_note(f"bitstream statistics of {num_left} more frames than there are")
        for note in coded_stream.notes():
            metadata.add_note(note)
        windows.finish()
        if is_rate_assumed and metadata.num_frames > 1:
            metadata.add_note(f"the file states no frame rate: {float(rate):g} fps assumed")
        return metadata


def _metadata(coded_stream: _CodedStream, head: Path, first: VideoFrame, options: ReadOptions) -> VideoMetadata:
    container, name = coded_stream.container, coded_stream.name
    try:
        refuse_unshowable(container, first, head)
    except ValueError as error:
        raise ValueError(str(error).replace(str(head), name)) from error
    metadata = first_frame_metadata(first, coded_stream.stream, name, options)
    for note in container_notes(container, head):
        metadata.add_note(note)
    if not coded_stream.is_y4m:
        metadata.no_bitstream_reason = "its frames can't be matched to its packets"
    return metadata
