"""The one runner of ffmpeg: quiet, with its own words in the error, and its first frame's format."""

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

WORDS_KEPT = 12  # lines of ffmpeg's stderr an error carries


class FfmpegError(ToolError):
    """ffmpeg failed. ``words`` holds the last lines of its stderr."""

    def __init__(self, message: str, words: str) -> None:
        super().__init__(f"{message}; ffmpeg said:\n{words}")
        self.words = words


@dataclass(frozen=True)
class Probe:
    """A video as ffmpeg decodes it, after rotation: pixels, frames per second, bits per sample."""

    width: int
    height: int
    fps: Fraction
    bit_depth: int


def run_ffmpeg(arguments: Sequence[str], cwd: Path | None = None, writes: Path | None = None) -> bytes:
    """Run ffmpeg quietly with ``arguments``; return its stdout.

    FfmpegError, with its own words, if it fails, or succeeds without leaving the file ``writes``: a filter
    that fails while other outputs go on does not always change the exit status.
    """
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"SVT_LOG": "1"},  # SVT-AV1 ignores -v; 1 leaves it its errors
    )
    if done.returncode or (writes is not None and not writes.is_file()):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        words = "\n".join(lines[-WORDS_KEPT:]) or "nothing"
        raise FfmpegError(f"ffmpeg failed with exit status {done.returncode}", words)
    return done.stdout


@functools.cache
def ffmpeg_version() -> str:
    """The version of the ffmpeg in use, such as ``n7.1-12-gabc``: part of what decides an encode's bytes."""
    first = run_ffmpeg(["-version"]).decode().splitlines()[0]
    return first.removeprefix("ffmpeg version ").split(" ")[0]


def probe(source: Path, input_arguments: Sequence[str] = ()) -> Probe:
    """Decode the first frame of ``source`` and describe it. FfmpegError if ffmpeg cannot."""
    # YUV4MPEG states the size after rotation, the exact rate and the depth in one line of stable text; the
    # stream line that ffmpeg logs is neither exact nor stable.
    command = [*input_arguments, "-i", str(source.absolute()), "-map", "0:V:0", "-frames:v", "1"]
    command += ["-strict", "-1", "-f", "yuv4mpegpipe", "-"]
    header = run_ffmpeg(command).partition(b"\n")[0].decode()
    found = re.match(r"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", header)
    if not found:
        raise FfmpegError(f"no frame could be decoded from {source}", "nothing")
    width, height, numerator, denominator = (int(group) for group in found.groups())
    depth = re.search(r" C(?:4\d\dp|mono)(\d+)", header)
    return Probe(width, height, Fraction(numerator, denominator), int(depth[1]) if depth else 8)
