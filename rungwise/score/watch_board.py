"""What the events of live sources come to: the worst of the last windows, rungs compared, and a gate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from rungwise.score.watch import Ended, Event, RungName, ScoredWindow

MAX_MOMENTS = 32  # of a title, that wait for the windows of slower rungs
ORDER_TOLERANCE = 2.0  # points; differences within it may be noise


@dataclass(frozen=True)
class Recent:
    """A window, and the last windows of its rung with it."""

    window: ScoredWindow
    worst: ScoredWindow
    mean: float
    num_windows: int


@dataclass(frozen=True)
class Comparison:
    """Windows of a title's rungs at one time, by rising bitrate.

    Attributes:
        media_seconds: timestamp of the first window.
        kbps: bitrates of the rungs, as the playlist declares them or else as measured so far.
        unordered: (lower, higher bitrate) where the higher scores worse by more than `ORDER_TOLERANCE`.
    """

    title: str
    media_seconds: float
    windows: tuple[ScoredWindow, ...]
    kbps: tuple[float, ...]
    unordered: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GateChange:
    """A rung fails the gate, by one window, or passes it again, by all of the last windows."""

    rung: RungName
    passes: bool
    gate: float
    window: ScoredWindow


@dataclass
class _Rung:
    recent: deque[ScoredWindow]
    declared_kbps: float | None
    passes: bool = True
    bits: float = 0.0
    seconds: float = 0.0

    def add(self, window: ScoredWindow) -> None:
        seconds = window.end_seconds - window.start_seconds
        self.recent.append(window)
        self.bits += window.kbps * seconds
        self.seconds += seconds

    @property
    def kbps(self) -> float:
        return self.declared_kbps or (self.bits / self.seconds if self.seconds else 0.0)


@dataclass
class _Moment:
    media_seconds: float
    windows: dict[RungName, ScoredWindow] = field(default_factory=dict)


class Board:
    """Follows the events of `watch`.

    Args:
        declared_kbps: all rungs, with the bitrate that a playlist declares.
        num_recent: windows that "the last" are.
        gate: score that no window may be worse than; None for no gate.
        polarity: whether higher scores are better.
    """

    def __init__(
        self, declared_kbps: Mapping[RungName, float | None], num_recent: int, gate: float | None, polarity: str
    ) -> None:
        self.sign = -1 if polarity == "lower_is_better" else 1
        self.gate, self.num_failures = gate, 0
        self.rungs = {rung: _Rung(deque(maxlen=num_recent), kbps) for rung, kbps in declared_kbps.items()}
        self.open = set(declared_kbps)
        self.moments: dict[str, list[_Moment]] = {rung.title: [] for rung in declared_kbps}

    def add(self, event: Event) -> Iterator[Recent | Comparison | GateChange]:
        """What an event comes to."""
        if isinstance(event, Ended):
            self.open.discard(event.rung)
            yield from self._complete(event.rung.title)
        if not isinstance(event, ScoredWindow):
            return
        rung = self.rungs[event.rung]
        rung.add(event)
        content = [window for window in rung.recent if not window.flat] or list(rung.recent)
        worst = min(content, key=lambda window: self.sign * window.score)
        mean = sum(window.score for window in content) / len(content)
        yield Recent(event, worst, mean, len(rung.recent))
        yield from self._gate(rung, event, worst)
        self._place(event)
        yield from self._complete(event.rung.title)

    def _gate(self, rung: _Rung, window: ScoredWindow, worst: ScoredWindow) -> Iterator[GateChange]:
        if self.gate is None:
            return
        limit = self.sign * self.gate
        if rung.passes and self.sign * window.score < limit:
            rung.passes = False
            self.num_failures += 1
            yield GateChange(window.rung, False, self.gate, window)
        elif not rung.passes and self.sign * worst.score >= limit:
            rung.passes = True
            yield GateChange(window.rung, True, self.gate, window)

    def _place(self, window: ScoredWindow) -> None:
        moments, half = self.moments[window.rung.title], (window.end_seconds - window.start_seconds) / 2
        for moment in moments:
            if abs(moment.media_seconds - window.media_seconds) < half and window.rung not in moment.windows:
                moment.windows[window.rung] = window
                return
        moments.append(_Moment(window.media_seconds, {window.rung: window}))

    def _complete(self, title: str) -> Iterator[Comparison]:
        """Moments whose windows are all there; the oldest as they are, if too many wait."""
        moments, expected = self.moments[title], {rung for rung in self.open if rung.title == title}
        for moment in list(moments):
            if expected <= moment.windows.keys() or len(moments) > MAX_MOMENTS:
                moments.remove(moment)
                if len(moment.windows) > 1:
                    yield self._comparison(title, moment)

    def _comparison(self, title: str, moment: _Moment) -> Comparison:
        ordered = sorted(moment.windows.values(), key=lambda window: self.rungs[window.rung].kbps)
        unordered = tuple(
            (low.rung.rung, high.rung.rung)
            for low, high in pairwise(ordered)
            if self.sign * (low.score - high.score) > ORDER_TOLERANCE
        )
        kbps = tuple(round(self.rungs[window.rung].kbps, 1) for window in ordered)
        return Comparison(title, moment.media_seconds, tuple(ordered), kbps, unordered)
