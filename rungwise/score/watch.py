"""Score live sources as they come: one thread a rung, events in one queue. Memory does not grow with time.

A source may come in several runs of bytes (rungwise/media/live.py). Times of windows go on from run to run, as frames
are shown; `media_seconds` are the stream's own timestamps, which the rungs of a title share.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rungwise.failures import failure
from rungwise.media.live import LiveReader, LiveSource, Stop
from rungwise.score.result import Window
from rungwise.score.score_pipe import map_pipe_windows
from rungwise.score.scorer import Scorer
from rungwise.score.tally import WindowScores
from rungwise.score.video_metadata import Hdr, ReadOptions

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_EVENTS = 1000  # in the queue; threads wait where whoever takes them is slow
GAP_SECONDS = 1.0  # a longer step between two frames is reported
CAUGHT_UP_SECONDS = 0.5
JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class RungName:
    """Which rung of which title."""

    title: str
    rung: str

    def __str__(self) -> str:
        return f"{self.title} {self.rung}".strip()


@dataclass(frozen=True)
class ScoredWindow:
    """A window's score.

    Attributes:
        start_seconds, end_seconds: since the first frame of the source.
        media_seconds: timestamp of its first frame.
        lag_seconds: between the end of the window at the source, if that runs in real time, and its score.
        kbps: bitrate of what was read since the window before, all tracks; 0 if unknown.
    """

    rung: RungName
    start_seconds: float
    end_seconds: float
    media_seconds: float
    score: float
    pixel_score: float
    bitstream_used: bool
    flat: bool
    lag_seconds: float
    kbps: float


@dataclass(frozen=True)
class LeftOut:
    """Video that is not scored: a gap in the source, or skipped to keep up."""

    rung: RungName
    kind: Literal["gap", "skip"]
    seconds: float
    reason: str


@dataclass(frozen=True)
class Notice:
    """What happens to a source: a connection lost or regained, a note about its video."""

    rung: RungName
    text: str


@dataclass(frozen=True)
class Ended:
    """A source has ended, with a problem or without."""

    rung: RungName
    num_windows: int
    problem: str = ""


Event = ScoredWindow | LeftOut | Notice | Ended


@dataclass(frozen=True)
class WatchOptions:
    """How sources are scored; `max_lag` in seconds is how far behind a source may be read."""

    display_height: int | None = None
    hdr: Hdr = "refuse"
    pixel_only: bool = False
    window_seconds: float = 4.0
    max_lag: float = 30.0


class _Run:
    """The windows of one run, with the times of its frames; decides what is left out to keep up."""

    def __init__(self, watcher: RungWatcher, reader: LiveReader) -> None:
        self.watcher, self.reader = watcher, reader
        self.frame_times: deque[tuple[float, float]] = deque()  # (seconds shown, timestamp) of frames in open windows
        self.edge_time, self.edge_seconds = reader.edge_time, 0.0  # a moment at the live edge, and the timestamp then
        self.newest: float | None = None  # largest timestamp of a packet
        self.skip_start: float | None = None
        self.num_bytes, self.bytes_seconds = 0, 0.0  # read at the last window, and the newest timestamp then

    def add_packet(self, seconds: float) -> None:
        """Take the time of a packet."""
        is_first = self.newest is None
        if self.newest is None:
            self.newest = self.bytes_seconds = seconds
        self.newest = max(self.newest, seconds)
        if is_first or self.reader.edge_time != self.edge_time:
            self.edge_time, self.edge_seconds = self.reader.edge_time, self.newest

    def lag(self, seconds: float) -> float:
        """How long ago a timestamp was at the live edge, if the source runs in real time."""
        return time.monotonic() - self.edge_time - (seconds - self.edge_seconds)

    def is_late(self, seconds: float) -> bool:
        """Whether to leave out the frames from a key frame on."""
        lag, limit = self.lag(seconds), self.watcher.options.max_lag
        if self.skip_start is None and lag > limit:
            self.skip_start = seconds
        elif self.skip_start is not None and lag <= min(CAUGHT_UP_SECONDS, limit):
            self.watcher.leave_out("skip", seconds - self.skip_start, f"{limit:g} s behind the source: to keep up")
            self.skip_start = None
        return self.skip_start is not None

    def add_frame(self, seconds: float, frame: VideoFrame) -> None:
        """Take the times of a frame that is scored."""
        has_time = frame.pts is not None and frame.time_base is not None
        media = float(frame.pts * frame.time_base) if has_time else seconds  # type: ignore[operator]
        if self.frame_times:
            step = media - self.frame_times[-1][1]
            if step > GAP_SECONDS and not self.watcher.is_skipped(step):
                self.watcher.leave_out("gap", step, "no frames")
        self.frame_times.append((seconds, media))

    def add_window(self, window: Window, is_hybrid: bool) -> None:
        """Report a window."""
        while self.frame_times[0][0] < window.start_seconds and len(self.frame_times) > 1:
            self.frame_times.popleft()
        media = self.frame_times[0][1]
        seconds = window.end_seconds - window.start_seconds
        self.watcher.add_window(
            ScoredWindow(
                rung=self.watcher.rung,
                start_seconds=round(self.watcher.shown_seconds + window.start_seconds, 6),
                end_seconds=round(self.watcher.shown_seconds + window.end_seconds, 6),
                media_seconds=round(media, 6),
                score=window.score,
                pixel_score=window.pixel_score,
                bitstream_used=is_hybrid,
                flat=window.flat,
                lag_seconds=round(max(0.0, self.lag(media + seconds)), 3),
                kbps=round(self._kbps(), 1),
            )
        )

    def _kbps(self) -> float:
        """Bitrate of what was read since the last call."""
        newest = self.bytes_seconds if self.newest is None else self.newest
        num_bytes, seconds = self.reader.num_bytes - self.num_bytes, newest - self.bytes_seconds
        self.num_bytes, self.bytes_seconds = self.reader.num_bytes, newest
        return num_bytes * 8 / 1000 / seconds if seconds > 0 else 0.0


class RungWatcher(threading.Thread):
    """Scores one source and puts events into a queue, `Ended` last."""

    def __init__(self, rung: RungName, scorer: Scorer, options: WatchOptions, events: queue.Queue[Event]) -> None:
        super().__init__(name=str(rung), daemon=True)  # a read of a pipe can't be interrupted
        self.rung, self.scorer, self.options, self.events = rung, scorer, options, events
        self.source: LiveSource | None = None
        self.shown_seconds = 0.0  # of the runs before this one
        self.num_windows = 0
        self.notes: set[str] = set()
        self.skipped_seconds = 0.0  # of the last skip; the step between frames that it makes is not a gap of its own

    def notice(self, text: str) -> None:
        """Report what happens to the source."""
        self.events.put(Notice(self.rung, text))

    def leave_out(self, kind: Literal["gap", "skip"], seconds: float, reason: str) -> None:
        """Report what is not scored."""
        if kind == "skip":
            self.skipped_seconds = seconds
        self.events.put(LeftOut(self.rung, kind, round(seconds, 3), reason))

    def is_skipped(self, step_seconds: float) -> bool:
        """Whether a step between frames is that of the last skip."""
        skipped, self.skipped_seconds = self.skipped_seconds, 0.0
        return skipped > 0 and step_seconds <= skipped + GAP_SECONDS

    def add_window(self, window: ScoredWindow) -> None:
        """Report a window."""
        self.num_windows += 1
        self.events.put(window)

    def run(self) -> None:
        """Score the source to its end."""
        problem = ""
        try:
            assert self.source is not None
            for reader in self.source.runs():
                self._score(reader)
        except Exception as error:
            problem = failure(str(self.rung), error)
        if not problem and not self.num_windows:
            problem = f"{self.rung}: no window could be scored"
        self.events.put(Ended(self.rung, self.num_windows, problem))

    def _score(self, reader: LiveReader) -> None:
        options, contract = self.options, self.scorer.contract
        run = _Run(self, reader)
        read_options = ReadOptions(
            recipe=contract.view,
            window_seconds=(options.window_seconds,),
            display_height=options.display_height,
            hdr=options.hdr,
            threads=self.scorer.threads,
            on_frame=run.add_frame,
            read_bitstream=contract.stream is not None and not options.pixel_only,
        )
        scores = WindowScores(self.scorer, read_options.window_seconds, run.add_window, keep_windows=False)
        try:
            metadata = map_pipe_windows(io.BufferedReader(reader), str(self.rung), read_options, scores.push, run)
        except ValueError as error:
            if self.num_windows == 0:
                raise
            self.notice(f"a part can't be scored: {error}")
            return
        if run.skip_start is not None and run.newest is not None:
            self.leave_out("skip", run.newest - run.skip_start, "to keep up, until the end")
        self.shown_seconds += metadata.duration_seconds
        score = self.scorer.video_score(str(self.rung), metadata, scores, None, pixel_only=options.pixel_only)
        for note in set(score.notes) - self.notes:
            self.notes.add(note)
            self.notice(note)


SourceMaker = Callable[[RungWatcher], LiveSource]


def watch(scorer: Scorer, sources: dict[RungName, SourceMaker], options: WatchOptions, stop: Stop) -> Iterator[Event]:
    """The events of all sources, until each has ended, or a little after `stop`."""
    events: queue.Queue[Event] = queue.Queue(MAX_EVENTS)
    watchers = [RungWatcher(rung, scorer, options, events) for rung in sources]
    for watcher in watchers:
        watcher.source = sources[watcher.rung](watcher)
        watcher.start()
    num_open, deadline = len(watchers), None
    while num_open:
        if stop.is_set and deadline is None:
            deadline = time.monotonic() + JOIN_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            return
        try:
            event = events.get(timeout=0.2)
        except queue.Empty:
            continue
        num_open -= isinstance(event, Ended)
        yield event
