"""Limits on input files: pixels of a frame, number of frames, sample aspect ratio.

A header may state any number, and frames may be larger than the header states. Limits are checked when a file is
opened, by libav before it allocates a frame, and on every decoded frame.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from rungwise.media.tracks import stated_samples

MAX_PIXELS = 8192 * 8192  # 8K video has 7680 x 4320; H.264, HEVC and AV1 define levels up to 8192 x 4352
MAX_FRAMES = 2**22  # 19 hours at 60 fps; about 400 bytes of memory per frame
MAX_SAMPLE_ASPECT = 16  # or its reciprocal; real ones are below 4
MAX_Y4M_HEADER_BYTES = 4096
# libav compares padded rows (multiples of 64 pixels), so its limit is a little higher.
DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS * 9 // 8)}
# Undecodable characters in tags raise by default before PyAV 19, which replaces them and has no option.
TAG_OPTIONS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


def check_size(width: int, height: int, name: str, *, scaled: bool = False) -> None:
    """Refuse frames with too many pixels, as decoded or (`scaled`) at the display height.

    Raises:
        ValueError: more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name}: frames {'scaled to' if scaled else 'of'} {width}x{height} are too large; "
            f"the limit is {MAX_PIXELS:,} pixels, such as 8192x8192"
        )


def check_tables(path: Path) -> None:
    """Refuse a file whose sample tables state more samples than it has bytes, or more frames than `MAX_FRAMES`.

    Call this before libav opens the file: it allocates 24 bytes per stated sample.

    Raises:
        ValueError: the tables state too many.
    """
    num_bytes = path.stat().st_size
    num_frames, num_samples = stated_samples(path)
    if num_samples > num_bytes:
        raise ValueError(f"{path}: broken sample table: it states {num_samples:,} samples in {num_bytes:,} bytes")
    check_frames(num_frames, path)


def check_frames(num_frames: int, name: object) -> None:
    """Refuse a video with too many frames.

    Raises:
        ValueError: more than `MAX_FRAMES`.
    """
    if num_frames > MAX_FRAMES:
        raise ValueError(f"{name}: too long; the limit is {MAX_FRAMES:,} frames (19 hours at 60 fps)")


def check_stated_size(path: Path, stream: Any) -> None:
    """Refuse a file by the frame size that its header states.

    Args:
        path: the video.
        stream: the selected stream, of a container opened with `DECODER_OPTIONS`.

    Raises:
        ValueError: more than `MAX_PIXELS`.
    """
    context = stream.codec_context
    width, height = context.width, context.height
    if not width or not height:  # libav drops the size of a frame that it refuses while probing
        width, height = _stated_size(path, stream.index)
    check_size(width, height, str(path))


def _stated_size(path: Path, index: int) -> tuple[int, int]:
    """(width, height) from container and parser without opening a decoder; (0, 0) if unknown."""
    options = {"protocol_whitelist": "file", "codec_whitelist": "none"}
    try:
        with av.open(f"file:{path}", options=options, **TAG_OPTIONS) as container:
            context: Any = container.streams[index].codec_context
            return (context.width, context.height) if context else (0, 0)
    except (av.error.FFmpegError, IndexError):
        return 0, 0


def decoder_threads(threads: int | None, width: int, height: int) -> int | None:
    """Decoder threads, limited so that the frames they hold have at most `MAX_PIXELS` together.

    None (libav's choice) is kept for frames up to `MAX_PIXELS` / 16, which is about 2560 x 1600.
    """
    pixels = width * height
    if threads is None and pixels <= MAX_PIXELS // 16:
        return None
    max_threads = max(1, MAX_PIXELS // max(1, pixels))
    return max_threads if threads is None else min(threads, max_threads)


def decoding_error(name: object, error: av.error.FFmpegError, width: int) -> ValueError:
    """One-line error for a failed decoder; `width` is 0 if it refused a frame by its size."""
    may_be_large = not width and isinstance(error, av.error.ArgumentError)
    hint = f", or a frame of more than {MAX_PIXELS:,} pixels" if may_be_large else ""
    return ValueError(f"{name}: broken while decoding ({error.strerror}{hint})")


def stated_aspect(stream: Any) -> Fraction | None:
    """The sample aspect ratio that the file states; None if it states none or an absurd one."""
    ratio = stream.sample_aspect_ratio
    return Fraction(ratio) if ratio and not is_absurd_aspect(ratio) else None


def is_absurd_aspect(ratio: Fraction | None) -> bool:
    """Whether a stated sample aspect ratio is outside 1:16 to 16:1; it is then treated as square."""
    return ratio is not None and ratio > 0 and not 1 / MAX_SAMPLE_ASPECT <= ratio <= MAX_SAMPLE_ASPECT


def check_y4m(head: bytes, name: str) -> None:
    """Refuse a y4m stream by the W and H in its header line.

    Raises:
        ValueError: its frames are too large.
    """
    line = head.split(b"\n", 1)[0]
    if line.startswith(b"YUV4MPEG2"):
        sides = {field[:1]: int(field[1:]) for field in re.findall(rb" ([WH]\d{1,18})", line)}
        check_size(sides.get(b"W", 0), sides.get(b"H", 0), name)
