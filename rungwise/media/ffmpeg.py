"""Run ffmpeg quietly, with its stderr in the error; probe the format of a first frame."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg

from rungwise.failures import ToolError

MAX_STDERR_LINES = 12  # last lines of ffmpeg's stderr in an error


class FfmpegError(ToolError):
    """ffmpeg failed; `stderr` has the last lines of its stderr."""

    def __init__(self, message: str, stderr: str) -> None:
        super().__init__(f"{message}; ffmpeg reported:\n{stderr}")
        self.stderr = stderr


@dataclass(frozen=True)
class Probe:
    """A video as ffmpeg decodes it: size in pixels after rotation, frame rate, bits per sample."""

    width: int
    height: int
    fps: Fraction
    bit_depth: int


def run_ffmpeg(arguments: Sequence[str], cwd: Path | None = None, writes: Path | None = None) -> bytes:
    """Run ffmpeg with `arguments` and return its stdout.

    Args:
        arguments: command-line arguments.
        cwd: working directory.
        writes: a file that must exist afterwards. A filter that fails while other outputs continue does not always
            change the exit status.

    Raises:
        FfmpegError: the exit status is not 0, or `writes` is missing.
    """
    process = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"SVT_LOG": "1"},  # SVT-AV1 ignores -v; 1 is errors only
    )
    if process.returncode or (writes is not None and not writes.is_file()):
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        stderr = "\n".join(lines[-MAX_STDERR_LINES:]) or "(empty)"
        raise FfmpegError(f"ffmpeg failed with exit status {process.returncode}", stderr)
    return process.stdout


@functools.cache
def ffmpeg_version() -> str:
    """Version of the ffmpeg in use, such as "n7.1-12-gabc"; encodes depend on it."""
    first = run_ffmpeg(["-version"]).decode().splitlines()[0]
    return first.removeprefix("ffmpeg version ").split(" ")[0]


def probe(source: Path, input_arguments: Sequence[str] = ()) -> Probe:
    """Decode the first frame of `source` and describe it.

    Raises:
        FfmpegError: no frame can be decoded.
    """
    # A YUV4MPEG header states the size after rotation, the exact rate and the bit depth in a stable format, unlike the
    # stream line that ffmpeg logs.
    command = [*input_arguments, "-i", str(source.absolute()), "-map", "0:V:0", "-frames:v", "1"]
    command += ["-strict", "-1", "-f", "yuv4mpegpipe", "-"]
    header = run_ffmpeg(command).partition(b"\n")[0].decode()
    match = re.match(r"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", header)
    if not match:
        raise FfmpegError(f"no frame could be decoded from {source}", "(empty)")
    width, height, numerator, denominator = (int(group) for group in match.groups())
    depth = re.search(r" C(?:4\d\dp|mono)(\d+)", header)
    return Probe(width, height, Fraction(numerator, denominator), int(depth[1]) if depth else 8)
