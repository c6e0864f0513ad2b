"""Procedural, uncompressed master videos: seeded synthetic scenes with natural-image statistics.

A scene is rendered in two steps. The function of its family paints large canvases and sprites once, with a generator
seeded by the scene only, and returns `draw(seconds) -> picture`. `render` then samples `draw` at the frame times and
adds camera effects: defocus, contrast, sensor noise or film grain. Motion is a function of time in seconds, and sizes
are fractions of the picture height. A scene therefore keeps its look (not its exact texture) at any size, frame rate
and duration.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rungwise.failures import ToolError
from rungwise.scenes.built import film, night_city, street
from rungwise.scenes.camera import pan_zoom_frames
from rungwise.scenes.desktop import screen
from rungwise.scenes.nature import dead_leaves, fog, foliage, gradient, landscape, water
from rungwise.scenes.paint import F32, Rng, gaussian_blur, to_image
from rungwise.scenes.scene import SCENES, Draw, Scene, find_scene

__all__ = [
    "FAMILIES",
    "MASTERS_VERSION",
    "SCENES",
    "Scene",
    "contact_sheet",
    "find_scene",
    "render",
    "write_master",
    "write_pan_zoom_clip",
]

MASTERS_VERSION = 1  # increment it if any pixel changes

FAMILIES: dict[str, Callable[[Scene, Rng, int, int], Draw]] = {
    "dead_leaves": dead_leaves,
    "landscape": landscape,
    "street": street,
    "film": film,
    "fog": fog,
    "night_city": night_city,
    "screen": screen,
    "gradient": gradient,
    "water": water,
    "foliage": foliage,
}


def _noise_pool(rng: Rng, w: int, h: int, grain: bool) -> F32:
    """Noise with unit standard deviation, 1.5 times the picture size: RGB sensor noise, or monochrome film grain."""
    pool = rng.standard_normal((h + h // 2, w + w // 2, 1 if grain else 3), dtype=np.float32)
    if grain:  # about two pixels wide
        pool = (pool + np.roll(pool, 1, 0)) + np.roll(pool + np.roll(pool, 1, 0), 1, 1)
    else:
        pool += pool[..., 1:2]  # color channels of a sensor are denoised together, so their noise is correlated
    return pool / np.float32(pool.std())


def render(
    name: str, *, width: int = 640, height: int = 360, num_frames: int = 48, fps: float = 24.0
) -> Iterator[NDArray[np.uint8]]:
    """Yield `num_frames` frames of a scene, each (height, width, 3) uint8 RGB.

    Pixels depend on the name, the size and the frame rate only.

    Raises:
        ValueError: at the call, for an unknown scene, a width or height below 64, or a frame count or rate that is not
            positive.
    """
    scene = find_scene(name)
    if min(width, height) < 64 or num_frames < 1 or not fps > 0:
        raise ValueError(
            f"cannot render {width}x{height}, {num_frames} frames at {fps} fps; width and height must be at least 64"
        )
    return _frames(scene, width, height, num_frames, fps)


def _frames(s: Scene, width: int, height: int, num_frames: int, fps: float) -> Iterator[NDArray[np.uint8]]:
    draw = FAMILIES[s.family](s, np.random.default_rng([s.seed, 0]), width, height)
    rng = np.random.default_rng([s.seed, 1])
    grain = s.family == "film"
    pool = _noise_pool(rng, width, height, grain) * np.float32(s.noise) if s.noise else None
    for i in range(num_frames):
        picture = draw(i / fps)
        if s.blur:
            if not isinstance(picture, Image.Image):
                picture = to_image(picture / 255)
            picture = gaussian_blur(picture, s.blur * height / 1000)
        frame = (np.asarray(picture, dtype=np.float32) - 127.5) * np.float32(s.contrast) + 127.5
        if pool is not None:
            y, x = rng.integers(pool.shape[0] - height + 1), rng.integers(pool.shape[1] - width + 1)
            noise = pool[y : y + height, x : x + width]
            if grain:  # film grain is strongest in mid-tones
                noise = noise * (1.2 - np.abs(frame[..., 1:2] - 127.5) / 160)
            frame += noise
        yield np.clip(frame + np.float32(0.5), 0, 255).astype(np.uint8)


_RAW_INPUT = "-hide_banner -loglevel error -y -filter_threads 1 -f rawvideo -pix_fmt rgb24"
_TO_BT709 = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p,"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
_FFV1 = (
    "-c:v ffv1 -level 3 -coder 1 -context 0 -g 1 -slices 4 -slicecrc 1 -threads 1 "
    "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv "
    "-map_metadata -1 -fflags +bitexact -flags:v +bitexact -f matroska"
)


def write_master(name: str, path: Path, *, width: int, height: int, num_frames: int, fps: float) -> None:
    """Render a scene to lossless FFV1 in Matroska: yuv420p, BT.709, limited range, reproducible bytes.

    The file is written completely or not at all.

    Raises:
        ValueError: as in `render`.
        ToolError: ffmpeg fails; the message has its last lines.
    """
    write_frames(render(name, width=width, height=height, num_frames=num_frames, fps=fps), path, width, height, fps)


def write_pan_zoom_clip(
    still: Path, path: Path, seed: int, *, width: int, height: int, num_frames: int, fps: float
) -> None:
    """Write a synthetic pan/zoom clip from a still, in the format of `write_master`.

    Raises:
        ValueError: as in `pan_zoom_frames`.
        ToolError: ffmpeg fails.
    """
    frames = pan_zoom_frames(still, seed, width=width, height=height, num_frames=num_frames, fps=fps)
    write_frames(frames, path, width, height, fps)


def write_frames(frames: Iterator[NDArray[np.uint8]], path: Path, width: int, height: int, fps: float) -> None:
    """Write RGB frames losslessly; the file is written completely or not at all."""
    import imageio_ffmpeg

    partial = path.with_name(f"{path.name}.{os.getpid()}.partial.mkv")
    rate = Fraction(fps).limit_denominator(1001)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *_RAW_INPUT.split(),
        *f"-video_size {width}x{height} -framerate {rate} -i pipe:0".split(),
        *("-vf", _TO_BT709),
        *_FFV1.split(),
        str(partial),
    ]
    try:
        with tempfile.TemporaryFile() as log:  # a file, because a pipe could fill up while frames are written
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
            assert process.stdin is not None
            try:
                for frame in frames:
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg exited early; the exit status is checked below
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
            if process.returncode:
                log.seek(0)
                tail = log.read().decode(errors="replace").strip().splitlines()[-5:]
                raise ToolError(f"ffmpeg failed on {partial} (status {process.returncode}): " + "\n".join(tail))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def contact_sheet(
    names: Sequence[str], path: Path, *, width: int = 384, height: int = 216, num_frames: int = 48, fps: float = 24.0
) -> None:
    """Write a PNG with one row per scene: its name above its first, middle and last frame."""
    label_height = 18
    sheet = Image.new("RGB", (3 * width, len(names) * (height + label_height)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        top = row * (height + label_height)
        pen.text((4, top), name, font=ImageFont.load_default(size=14), fill="black")
        indices = (0, num_frames // 2, num_frames - 1)
        for i, frame in enumerate(render(name, width=width, height=height, num_frames=num_frames, fps=fps)):
            for column in (c for c in range(3) if indices[c] == i):
                sheet.paste(Image.fromarray(frame), (column * width, top + label_height))
    sheet.save(path)
