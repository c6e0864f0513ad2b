"""Coded video through a pipe: the same score as the file's, to the bit, window by window, in memory that stays flat."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from rungwise import Scorer
from rungwise.bitstream.coded_frames import CodedFrame, CodedFrameReader
from rungwise.bitstream.encoder_stats import _svtav1_rows, read_encoder_stats
from rungwise.bitstream.qp import QstepReader
from rungwise.media.container import decode_all, open_video
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.score.result import Window
from rungwise.score.stream_scorer import StreamScorer
from rungwise.score.stream_windows import RecentFrames

ROOT = Path(__file__).parents[3]
SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=24:d=3", "-pix_fmt", "yuv420p"]
ENCODERS = {
    "x264": ["-c:v", "libx264", "-preset", "fast", "-threads", "1", "-g", "20"],
    "x265": ["-c:v", "libx265", "-preset", "fast", "-g", "20", "-x265-params", "log-level=error:pools=1"],
    "svtav1": ["-c:v", "libsvtav1", "-preset", "11", "-g", "20", "-svtav1-params", "lp=1"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "20", "-b:v", "100k"],
    "mpeg2": ["-c:v", "mpeg2video", "-bf", "2", "-q:v", "6"],
}
FRAGMENTED = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"]
PAIRS: dict[str, tuple[str, Sequence[str]]] = {
    "h264.ts": ("x264", ()),
    "h264.mkv": ("x264", ()),
    "h264.mp4": ("x264", FRAGMENTED),
    "h264.flv": ("x264", ()),
    "raw.h264": ("x264", ()),
    "hevc.ts": ("x265", ()),
    "hevc.mp4": ("x265", FRAGMENTED),
    "raw.hevc": ("x265", ()),
    "av1.mkv": ("svtav1", ()),
    "av1.mp4": ("svtav1", FRAGMENTED),
    "av1.ivf": ("svtav1", ()),
    "vp9.webm": ("vp9", ()),
    "vp9.ivf": ("vp9", ()),
    "mpeg2.ts": ("mpeg2", ()),
    "interlaced.ts": ("x264", ["-vf", "setfield=tff", "-flags", "+ilme+ildct", "-x264-params", "tff=1"]),
    "variable.mkv": ("x264", ["-vf", "select='lt(n,30)+mod(n,3)'", "-fps_mode", "vfr"]),
    "black_start.mkv": ("x264", ["-vf", "drawbox=t=fill:c=black:enable='lt(t,1.2)'"]),
}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """The packaged hybrid model."""
    return Scorer()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a video of `PAIRS`."""
    folder = tmp_path_factory.mktemp("pipes")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            encoder, options = PAIRS[name]
            run_ffmpeg([*SOURCE, *ENCODERS[encoder], *options, str(path)])
        return path

    return make


def piped(scorer: Scorer, path: Path, **options: Any) -> Any:
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        return scorer.score(cat.stdout, name=str(path), **options)


@pytest.mark.parametrize("name", PAIRS)
def test_a_coded_pipe_scores_exactly_like_its_file(scorer: Scorer, videos: Callable[[str], Path], name: str) -> None:
    path, options = (
        videos(name),
        dict[str, Any]({"window_seconds": 1.0, "timeline_seconds": 1.5, "display_height": 120}),
    )
    windows: list[Window] = []
    from_file = scorer.score(path, **options)
    assert piped(scorer, path, on_window=lambda window, _: windows.append(window), **options) == from_file
    assert from_file.bitstream_used
    assert len(from_file.windows) > 1
    assert tuple(windows) == from_file.timeline


@pytest.mark.parametrize(("offset", "note"), [("0", "timestamps restart"), ("1000", "a gap of 99")])
def test_a_clock_that_jumps_starts_new_windows_as_in_a_file(
    scorer: Scorer, videos: Callable[[str], Path], tmp_path: Path, offset: str, note: str
) -> None:
    first, second, both = videos("h264.ts"), tmp_path / "second.ts", tmp_path / "both.ts"
    run_ffmpeg(["-i", str(first), "-c", "copy", "-output_ts_offset", offset, str(second)])
    both.write_bytes(first.read_bytes() + second.read_bytes())
    from_file = scorer.score(both, window_seconds=2)
    assert piped(scorer, both, window_seconds=2) == from_file
    assert note in from_file.notes[-1]


def test_a_stream_that_breaks_off_is_scored_up_to_there(scorer: Scorer, videos: Callable[[str], Path]) -> None:
    for name in ("h264.ts", "av1.mkv", "hevc.mp4"):
        data = videos(name).read_bytes()
        score = scorer.score(io.BytesIO(data[: len(data) * 2 // 3]), window_seconds=1)
        assert 1 < score.duration_seconds < 2.7
        assert score.bitstream_used


def test_a_score_without_windows_is_the_same(scorer: Scorer, videos: Callable[[str], Path]) -> None:
    from_file = scorer.score(videos("hevc.ts"), window_seconds=0.7)
    without = piped(scorer, videos("hevc.ts"), window_seconds=0.7, keep_windows=False)
    assert without == replace(from_file, windows=())


def test_the_data_kept_of_a_stream_do_not_grow(
    scorer: Scorer, videos: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[RecentFrames] = []
    readers: list[CodedFrameReader] = []

    def noted_init(self: RecentFrames, *arguments: Any) -> None:
        frames.append(self)
        init_frames(self, *arguments)

    def noted_reader_init(self: CodedFrameReader, *arguments: Any, **options: Any) -> None:
        readers.append(self)
        init_reader(self, *arguments, **options)

    init_frames, init_reader = RecentFrames.__init__, CodedFrameReader.__init__
    monkeypatch.setattr(RecentFrames, "__init__", noted_init)
    monkeypatch.setattr(CodedFrameReader, "__init__", noted_reader_init)
    piped(scorer, videos("h264.ts"), window_seconds=0.5, keep_windows=False)
    assert len(frames[-1].rows) <= 24
    assert readers[-1].reader is not None
    assert not readers[-1].reader.qsteps


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is empty"),
        (b"#EXTM3U\n", "playlist"),
        (b"text\n" * 99, "not a video that can be read from a pipe"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isom\0\0\0\0", "-f mpegts.*frag_keyframe"),
    ],
)
def test_what_is_no_stream_of_video_is_refused(scorer: Scorer, data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        scorer.score(io.BytesIO(data))
    assert str(refusal.value).startswith("-: ")


def test_an_mp4_with_its_index_at_the_end_is_refused(
    scorer: Scorer, videos: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "plain.mp4"
    run_ffmpeg(["-i", str(videos("h264.mp4")), "-c", "copy", str(path)])
    with pytest.raises(ValueError, match=r"-: its index .*-f mpegts.*frag_keyframe"), path.open("rb") as stream:
        scorer.score(stream)


def test_windows_are_printed_as_they_close(videos: Callable[[str], Path]) -> None:
    command = [sys.executable, "-m", "rungwise", "score", "-", "--windows", "--timeline", "1"]
    path = videos("h264.ts")
    ffmpeg_command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-c",
        "copy",
        "-f",
        "mpegts",
        "-",
    ]
    with subprocess.Popen(ffmpeg_command, stdout=subprocess.PIPE) as ffmpeg:
        done = subprocess.run(command, stdin=ffmpeg.stdout, capture_output=True, check=True, cwd=ROOT)
    *windows, video = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(window["start_seconds"], window["end_seconds"]) for window in windows] == [(0, 1), (1, 2), (2, 3)]
    assert all(window["bitstream_used"] for window in windows)
    assert (video["num_windows"], video["bitstream_used"]) == (1, True)
    refused = subprocess.run([*command, "--csv"], capture_output=True, check=False, cwd=ROOT)
    assert refused.returncode == 2


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of encodes with the encoder's statistics."""
    folder = tmp_path_factory.mktemp("logged")
    logs = {
        "x264": ["-pass", "1", "-passlogfile", "x264"],
        "x265": ["-x265-params", "log-level=error:pools=1:csv=x265.csv:csv-log-level=1"],
        "svtav1": ["-vstats_file", "svtav1.log", "-vstats_version", "2"],
    }
    for encoder, options in logs.items():
        run_ffmpeg([*SOURCE, *ENCODERS[encoder], *options, f"{encoder}.mkv"], cwd=folder)
    return folder


def y4m_score(scorer: Scorer, path: Path, stats: str) -> Any:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdout is not None
        return scorer.score(ffmpeg.stdout, encoder_stats=read_encoder_stats(stats), window_seconds=1, name=str(path))


@pytest.mark.parametrize(("encoder", "log"), [("x264", "x264-0.log"), ("x265", "x265.csv"), ("svtav1", "svtav1.log")])
def test_logs_of_encoders_give_a_hybrid_score(scorer: Scorer, logged: Path, encoder: str, log: str) -> None:
    path = logged / f"{encoder}.mkv"
    coded, from_log = scorer.score(path, window_seconds=1), y4m_score(scorer, path, f"{encoder}:{logged / log}")
    assert from_log.bitstream_used
    assert from_log.pixel_score == coded.pixel_score
    assert from_log.score == pytest.approx(coded.score, abs=4)
    stats, packets = read_encoder_stats(f"{encoder}:{logged / log}"), read_packets(path, QstepReader)
    assert [frame.is_intra for frame in stats.frames] == packets.is_intra_N.tolist()
    sizes = [frame.num_bytes for frame in stats.frames]
    assert np.abs(np.asarray(sizes[1:]) - packets.sizes_N[1:]).max() < 32  # without headers


def test_a_csv_with_the_quantizers_of_the_bitstream_gives_its_score(
    scorer: Scorer, logged: Path, tmp_path: Path
) -> None:
    path, table = logged / "x265.mkv", tmp_path / "stats.csv"
    packets = read_packets(path, QstepReader)
    assert packets.log2_qsteps_N is not None
    rows = zip(packets.sizes_N, packets.log2_qsteps_N, packets.is_intra_N, strict=True)
    lines = [f"{i},{size},{6 * q + 4:.9f},{'I' if key else 'P'}" for i, (size, q, key) in enumerate(rows)]
    table.write_text("\n".join(["pts,bytes,qp,type", *lines[::-1]]), encoding="utf-8")
    from_table = y4m_score(scorer, path, f"hevc:{table}")
    assert from_table.score == pytest.approx(scorer.score(path, window_seconds=1).score, abs=1e-3)
    table.write_text("\n".join(["pts,bytes,qp,type", *lines[:-30]]), encoding="utf-8")
    notes = y4m_score(scorer, path, f"hevc:{table}").notes
    assert any("30 frames can't be matched" in note for note in notes)


def test_statistics_of_svt_av1s_own_tool() -> None:
    line = "Picture Number:    0\tTL:    0\t QP:   20\t Average QP:   22  [ PSNR-Y: 40 dB ]\t 8000 bytes\t VBV delay: 0"
    [(number, frame)] = _svtav1_rows([line], "av1")
    assert (number, frame.num_bytes, frame.is_intra) == (0, 8000, True)


def test_what_is_no_statistics_is_refused(scorer: Scorer, videos: Callable[[str], Path], tmp_path: Path) -> None:
    table = tmp_path / "stats.csv"
    for text, source, problem in (
        ("", f"h264:{table}", "has no statistics"),
        ("pts,bytes\n0,1\n", f"h264:{table}", "not statistics of h264"),
        ("", str(table), "give NAME:FILE"),
        ("", f"h264:{tmp_path / 'absent.csv'}", "no such file"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=problem):
            read_encoder_stats(source)
    table.write_text("pts,bytes,qp,type\n0,100,20,I\n", encoding="utf-8")
    stats = read_encoder_stats(f"h264:{table}")
    with pytest.raises(ValueError, match="has its own bitstream"):
        piped(scorer, videos("h264.ts"), encoder_stats=stats)


def test_frames_that_are_pushed_with_their_packets_score_like_the_file(scorer: Scorer, logged: Path) -> None:
    path = logged / "x265.mkv"
    packets, windows = read_packets(path, QstepReader), list[Window]()
    assert packets.log2_qsteps_N is not None
    stream = StreamScorer(
        scorer,
        24,
        codec="hevc",
        window_seconds=1,
        name=str(path),
        on_window=lambda window, is_hybrid: windows.append(window),
        keep_windows=True,
    )
    with open_video(path) as container:
        rows = zip(packets.sizes_N, packets.log2_qsteps_N, packets.is_intra_N, strict=True)
        for frame, (size, qstep, is_intra) in zip(decode_all(container, path), rows, strict=True):
            stream.push(frame, CodedFrame(int(size), bool(is_intra), float(qstep), is_settled=True))
            assert len(windows) == max(0, int((stream.windows.clock.seconds if stream.windows else 0) - 0.5))
    score = stream.finish()
    assert score == scorer.score(path, window_seconds=1)
    assert tuple(windows) == score.windows
    with pytest.raises(ValueError, match="no frames"):
        StreamScorer(scorer, 24).finish()


def test_frames_without_packets_are_scored_pixel_only(scorer: Scorer, logged: Path) -> None:
    path = logged / "x265.mkv"
    stream = StreamScorer(scorer, 24)
    with open_video(path) as container:
        for frame in decode_all(container, path):
            stream.push(frame)
    score, expected = stream.finish(), scorer.score(path, pixel_only=True)
    assert (score.score, score.bitstream_used) == (expected.score, False)
    assert score.notes[-1].startswith("scored pixel-only: no bitstream")
