"""A photograph under a synthetic camera: a still picture becomes a master video of any size.

The camera pans and zooms slowly over the picture and trembles a little; its sensor adds light noise. Everything is
drawn from a generator seeded by the shot's name, so the same picture and name give the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rungwise.scenes.paint import wander

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LEAST_SHRINK, MOST_SHRINK = 1.25, 3.5  # picture pixels for one of the video's: a photograph's own pixels are soft
TREMBLE_PX, TREMBLE_HZ = 0.8, 1.3  # of a hand that holds a camera with a stabiliser
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap width and height
MOST_NOISE = 2.5  # deviation in code values
STILL_SHARE = 0.25  # of the shots stand on a tripod


def picture_size(picture: Path) -> tuple[int, int]:
    """(width, height) in pixels as shown. ValueError if it is not a picture."""
    try:
        with Image.open(picture) as opened:
            turned = opened.getexif().get(ORIENTATION, 1) in SIDEWAYS
            return (opened.height, opened.width) if turned else opened.size
    except OSError as error:
        raise ValueError(f"{picture}: not a picture: {error}") from error


def photograph_frames(
    picture: Path, seed: int, *, width: int, height: int, num_frames: int, fps: float
) -> Iterator[NDArray[np.uint8]]:
    """Yield `num_frames` frames, each (height, width, 3) uint8 RGB, of a shot of a picture.

    Raises:
        ValueError: not a picture, or one that is smaller than the video.
    """
    try:
        with Image.open(picture) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise ValueError(f"{picture}: not a picture: {error}") from error
    most = min(image.width / width, image.height / height)
    if most < 1:
        raise ValueError(f"{picture}: is {image.width}x{image.height}, smaller than the video, {width}x{height}")
    rng = np.random.default_rng(seed)
    # A photograph is far larger than a shot of it, so both ends of a pan are drawn freely.
    shrink = rng.uniform(min(LEAST_SHRINK, most), min(MOST_SHRINK, most))
    zoom = shrink * np.clip(rng.uniform(0.9, 1.1), 1 / shrink, most / shrink)
    speed = 0.0 if rng.random() < STILL_SHARE else rng.uniform(0.02, 0.25) * height  # pixels of the video a second
    angle, moving = rng.uniform(0, 2 * np.pi), num_frames / fps
    tremble = [wander(rng, TREMBLE_HZ) for _ in range(2)]
    held = TREMBLE_PX * (speed > 0)
    noise = rng.uniform(0, MOST_NOISE) * (rng.random() < 0.6)
    start = [rng.uniform(shrink * side / 2, full - shrink * side / 2) if full > shrink * side else full / 2
             for side, full in ((width, image.width), (height, image.height))]  # fmt: skip
    for index in range(num_frames):
        t = index / fps
        scale = shrink + (zoom - shrink) * t / moving if speed else shrink
        w, h = width * scale, height * scale
        x = start[0] + scale * (speed * np.cos(angle) * t + held * tremble[0](t))
        y = start[1] + scale * (speed * np.sin(angle) * t + held * tremble[1](t))
        left, top = np.clip(x - w / 2, 0, image.width - w), np.clip(y - h / 2, 0, image.height - h)
        box = (float(left), float(top), float(min(left + w, image.width)), float(min(top + h, image.height)))
        frame = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
        if not noise:
            yield np.asarray(frame)
            continue
        noisy = np.asarray(frame, np.float32) + np.float32(noise) * rng.standard_normal((height, width, 3), np.float32)
        yield np.clip(noisy + np.float32(0.5), 0, 255).astype(np.uint8)
