"""Open a video that comes through a pipe: any container that can be read in order, or y4m."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import av

from rungwise.media.container import check_head, set_threads, track_of, video_stream
from rungwise.media.limits import DECODER_OPTIONS, MAX_Y4M_HEADER_BYTES, TAG_OPTIONS, check_size
from rungwise.media.transport import transport_encryption

MAX_HEAD_BYTES = 4 * 2**20  # of a stream, kept to read what its container states
STREAMABLE_MP4 = (
    "pipe the MP4 as MPEG-TS (ffmpeg -i FILE -c copy -f mpegts -) or fragmented (-movflags frag_keyframe+empty_moov), "
    "or score the file itself"
)

Container = av.container.InputContainer


class _PipeBytes:
    """A pipe for libav, which reads it in order. Its first bytes are kept in `head` until that is emptied."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        first = stream.readline(MAX_Y4M_HEADER_BYTES)
        check_head(first, name)
        self.is_y4m = first.startswith(b"YUV4MPEG2")
        # `read` of a buffered pipe waits until all bytes are there.
        self.read_some = stream.read1 if isinstance(stream, io.BufferedReader) and not self.is_y4m else stream.read
        self.unread, self.head = first, bytearray(first)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        if self.unread:
            data, self.unread = self.unread[:size], self.unread[size:]
            return data
        data = self.read_some(size)
        if self.head and len(self.head) < MAX_HEAD_BYTES and not self.is_y4m:
            self.head += data
        return data


@contextmanager
def open_pipe(stream: IO[bytes], name: str, threads: int | None = None) -> Iterator[tuple[Container, Path]]:
    """Open a pipe for decoding; the container, and a file of the first bytes, which describe the tracks.

    Raises:
        ValueError: empty, encrypted, a playlist, not a video, or in a container that can't be read in order.
    """
    source = _PipeBytes(stream, name)
    if not source.head:
        raise ValueError(f"{name}: it is empty; pipe a video, such as ffmpeg -i FILE -c copy -f mpegts -")
    options = {"protocol_whitelist": "none"} | DECODER_OPTIONS
    file: Any = source
    try:
        container = av.open(file, format="yuv4mpegpipe" if source.is_y4m else None, options=options, **TAG_OPTIONS)
    except (av.error.FFmpegError, EOFError) as error:
        mp4 = f"; {STREAMABLE_MP4}" if b"ftyp" in source.head[:12] else ""
        raise ValueError(f"{name}: not a video that can be read from a pipe ({_reason(error)}{mp4})") from error
    with container, tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / "head"
        head.write_bytes(source.head)
        source.head.clear()
        _check(container, head, name)
        selected = video_stream(container)
        selected.codec_context.options = DECODER_OPTIONS
        if not source.is_y4m:
            set_threads(selected, threads)
        yield container, head


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _check(container: Container, head: Path, name: str) -> None:
    stream = video_stream(container)
    if stream is None:
        raise ValueError(f"{name}: has no video stream that can be decoded")
    track = track_of(container, stream, head)
    encryption = transport_encryption(head) if container.format.name == "mpegts" else track and track.encryption
    if encryption:
        raise ValueError(f"{name}: encrypted ({encryption}); score the video before packaging")
    check_size(stream.codec_context.width, stream.codec_context.height, name)
