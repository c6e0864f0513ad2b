"""How large each frame was coded, by its headers: an encoder may code fewer samples than are shown.

H.264, HEVC and VVC change size with a parameter set (H.264 7.4.2.1.1, HEVC 7.4.3.2, VVC 7.4.3.5), VP8 with a key
frame (RFC 6386 9.1), VP9 and AV1 with any frame (VP9 7.2.3, AV1 5.9.5). AV1's super-resolution codes fewer columns
still (AV1 7.16): what they lose is in no quantizer's step, so such a window is better judged by its pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Name of a header's field -> (width or height, samples a unit, what is added to the number of units).
FIELDS = {
    "pic_width_in_mbs_minus1": ("width", 16, 1),
    "pic_height_in_map_units_minus1": ("height", 16, 1),
    "pic_width_in_luma_samples": ("width", 1, 0),
    "pic_height_in_luma_samples": ("height", 1, 0),
    "pps_pic_width_in_luma_samples": ("width", 1, 0),
    "pps_pic_height_in_luma_samples": ("height", 1, 0),
    "frame_width_minus_1": ("width", 1, 1),
    "frame_height_minus_1": ("height", 1, 1),
    "horizontal_size_value": ("width", 1, 0),  # MPEG-2
    "vertical_size_value": ("height", 1, 0),
    "width": ("width", 1, 0),  # VP8
    "height": ("height", 1, 0),
}
LARGEST = {"max_frame_width_minus_1": "width", "max_frame_height_minus_1": "height"}  # AV1: unless a frame says less


class CodedSize(NamedTuple):
    """Samples of a coded frame, 0 where no header says; `is_superres`: of AV1, fewer columns were coded than these."""

    width: int = 0
    height: int = 0
    is_superres: bool = False


class SizeReader:
    """Follows the headers of one stream."""

    def __init__(self) -> None:
        self.size: dict[str, int] = {"width": 0, "height": 0}
        self.largest: dict[str, int] = {}

    def take(self, fields: Sequence[tuple[str, int]]) -> CodedSize:
        """The size of what a packet shows, after its headers' fields in coded order."""
        is_superres = False
        for name, value in fields:
            if name in FIELDS:
                side, samples, added = FIELDS[name]
                self.size[side] = (value + added) * samples
            elif name in LARGEST:
                self.largest[LARGEST[name]] = value + 1
            elif name == "frame_size_override_flag" and not value:
                self.size.update(self.largest)
            elif name == "use_superres":
                is_superres |= value == 1
        return CodedSize(self.size["width"], self.size["height"], is_superres)


def size_ratios(sizes: Sequence[CodedSize]) -> NDArray[np.float64]:
    """(N, 2): width and height of each frame in shares of the first frame's; NaN of one with super-resolution.

    A frame that says no size has that of the one before it; all are 1 where none says one.
    """
    first = last = next(((size.width, size.height) for size in sizes if size.width and size.height), (1, 1))
    ratios = np.ones((len(sizes), 2))
    for row, size in zip(ratios, sizes, strict=True):
        last = (size.width, size.height) if size.width and size.height else last
        row[:] = (np.nan, np.nan) if size.is_superres else (last[0] / first[0], last[1] / first[1])
    return ratios
