"""Live sources: windows equal those of a finished file, and what is lost, skipped or worse than a gate is reported."""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rungwise import Scorer
from rungwise.cli import app
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.live import PipeSource, Stop
from rungwise.media.live_playlist import Limits
from rungwise.score import watch as watch_module
from rungwise.score.watch import Ended, Event, LeftOut, Notice, RungName, ScoredWindow, WatchOptions, watch
from rungwise.score.watch_board import Board, Comparison
from rungwise.score.watch_sources import find_sources

ROOT = Path(__file__).parents[3]
SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=8", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-threads", "1"]
GOPS = ["-g", "12", "-sc_threshold", "0"]
OPTIONS = WatchOptions(window_seconds=1.0, max_lag=1e9)
LIMITS = Limits(timeout=10.0, max_lag=1e9)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """The packaged hybrid model."""
    return Scorer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good and a bad encode, each as one file and as eight segments of a second."""
    folder = tmp_path_factory.mktemp("live")
    for name, crf in (("good", "24"), ("bad", "46")):
        run_ffmpeg([*SOURCE, *GOPS, "-crf", crf, str(folder / f"{name}.ts")])
        cut = ["-i", str(folder / f"{name}.ts"), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]
        run_ffmpeg([*cut, "-hls_segment_filename", str(folder / f"{name}%d.ts"), str(folder / f"{name}.m3u8")])
        whole = b"".join((folder / f"{name}{i}.ts").read_bytes() for i in range(8))
        (folder / f"{name}.ts").write_bytes(whole)
    return folder


class Steps(Stop):
    """Where a source would wait, the next step happens; after the last one nothing does, or all sources end."""

    def __init__(self, steps: Iterable[Callable[[], object]] = (), *, then_stop: bool = True) -> None:
        super().__init__()
        self.steps, self.then_stop, self.lock = iter(steps), then_stop, threading.Lock()

    def wait(self, seconds: float) -> bool:
        """Do the next step."""
        with self.lock:
            step = next(self.steps, None)
            if step is not None:
                step()
            elif self.then_stop:
                self.set()
        return self.is_set


def events_of(
    scorer: Scorer,
    sources: Sequence[str],
    stop: Stop | None = None,
    options: WatchOptions = OPTIONS,
    limits: Limits = LIMITS,
) -> list[Event]:
    stop = stop or Steps()
    found = find_sources(sources, None, limits, stop)
    return list(watch(scorer, {rung: source.make for rung, source in found.items()}, options, stop))


def notices(events: Iterable[Event]) -> list[str]:
    """What happened to sources, without notes on their video."""
    texts = [event.text for event in events if isinstance(event, Notice)]
    return [text for text in texts if not text.startswith("smaller than")]


def scores(events: Iterable[Event], rung: str = "") -> list[float]:
    return [event.score for event in events if isinstance(event, ScoredWindow) and rung in event.rung.rung]


@functools.cache
def file_scores(scorer: Scorer, path: Path) -> list[float]:
    """Of the file's windows."""
    return [window.score for window in scorer.score(path, window_seconds=1.0).windows]


def test_a_pipe_scores_like_its_file(scorer: Scorer, folder: Path) -> None:
    path = folder / "good.ts"
    rung = RungName("", "-")
    events = list(watch(scorer, {rung: lambda _: PipeSource(io.BytesIO(path.read_bytes()))}, OPTIONS, Stop()))
    assert scores(events) == file_scores(scorer, path)
    assert events[-1] == Ended(rung, 8)
    starts = [event.start_seconds for event in events if isinstance(event, ScoredWindow)]
    assert starts == pytest.approx(range(8))


@pytest.mark.parametrize(("wait", "work", "at_edge"), [(0.02, 0.01, True), (0.002, 0.03, False)])
def test_when_a_pipe_is_read_at_its_live_edge(
    wait: float, work: float, at_edge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]

    class Slow(io.BytesIO):
        """Takes a while."""

        def read(self, size: int | None = -1, /) -> bytes:
            """Some bytes, after a wait."""
            now[0] += wait
            return super().read(size)

    monkeypatch.setattr("rungwise.media.live.time.monotonic", lambda: now[0])
    [reader] = PipeSource(Slow(bytes(1000))).runs()
    for _ in range(100):
        reader.read(10)
        now[0] += work
    assert (reader.edge_time > 101) is at_edge


def test_a_file_that_grows_and_is_replaced(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "recording.ts", (folder / "good.ts").read_bytes()

    def append(at: int) -> None:
        with path.open("ab") as stream:
            stream.write(data[at : at + 40_000])

    def replace() -> None:
        other = tmp_path / "other.ts"
        other.write_bytes((folder / "bad.ts").read_bytes())
        other.replace(path)

    steps = [partial(append, at) for at in range(0, len(data), 40_000)]
    events = events_of(scorer, [str(path)], Steps([*steps, replace]))
    assert scores(events) == [*file_scores(scorer, folder / "good.ts"), *file_scores(scorer, folder / "bad.ts")]
    assert notices(events) == ["the file was replaced: read from its start"]
    last = [event for event in events if isinstance(event, ScoredWindow)][-1]
    assert last.end_seconds == pytest.approx(16)  # times go on


def test_a_missing_file_is_waited_for_and_then_a_problem(scorer: Scorer, tmp_path: Path) -> None:
    [event] = events_of(scorer, [str(tmp_path / "none.ts")], Stop(), limits=Limits(0.2, 30))
    assert isinstance(event, Ended)
    assert "no such file" in event.problem


def test_video_is_skipped_to_keep_up(scorer: Scorer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lag = watch_module._Run.lag

    def late(run: watch_module._Run, seconds: float) -> float:
        return 99.0 if 4.3 < seconds < 6.3 else min(0.0, lag(run, seconds))

    monkeypatch.setattr(watch_module._Run, "lag", late)
    options = WatchOptions(window_seconds=1.0, max_lag=30)
    events = events_of(scorer, [str(folder / "good.ts")], options=options)
    skips = [event for event in events if isinstance(event, LeftOut)]
    assert [skip.kind for skip in skips] == ["skip"]
    assert skips[0].seconds == pytest.approx(2.0, abs=0.01)
    expected, windows = file_scores(scorer, folder / "good.ts"), [w for w in events if isinstance(w, ScoredWindow)]
    assert scores(events)[:3] == expected[:3]
    assert scores(events)[-2:] == pytest.approx(expected[-2:], abs=3)  # the same frames, other patches
    assert [window.start_seconds for window in windows] == pytest.approx([0, 1, 2, 5, 6, 7])
    assert [window.end_seconds for window in windows] == pytest.approx([1, 2, 3, 6, 7, 8])


class Packager:
    """Writes HLS playlists of segments of a second; all of them exist from the start."""

    def __init__(self, folder: Path, source: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.lines = {name: [f"#EXTINF:1.0,\n{name}{i}.ts" for i in range(8)] for name in names}
        for name in names:
            for i in range(8):
                (folder / f"{name}{i}.ts").write_bytes((source / f"{name}{i}.ts").read_bytes())
        master = "".join(
            f"#EXT-X-STREAM-INF:BANDWIDTH={1000 * (len(names) - i)}000\n{name}.m3u8\n" for i, name in enumerate(names)
        )
        (folder / "all.m3u8").write_text(f"#EXTM3U\n{master}")
        self.write(0, 3)

    def write(self, first: int, stop: int, *, is_over: bool = False) -> None:
        """Playlists of the segments from `first` to `stop`."""
        for name in self.names:
            head = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
            text = head + "\n".join(self.lines[name][first:stop]) + ("\n#EXT-X-ENDLIST\n" if is_over else "\n")
            (self.folder / "part").write_text(text)
            (self.folder / "part").replace(self.folder / f"{name}.m3u8")

    def steps(self) -> Iterator[Callable[[], None]]:
        """One segment after another, then the end."""
        yield from (partial(self.write, 0, stop, is_over=stop == 8) for stop in range(4, 9))


def test_rungs_of_a_live_hls_title(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    packager = Packager(tmp_path, folder, ["bad", "good"])
    events = events_of(scorer, [str(tmp_path / "all.m3u8")], Steps(packager.steps(), then_stop=False))
    for name in ("good", "bad"):
        assert scores(events, name) == file_scores(scorer, folder / f"{name}.ts")
    assert not notices(events)
    rungs = {RungName(str(tmp_path / "all.m3u8"), f"{name}.m3u8"): None for name in ("good", "bad")}
    board = Board(rungs, 3, None, "higher_is_better")
    compared = [item for event in events for item in board.add(event) if isinstance(item, Comparison)]
    assert len(compared) == 8
    assert all(len({window.start_seconds for window in item.windows}) == 1 for item in compared)


def test_a_lost_segment_and_a_discontinuity(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    packager = Packager(tmp_path, folder, ["good"])
    (tmp_path / "good3.ts").unlink()
    packager.lines["good"][6] = "#EXT-X-DISCONTINUITY\n" + packager.lines["good"][6]
    events = events_of(scorer, [str(tmp_path / "good.m3u8")], Steps(packager.steps(), then_stop=False))
    assert len(scores(events)) == 7
    [gap] = [event for event in events if isinstance(event, LeftOut)]
    assert (gap.kind, gap.seconds) == ("gap", 1.0)
    assert "can't be read" in gap.reason


def test_a_playlist_that_is_gone_for_a_while(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    packager, path = Packager(tmp_path, folder, ["good"]), tmp_path / "good.m3u8"
    steps: list[Callable[[], object]] = [path.unlink, lambda: None, partial(packager.write, 0, 8, is_over=True)]
    events = events_of(scorer, [str(path)], Steps(steps, then_stop=False))
    assert [text.partition(",")[0] for text in notices(events)] == ["can't be read", "can be read again"]
    assert len(scores(events)) == 8


@pytest.mark.parametrize(("first", "max_lag", "kind"), [(0, 3.0, "skip"), (5, 30.0, "gap")])
def test_a_playlist_that_is_far_ahead(
    scorer: Scorer, folder: Path, tmp_path: Path, first: int, max_lag: float, kind: str
) -> None:
    packager = Packager(tmp_path, folder, ["good"])
    steps = Steps([partial(packager.write, first, 8, is_over=True)], then_stop=False)
    events = events_of(scorer, [str(tmp_path / "good.m3u8")], steps, limits=Limits(10, max_lag))
    [left_out] = [event for event in events if isinstance(event, LeftOut)]
    assert (left_out.kind, left_out.seconds) == (kind, 2.0)
    assert len(scores(events)) == 6


MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" minimumUpdatePeriod="PT0.2S"
availabilityStartTime="1970-01-01T00:00:00Z"><Period id="0" start="PT0S"><AdaptationSet contentType="video">
<SegmentTemplate timescale="10" media="$RepresentationID$$Number$.ts" startNumber="{first}"><SegmentTimeline>
<S t="{time}" d="10" r="{repeats}"/></SegmentTimeline></SegmentTemplate>
<Representation id="good" bandwidth="2000"/><Representation id="bad" bandwidth="3000"/>
</AdaptationSet></Period></MPD>"""


def test_rungs_of_a_live_dash_title(scorer: Scorer, folder: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        for i in range(8):
            (tmp_path / f"{name}{i}.ts").write_bytes((folder / f"{name}{i}.ts").read_bytes())

    def write(stop: int) -> None:
        kind = "static" if stop == 8 else "dynamic"
        text = MPD.format(kind=kind, first=0, time=0, repeats=stop - 1)
        (tmp_path / "part").write_text(text)
        (tmp_path / "part").replace(tmp_path / "a.mpd")

    write(3)
    stop = Steps([partial(write, stop) for stop in range(4, 9)], then_stop=False)
    events = events_of(scorer, [str(tmp_path / "a.mpd")], stop)
    assert not [event for event in events if isinstance(event, LeftOut)]
    for name in ("good", "bad"):
        assert scores(events, name) == file_scores(scorer, folder / f"{name}.ts")


def test_the_verb(folder: Path) -> None:
    arguments = ["watch", str(folder / "good.ts"), str(folder / "bad.ts"), "--timeout", "0.3", "--window", "1"]
    result = CliRunner().invoke(app, [*arguments, "--gate", "70", "--json", "--display-height", "96"])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1  # the gate
    kinds = [event["event"] for event in events]
    assert (kinds.count("window"), kinds.count("rungs"), kinds.count("end")) == (16, 8, 2)
    assert [(event["rung"].endswith("bad.ts"), event["passes"]) for event in events if event["event"] == "gate"] == [
        (True, False)
    ]
    assert CliRunner().invoke(app, [*arguments, "--webhook", "http://localhost"]).exit_code == 2
