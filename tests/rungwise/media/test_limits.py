"""Files beyond the limits: frame size, sample tables, frame count, sample aspect ratio."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.media import limits
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import probe
from rungwise.score.scorer import Scorer

SOURCE = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=0.5"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-pix_fmt", "yuv420p"]
FILES = {
    "h264.mp4": X264,
    "h264.ts": X264,
    "raw.264": [*X264, "-f", "h264"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"],
    "moving.gif": [],
    "still.webp": ["-frames:v", "1"],
    "frames.y4m": ["-pix_fmt", "yuv420p"],
    "mjpeg.avi": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    for name, output in FILES.items():
        run_ffmpeg([*SOURCE, *output, str(folder / name)])
    run_ffmpeg([*SOURCE, *X264, "-movflags", "frag_keyframe+empty_moov", str(folder / "fragments.mp4")])
    parts = []
    for number, size in enumerate(("96x64", "160x96")):
        part = folder / f"part{number}.bin"
        source = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=12:d=0.5"]
        run_ffmpeg([*source, *X264, "-output_ts_offset", str(number * 0.5), "-f", "mpegts", str(part)])
        parts.append(part.read_bytes())
    (folder / "grows.ts").write_bytes(b"".join(parts))
    return folder


def scored(model: Path, path: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["score", "--model", str(model), str(path), *options])


def set_limit(monkeypatch: pytest.MonkeyPatch, pixels: int, decoder_pixels: int | None = None) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", pixels)
    if decoder_pixels is not None:
        monkeypatch.setitem(limits.DECODER_OPTIONS, "max_pixels", str(decoder_pixels))


@pytest.mark.parametrize("decoder_pixels", [None, 100 * 96])
@pytest.mark.parametrize("name", FILES)
def test_a_frame_over_the_limit_is_refused_by_its_size(
    name: str, decoder_pixels: int | None, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scored(model, files / name).exit_code == 0
    set_limit(monkeypatch, 160 * 96 - 1, decoder_pixels)
    done = scored(model, files / name)
    # Only the WebP decoder knows the size.
    size = "160x96" if decoder_pixels is None or name != "still.webp" else "15,359"
    assert done.exit_code == 1
    assert size in done.stderr
    assert "15,359" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(ValueError, match=size):
        probe(files / name)


@pytest.mark.parametrize("decoder_pixels", [None, 100 * 96])
def test_a_frame_that_grows_over_the_limit_is_refused(
    decoder_pixels: int | None, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scored(model, files / "grows.ts").exit_code == 0
    set_limit(monkeypatch, 100 * 96, decoder_pixels)
    done = scored(model, files / "grows.ts")
    assert done.exit_code == 1
    assert "9,600" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_8k_is_within_the_limit() -> None:
    limits.check_size(7680, 4320, "8k")
    limits.check_size(8192, 8192, "square")
    with pytest.raises(ValueError, match=r"big: .*8193x8192.*67,108,864"):
        limits.check_size(8193, 8192, "big")


def test_a_huge_frame_size_in_a_header_is_refused(files: Path, model: Path, tmp_path: Path) -> None:
    data = bytearray((files / "moving.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 20000, 20000)
    (tmp_path / "huge.gif").write_bytes(data)
    done = scored(model, tmp_path / "huge.gif")
    assert done.exit_code == 1
    assert "20000x20000" in done.stderr


class Pipe(io.RawIOBase):
    """Endless zeros after a header; counts bytes read."""

    def __init__(self, head: bytes) -> None:
        self.head, self.num_read = head, 0

    def read(self, size: int = -1) -> bytes:
        part, self.head = self.head[:size], self.head[size:]
        data = part + bytes(size - len(part))
        self.num_read += len(data)
        return data

    def readline(self, size: int | None = -1) -> bytes:
        line, self.head = self.head.split(b"\n", 1)
        return line + b"\n"


def test_a_huge_y4m_pipe_is_refused_before_reading_a_frame(model: Path) -> None:
    pipe = Pipe(b"YUV4MPEG2 W16000 H16000 F25:1 C420\nFRAME\n")
    with pytest.raises(ValueError, match=r"16000x16000.*67,108,864"):
        Scorer(model).score(pipe)  # type: ignore[arg-type]
    assert pipe.num_read < 2**20


def with_start(path: Path, box: bytes, contents: bytes) -> bytes:
    """A file with the start of a box of this type overwritten."""
    data = bytearray(path.read_bytes())
    at = data.index(box) + 4
    data[at : at + len(contents)] = contents
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "box", "contents"),
    [
        ("h264.mp4", b"stsz", struct.pack(">3I", 0, 1, 50_000_000)),
        ("h264.mp4", b"stts", struct.pack(">4I", 0, 1, 50_000_000, 1)),
        ("fragments.mp4", b"trun", struct.pack(">2I", 0, 50_000_000)),
    ],
)
def test_a_sample_table_longer_than_its_file_is_refused(
    name: str, box: bytes, contents: bytes, files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scored(model, files / name).exit_code == 0
    monkeypatch.delattr("rungwise.media.container.av.open")  # it would exhaust the memory
    (tmp_path / name).write_bytes(with_start(files / name, box, contents))
    done = scored(model, tmp_path / name)
    assert done.exit_code == 1
    assert "50,000,000 samples" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["h264.mp4", "fragments.mp4", "h264.ts", "moving.gif", "frames.y4m"])
def test_more_frames_than_the_limit_are_refused(
    name: str, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_FRAMES", 6)
    assert scored(model, files / name).exit_code == 0
    monkeypatch.setattr(limits, "MAX_FRAMES", 5)
    if name.endswith("mp4"):
        monkeypatch.delattr("rungwise.media.container.av.open")  # refused before libav opens it
    done = scored(model, files / name)
    assert done.exit_code == 1
    assert "5 frames" in done.stderr
    if name.endswith("y4m"):  # a pipe is not limited: its memory does not grow
        Scorer(model).score(io.BytesIO((files / name).read_bytes()))


@pytest.mark.parametrize("ratio", [(1_000_000, 1), (1, 1_000_000), (17, 1)])
def test_an_absurd_sample_aspect_ratio_is_treated_as_square(
    ratio: tuple[int, int], model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "absurd.mp4"
    run_ffmpeg([*SOURCE, "-c:v", "mpeg4", "-pix_fmt", "yuv420p", "-vf", "setsar=17/1", str(path)])
    path.write_bytes(with_start(path, b"pasp", struct.pack(">2I", *ratio)))
    score = Scorer(model).score(path)
    assert score.display_height == 96
    assert any("treated as square" in note and "16:1" in note for note in score.notes)
    assert not any("evaluated at" in note for note in score.notes)


def test_a_sample_aspect_ratio_within_the_limit_is_applied(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    run_ffmpeg([*SOURCE, *X264, "-vf", "setsar=16/1", str(path)])
    assert any("2560x96" in note for note in Scorer(model).score(path).notes)


@pytest.mark.parametrize("name", ["named.mkv", "named.avi", "named.mp4"])
def test_a_title_that_is_not_utf8_is_no_error(name: str, model: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    run_ffmpeg([*SOURCE, *X264, "-metadata", "title=abcdef", str(path)])
    data = path.read_bytes()
    assert b"abcdef" in data
    path.write_bytes(data.replace(b"abcdef", b"\xe4\xf6\xfc\xff\x80\xc3"))
    assert scored(model, path).exit_code == 0


def test_a_display_size_over_the_limit_is_refused(files: Path, model: Path) -> None:
    done = scored(model, files / "h264.mp4", "--display-height", "100000")
    assert done.exit_code == 1
    assert "166667x100000" in done.stderr
    assert "67,108,864" in done.stderr


@pytest.mark.parametrize(
    ("threads", "width", "height", "expected"),
    [(None, 1920, 1080, None), (8, 1920, 1080, 8), (None, 7680, 4320, 2), (8, 7680, 4320, 2), (8, 8192, 8192, 1)],
)
def test_decoders_of_large_frames_get_few_threads(
    threads: int | None, width: int, height: int, expected: int | None
) -> None:
    assert limits.decoder_threads(threads, width, height) == expected


def test_a_sample_aspect_ratio_is_used_within_the_limit() -> None:
    for ratio in (Fraction(1, 16), Fraction(4, 3), Fraction(16)):
        assert not limits.is_absurd_aspect(ratio)
    assert limits.is_absurd_aspect(Fraction(1, 17))
    assert not limits.is_absurd_aspect(None)


def test_the_decoder_for_block_qp_has_the_limit(files: Path) -> None:
    from rungwise.bitstream.qp import QstepReader
    from rungwise.media.container import open_video, video_stream

    with open_video(files / "h264.mp4") as container:
        reader = QstepReader(video_stream(container))
        assert isinstance(reader.decoder, av.CodecContext)
        assert reader.decoder.options["max_pixels"] == limits.DECODER_OPTIONS["max_pixels"]
