"""What is in a video file, and its frames as RGB.

One decoder (PyAV) serves probing, training and scoring, so a frame has the same pixels everywhere. Frames are
numbered in presentation order; rotation tags are applied. Shapes: H, W are the frame as shown after rotation.
Only the named file is ever read: a playlist, which points elsewhere, is refused here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rungwise.clock import Clock, end_seconds, shown_clock, shown_order
from rungwise.coded_size import frame_pixels
from rungwise.color import (
    COLOR_PRIMARIES,
    COLOR_RANGES,
    COLOR_SPACES,
    COLOR_TRANSFERS,
    HDR_TRANSFERS,
    MATRICES,
    hdr_name,
)
from rungwise.container import (
    container_notes,
    decode_all,
    demux,
    field_problem,
    open_video,
    refuse_unshowable,
    stream_rate,
    track_of,
    video_stream,
)
from rungwise.limits import check_frames, stated_aspect
from rungwise.quantiser import StepReader

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

# Without accurate rounding and full chroma swscale's RGB is darker by about one code value.
RGB_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT


UNINDEXED = ("mpegts", "mpeg")  # containers in which a seek finds some place near the wanted time


class VideoInfo(BaseModel):
    """What `rungwise probe` sees. Width and height are as shown, after rotation, before sample aspect ratio."""

    model_config = ConfigDict(frozen=True)

    path: str
    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration_seconds: float
    bitrate_kbps: float
    pixel_format: str
    bit_depth: int
    color_space: str
    color_primaries: str
    color_transfer: str
    color_range: str
    sample_aspect_ratio: float
    rotation_degrees: int
    interlaced: bool
    variable_frame_rate: bool
    hdr: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HiddenKey:
    """A key frame that an edit list hides and that the first shown frames look back at: its bytes, its step and its
    coded pixels."""

    size: int
    step: float
    num_pixels: float


@dataclass(frozen=True)
class Packets:
    """What the packets of a video stream say, one entry a shown frame in presentation order.

    `ticks_N` are int64 presentation times in units of `time_base`, None where the file carries none; they fall where
    the file's clock restarts. Decoding can be started exactly at `is_key_N`; `is_intra_N` are all that the file calls
    key frames. `sizes_N` are coded bytes, `num_bytes` those of all coded frames, of which `num_hidden` are not shown.
    `rate` is the rate that the file states, `codec` the short name. `steps_N`, where asked for, are log2 of each
    frame's quantiser step (rungwise/quantiser.py), NaN if unknown; `pixels_N2`, with them, the pixels of each frame
    as coded and as decoded (rungwise/coded_size.py). `is_rate_assumed`: the file states no rate.
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
    steps_N: NDArray[np.float64] | None = None
    pixels_N2: NDArray[np.float64] | None = None
    num_hidden: int = 0
    hidden_key: HiddenKey | None = None
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


def read_packets(path: Path, *, steps: bool = False) -> Packets:
    """Read a file once without decoding; with `steps` the quantiser's too, for which some codecs' frames are decoded.

    Raises:
        ValueError: not a video, or no frame in it.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context.codec.canonical_name
        seeks = container.format.name not in UNINDEXED
        coded: list[_Packet] = []
        quantiser = StepReader(stream) if steps else None
        for packet in demux(container, stream, path):
            if not packet.size:
                continue
            is_key = seeks and packet.is_keyframe and (codec != "h264" or _holds_idr(packet, stream))
            hidden = bool(packet.is_discard)
            coded.append(_Packet(packet.pts, packet.dts, packet.size, is_key, packet.is_keyframe, hidden))
            if quantiser is not None:
                quantiser.take(packet)
            check_frames(len(coded), path)
        rate, is_rate_assumed = stream_rate(container, stream)
        num_empty = _num_empty([packet.dts for packet in coded]) if container.format.name == "avi" else 0
        base = Fraction(stream.time_base or 1)
        reorders = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    if all(packet.is_hidden for packet in coded):
        raise ValueError(f"{path}: the video stream holds no frame")
    known = None if quantiser is None else np.asarray(quantiser.steps())
    pixels = None if quantiser is None else frame_pixels(quantiser.sizes)
    packets = _shown_packets(coded, known, pixels, base, rate, codec, reorders)
    return replace(packets, is_rate_assumed=is_rate_assumed, num_empty=num_empty)


def _num_empty(decode_ticks: list[int | None]) -> int:
    """Places of an AVI between its frames that hold none. A steady rate below the file's clock leaves no such place."""
    known = [tick for tick in decode_ticks if tick is not None]
    steps = np.diff(known)
    return int((np.round(steps / max(1.0, float(np.median(steps)))) - 1).clip(0).sum()) if len(steps) else 0


def _shown_packets(
    coded: list[_Packet],
    steps: NDArray[np.float64] | None,
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
    hidden_key = None
    if hidden_keys and not coded[shown[0]].is_intra:
        last = hidden_keys[-1]
        step = np.nan if steps is None else float(steps[last])
        hidden_key = HiddenKey(coded[last].size, step, 1.0 if pixels is None else float(pixels[last, 0]))
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
        steps_N=None if steps is None else steps[order],
        pixels_N2=None if pixels is None else pixels[order],
        num_hidden=len(coded) - len(shown),
        hidden_key=hidden_key,
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


def probe(path: Path) -> VideoInfo:
    """Look at a file: container facts, the packets' times, and the first frame.

    Raises:
        ValueError: the file is missing, is no video, or holds no frame.
    """
    packets = read_packets(path)
    times = packets.times_N
    with open_video(path) as container:
        stream = video_stream(container)
        frame = next(decode_all(container, path), None)
        if frame is None:
            raise ValueError(f"{path}: no frame can be decoded")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        duration_seconds = end_seconds(times, fps)
        turned = frame.rotation % 180 != 0
        transfer, track = int(frame.color_trc), track_of(container, stream, path)
        fields = field_problem(packets.codec, frame.interlaced_frame, frame.width, frame.height)
        return VideoInfo(
            path=str(path),
            codec=stream.codec_context.codec.canonical_name,
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            fps=round(len(times) / duration_seconds, 3) if duration_seconds else fps,
            num_frames=len(times),
            duration_seconds=round(duration_seconds, 6),
            bitrate_kbps=round(packets.bitrate_kbps(duration_seconds), 3),
            pixel_format=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            color_space=COLOR_SPACES.get(int(frame.colorspace), "unspecified"),
            color_primaries=COLOR_PRIMARIES.get(int(frame.color_primaries), "unspecified"),
            color_transfer=HDR_TRANSFERS.get(transfer) or COLOR_TRANSFERS.get(transfer, "unspecified"),
            color_range=COLOR_RANGES.get(int(frame.color_range), "unspecified"),
            sample_aspect_ratio=float(stream.sample_aspect_ratio or 1),
            rotation_degrees=frame.rotation % 360,
            interlaced=bool(frame.interlaced_frame),
            variable_frame_rate=is_variable(times),
            hdr=hdr_name(transfer, track.dolby_vision_profile if track else None),
            notes=(*container_notes(container, path), *packets.notes(), *([fields] if fields else [])),
        )


def is_variable(times_N: NDArray[np.float64]) -> bool:
    """Whether frames come at varying steps."""
    steps = np.diff(times_N)
    # A container's clock rounds times (Matroska to 1 ms): only a jitter beyond that is a varying rate.
    return bool(len(steps) and float(np.ptp(steps)) > max(0.0021, 0.02 * float(np.median(steps))))


def _oriented(plane: NDArray[Any], rotation_degrees: int) -> NDArray[Any]:
    # PyAV gives the counter-clockwise turn that sets the picture upright.
    return np.rot90(plane, (rotation_degrees % 360) // 90) if rotation_degrees % 360 else plane


def luma(frame: VideoFrame) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The luma plane as decoded, (H, W), at its own bit depth; converted only where there is none."""
    deep = max(component.bits for component in frame.format.components) > 8
    planar = frame.format.name.startswith(("yuv", "gray", "nv"))
    if not planar:
        frame = frame.reformat(format="gray")
        deep = False
    plane = frame.planes[0]
    samples: NDArray[Any] = np.frombuffer(memoryview(plane), np.dtype("<u2" if deep else "u1"))
    pixels = samples.reshape(plane.height, -1)[:, : plane.width]
    return _oriented(pixels, frame.rotation)


def rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """RGB, (H, W, 3) uint8, full range, by the file's own matrix and range; sRGB-like transfer is left as it is."""
    return converted(frame, "rgb24")


def tone_mapped(frame: VideoFrame) -> NDArray[np.uint8]:
    """RGB, (H, W, 3) uint8, of an HDR frame as an SDR screen would show it; that of any other frame as it is."""
    if int(frame.color_trc) not in HDR_TRANSFERS:
        return rgb(frame)
    from rungwise.scoring.hdr import tone_map

    return tone_map(converted(frame, "rgb48le"), int(frame.color_trc))


def converted(frame: VideoFrame, pixel_format: str, reformatter: VideoReformatter | None = None) -> NDArray[Any]:
    """A frame as interleaved RGB of `pixel_format`, upright; a reformatter that is used again saves its setting up."""
    matrix = MATRICES.get(int(frame.colorspace), Colorspace.ITU709)
    source_range = ColorRange.JPEG if int(frame.color_range) == 2 else ColorRange.MPEG
    picture = (reformatter or VideoReformatter()).reformat(
        frame,
        format=pixel_format,
        src_colorspace=matrix,
        src_color_range=source_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=RGB_FLAGS,
        threads=1,  # more change no pixel, and clips are already worked on side by side
    )
    return _oriented(picture.to_ndarray(), frame.rotation)


def filter_graph(frame: VideoFrame, name: str, arguments: str) -> Graph:
    """One of ffmpeg's filters for frames like this one, on one thread: push frames in, pull them out."""
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink"))
    graph.configure()
    return graph


def sample_aspect(stream: Any, rotation_degrees: int = 0) -> float:
    """Width of a sample by its height as shown; 1 where it is within 2 % of square, which only rounding makes, and
    where the file states an absurd one (rungwise/limits.py)."""
    ratio = float(stated_aspect(stream) or 1)
    ratio = 1 / ratio if rotation_degrees % 180 else ratio
    return ratio if abs(ratio - 1) > 0.02 else 1.0


def first_frame(path: Path) -> tuple[NDArray[Any], float]:
    """Luma of the first frame, (H, W), at its own bit depth; and its sample aspect ratio as shown.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    with open_video(path) as container:
        for frame in decode_all(container, path):
            return np.array(luma(frame)), sample_aspect(video_stream(container), frame.rotation)
    raise ValueError(f"{path}: no frame can be decoded")


def first_luma(path: Path) -> NDArray[Any]:
    """Luma of the first frame, (H, W), at its own bit depth.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    return first_frame(path)[0]


def luma_planes(path: Path) -> Iterator[NDArray[Any]]:
    """Luma of every frame in order, (H, W), at its own bit depth; one frame in memory at a time."""
    with open_video(path) as container:
        seen = False
        for frame in decode_all(container, path):
            seen = True
            yield luma(frame)
        if not seen:
            raise ValueError(f"{path}: no frame can be decoded")


def rgb_frames(path: Path, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode in order and yield (index, (H, W, 3) uint8 RGB) for the wanted frame numbers, ascending.

    Raises:
        ValueError: the file ends before a wanted frame; both counts are named.
    """
    wanted = sorted(set(indices))
    with open_video(path) as container:
        position = 0
        for index, frame in enumerate(decode_all(container, path)):
            if index == 0:
                refuse_unshowable(container, frame, path)
            if index == wanted[position]:
                yield index, rgb(frame)
                position += 1
                if position == len(wanted):
                    return
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {wanted[position]} was wanted")
