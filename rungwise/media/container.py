"""Open a video file, choose the stream that a player shows, and decode it in the colors that the file means."""

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
RAW = ("h264", "hevc", "vvc", "obu", "m4v", "mpegvideo", "mjpeg", "vc1", "h263")  # streams that carry no times
ANIMATED_WEBP = 2  # flag of a VP8X chunk (WebP container specification, Extended File Format)
PICTURES = ("mjpeg", "png", "bmp", "webp", "tiff")  # beside another codec a cover or a preview
ASSUMED_RATE = Fraction(25)  # libav's, of such


def open_video(path: Path, threads: int | None = None) -> av.container.InputContainer:
    """Open a file for decoding with so many threads, as many as pay if None; their number changes no pixel.

    Raises:
        ValueError: no such file, no video, or a playlist.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    _refuse_list(path)
    check_tables(path)
    options = {"protocol_whitelist": "file"} | DECODER_OPTIONS
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: not a video that can be opened ({error.strerror})") from error
    stream = video_stream(container)
    if container.format.name == "mpegts" and (scheme := transport_encryption(path)):
        container.close()
        raise ValueError(f"{path}: encrypted ({scheme}); score it before it is packaged")
    if stream is None:
        others = {track.coding for track in video_tracks(path)} if container.streams.video else set()
        covers = all(stream.disposition & STILLS for stream in container.streams.video)
        container.close()
        if covers:
            raise ValueError(f"{path}: holds no video stream")
        raise ValueError(f"{path}: no decoder for its video ({', '.join(sorted(others)) or 'unknown coding'})")
    track = track_of(container, stream, path)
    if track is not None and track.encryption:
        container.close()
        raise ValueError(f"{path}: encrypted ({track.encryption}); score it before it is packaged")
    try:
        check_stated_size(path, stream)
    except ValueError:
        container.close()
        raise
    stream.codec_context.options = DECODER_OPTIONS
    set_threads(stream, threads)
    return container


def video_stream(container: av.container.InputContainer) -> Any:
    """The stream that a player shows: of those that move the default one, or the largest; no cover picture, and none
    that has no decoder.

    None if there is none.
    """
    streams = [stream for stream in container.streams.video
               if stream.codec_context is not None and not stream.disposition & STILLS]  # fmt: skip

    def rank(stream: Any) -> tuple[bool, bool, int]:
        context = stream.codec_context
        return _moves(stream), bool(stream.disposition & Disposition.default), context.width * context.height

    return max(streams, key=rank, default=None)


def _moves(stream: Any) -> bool:
    context = stream.codec_context
    return stream.frames != 1 and (context is None or context.codec.canonical_name not in PICTURES)


def stream_rate(container: av.container.InputContainer, stream: Any) -> tuple[Fraction, bool]:
    """Frames a second, and whether that is `ASSUMED_RATE`, since a raw stream states none."""
    raw = container.format.name in RAW or container.format.name.endswith("_pipe")
    # Of raw streams libav gives its own assumption as their rate, or that of fields.
    stated = stream.codec_context.framerate if raw else stream.guessed_rate or stream.average_rate
    return Fraction(stated or ASSUMED_RATE), raw and not stated


def track_of(container: av.container.InputContainer, stream: Any, path: Path) -> VideoTrack | None:
    """What the file says of a stream's track, where it says anything (rungwise/media/tracks.py)."""
    if not container.format.name.startswith(("mov", "matroska")):
        return None
    tracks = video_tracks(path)
    if container.format.name.startswith("mov"):
        return next((track for track in tracks if track.number == stream.id), None)
    number = [other.index for other in container.streams.video].index(stream.index)
    return tracks[number] if number < len(tracks) else None


def container_notes(container: av.container.InputContainer, path: Path) -> list[str]:
    """What a reader of a score should know of the file and of what is looked at in it."""
    stream, notes = video_stream(container), []
    others = [other for other in container.streams.video if other.index != stream.index
              and not other.disposition & STILLS]  # fmt: skip
    videos = [other for other in others if _moves(other) or not _moves(stream)]
    if videos:
        notes.append(f"{len(videos) + 1} video streams: stream {stream.index} is looked at, as players do")
    elif others:
        notes.append(f"a still picture beside the video is left out (stream {others[0].index})")
    if stream.metadata.get("alpha_mode") == "1":
        notes.append("alpha is left out: the colors are scored as stored")
    track = track_of(container, stream, path)
    if track is not None and track.crop:
        notes.append(f"the container asks to crop ({track.crop}): not followed, all of the picture is looked at")
    return notes


def refuse_unshowable(container: av.container.InputContainer, frame: VideoFrame, path: Path | str) -> None:
    """Refuse what we would show in wrong colors.

    Raises:
        ValueError: Dolby Vision without a base layer that others show, or a matrix without a conversion.
    """
    track = track_of(container, video_stream(container), path) if isinstance(path, Path) else None
    if track is not None and track.dolby_vision_profile in NO_BASE_LAYER:
        raise ValueError(f"{path}: Dolby Vision {NO_BASE_LAYER[track.dolby_vision_profile]}; score an SDR version")
    check_matrix(frame, str(path))


def field_problem(codec: str, interlaced: bool, width: int, height: int) -> str | None:
    """What is wrong with pictures that are single fields: half of the lines at twice the rate; None of frames.

    libav flags an HEVC picture as interlaced only where it is one field (H.265 D.3.3, pic_struct 1 or 2).
    """
    if codec != "hevc" or not interlaced:
        return None
    return (
        f"each picture is one field ({width}x{height}) of an interlaced {width}x{2 * height} video; "
        "weave and deinterlace it first (ffmpeg -vf weave,bwdif)"
    )


def refuse_fields(frame: VideoFrame, codec: str, path: Path) -> None:
    """Refuse pictures that are single fields.

    Raises:
        ValueError: it is one.
    """
    problem = field_problem(codec, frame.interlaced_frame, frame.width, frame.height)
    if problem is not None:
        raise ValueError(f"{path}: {problem}")


def set_threads(stream: Any, threads: int | None) -> None:
    """Let a stream's decoder use so many threads, as many as pay if None."""
    threads = decoder_threads(threads, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO" if threads is None or threads > 1 else "NONE"
    if threads is not None:
        stream.codec_context.thread_count = threads


def _refuse_list(path: Path) -> None:
    # The decoder would follow what such a file points to, wherever that lies.
    with path.open("rb") as stream:
        head = stream.read(MAX_Y4M_HEADER_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
    check_y4m(head, str(path))
    if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and head[20] & ANIMATED_WEBP:
        raise ValueError(f"{path}: an animated WebP, which can't be decoded; convert it to a video first")
    if head.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"<!")):
        raise ValueError(f"{path}: not a video but a list of others (playlist, manifest or script)")


def decode_all(container: av.container.InputContainer, path: Path) -> Iterator[VideoFrame]:
    """Every frame of the video that is looked at, in presentation order, in the colors that the file means."""
    stream = video_stream(container)
    try:
        yield from as_meant(container, with_color(stated_color(stream), container.decode(stream)))
    except av.error.FFmpegError as error:
        raise decoding_error(path, error, stream.codec_context.width) from error


def as_meant(container: av.container.InputContainer, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames with their chroma where the video's own was: left, which y4m of 10 bits and more can't say.

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
        ValueError: the container is broken; libav asks for impossible amounts of memory, or finds streams that it did
            not announce, where a damaged file's sizes and numbers say so.
    """
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: broken while reading ({error.strerror})") from error
    except IndexError as error:
        raise ValueError(f"{path}: broken while reading (another stream begins)") from error
