"""Scenes: the catalog of ten families with four scenes each, and any number of further scenes per family."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rungwise.scenes.paint import F32

Draw = Callable[[float], "Image.Image | F32"]  # seconds -> RGB picture; arrays are (H, W, 3) in 0..255


@dataclass(frozen=True)
class Scene:
    """One content: its family, its seed, and parameters that vary the bitrate demand within the family."""

    name: str
    family: str
    seed: int
    variant: int  # 0..3, selects the composition in most families
    detail: float  # 0..1, amount of fine detail
    contrast: float  # gain around mid gray
    blur: float  # defocus, Gaussian sigma in thousandths of the picture height
    noise: float  # standard deviation in 8-bit levels
    speed: float  # motion multiplier


# (detail, contrast, blur, noise, speed) of the scenes a to d of each family.
_PARAMETERS: dict[str, tuple[tuple[float, float, float, float, float], ...]] = {
    "dead_leaves": ((1.0, 1.0, 0, 0.8, 1.0), (0.5, 0.8, 0, 0, 1.6), (0.15, 0.7, 5, 1, 0.7), (0.8, 1.1, 2, 3, 2.2)),
    "landscape": ((0.7, 1.0, 0, 0.6, 1.0), (1.0, 1.05, 0, 1, 1.0), (0.4, 0.9, 2.5, 2, 1.0), (0.15, 0.85, 4, 0, 0.8)),
    "street": ((0.6, 1.0, 0, 0.8, 1.2), (1.0, 1.05, 0, 1, 1.0), (0.25, 0.8, 3, 0.5, 0.8), (0.5, 0.75, 0, 4, 1.5)),
    "film": ((0.6, 1.0, 1, 9, 1.0), (0.7, 1.1, 1.5, 6, 0.7), (0.3, 0.85, 2, 4, 1.4), (0.6, 0.9, 0, 12, 1.0)),
    "fog": ((0.6, 0.75, 0, 0.5, 1.0), (0.2, 0.5, 3, 0, 0.6), (1.0, 0.85, 0, 1.5, 1.6), (0.4, 0.4, 0, 3, 1.0)),
    "night_city": ((1.0, 1.0, 0, 2, 1.0), (0.3, 1.0, 0, 1, 0.8), (0.6, 1.0, 0, 5, 1.6), (0.8, 1.0, 0, 3, 0.6)),
    "screen": ((0.5, 1.0, 0, 0, 1.0), (0.9, 1.0, 0, 0, 0.6), (0.15, 0.9, 0, 0, 1.6), (0.4, 1.0, 1.5, 1, 1.2)),
    "gradient": ((0.8, 1.0, 0, 0.4, 1.5), (0.3, 0.9, 0, 0, 1.5), (0.3, 0.9, 0, 0, 1.0), (1.0, 1.0, 0, 1.5, 2.0)),
    "water": ((1.0, 1.0, 0, 0.5, 1.0), (0.6, 1.0, 0, 0.5, 0.8), (0.3, 0.8, 0, 0, 1.2), (0.8, 1.1, 2.5, 2, 1.5)),
    "foliage": ((1.0, 1.0, 0, 0.7, 1.0), (0.3, 0.9, 2, 0.5, 0.7), (0.6, 1.0, 0, 0, 1.6), (0.1, 0.8, 4, 2, 1.0)),
}

SCENES: dict[str, Scene] = {
    f"{family}_{'abcd'[i]}": Scene(
        f"{family}_{'abcd'[i]}", family, zlib.crc32(f"{family}/{i}".encode()), i, *parameters
    )
    for family, contents in _PARAMETERS.items()
    for i, parameters in enumerate(contents)
}


def find_scene(name: str) -> Scene:
    """A scene of the catalog, such as "water_a", or a numbered scene with random parameters, such as "water_17".

    Raises:
        ValueError: the scene is unknown; the message lists the families.
    """
    if name in SCENES:
        return SCENES[name]
    family, _, number = name.rpartition("_")
    if family not in _PARAMETERS or not re.fullmatch("[1-9][0-9]*", number):
        families = ", ".join(_PARAMETERS)
        raise ValueError(
            f"no scene {name!r}; names are FAMILY_a to FAMILY_d or FAMILY_1, FAMILY_2, ..., FAMILY one of {families}"
        )
    seed = zlib.crc32(name.encode())
    rng = np.random.default_rng([seed, 2])  # streams 0 and 1 are for the scene and its noise
    low, high = (0.05, 0.4, -3, -2, 0.5), (1, 1.1, 5, 6, 2)
    detail, contrast, blur, noise, speed = (float(value) for value in rng.uniform(low, high))
    variant = int(rng.integers(4))
    return Scene(name, family, seed, variant, detail, contrast, max(0.0, blur), max(0.0, noise), speed)
