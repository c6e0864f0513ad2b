"""Frames of a single color: they have no content that compression could degrade, so there is nothing to score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rungwise.media.video import rgb
from rungwise.score.patch_crop import PACKED_RGB

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FLAT_RANGE = 1.0  # largest difference within a plane, in 8-bit code values: rounding
_COARSE_PX = 16


def is_flat_frame(frame: VideoFrame) -> bool:
    """Whether a decoded frame is a single color: samples of each plane differ by at most `FLAT_RANGE`.

    The whole frame counts: a slate with one word on it is not flat, nor is a fade before its last step. Heavily
    quantized content is not flat either, because its blocks differ in level. Content coded to one level everywhere,
    such as faint grain on gray, cannot be distinguished from a single color without its source. The color may differ
    between frames.
    """
    components = frame.format.components
    bits, name = components[0].bits, frame.format.name
    planar = len(frame.planes) == len(components) and name.startswith(("yuv", "gray", "gbr"))
    if name in PACKED_RGB:
        return is_flat(packed_channels(frame))
    if not planar or bits > 16 or name.endswith("be"):
        return is_flat(np.moveaxis(rgb(frame), -1, 0))
    return is_flat([_samples(plane, bits) for plane in frame.planes[:3]], bits)


def is_flat(planes: Sequence[NDArray[Any]] | NDArray[Any], bits: int = 8) -> bool:
    """Whether the samples of each plane, integers of `bits` bits, differ by at most `FLAT_RANGE`."""
    limit = FLAT_RANGE * 2 ** (bits - 8)
    # Nearly every frame with content already differs within this coarse grid.
    coarse = [plane[::_COARSE_PX, ::_COARSE_PX] for plane in planes]
    return all(int(plane.max()) - int(plane.min()) <= limit for plane in (*coarse, *planes))


def packed_channels(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """The three color channels of a `PACKED_RGB` frame, in its own order; (H, W) views, not copies."""
    size, first = PACKED_RGB[frame.format.name]
    rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
    pixels = rows[:, : frame.width * size].reshape(frame.height, frame.width, size)
    return [pixels[..., first + channel] for channel in range(3)]


def _samples(plane: Any, bits: int) -> NDArray[Any]:
    rows = np.frombuffer(memoryview(plane), np.dtype("<u2" if bits > 8 else "u1")).reshape(plane.height, -1)
    return rows[:, : plane.width]
