"""Procedural, never-compressed master videos: seeded synthetic scenes with natural-image statistics.

A scene is drawn in two steps. Its family's function paints large canvases and sprites once, from a
generator seeded by the scene alone, and returns ``draw(seconds) -> picture``; :func:`render` then samples
``draw`` on the frame grid and adds what a camera would: defocus, contrast, sensor noise or film grain.
Motion is a function of time in seconds, and sizes are fractions of the picture height, so a scene keeps its
look (not its exact texture) at any size, rate and duration.
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
from rungwise.scenes.built import film, night_city, screen, street
from rungwise.scenes.camera import photograph_frames
from rungwise.scenes.nature import dead_leaves, fog, foliage, gradient, landscape, water
from rungwise.scenes.paint import F32, Rng, soften, to_image
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
    "write_photograph",
]

MASTERS_VERSION = 1  # bump when any pixel changes

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
    """Noise larger than the picture, unit deviation; film grain is monochrome and about two pixels wide."""
    pool = rng.standard_normal((h + h // 2, w + w // 2, 1 if grain else 3), dtype=np.float32)
    if grain:
        pool = (pool + np.roll(pool, 1, 0)) + np.roll(pool + np.roll(pool, 1, 0), 1, 1)
    else:
        pool += pool[..., 1:2]  # sensors' color channels are denoised together
    return pool / np.float32(pool.std())


def render(
    name: str, *, width: int = 640, height: int = 360, num_frames: int = 48, fps: float = 24.0
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``num_frames`` frames, each (height, width, 3) uint8 RGB, of a scene at ``fps`` per second.

    Pixels depend on the name, the size and the rate only. Raises ValueError, at the call, for an unknown name
    (naming the families), a side under 64 pixels, or a count or rate that is not positive.
    """
    scene = find_scene(name)
    if min(width, height) < 64 or num_frames < 1 or not fps > 0:
        raise ValueError(f"cannot render {width}x{height}, {num_frames} frames at {fps} frames per second")
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
            picture = soften(picture, s.blur * height / 1000)
        frame = (np.asarray(picture, dtype=np.float32) - 127.5) * np.float32(s.contrast) + 127.5
        if pool is not None:
            y, x = rng.integers(pool.shape[0] - height + 1), rng.integers(pool.shape[1] - width + 1)
            noise = pool[y : y + height, x : x + width]
            if grain:  # strongest in the mid tones
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
    """Render a scene into ``path``: lossless FFV1, yuv420p, BT.709 limited range, Matroska; same bytes.

    The file appears complete or not at all. Raises ValueError as :func:`render` does, and RuntimeError with
    ffmpeg's last lines if encoding fails.
    """
    write_frames(render(name, width=width, height=height, num_frames=num_frames, fps=fps), path, width, height, fps)


def write_photograph(
    picture: Path, path: Path, seed: int, *, width: int, height: int, num_frames: int, fps: float
) -> None:
    """Write a shot of a picture as :func:`write_master` writes a scene. ValueError as `photograph_frames` raises it."""
    frames = photograph_frames(picture, seed, width=width, height=height, num_frames=num_frames, fps=fps)
    write_frames(frames, path, width, height, fps)


def write_frames(frames: Iterator[NDArray[np.uint8]], path: Path, width: int, height: int, fps: float) -> None:
    """Write RGB frames losslessly; the file appears complete or not at all."""
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
        with tempfile.TemporaryFile() as log:  # a file, not a pipe: nobody reads while frames are written
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
            assert process.stdin is not None
            try:
                for frame in frames:
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg ended early; its exit status and its log say why
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
    """Write a PNG with one row a scene: its name over its first, middle and last frame."""
    label = 18
    sheet = Image.new("RGB", (3 * width, len(names) * (height + label)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        top = row * (height + label)
        pen.text((4, top), name, font=ImageFont.load_default(size=14), fill="black")
        wanted = (0, num_frames // 2, num_frames - 1)
        for i, frame in enumerate(render(name, width=width, height=height, num_frames=num_frames, fps=fps)):
            for column in (c for c in range(3) if wanted[c] == i):
                sheet.paste(Image.fromarray(frame), (column * width, top + label))
    sheet.save(path)
