"""A variant of an HLS or DASH playlist that is still being written, as bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rungwise.media.live import LiveReader, Report, Stop
from rungwise.media.playlist_files import MAX_SEGMENT_BYTES, PlaylistFiles

START_SEGMENTS = 3  # a live title is read from here before its end on (RFC 8216, 6.3.3)
RELOAD_SECONDS = (0.2, 5.0)  # at least and at most between two loads of a playlist

ByteRange = tuple[str, int, int | None]  # address, start, length


@dataclass(frozen=True)
class Segment:
    """A segment of a variant.

    Attributes:
        run, number: order among the segments; the bytes of one `run` make a stream that can be decoded.
        next_number: number of the segment that follows in the same run.
        seconds: its stated duration.
        media: its bytes.
        init: bytes that come before those of the run's first segment.
        is_missing: the packager states that there is none.
    """

    run: float
    number: int
    next_number: int
    seconds: float
    media: ByteRange
    init: ByteRange | None = None
    is_missing: bool = False

    @property
    def order(self) -> tuple[float, int]:
        """Sorts the segments."""
        return self.run, self.number

    def follows(self, other: Segment) -> bool:
        """Whether the bytes of `other` and this one make one stream: none is between them."""
        tolerance = (self.next_number - self.number) // 2  # DASH: times are rounded
        is_next = self.number - other.next_number <= tolerance
        return self.run == other.run and self.init == other.init and is_next


@dataclass(frozen=True)
class MediaPlaylist:
    """A variant's segments as listed now; `is_over`: no more will come."""

    segments: tuple[Segment, ...]
    is_over: bool
    reload_seconds: float


Load = Callable[[], MediaPlaylist]


@dataclass(frozen=True)
class LiveVariant:
    """A variant as its playlist lists it; `load` reads its segments again."""

    name: str
    declared_kbps: float | None
    load: Load


GapReport = Callable[[Literal["gap", "skip"], float, str], None]  # kind, seconds left out, why


@dataclass(frozen=True)
class Limits:
    """How long a source may be silent, and how far behind it may be read, in seconds."""

    timeout: float
    max_lag: float


class LivePlaylist:
    """One variant of a live playlist.

    Args:
        load: reads the playlist again. ValueError and OSError count as a connection that is lost.
        files: reads segments.
        limits: on time.
        stop: ends it.
        report: takes lost and regained connections.
        report_gap: takes what is left out.
    """

    def __init__(
        self, load: Load, files: PlaylistFiles, limits: Limits, stop: Stop, report: Report, report_gap: GapReport
    ) -> None:
        self.load, self.files, self.limits, self.stop = load, files, limits, stop
        self.report, self.report_gap = report, report_gap
        self.last: Segment | None = None  # read, or given up
        self.edge_time = time.monotonic()
        self.is_lost = False

    def runs(self) -> Iterator[LiveReader]:
        """A run for each stretch of segments that follow one another.

        Raises:
            ValueError: no new segment within the timeout.
        """
        parts = self._parts()
        part = next(parts, None)
        while part is not None:
            init = part[0].init
            try:
                head = b"" if init is None else self._read(init)
            except (ValueError, OSError) as error:
                self.report_gap("gap", part[0].seconds, f"an initialization segment can't be read ({error})")
                part = next(parts, None)
                continue
            reader = _RunReader(self, head, part, parts)
            yield reader
            # A run whose bytes don't decode is left; the next segment begins another.
            part = reader.after if reader.is_at_end else next(parts, None)

    def _parts(self) -> Iterator[tuple[Segment, bytes]]:
        """The segments that can be read, in order, with their bytes."""
        for segment in self._segments():
            if segment.is_missing:
                self.report_gap("gap", segment.seconds, "the playlist states a gap")
                continue
            try:
                data = self._read(segment.media)
            except (ValueError, OSError) as error:
                self.report_gap("gap", segment.seconds, f"a segment can't be read ({error})")
                continue
            yield segment, data

    def _read(self, part: ByteRange) -> bytes:
        address, start, length = part
        return self.files.read(address, MAX_SEGMENT_BYTES, start, length)

    def _segments(self) -> Iterator[Segment]:
        deadline = time.monotonic() + self.limits.timeout
        while not self.stop.is_set:
            playlist = self._loaded(deadline)
            new = self._new(playlist)
            for segment in new:
                self.last = segment
                yield segment
                if self.stop.is_set:
                    return
            if playlist is not None and playlist.is_over:
                return
            now = time.monotonic()
            if new:
                deadline = now + self.limits.timeout
            elif now >= deadline:
                raise ValueError(f"no new segment for {self.limits.timeout:g} s")
            low, high = RELOAD_SECONDS
            self.stop.wait(min(high, max(low, playlist.reload_seconds if playlist else low)))
            self.edge_time = time.monotonic()

    def _loaded(self, deadline: float) -> MediaPlaylist | None:
        """The playlist; None if it can't be read now."""
        try:
            playlist = self.load()
        except (ValueError, OSError) as error:
            if time.monotonic() >= deadline:
                raise ValueError(f"can't be read for {self.limits.timeout:g} s ({error})") from error
            if not self.is_lost:
                self.report(f"can't be read, tried again: {error}")
            self.is_lost = True
            return None
        if self.is_lost:
            self.report("can be read again")
        self.is_lost = False
        return playlist

    def _new(self, playlist: MediaPlaylist | None) -> tuple[Segment, ...]:
        """Segments not read yet; from near the live edge if there are too many."""
        segments = () if playlist is None else playlist.segments
        if playlist is None or not segments:
            return ()
        if self.last is not None and segments[-1].order < self.last.order:
            self.report("the playlist starts again from the beginning")
            self.last = None
        if self.last is None:
            return segments if playlist.is_over else segments[-START_SEGMENTS:]
        last = self.last
        new = tuple(segment for segment in segments if segment.order > last.order)
        if new and new[0].run == last.run and not new[0].follows(last) and new[0].init == last.init:
            num_missing = (new[0].number - last.next_number) / max(1, new[0].next_number - new[0].number)
            self.report_gap("gap", num_missing * new[0].seconds, "segments left the playlist before they were read")
        seconds = sum(segment.seconds for segment in new)
        if seconds > self.limits.max_lag and len(new) > START_SEGMENTS:
            left_out = new[:-START_SEGMENTS]
            self.report_gap("skip", sum(segment.seconds for segment in left_out), "to keep up")
            new = new[-START_SEGMENTS:]
        return new


class _RunReader(LiveReader):
    """The bytes of segments that follow one another."""

    def __init__(
        self, playlist: LivePlaylist, head: bytes, first: tuple[Segment, bytes], parts: Iterator[tuple[Segment, bytes]]
    ) -> None:
        super().__init__()
        self.playlist, self.parts = playlist, parts
        self.segment, data = first
        self.queue = [part for part in (head, data) if part]
        self.after: tuple[Segment, bytes] | None = None  # the first of the next run
        self.is_at_end = False

    def _next(self, size: int) -> bytes:
        if not self.queue and not self.is_at_end:
            part = next(self.parts, None)
            if part is None or not part[0].follows(self.segment):
                self.after, self.is_at_end = part, True
            else:
                self.segment = part[0]
                self.queue.append(part[1])
        self.edge_time = self.playlist.edge_time
        return self.queue.pop(0) if self.queue else b""
