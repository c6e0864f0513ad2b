"""Display times with clock jumps, restarts, stray timestamps and trims, in arrays and in files."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rungwise.bitstream.qp import QstepReader
from rungwise.cli import app
from rungwise.media.clock import shown_clock, shown_order
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.packets import read_packets
from rungwise.media.video import probe
from rungwise.score.scorer import Scorer

TICK = Fraction(1, 1000)
STEADY = np.arange(100) * 40


def test_regular_timestamps_are_kept_bit_for_bit() -> None:
    uneven = np.array([5, 45, 91, 20_091, 20_131])  # a still of 20 s is shown for 20 s
    clock = shown_clock(uneven, TICK)
    assert clock.seconds_N.tolist() == ((uneven - 5) * float(TICK)).tolist()
    assert (clock.notes, clock.breaks, clock.left_out_seconds) == ((), (), 0.0)


def test_a_gap_of_hours_becomes_one_typical_step() -> None:
    jumped = np.where(np.arange(100) < 60, STEADY, STEADY + 8_000_000)
    clock = shown_clock(jumped, TICK)
    assert clock.seconds_N == pytest.approx(STEADY / 1000)
    assert clock.breaks == (60,)
    assert clock.left_out_seconds == pytest.approx(8000)
    assert "8000 s at 2.400 s" in clock.notes[0]


def order_of(ticks: np.ndarray, decode: np.ndarray, keys: set[int]) -> tuple[list[int], np.ndarray]:
    order, times = shown_order(ticks, decode.tolist(), [index in keys for index in range(len(ticks))], TICK)
    return order.tolist(), times


def test_a_restart_continues_the_clock() -> None:
    times = np.concatenate([STEADY, STEADY])
    order, shown = order_of(times, times, {0, 50, 100, 150})
    assert order == list(range(200))
    clock = shown_clock(shown, TICK)
    assert clock.seconds_N == pytest.approx(np.arange(200) * 0.04)
    assert clock.breaks == (100,)


def test_a_small_fall_is_a_restart_only_at_a_key_frame() -> None:
    times = np.array([0, 40, 80, 70, 110, 150])
    assert order_of(times, times, {0, 3})[0] == [0, 1, 2, 3, 4, 5]
    assert order_of(times, times, {0})[0] == [0, 1, 3, 2, 4, 5]


STRAY = STEADY.copy()
STRAY[30] += 8_000_000


@pytest.mark.parametrize("decode", [STEADY - 40, STRAY - 40], ids=["pts", "pts and dts"])
def test_a_stray_timestamp_is_corrected(decode: np.ndarray) -> None:
    order, shown = order_of(STRAY, decode, {0})
    assert order == list(range(100))
    clock = shown_clock(shown, TICK)
    assert clock.seconds_N == pytest.approx(STEADY / 1000)
    assert clock.breaks == ()
    assert len(clock.notes) == 1
    assert "1.200 s, off by 8000 s" in clock.notes[0]


@pytest.mark.parametrize(("frame", "note"), [(0, "at 0.000 s, off by 8000 s"), (99, "at 3.960 s, off by 8000 s")])
def test_a_stray_first_or_last_timestamp_is_corrected(frame: int, note: str) -> None:
    ticks = STEADY.copy()
    ticks[frame] += 8_000_000
    order, shown = order_of(ticks, STEADY - 40, {0})
    assert order == list(range(100))
    clock = shown_clock(shown, TICK)
    assert clock.seconds_N == pytest.approx(STEADY / 1000)
    assert (len(clock.notes), note in clock.notes[0]) == (1, True)


# Coded as I P B B P B B ..., with constant decoding steps.
REORDERED = np.array([0, *(40 * (3 * group + place) for group in range(33) for place in (3, 1, 2))])


@pytest.mark.parametrize("jump", [8_000_000, -8_000_000])
@pytest.mark.parametrize("at", [70, 71, 72])
def test_a_jump_between_b_frames_does_not_change_the_order(at: int, jump: int) -> None:
    late = np.arange(100) >= at
    order, shown = order_of(REORDERED + jump * late, STEADY - 40 + jump * late, {0})
    assert order == np.argsort(REORDERED).tolist()
    clock = shown_clock(shown, TICK)
    assert clock.seconds_N == pytest.approx(STEADY / 1000)
    assert (len(clock.notes), len(clock.breaks)) == (1, 1)


def test_missing_decoding_times_do_not_hide_a_restart() -> None:
    times = np.concatenate([STEADY, STEADY])
    decode = [None if index in (0, 7, 150) else int(tick) for index, tick in enumerate(times)]
    order, _ = shown_order(times, decode, [index % 50 == 0 for index in range(200)], TICK)
    assert order.tolist() == list(range(200))


X264 = ["-c:v", "libx264", "-threads", "1", "-bf", "2", "-pix_fmt", "yuv420p"]


def make(path: Path, *options: str, seconds: int = 6) -> Path:
    run_ffmpeg(["-f", "lavfi", "-i", f"testsrc2=s=320x180:r=24:d={seconds}", *X264, *options, str(path)])
    return path


@pytest.fixture(scope="module")
def long_gop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clock") / "long.mp4", "-g", "250", "-crf", "30")


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer(threads=1)


def test_jumps_and_stray_timestamps_do_not_change_duration_bitrate_or_score(
    long_gop: Path, tmp_path: Path, shipped: Scorer
) -> None:
    plain, score = probe(long_gop), shipped.score(long_gop).score
    for name, expression in (
        ("stray", "pts='if(eq(N,70),PTS+8000/TB,PTS)'"),
        ("jump", "pts='if(gte(N,72),PTS+8000/TB,PTS)':dts='if(gte(N,72),DTS+8000/TB,DTS)'"),
    ):
        path = tmp_path / f"{name}.mp4"
        run_ffmpeg(["-i", str(long_gop), "-c", "copy", "-bsf:v", f"setts={expression}", str(path)])
        info, result = probe(path), shipped.score(path)
        assert info.duration_seconds == pytest.approx(plain.duration_seconds, abs=0.1)
        assert info.bitrate_kbps == pytest.approx(plain.bitrate_kbps, rel=0.02)
        assert result.score == pytest.approx(score, abs=0.5)
        assert (info.fps, info.variable_frame_rate) == (plain.fps, False)
        assert any("8000 s" in note for note in result.notes)


def test_both_halves_of_a_restarted_recording_count(tmp_path: Path, shipped: Scorer) -> None:
    parts = {}
    for name, crf, offset in (("good", "20", "0"), ("bad", "48", "0"), ("late", "48", "3600")):
        options = ["-crf", crf, "-output_ts_offset", offset, "-f", "mpegts"]
        parts[name] = make(tmp_path / f"{name}.part", *options, seconds=3)
    good, bad = (shipped.score(parts[name]).score for name in ("good", "bad"))
    assert good > bad + 20
    for second in ("bad", "late"):
        joined = tmp_path / f"joined_{second}.ts"
        joined.write_bytes(parts["good"].read_bytes() + parts[second].read_bytes())
        result, info = shipped.score(joined), probe(joined)
        assert info.duration_seconds == pytest.approx(6, abs=0.1)
        assert result.score == pytest.approx((good + bad) / 2, abs=2)
        assert result.bitstream_used
        assert len(info.notes) == 1


def test_a_trimmed_file_uses_hidden_frames_and_their_key_frame(long_gop: Path, tmp_path: Path, shipped: Scorer) -> None:
    trimmed = tmp_path / "trimmed.mp4"
    run_ffmpeg(["-ss", "3", "-i", str(long_gop), "-c", "copy", str(trimmed)])
    whole, info, packets = probe(long_gop), probe(trimmed), read_packets(trimmed, QstepReader)
    assert info.duration_seconds == pytest.approx(3, abs=0.1)
    assert info.bitrate_kbps == pytest.approx(whole.bitrate_kbps, rel=0.02)
    assert packets.num_hidden == 72
    assert packets.hidden_key_frame is not None
    assert packets.hidden_key_frame.size == read_packets(long_gop).sizes_N[0]
    assert "72 coded frames are hidden" in "; ".join(shipped.score(trimmed).notes)


def test_a_raw_stream_copied_without_timestamps_scores_like_the_stream(tmp_path: Path, shipped: Scorer) -> None:
    raw = make(tmp_path / "raw.264", "-g", "250", "-crf", "30")
    copied = tmp_path / "copied.mp4"
    run_ffmpeg(["-i", str(raw), "-c", "copy", str(copied)])
    result = shipped.score(copied)
    assert result.bitstream_used
    assert result.score == pytest.approx(shipped.score(raw).score, abs=3)


def test_a_late_start_or_missing_timestamps_give_no_note(long_gop: Path, tmp_path: Path, shipped: Scorer) -> None:
    score = shipped.score(long_gop)
    late, avi = tmp_path / "late.mkv", tmp_path / "clip.avi"
    run_ffmpeg(["-i", str(long_gop), "-c", "copy", "-output_ts_offset", "5", str(late)])
    run_ffmpeg(["-i", str(long_gop), "-c", "copy", str(avi)])
    for path in (late, avi):
        result, info = shipped.score(path), probe(path)
        assert result.notes == score.notes
        assert result.score == pytest.approx(score.score, abs=0.2)
        assert (info.fps, info.variable_frame_rate) == (24.0, False)
        assert info.duration_seconds == pytest.approx(6, abs=1e-3)


def test_undecodable_frames_before_the_first_key_frame_keep_the_score_hybrid(tmp_path: Path, shipped: Scorer) -> None:
    whole = make(tmp_path / "whole.ts", "-g", "24", "-f", "mpegts", seconds=3).read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole[len(whole) // 4 // 188 * 188 :])
    result = shipped.score(cut)
    assert result.bitstream_used
    assert not any("match" in note for note in result.notes)


def test_a_rung_joined_from_two_recordings_does_not_change_a_titles_duration(tmp_path: Path, model: Path) -> None:
    for name, crf in (("a.mp4", "24"), ("b.mp4", "34")):
        make(tmp_path / name, "-crf", crf, seconds=2)
    parts = [
        make(tmp_path / f"{offset}.part", "-crf", "20", "-output_ts_offset", offset, "-f", "mpegts", seconds=2)
        for offset in ("0", "3600")
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    done = CliRunner().invoke(app, ["ladder", "check", str(tmp_path), "-m", str(model), "--views", "1", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert len(report["rungs"]) == 3
    assert any("joined.ts: a gap of" in note for note in report["notes"])
    bitrates = {rung["name"]: rung["bitrate_kbps"] for rung in report["rungs"]}
    assert bitrates["joined.ts"] == pytest.approx(probe(tmp_path / "joined.ts").bitrate_kbps)
    assert bitrates["joined.ts"] > bitrates["a.mp4"] > bitrates["b.mp4"]
