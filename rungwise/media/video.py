"""Probe a video file and decode its frames to RGB.

One decoder (PyAV) is used for probing, training and scoring, so that a frame has the same pixels everywhere. Frames
are numbered in presentation order; rotation tags are applied. Shapes: H, W are the frame size after rotation. Only the
named file is read: playlists, which point to other files, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rungwise.media.clock import end_seconds
from rungwise.media.color import (
    COLOR_PRIMARIES,
    COLOR_RANGES,
    COLOR_SPACES,
    COLOR_TRANSFERS,
    HDR_TRANSFERS,
    MATRICES,
    hdr_name,
)
from rungwise.media.container import (
    container_notes,
    decode_all,
    field_problem,
    open_video,
    refuse_unshowable,
    track_of,
    video_stream,
)
from rungwise.media.limits import stated_aspect
from rungwise.media.packets import read_packets

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

# Without accurate rounding and full chroma interpolation, swscale's RGB is about one code value too dark.
RGB_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT


class VideoInfo(BaseModel):
    """Result of `rungwise probe`. Width and height are after rotation, before the sample aspect ratio is applied."""

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


def probe(path: Path) -> VideoInfo:
    """Describe a file from its container, its packets and its first frame.

    Raises:
        ValueError: the file is missing, is not a video, or has no frame that decodes.
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
    """Whether the frame rate is variable."""
    steps = np.diff(times_N)
    return bool(len(steps)) and is_variable_step(float(np.ptp(steps)), float(np.median(steps)))


def is_variable_step(range_seconds: float, median_seconds: float) -> bool:
    """Whether steps between frames with this range and median make a variable frame rate."""
    # Containers round times (Matroska to 1 ms): only larger jitter is a variable rate.
    return range_seconds > max(0.0021, 0.02 * median_seconds)


def _oriented(plane: NDArray[Any], rotation_degrees: int) -> NDArray[Any]:
    # PyAV reports the counter-clockwise rotation that makes the frame upright.
    return np.rot90(plane, (rotation_degrees % 360) // 90) if rotation_degrees % 360 else plane


def luma(frame: VideoFrame) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The luma plane as decoded, (H, W), at its own bit depth; formats without one are converted to 8-bit gray."""
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
    """RGB, (H, W, 3) uint8, full range, by the frame's matrix and range; the transfer function is not changed."""
    return converted(frame, "rgb24")


def tone_mapped(frame: VideoFrame) -> NDArray[np.uint8]:
    """RGB, (H, W, 3) uint8: HDR frames tone-mapped to SDR, other frames as `rgb`."""
    if int(frame.color_trc) not in HDR_TRANSFERS:
        return rgb(frame)
    from rungwise.media.hdr import tone_map

    return tone_map(converted(frame, "rgb48le"), int(frame.color_trc))


def converted(frame: VideoFrame, pixel_format: str, reformatter: VideoReformatter | None = None) -> NDArray[Any]:
    """A frame as packed RGB of `pixel_format`, upright; reusing a `reformatter` saves its setup."""
    matrix = MATRICES.get(int(frame.colorspace), Colorspace.ITU709)
    source_range = ColorRange.JPEG if int(frame.color_range) == 2 else ColorRange.MPEG
    reformatted = (reformatter or VideoReformatter()).reformat(
        frame,
        format=pixel_format,
        src_colorspace=matrix,
        src_color_range=source_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=RGB_FLAGS,
        threads=1,  # videos are already processed in parallel
    )
    return _oriented(reformatted.to_ndarray(), frame.rotation)


def filter_graph(frame: VideoFrame, name: str, arguments: str) -> Graph:
    """A graph of one ffmpeg filter for frames like this one, on one thread."""
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink"))
    graph.configure()
    return graph


def sample_aspect(stream: Any, rotation_degrees: int = 0) -> float:
    """Sample aspect ratio (width over height) after rotation.

    It is 1 within 2 % of square, which is rounding, and for absurd values (rungwise/media/limits.py).
    """
    ratio = float(stated_aspect(stream) or 1)
    ratio = 1 / ratio if rotation_degrees % 180 else ratio
    return ratio if abs(ratio - 1) > 0.02 else 1.0


def first_frame(path: Path) -> tuple[NDArray[Any], float]:
    """Luma of the first frame, (H, W), at its own bit depth, and its sample aspect ratio after rotation.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    with open_video(path) as container:
        for frame in decode_all(container, path):
            return np.array(luma(frame)), sample_aspect(video_stream(container), frame.rotation)
    raise ValueError(f"{path}: no frame can be decoded")


def luma_planes(path: Path) -> Iterator[NDArray[Any]]:
    """Luma of every frame in order, (H, W), at its own bit depth, one at a time.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    with open_video(path) as container:
        frame = None
        for frame in decode_all(container, path):
            yield luma(frame)
        if frame is None:
            raise ValueError(f"{path}: no frame can be decoded")


def rgb_frames(path: Path, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode all frames in order and yield (index, (H, W, 3) uint8 RGB) of those requested, ascending.

    Raises:
        ValueError: the file ends before a requested frame; both numbers are given.
    """
    requested = sorted(set(indices))
    with open_video(path) as container:
        position = 0
        for index, frame in enumerate(decode_all(container, path)):
            if index == 0:
                refuse_unshowable(container, frame, path)
            if index == requested[position]:
                yield index, rgb(frame)
                position += 1
                if position == len(requested):
                    return
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {requested[position]} was requested")
