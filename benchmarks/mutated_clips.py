"""Tiny valid clips in many containers and codecs, and damaged copies by seed: the input of hostile.py and its test."""

from __future__ import annotations

import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, NUM_FRAMES, FPS = 128, 96, 12, 24


@dataclass(frozen=True)
class Recipe:
    """How a clip is coded: libav's encoder, its options, and those of the container."""

    encoder: str
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    container: str | None = None  # by the file's suffix if None
    num_frames: int = NUM_FRAMES


X264 = {"preset": "ultrafast", "threads": "1", "bf": "2", "g": "6"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1:keyint=6"}
AV1 = {"preset": "12", "svtav1-params": "lp=1:keyint=6"}
VPX = {"deadline": "realtime", "cpu-used": "8", "threads": "1", "g": "6"}
GROUP = {"g": "6", "threads": "1"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
RECIPES = {
    "h264.mp4": Recipe("libx264", options=X264),
    "h264_fragments.mp4": Recipe("libx264", options=X264, container_options=FRAGMENTS),
    "h264_edits.mp4": Recipe("libx264", options=X264, container_options={"movflags": "faststart", "use_editlist": "1"}),
    "h264.mov": Recipe("libx264", options=X264),
    "h264.mkv": Recipe("libx264", options=X264),
    "h264.ts": Recipe("libx264", options=X264),
    "h264.flv": Recipe("libx264", options=X264),
    "h264.264": Recipe("libx264", options=X264, container="h264"),
    "h264_10bit.mkv": Recipe("libx264", "yuv420p10le", X264),
    "hevc.mp4": Recipe("libx265", options=X265),
    "hevc.ts": Recipe("libx265", options=X265),
    "hevc.265": Recipe("libx265", options=X265, container="hevc"),
    "av1.mp4": Recipe("libsvtav1", options=AV1),
    "av1_fragments.mp4": Recipe("libsvtav1", options=AV1, container_options=FRAGMENTS),
    "av1.ivf": Recipe("libsvtav1", options=AV1),
    "av1.mkv": Recipe("libsvtav1", options=AV1),
    "av1.obu": Recipe("libsvtav1", options=AV1, container="obu"),
    "vp8.webm": Recipe("libvpx", options=VPX),
    "vp8.ivf": Recipe("libvpx", options=VPX),
    "vp9.webm": Recipe("libvpx-vp9", options=VPX),
    "vp9.ivf": Recipe("libvpx-vp9", options=VPX),
    "mpeg1.mpg": Recipe("mpeg1video", options=GROUP),
    "mpeg2.ts": Recipe("mpeg2video", options=GROUP | {"bf": "2"}),
    "mpeg2.vob": Recipe("mpeg2video", options=GROUP | {"bf": "2"}),
    "mpeg2.mxf": Recipe("mpeg2video", options=GROUP),
    "mpeg4.avi": Recipe("mpeg4", options=GROUP),
    "mpeg4.mp4": Recipe("mpeg4", options=GROUP | {"bf": "1"}),
    "h263.3gp": Recipe("h263", options=GROUP),
    "flv1.flv": Recipe("flv", options=GROUP),
    "msmpeg4.avi": Recipe("msmpeg4", options=GROUP),
    "wmv2.wmv": Recipe("wmv2", options=GROUP, container="asf"),
    "rv20.rm": Recipe("rv20", options=GROUP),
    "mjpeg.avi": Recipe("mjpeg", "yuvj420p"),
    "mjpeg.mov": Recipe("mjpeg", "yuvj422p"),
    "prores.mov": Recipe("prores_ks", "yuv422p10le"),
    "ffv1.mkv": Recipe("ffv1", "yuv422p12le"),
    "png.mov": Recipe("png", "rgb24"),
    "moving.gif": Recipe("gif", "rgb8"),
    "still.webp": Recipe("libwebp", container="webp", num_frames=1),
    "moving.apng": Recipe("apng", "rgba", container="apng"),
    "raw.y4m": Recipe("wrapped_avframe", container="yuv4mpegpipe"),
    "raw.avi": Recipe("rawvideo", "yuv420p"),
    "h264.nut": Recipe("libx264", options=X264),
}


def make_clips(folder: Path, names: list[str] | None = None) -> dict[str, bytes]:
    """Name -> bytes of valid clips of half a second; those of all `RECIPES` if no names are given."""
    os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 says on stderr what it does
    clips = {}
    for name in names or list(RECIPES):
        path = folder / name
        write_clip(path, RECIPES[name])
        clips[name] = path.read_bytes()
    return clips


def write_clip(path: Path, recipe: Recipe) -> None:
    """A moving gradient with noise on a part of it."""
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    side = (128, 96) if recipe.encoder == "h263" else (WIDTH, HEIGHT)  # H.263 knows five sizes: sub-QCIF is one
    with av.open(str(path), "w", format=recipe.container, options=recipe.container_options) as container:
        stream = container.add_stream(recipe.encoder, rate=FPS, options=recipe.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = side
        stream.pix_fmt = recipe.pixel_format
        for number in range(recipe.num_frames):
            pixels = np.stack([across + 4 * number, down + 2 * number, across + down], -1).astype(np.uint8)
            pixels[8 : 8 + HEIGHT // 2, number : number + WIDTH // 2] += noise
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=recipe.pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF00, 0x10000000)
SIZED = (
    rb"moov|trak|mdia|minf|stbl|stsd|stsz|stco|stsc|mdat|moof|traf|trun|avcC|hvcC|av1C|RIFF|LIST|movi|idx1|strf|00dc"
)
TIMED = rb"mvhd|tkhd|mdhd|elst|stts|ctts|tfdt|tfhd|trun|sidx|avih|strh|\x2a\xd7\xb1|\x44\x89|DKIF"
Random = random.Random


def flip_one(data: bytearray, other: bytes, rng: Random) -> None:
    """One bit."""
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_many(data: bytearray, other: bytes, rng: Random) -> None:
    """A bit in every thousand bytes or more often, anywhere."""
    for _ in range(rng.randint(2, max(3, len(data) // rng.choice((50, 200, 1000))))):
        flip_one(data, other, rng)


def flip_header(data: bytearray, other: bytes, rng: Random) -> None:
    """Bytes among the first, or the last, where headers and indices lie."""
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(min(len(data), 600))
        data[at if rng.random() < 0.7 else -1 - at] = rng.randrange(256)


def truncate(data: bytearray, other: bytes, rng: Random) -> None:
    """The end is missing, or the beginning."""
    at = rng.randrange(1, len(data))
    if rng.random() < 0.8:
        del data[at:]
    else:
        del data[:at]


def drop(data: bytearray, other: bytes, rng: Random) -> None:
    """A piece is missing."""
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, max(1, len(data) // 4))]


def duplicate(data: bytearray, other: bytes, rng: Random) -> None:
    """A piece comes twice."""
    at = rng.randrange(len(data))
    piece = data[at : at + rng.randint(1, max(1, len(data) // 2))]
    data[at:at] = piece


def splice(data: bytearray, other: bytes, rng: Random) -> None:
    """From some place on, another clip."""
    data[rng.randrange(1, len(data)) :] = other[rng.randrange(len(other)) :]


def swap_bytes(data: bytearray, other: bytes, rng: Random) -> None:
    """Neighboring bytes of a stretch change places."""
    at = rng.randrange(max(1, len(data) - 2))
    end = min(len(data), at + 2 * rng.randint(1, max(1, len(data) // 4)))
    end -= (end - at) % 2
    data[at:end:2], data[at + 1 : end : 2] = data[at + 1 : end : 2], data[at:end:2]


def fill_run(data: bytearray, other: bytes, rng: Random) -> None:
    """A stretch of zeros, or of ones."""
    at = rng.randrange(len(data))
    length = min(len(data) - at, rng.randint(1, max(1, len(data) // 4)))
    data[at : at + length] = bytes([rng.choice((0, 0xFF))]) * length


def _write_number(data: bytearray, at: int, rng: Random) -> None:
    order = rng.choice("<>")
    if 0 <= at <= len(data) - 4:
        data[at : at + 4] = struct.pack(f"{order}I", rng.choice((*EXTREMES, rng.getrandbits(32))))


def change_size(data: bytearray, other: bytes, rng: Random) -> None:
    """A size or a count before or behind a known name becomes extreme."""
    places = [match.start() for match in re.finditer(SIZED, data)]
    for _ in range(rng.randint(1, 2)):
        at = rng.choice(places) + rng.choice((-4, 4, 8, 12, 16)) if places else rng.randrange(len(data))
        _write_number(data, at, rng)


def change_time(data: bytearray, other: bytes, rng: Random) -> None:
    """A time, a duration or a rate behind a known name becomes extreme."""
    places = [match.start() for match in re.finditer(TIMED, data)]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(places) + 4 * rng.randint(1, 8) if places else rng.randrange(min(len(data), 400))
        _write_number(data, at, rng)


def negate_time(data: bytearray, other: bytes, rng: Random) -> None:
    """A time behind a known name becomes negative."""
    places = [match.start() for match in re.finditer(TIMED, data)]
    at = rng.choice(places) + 4 * rng.randint(1, 6) if places else rng.randrange(min(len(data), 400))
    if at <= len(data) - 8:
        data[at : at + 8] = struct.pack(">ii", -1, -rng.randint(1, 90000))


MUTATIONS: dict[str, Callable[[bytearray, bytes, Random], None]] = {
    "flip_one": flip_one,
    "flip_many": flip_many,
    "flip_header": flip_header,
    "truncate": truncate,
    "drop": drop,
    "duplicate": duplicate,
    "splice": splice,
    "swap_bytes": swap_bytes,
    "fill_run": fill_run,
    "change_size": change_size,
    "change_time": change_time,
    "negate_time": negate_time,
}


def mutants(clips: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(name, kind, bytes) of so many damaged clips; number n is the same whatever `count` is."""
    names, kinds = list(clips), list(MUTATIONS)
    for number in range(count):
        rng = Random(f"{seed} {number}")
        name, kind = names[number % len(names)], kinds[(number + number // len(names)) % len(kinds)]
        data = bytearray(clips[name])
        MUTATIONS[kind](data, clips[rng.choice(names)], rng)
        yield f"{number:05d}_{kind}_{name}", kind, bytes(data)
