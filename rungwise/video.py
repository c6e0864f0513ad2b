"""What is in a video file, and its frames as RGB.

One decoder (PyAV) serves probing, training and scoring, so a frame has the same pixels everywhere. Frames are
numbered in presentation order; rotation tags are applied. Shapes: H, W are the frame as shown after rotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
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


def _open(path: Path) -> av.container.InputContainer:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be opened ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: holds no video stream")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _decode(container: av.container.InputContainer, path: Path) -> Iterator[VideoFrame]:
    try:
        yield from container.decode(video=0)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken while decoding ({error.strerror})") from error


def timestamps_seconds(path: Path) -> NDArray[np.float64]:
    """Presentation times of all frames, (N,), ascending, in seconds from the first; reads packets, decodes nothing.

    Raises:
        ValueError: not a video, or no frame in it.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [packet.pts if packet.pts is not None else packet.dts for packet in packets]
        if not times:
            raise ValueError(f"{path}: the video stream holds no frame")
        if any(time is None for time in times):  # raw streams carry no times: equal steps at the stated rate
            return np.arange(len(times)) / float(stream.average_rate or stream.guessed_rate or 25)
        ticks = np.sort(np.asarray(times, dtype=np.int64))
        return np.asarray((ticks - ticks[0]) * float(stream.time_base or 1))


def probe(path: Path) -> VideoInfo:
    """Look at a file: container facts, the packets' times, and the first frame.

    Raises:
        ValueError: the file is missing, is no video, or holds no frame.
    """
    times = timestamps_seconds(path)
    steps = np.diff(times)
    with _open(path) as container:
        stream = container.streams.video[0]
        frame = next(_decode(container, path), None)
        if frame is None:
            raise ValueError(f"{path}: no frame can be decoded")
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        last_step = float(np.median(steps)) if len(steps) else (1 / fps if fps else 0.0)
        duration_seconds = float(times[-1]) + last_step
        video_bytes = _video_bytes(path)
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
            bitrate_kbps=round(video_bytes * 8 / 1000 / duration_seconds, 3) if duration_seconds else 0.0,
            pixel_format=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            color_space=COLOR_SPACES.get(int(frame.colorspace), "unspecified"),
            color_primaries=COLOR_PRIMARIES.get(int(frame.color_primaries), "unspecified"),
            color_transfer=HDR_TRANSFERS.get(transfer) or COLOR_TRANSFERS.get(transfer, "unspecified"),
            color_range=COLOR_RANGES.get(int(frame.color_range), "unspecified"),
            sample_aspect_ratio=float(stream.sample_aspect_ratio or 1) or 1.0,
            rotation_degrees=frame.rotation % 360,
            interlaced=bool(frame.interlaced_frame),
            # A container's clock rounds times (Matroska to 1 ms): only a jitter beyond that is a varying rate.
            variable_frame_rate=bool(len(steps) and float(np.ptp(steps)) > max(0.0021, 0.02 * last_step)),
            hdr=HDR_TRANSFERS.get(transfer, ""),
        )


def _video_bytes(path: Path) -> int:
    """Size of the video stream alone, in bytes."""
    with _open(path) as container:
        return sum(packet.size for packet in container.demux(container.streams.video[0]))


def _oriented(plane: NDArray[Any], rotation_degrees: int) -> NDArray[Any]:
    # PyAV gives the counter-clockwise turn that sets the picture upright.
    return np.rot90(plane, (rotation_degrees % 360) // 90) if rotation_degrees % 360 else plane


def _luma(frame: VideoFrame) -> NDArray[np.uint8] | NDArray[np.uint16]:
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


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    """RGB, (H, W, 3) uint8, full range, by the file's own matrix and range; sRGB-like transfer is left as it is."""
    matrix = MATRICES.get(int(frame.colorspace), Colorspace.ITU709)
    source_range = ColorRange.JPEG if int(frame.color_range) == 2 else ColorRange.MPEG
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=source_range,
        dst_color_range=ColorRange.JPEG,
        interpolation=RGB_FLAGS,
    )
    return _oriented(converted.to_ndarray(), frame.rotation)


def first_luma(path: Path) -> NDArray[Any]:
    """Luma of the first frame, (H, W), at its own bit depth.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    return np.array(next(luma_planes(path)))


def luma_planes(path: Path) -> Iterator[NDArray[Any]]:
    """Luma of every frame in order, (H, W), at its own bit depth; one frame in memory at a time."""
    with _open(path) as container:
        seen = False
        for frame in _decode(container, path):
            seen = True
            yield _luma(frame)
        if not seen:
            raise ValueError(f"{path}: no frame can be decoded")


def rgb_frames(path: Path, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode in order and yield (index, (H, W, 3) uint8 RGB) for the wanted frame numbers, ascending.

    Raises:
        ValueError: the file ends before a wanted frame; both counts are named.
    """
    wanted = sorted(set(indices))
    with _open(path) as container:
        position = 0
        for index, frame in enumerate(_decode(container, path)):
            if index == wanted[position]:
                yield index, _rgb(frame)
                position += 1
                if position == len(wanted):
                    return
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {wanted[position]} was wanted")
