"""Live videos as bytes: a pipe, a file that grows. Each run of bytes is one stream that libav can decode.

A reader has waited if it came to the end of what is there and more came later: it is then at the live edge.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from rungwise.media.container import check_head
from rungwise.media.limits import MAX_Y4M_HEADER_BYTES

POLL_SECONDS = 0.1
# A reader of a pipe is at the live edge if it waits for so much of the time, looked at so often. A single wait says
# little: on a busy machine the writer may come late to a pipe that was full before.
PIPE_WAIT_FRACTION, PIPE_WAIT_SECONDS = 0.3, 1.0


class LiveReader(io.RawIOBase):
    """One run of a live video's bytes; subclasses implement `_next`.

    Attributes:
        num_bytes: read so far.
        edge_time: `time.monotonic()` of the last time that it had waited for bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0
        self.edge_time = time.monotonic()
        self.unread = b""

    def _next(self, size: int) -> bytes:
        """Some bytes, about `size` of them; none at the end of the run."""
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer at least in part; 0 at the end of the run."""
        data = self.unread or self._next(len(buffer))
        part, self.unread = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        self.num_bytes += len(part)
        return len(part)


class LiveSource(Protocol):
    """A live video."""

    def runs(self) -> Iterator[LiveReader]:
        """Readers of one run after another.

        Raises:
            ValueError: the source can't be read any more.
        """


class Stop:
    """Ends sources from another thread; they wait by it."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def set(self) -> None:
        """End all sources."""
        self.event.set()

    @property
    def is_set(self) -> bool:
        """Whether sources are to end."""
        return self.event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait; whether sources are to end."""
        return self.event.wait(seconds)


Report = Callable[[str], None]  # takes what is wrong with a source, or that it is well again


class PipeSource:
    """A pipe; it ends when its writer closes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def runs(self) -> Iterator[LiveReader]:
        """The only run."""
        yield _PipeReader(self.stream)


class _PipeReader(LiveReader):
    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self.read_some = stream.read1 if isinstance(stream, io.BufferedReader) else stream.read
        self.since, self.waited_seconds = time.monotonic(), 0.0

    def _next(self, size: int) -> bytes:
        start = time.monotonic()
        data = self.read_some(size)
        now = time.monotonic()
        self.waited_seconds += now - start
        if now - self.since >= PIPE_WAIT_SECONDS:
            if self.waited_seconds >= PIPE_WAIT_FRACTION * (now - self.since):
                self.edge_time = now
            self.since, self.waited_seconds = now, 0.0
        return data


class GrowingFile:
    """A file that a recorder appends to; a new run begins where it is truncated or replaced.

    Args:
        path: the file; it may come later.
        timeout: seconds without new bytes after which it has ended.
        stop: ends it too.
        report: takes what happens to it.
    """

    def __init__(self, path: Path, timeout: float, stop: Stop, report: Report) -> None:
        self.path, self.timeout, self.stop, self.report = path, timeout, stop, report

    def runs(self) -> Iterator[LiveReader]:
        """One run for each file that stands at the path.

        Raises:
            ValueError: there is no file within `timeout`, or not one that is a video.
        """
        deadline = time.monotonic() + self.timeout
        while not self.path.is_file():
            if time.monotonic() >= deadline:
                raise ValueError(f"{self.path}: no such file")
            if self.stop.wait(POLL_SECONDS):
                return
        while True:
            with self.path.open("rb") as stream:
                check_head(stream.peek(MAX_Y4M_HEADER_BYTES), str(self.path))
                reader = _GrowingFileReader(self.path, stream, self.timeout, self.stop)
                yield reader
            if not reader.is_replaced:
                return
            self.report("the file was replaced: read from its start")


class _GrowingFileReader(LiveReader):
    def __init__(self, path: Path, stream: IO[bytes], timeout: float, stop: Stop) -> None:
        super().__init__()
        self.path, self.stream, self.timeout, self.stop = path, stream, timeout, stop
        self.is_replaced = False

    def _next(self, size: int) -> bytes:
        deadline = time.monotonic() + self.timeout
        while not (data := self.stream.read(size)):
            self.is_replaced = self._is_replaced()
            if self.is_replaced or time.monotonic() >= deadline or self.stop.wait(POLL_SECONDS):
                return b""
            self.edge_time = time.monotonic()
        return b"" if self.stop.is_set else data

    def _is_replaced(self) -> bool:
        try:
            state = self.path.stat()
        except OSError:  # removed: what was read is all there is
            return False
        own = os.fstat(self.stream.fileno())
        return (state.st_ino, state.st_dev) != (own.st_ino, own.st_dev) or own.st_size < self.stream.tell()
