import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from rungwise.ladder.encode import CODECS, EncodeError, EncodeSpec, available_codecs, encode, encoder_arguments
from rungwise.media.ffmpeg import ffmpeg_version, probe, run_ffmpeg

MIDDLE_CRF = {"h264": 28, "hevc": 28, "av1": 35, "vp9": 35, "vvc": 34, "vp8": 30, "mpeg4": 8}


def write_clip(path: Path, frames: int = 12, width: int = 192, height: int = 108, rate: str = "25:1") -> Path:
    """A y4m clip of a moving textured gradient."""
    rng = np.random.default_rng(7)
    texture = rng.integers(-25, 25, (height, width + 3 * frames))
    gradient = np.linspace(50, 200, width + 3 * frames)
    canvas = np.clip(gradient + texture, 16, 235).astype(np.uint8)
    chroma = np.tile(np.linspace(100, 150, width // 2).astype(np.uint8), (height, 1))  # U above V
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420mpeg2\n".encode())
        for index in range(frames):
            file.write(b"FRAME\n" + canvas[:, 3 * index : 3 * index + width].tobytes() + chroma.tobytes())
    return path


def timestamps(path: Path) -> list[float]:
    """Timestamps of the decoded frames in seconds."""
    text = run_ffmpeg(["-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "-"]).decode()
    time_base = re.search(r"#tb 0: (\d+)/(\d+)", text)
    assert time_base
    unit = Fraction(int(time_base[1]), int(time_base[2]))
    return [float(int(line.split(",")[2]) * unit) for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("master") / "master.y4m")


def test_bundled_ffmpeg_has_every_encoder() -> None:
    assert available_codecs() == list(CODECS)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", ["crf", "bitrate"])
def test_same_inputs_same_bytes(codec: str, rate: str, master: Path, tmp_path: Path) -> None:
    suffix = CODECS[codec].suffix
    crf, bitrate = (MIDDLE_CRF[codec], None) if rate == "crf" else (None, 150)
    spec = EncodeSpec(codec, height=108, crf=crf, bitrate_kbps=bitrate)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    assert encode(master, first, spec) == encode(master, second, spec)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        first.name,
        second.name,
    ]  # no partial file is left


@pytest.mark.parametrize("codec", CODECS)
def test_frame_rate_count_and_color_tags_are_kept(codec: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.y4m", rate="30000:1001")
    tagged = tmp_path / "tagged.mkv"
    tags = "setparams=range=limited:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    run_ffmpeg(["-i", str(clip), "-vf", tags, "-c:v", "ffv1", str(tagged)])
    rung = tmp_path / f"rung{CODECS[codec].suffix}"
    encode(tagged, rung, EncodeSpec(codec, height=72, crf=MIDDLE_CRF[codec]))

    info = probe(rung)
    assert (info.width, info.height) == (128, 72)
    assert info.bit_depth == (10 if codec == "vvc" else 8)
    # WebM and Matroska have millisecond timestamps
    assert float(info.fps) == pytest.approx(30000 / 1001, rel=1e-3)
    assert timestamps(rung) == pytest.approx(timestamps(clip), abs=1e-3)
    process = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", rung], capture_output=True, text=True, check=False)
    assert re.search(r"Video: .*\(tv, bt709", process.stderr)


def test_every_encoder_is_pinned_to_one_thread_and_a_gop() -> None:
    for name, codec in CODECS.items():
        arguments = " ".join(encoder_arguments(EncodeSpec(name, height=108, crf=30), fps=23.976))
        assert re.search(r"-threads 1 |pools=none:frame-threads=1|lp=1", arguments)
        assert "-g 48" in arguments or "keyint=48" in arguments
        assert f"{codec.preset_option} {codec.default_preset} " in arguments
        assert "{" not in arguments


def test_command_has_no_paths(master: Path, tmp_path: Path) -> None:
    command = encode(master, tmp_path / "rung.mp4", EncodeSpec("h264", height=72, bitrate_kbps=100, preset="medium"))
    assert command[0] == "ffmpeg"
    assert command[-1] == "{destination}"
    assert command[command.index("-i") + 1] == "{source}"
    assert command[command.index("-b:v") + 1] == "100k"
    assert command[command.index("-preset") + 1] == "medium"
    assert not any(str(tmp_path) in argument for argument in command)


def test_width_follows_the_aspect_and_is_even(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.y4m", frames=2, width=202, height=108)
    encode(clip, tmp_path / "rung.mp4", EncodeSpec("h264", height=64, crf=30))
    assert probe(tmp_path / "rung.mp4").width == 120  # 119.7


def test_failure_has_the_message_of_ffmpeg_and_leaves_no_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    spec = EncodeSpec("h264", height=108, crf=30)
    with pytest.raises(EncodeError, match="Invalid data found when processing input") as error:
        encode(broken, tmp_path / "rung.mp4", spec)
    assert error.value.spec == spec
    assert "height=108" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


def test_encoder_failure_leaves_the_old_file(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung = tmp_path / "rung.mp4"
    rung.write_bytes(b"before")
    monkeypatch.setitem(CODECS, "h264", replace(CODECS["h264"], pinned="-profile:v nonsense"))
    with pytest.raises(EncodeError, match="nonsense"):
        encode(master, rung, EncodeSpec("h264", height=108, crf=30))
    assert rung.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["rung.mp4"]


def test_dropped_frames_are_an_error(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropping = CODECS["h264"].pinned + " -bsf:v noise=drop=gt(n\\,5)"  # ffmpeg exits with 0
    monkeypatch.setitem(CODECS, "h264", replace(CODECS["h264"], pinned=dropping))
    with pytest.raises(EncodeError, match="6 of 12 frames"):
        encode(master, tmp_path / "rung.mp4", EncodeSpec("h264", height=108, crf=30))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EncodeSpec("mpeg2", 108, crf=30), "mpeg2.*h264, hevc"),
        (lambda: EncodeSpec("h264", 107, crf=30), "107.*even"),
        (lambda: EncodeSpec("h264", 108), "exactly one"),
        (lambda: EncodeSpec("h264", 108, crf=30, bitrate_kbps=100), "exactly one"),
        (lambda: EncodeSpec("h264", 108, crf=52), "52.*1 to 51"),
        (lambda: EncodeSpec("h264", 108, crf=0), "0.*1 to 51"),
        (lambda: EncodeSpec("av1", 108, bitrate_kbps=0), "at least 1"),
        (lambda: EncodeSpec("vp9", 108, crf=30, preset="medium"), "medium.*5, 4"),
    ],
)
def test_invalid_specs_raise(make: Callable[[], EncodeSpec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_invalid_calls_raise(master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"must end in \.webm"):
        encode(master, tmp_path / "rung.mp4", EncodeSpec("vp9", height=108, crf=30))
    with pytest.raises(ValueError, match="must not exceed the master's, 108"):
        encode(master, tmp_path / "rung.mp4", EncodeSpec("h264", height=144, crf=30))
    monkeypatch.setitem(CODECS, "hevc", replace(CODECS["hevc"], encoder="libnone"))
    assert "hevc" not in available_codecs()
    with pytest.raises(ValueError, match="has no libnone; it has h264"):
        encode(master, tmp_path / "rung.mp4", EncodeSpec("hevc", height=108, crf=30))


def test_encoding_onto_the_source_raises(master: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    encode(master, clip, EncodeSpec("h264", height=108, crf=30))
    with pytest.raises(ValueError, match="must differ from the source"):
        encode(clip, clip, EncodeSpec("h264", height=108, crf=30))


def test_ffmpeg_version_is_one_token() -> None:
    assert re.fullmatch(r"\S+", ffmpeg_version())
