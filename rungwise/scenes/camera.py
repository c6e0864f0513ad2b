"""Synthetic pan/zoom clips from stills, used as master videos.

A virtual camera pans and zooms slowly over the still with slight hand shake, and adds light sensor noise. All random
values come from a generator seeded by the clip's name, so the same still and name give the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from rungwise.scenes.paint import smooth_path

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MIN_DOWNSCALE, MAX_DOWNSCALE = 1.25, 3.5  # still pixels per video pixel; above 1, because photographs are soft
SHAKE_PX, SHAKE_HZ = 0.8, 1.3  # of a hand-held, stabilized camera
EXIF_ORIENTATION, ROTATED = 0x0112, (5, 6, 7, 8)  # the tag, and its values that swap width and height
MAX_NOISE = 2.5  # standard deviation in 8-bit levels
STATIC_FRACTION = 0.25  # of clips without camera motion


def picture_size(picture: Path) -> tuple[int, int]:
    """Width and height in pixels after rotation.

    Raises:
        ValueError: the file is not a picture.
    """
    try:
        with Image.open(picture) as image:
            is_rotated = image.getexif().get(EXIF_ORIENTATION, 1) in ROTATED
            return (image.height, image.width) if is_rotated else image.size
    except OSError as error:
        raise ValueError(f"{picture}: not a picture: {error}") from error


def pan_zoom_frames(
    still: Path, seed: int, *, width: int, height: int, num_frames: int, fps: float
) -> Iterator[NDArray[np.uint8]]:
    """Yield `num_frames` frames of a pan/zoom clip, each (height, width, 3) uint8 RGB.

    Raises:
        ValueError: the file is not a picture, or it is smaller than the video.
    """
    try:
        with Image.open(still) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise ValueError(f"{still}: not a picture: {error}") from error
    max_scale = min(image.width / width, image.height / height)
    if max_scale < 1:
        raise ValueError(f"{still}: is {image.width}x{image.height}, smaller than the video, {width}x{height}")
    rng = np.random.default_rng(seed)
    # `start_scale` and `end_scale` are still pixels per video pixel.
    start_scale = rng.uniform(min(MIN_DOWNSCALE, max_scale), min(MAX_DOWNSCALE, max_scale))
    end_scale = start_scale * np.clip(rng.uniform(0.9, 1.1), 1 / start_scale, max_scale / start_scale)
    speed = 0.0 if rng.random() < STATIC_FRACTION else rng.uniform(0.02, 0.25) * height  # video pixels per second
    angle, duration = rng.uniform(0, 2 * np.pi), num_frames / fps
    shake = [smooth_path(rng, SHAKE_HZ) for _ in range(2)]
    shake_px = SHAKE_PX * (speed > 0)
    noise = rng.uniform(0, MAX_NOISE) * (rng.random() < 0.6)
    start = [
        rng.uniform(start_scale * side / 2, full - start_scale * side / 2) if full > start_scale * side else full / 2
        for side, full in ((width, image.width), (height, image.height))
    ]
    for index in range(num_frames):
        t = index / fps
        scale = start_scale + (end_scale - start_scale) * t / duration if speed else start_scale
        w, h = width * scale, height * scale
        x = start[0] + scale * (speed * np.cos(angle) * t + shake_px * shake[0](t))
        y = start[1] + scale * (speed * np.sin(angle) * t + shake_px * shake[1](t))
        # At the largest scale a rounded `w` may exceed the still's width by less than a millionth of a pixel.
        left, top = np.clip(x - w / 2, 0, max(0, image.width - w)), np.clip(y - h / 2, 0, max(0, image.height - h))
        box = (float(left), float(top), float(min(left + w, image.width)), float(min(top + h, image.height)))
        frame = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
        if not noise:
            yield np.asarray(frame)
            continue
        noisy = np.asarray(frame, np.float32) + np.float32(noise) * rng.standard_normal((height, width, 3), np.float32)
        yield np.clip(noisy + np.float32(0.5), 0, 255).astype(np.uint8)
