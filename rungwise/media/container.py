"""Open a video file, select the stream that a player shows, and decode it with the file's color description."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.stream import Disposition

from rungwise.media.color import NO_BASE_LAYER, check_matrix, stated_color, with_color
from rungwise.media.limits import (
    DECODER_OPTIONS,
    MAX_Y4M_HEADER_BYTES,
    TAG_OPTIONS,
    check_size,
    check_stated_size,
    check_tables,
    check_y4m,
    decoder_threads,
    decoding_error,
)
from rungwise.media.tracks import VideoTrack, video_tracks
from rungwise.media.transport import transport_encryption

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
RAW = ("h264", "hevc", "vvc", "obu", "m4v", "mpegvideo", "mjpeg", "vc1", "h263")  # raw streams without timestamps
ANIMATED_WEBP = 2  # flag of a VP8X chunk (WebP container specification, Extended File Format)
PICTURES = ("mjpeg", "png", "bmp", "webp", "tiff")  # next to another codec: cover art or a preview
ASSUMED_RATE = Fraction(25)  # libav's assumption for raw streams


def open_video(path: Path, threads: int | None = None) -> av.container.InputContainer:
    """Open a file for decoding.

    Args:
        path: the video.
        threads: decoder threads; None lets the decoder choose. Pixels do not depend on it.

    Raises:
        ValueError: the file is missing, encrypted, too large, a playlist, or not a video.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    _refuse_playlist(path)
    check_tables(path)
    options = {"protocol_whitelist": "file"} | DECODER_OPTIONS
    try:
        container: av.container.InputContainer = av.open(f"file:{path}", options=options, **TAG_OPTIONS)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be opened ({error.strerror})") from error
    stream = video_stream(container)
    if container.format.name == "mpegts" and (scheme := transport_encryption(path)):
        container.close()
        raise ValueError(f"{path}: encrypted ({scheme}); score the video before packaging")
    if stream is None:
        codings = {track.coding for track in video_tracks(path)} if container.streams.video else set()
        covers = all(stream.disposition & STILLS for stream in container.streams.video)
        container.close()
        if covers:
            raise ValueError(f"{path}: has no video stream")
        raise ValueError(f"{path}: no decoder for its video ({', '.join(sorted(codings)) or 'unknown coding'})")
    track = track_of(container, stream, path)
    if track is not None and track.encryption:
        container.close()
        raise ValueError(f"{path}: encrypted ({track.encryption}); score the video before packaging")
    try:
        check_stated_size(path, stream)
    except ValueError:
        container.close()
        raise
    stream.codec_context.options = DECODER_OPTIONS
    set_threads(stream, threads)
    return container


def video_stream(container: av.container.InputContainer) -> Any:
    """The stream that a player shows, or None: moving pictures first, then the default stream, then the largest.

    Cover art and streams without a decoder do not count.
    """
    streams = [stream for stream in container.streams.video
               if stream.codec_context is not None and not stream.disposition & STILLS]  # fmt: skip

    def rank(stream: Any) -> tuple[bool, bool, int]:
        context = stream.codec_context
        return _is_moving(stream), bool(stream.disposition & Disposition.default), context.width * context.height

    return max(streams, key=rank, default=None)


def _is_moving(stream: Any) -> bool:
    context = stream.codec_context
    return stream.frames != 1 and (context is None or context.codec.canonical_name not in PICTURES)


def stream_rate(container: av.container.InputContainer, stream: Any) -> tuple[Fraction, bool]:
    """Frame rate, and whether it is `ASSUMED_RATE` because a raw stream states none."""
    raw = container.format.name in RAW or container.format.name.endswith("_pipe")
    # For raw streams, libav's guessed rate is an assumption or a field rate.
    stated = stream.codec_context.framerate if raw else stream.guessed_rate or stream.average_rate
    return Fraction(stated or ASSUMED_RATE), raw and not stated


def track_of(container: av.container.InputContainer, stream: Any, path: Path) -> VideoTrack | None:
    """The file's description of a stream's track, or None (rungwise/media/tracks.py)."""
    if not container.format.name.startswith(("mov", "matroska")):
        return None
    tracks = video_tracks(path)
    if container.format.name.startswith("mov"):
        return next((track for track in tracks if track.number == stream.id), None)
    number = [other.index for other in container.streams.video].index(stream.index)
    return tracks[number] if number < len(tracks) else None


def container_notes(container: av.container.InputContainer, path: Path) -> list[str]:
    """Remarks about the file and the stream that is scored."""
    stream, notes = video_stream(container), []
    others = [other for other in container.streams.video if other.index != stream.index
              and not other.disposition & STILLS]  # fmt: skip
    videos = [other for other in others if _is_moving(other) or not _is_moving(stream)]
    if videos:
        notes.append(f"{len(videos) + 1} video streams: stream {stream.index} is scored, as players choose")
    elif others:
        notes.append(f"a still picture next to the video is ignored (stream {others[0].index})")
    if stream.metadata.get("alpha_mode") == "1":
        notes.append("alpha is ignored: colors are scored as stored")
    track = track_of(container, stream, path)
    if track is not None and track.crop:
        notes.append(f"cropping in the container ({track.crop}) is ignored: the whole frame is scored")
    return notes


def refuse_unshowable(container: av.container.InputContainer, frame: VideoFrame, path: Path | str) -> None:
    """Refuse a video whose colors can't be decoded correctly.

    Raises:
        ValueError: Dolby Vision without an SDR or HDR10 base layer, or an unsupported color matrix.
    """
    track = track_of(container, video_stream(container), path) if isinstance(path, Path) else None
    if track is not None and track.dolby_vision_profile in NO_BASE_LAYER:
        raise ValueError(f"{path}: Dolby Vision {NO_BASE_LAYER[track.dolby_vision_profile]}; score an SDR version")
    check_matrix(frame, str(path))


def field_problem(codec: str, interlaced: bool, width: int, height: int) -> str | None:
    """The problem with field-coded pictures, which have half the height at twice the rate; None for frames.

    libav flags an HEVC picture as interlaced only if it is a single field (H.265 D.3.3, pic_struct 1 or 2).
    """
    if codec != "hevc" or not interlaced:
        return None
    return (
        f"each picture is one field ({width}x{height}) of an interlaced {width}x{2 * height} video; "
        "weave and deinterlace it first (ffmpeg -vf weave,bwdif)"
    )


def refuse_fields(frame: VideoFrame, codec: str, path: Path) -> None:
    """Refuse a picture that is a single field.

    Raises:
        ValueError: it is one.
    """
    problem = field_problem(codec, frame.interlaced_frame, frame.width, frame.height)
    if problem is not None:
        raise ValueError(f"{path}: {problem}")


def set_threads(stream: Any, threads: int | None) -> None:
    """Set the decoder threads of a stream; None lets the decoder choose."""
    threads = decoder_threads(threads, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO" if threads is None or threads > 1 else "NONE"
    if threads is not None:
        stream.codec_context.thread_count = threads


def _refuse_playlist(path: Path) -> None:
    # The decoder would open the files that it points to, wherever they are.
    with path.open("rb") as stream:
        check_head(stream.read(MAX_Y4M_HEADER_BYTES), str(path))


def check_head(head: bytes, name: str) -> None:
    """Refuse a file by its first bytes, before libav reads it.

    Raises:
        ValueError: a playlist, an animated WebP, or y4m whose frames are too large.
    """
    head = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    check_y4m(head, name)
    if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and head[20] & ANIMATED_WEBP:
        raise ValueError(f"{name}: animated WebP is not supported; convert it to a video first")
    if head.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<!")):
        raise ValueError(f"{name}: not a video but a playlist, manifest or script")


def decode_all(container: av.container.InputContainer, path: Path) -> Iterator[VideoFrame]:
    """Every frame of the selected stream, in presentation order, with the file's color description.

    Raises:
        ValueError: decoding fails, or a frame is larger than `MAX_PIXELS`.
    """
    stream = video_stream(container)
    try:
        yield from with_chroma_siting(container, with_color(stated_color(stream), container.decode(stream)))
    except av.error.FFmpegError as error:
        raise decoding_error(path, error, stream.codec_context.width) from error


def with_chroma_siting(container: av.container.InputContainer, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames with left chroma siting where y4m of more than 8 bits can't state it.

    Raises:
        ValueError: a frame is larger than `MAX_PIXELS`.
    """
    is_y4m, graph = container.format.name == "yuv4mpegpipe", None
    for frame in frames:
        check_size(frame.width, frame.height, container.name.removeprefix("file:"))
        if not is_y4m:
            yield frame
            continue
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
        ValueError: the container is broken. With damaged sizes and numbers, libav also runs out of memory or meets
            streams that were not in the header.
    """
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken while reading ({error.strerror})") from error
    except IndexError as error:
        raise ValueError(f"{path}: broken while reading (an unannounced stream begins)") from error
