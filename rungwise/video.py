"""What is in a video file, and its frames as RGB.

One decoder (PyAV) serves probing, training and scoring, so a frame has the same pixels everywhere. Frames are
numbered in presentation order; rotation tags are applied. Shapes: H, W are the frame as shown after rotation.
Only the named file is ever read: a playlist, which points elsewhere, is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rungwise.boxes import video_tracks
from rungwise.quantiser import StepReader

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

HDR_TRANSFERS = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}  # ITU-T H.273 transfer_characteristics
COLOR_SPACES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
}
COLOR_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    12: "p3",
}
COLOR_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    8: "linear",
    13: "srgb",
    14: "bt2020-10",
}
COLOR_RANGES = {1: "limited", 2: "full"}
# swscale's matrices by H.273 matrix_coefficients. Files that say nothing are taken as BT.709: most encoders of
# today mean it, and a y4m pipe, which cannot say, then gives the same pixels as the file.
MATRICES: dict[int, int] = {5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M, 9: 9, 10: 9}

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


def open_video(path: Path, threads: int | None = None) -> av.container.InputContainer:
    """Open a file for decoding with so many threads, as many as pay if None; their number changes no pixel.

    Raises:
        ValueError: no such file, no video, or a playlist.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    _refuse_list(path)
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be opened ({error.strerror})") from error
    if not container.streams.video or container.streams.video[0].disposition & Disposition.attached_pic:
        container.close()
        raise ValueError(f"{path}: holds no video stream")  # or a cover picture
    if container.streams.video[0].codec_context is None:
        number = container.streams.video[0].id
        container.close()
        coding = track.coding if (track := video_tracks(path).get(number)) else "unknown coding"
        raise ValueError(f"{path}: no decoder for its video ({coding})")
    set_threads(container.streams.video[0], threads)
    return container


def set_threads(stream: Any, threads: int | None) -> None:
    """Let a stream's decoder use so many threads, as many as pay if None."""
    stream.thread_type = "AUTO" if threads is None or threads > 1 else "NONE"
    if threads is not None:
        stream.codec_context.thread_count = threads


def _refuse_list(path: Path) -> None:
    # The decoder would follow what such a file points to, wherever that lies.
    with path.open("rb") as stream:
        head = stream.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<!")):
        raise ValueError(f"{path}: not a video but a list of others (playlist, manifest or script)")


def decode_all(container: av.container.InputContainer, path: Path) -> Iterator[VideoFrame]:
    """Every frame of the first video stream, in presentation order."""
    try:
        yield from as_meant(container, container.decode(video=0))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken while decoding ({error.strerror})") from error


def as_meant(container: av.container.InputContainer, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames with their chroma where the video's own was: left, which y4m of 10 bits and more can't say."""
    if container.format.name != "yuv4mpegpipe":
        yield from frames
        return
    graph = None
    for frame in frames:
        if not frame.format.name.startswith(("yuv420p9", "yuv420p1")):
            yield frame
            continue
        if graph is None:
            from av.filter import Graph

            graph = Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            graph.link_nodes(source, graph.add("setparams", "chroma_location=left"), graph.add("buffersink"))
            graph.configure()
        graph.vpush(frame)
        yield graph.vpull()


def demux(container: av.container.InputContainer, stream: Any, path: Path) -> Iterator[Any]:
    """The packets of one stream.

    Raises:
        ValueError: the container is broken; libav asks for impossible amounts of memory, or finds streams that it did
            not announce, where a damaged file's sizes and numbers say so.
    """
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken while reading ({error.strerror})") from error
    except IndexError as error:
        raise ValueError(f"{path}: broken while reading (another stream begins)") from error


@dataclass(frozen=True)
class Packets:
    """What the packets of a video stream say, one entry a frame in presentation order.

    `ticks_N` are int64 presentation times in units of `time_base`, None where the file carries none. Decoding can be
    started exactly at `is_key_N`; `is_intra_N` are all that the file calls key frames. `sizes_N` are coded bytes.
    `rate` is the rate that the file states, `codec` the short name. `steps_N`, where asked for, are log2 of each
    frame's quantiser step (rungwise/quantiser.py), NaN if unknown.
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

    @property
    def times_N(self) -> NDArray[np.float64]:
        """Seconds from the first frame, ascending."""
        if self.ticks_N is None:  # raw streams carry no times: equal steps at the stated rate
            return np.arange(len(self.is_key_N)) / float(self.rate)
        return np.asarray((self.ticks_N - self.ticks_N[0]) * float(self.time_base))


def read_packets(path: Path, *, steps: bool = False) -> Packets:
    """Read a file once without decoding; with `steps` the quantiser's too, for which some codecs' frames are decoded.

    Raises:
        ValueError: not a video, or no frame in it.
    """
    with open_video(path) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        seeks = container.format.name not in UNINDEXED
        ticks: list[int | None] = []
        keys: list[bool] = []
        intra: list[bool] = []
        sizes: list[int] = []
        quantiser = StepReader(stream) if steps else None
        num_bytes = 0
        for packet in demux(container, stream, path):
            num_bytes += packet.size
            if not packet.size or packet.is_discard:
                continue
            sizes.append(packet.size)
            ticks.append(packet.pts if packet.pts is not None else packet.dts)
            intra.append(packet.is_keyframe)
            keys.append(seeks and packet.is_keyframe and (codec != "h264" or _holds_idr(packet, stream)))
            if quantiser is not None:
                quantiser.take(packet)
        if not ticks:
            raise ValueError(f"{path}: the video stream holds no frame")
        rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        base = Fraction(stream.time_base or 1)
        known: NDArray[np.int64] | None = None
        order = np.arange(len(ticks))
        if not any(tick is None for tick in ticks):
            order = np.argsort(np.asarray(ticks, dtype=np.int64), kind="stable")
            known = np.asarray(ticks, dtype=np.int64)[order]
        return Packets(
            known,
            np.asarray(keys)[order],
            np.asarray(intra)[order],
            np.asarray(sizes)[order],
            base,
            rate,
            num_bytes,
            codec,
            None if quantiser is None else np.asarray(quantiser.steps())[order],
        )


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
    steps = np.diff(times)
    with open_video(path) as container:
        stream = container.streams.video[0]
        frame = next(decode_all(container, path), None)
        if frame is None:
            raise ValueError(f"{path}: no frame can be decoded")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        last_step = float(np.median(steps)) if len(steps) else (1 / fps if fps else 0.0)
        duration_seconds = float(times[-1]) + last_step
        turned = frame.rotation % 180 != 0
        transfer = int(frame.color_trc)
        return VideoInfo(
            path=str(path),
            codec=stream.codec_context.codec.canonical_name,
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            fps=round(len(times) / duration_seconds, 3) if duration_seconds else fps,
            num_frames=len(times),
            duration_seconds=round(duration_seconds, 6),
            bitrate_kbps=round(packets.num_bytes * 8 / 1000 / duration_seconds, 3) if duration_seconds else 0.0,
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
            hdr=HDR_TRANSFERS.get(transfer, ""),
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
    """Width of a sample by its height as shown; 1 where it is within 2 % of square, which only rounding makes."""
    ratio = float(stream.sample_aspect_ratio or 1)
    ratio = 1 / ratio if rotation_degrees % 180 else ratio
    return ratio if abs(ratio - 1) > 0.02 else 1.0


def first_frame(path: Path) -> tuple[NDArray[Any], float]:
    """Luma of the first frame, (H, W), at its own bit depth; and its sample aspect ratio as shown.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    with open_video(path) as container:
        for frame in decode_all(container, path):
            return np.array(luma(frame)), sample_aspect(container.streams.video[0], frame.rotation)
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
            if index == wanted[position]:
                yield index, rgb(frame)
                position += 1
                if position == len(wanted):
                    return
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {wanted[position]} was wanted")
