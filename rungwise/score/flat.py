"""Frames of one flat color: nothing in them can be lost, so there is nothing for a model of quality to judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rungwise.media.video import rgb
from rungwise.score.patch_crop import PACKED_RGB

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FLAT_RANGE = 1.0  # code values of 255 between the largest and the smallest sample of a plane: rounding
_COARSE_PX = 16


def is_flat_frame(frame: VideoFrame) -> bool:
    """Whether a decoded frame is one color: over the whole of each plane, samples differ by at most `FLAT_RANGE`.

    The whole frame counts, so a slate with one word on it is not flat, nor is a fade before its last step. Content that
    an encoder crushed to blocks is not flat either, because the blocks' levels differ. Content coded to a single level
    everywhere, such as faint grain on gray, cannot be told from a plain color without its source. A plain color may
    change from frame to frame.
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
    """Whether each plane's samples, integers of so many bits, are one level but for `FLAT_RANGE`."""
    limit = FLAT_RANGE * 2 ** (bits - 8)
    # Nearly all frames have content in these few samples already.
    coarse = [plane[::_COARSE_PX, ::_COARSE_PX] for plane in planes]
    return all(int(plane.max()) - int(plane.min()) <= limit for plane in (*coarse, *planes))


def packed_channels(frame: VideoFrame) -> list[NDArray[np.uint8]]:
    """Red, green and blue, in the format's own order, of a frame in one of `PACKED_RGB`, (H, W) each, not copied."""
    size, first = PACKED_RGB[frame.format.name]
    lines = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
    pixels = lines[:, : frame.width * size].reshape(frame.height, frame.width, size)
    return [pixels[..., first + channel] for channel in range(3)]


def _samples(plane: Any, bits: int) -> NDArray[Any]:
    lines = np.frombuffer(memoryview(plane), np.dtype("<u2" if bits > 8 else "u1")).reshape(plane.height, -1)
    return lines[:, : plane.width]
