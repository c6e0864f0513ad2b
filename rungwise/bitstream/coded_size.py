"""How large each frame was coded, by its headers: an encoder may code fewer samples than are shown.

HEVC and VVC change size with a parameter set, which a slice or picture header names (HEVC 7.4.7.1, VVC 7.4.3.8), VP8
with a key frame (RFC 6386 9.1), VP9 and AV1 with any frame, which may take over the size of a reference (VP9 7.2.5, AV1
5.9.7). AV1's super-resolution codes fewer columns still (AV1 5.9.8). Codecs whose decoders report block steps need no
headers here: their decoded frames have a size (rungwise/bitstream/qp.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3]..\x08(..)(..)", re.DOTALL)  # ITU-T T.81 B.2.2
CHROMA = {1: (2, 2), 2: (2, 1)}  # chroma_format_idc: samples that one unit of a crop stands for
SUPERRES_UNITS, SUPERRES_LEAST = 8, 9  # AV1: SUPERRES_NUM, SUPERRES_DENOM_MIN
ALL_SLOTS = 0xFF


class CodedSize(NamedTuple):
    """Samples of a decoded frame, 0 where no header says one; AV1's super-resolution codes fewer columns of them."""

    width: int = 0
    height: int = 0
    coded_width: int = 0


def jpeg_size(data: bytes) -> CodedSize:
    """The size that a JPEG's frame header states."""
    header = JPEG_FRAME.search(data)
    if header is None:
        return CodedSize()
    height, width = (int.from_bytes(side, "big") for side in header.groups())
    return CodedSize(width, height, width)


class SizeReader:
    """Follows the headers of one stream: each packet's fields in coded order."""

    def __init__(self) -> None:
        self.size = CodedSize()  # of the last frame
        self.largest = CodedSize()  # AV1: of a frame that states none
        self.sets = ParameterSets()
        self.slots: dict[int, CodedSize] = {}  # VP9 and AV1: the references
        self.refreshed = 0  # a bit for each slot that keeps the frame
        self.references: list[int] = []  # slots, in the frame's order
        self.num_tried = 0  # of the references, for their size

    def take(self, fields: Sequence[tuple[str, int]]) -> CodedSize:
        """The size of the frame that a packet shows, its last."""
        for name, value in fields:
            if name in ("frame_width_minus_1", "width"):
                width = value + (name != "width")
                self.size = CodedSize(width, self.size.height, width)
            elif name in ("frame_height_minus_1", "height"):
                self.size = self.size._replace(height=value + (name != "height"))
            elif name == "max_frame_width_minus_1":
                self.largest = CodedSize(value + 1, self.largest.height, value + 1)
            elif name == "max_frame_height_minus_1":
                self.largest = self.largest._replace(height=value + 1)
            elif name == "frame_size_override_flag" and not value:
                self.size = self.largest
            elif name == "coded_denom":
                denominator = value + SUPERRES_LEAST
                columns = (self.size.width * SUPERRES_UNITS + denominator // 2) // denominator
                self.size = self.size._replace(coded_width=columns)
            else:
                self._take_reference(name, value)
                self.size = self.sets.take(name, value) or self.size
        self._keep()
        return self.size

    def _take_reference(self, name: str, value: int) -> None:
        if name == "show_existing_frame":  # a frame's first field
            self._keep()
            self.refreshed = 0 if value else ALL_SLOTS  # a key frame states no slots: it fills all
            self.references, self.num_tried = [], 0
        elif name == "frame_to_show_map_idx":
            self.size = self.slots.get(value, self.size)
        elif name == "refresh_frame_flags":
            self.refreshed = value
        elif name == "ref_frame_idx":
            self.references.append(value)
        elif name == "found_ref":
            if value and self.num_tried < len(self.references):
                size = self.slots.get(self.references[self.num_tried], self.size)
                self.size = size._replace(coded_width=size.width)
            self.num_tried += 1

    def _keep(self) -> None:
        """The frame has ended: the slots that it refreshes hold it."""
        self.slots.update({slot: self.size for slot in range(ALL_SLOTS.bit_length()) if self.refreshed >> slot & 1})
        self.refreshed = 0


class ParameterSets:
    """The sizes that HEVC's and VVC's parameter sets state, and which of them frames name."""

    def __init__(self) -> None:
        self.sequences: dict[int, dict[str, int]] = {}
        self.pictures: dict[int, dict[str, int]] = {}
        self.fields: dict[str, int] = {}  # of the set that is being read

    def take(self, name: str, value: int) -> CodedSize | None:
        """The size of a frame, with the field by which it names its parameter set."""
        if name == "sps_seq_parameter_set_id":
            self.fields = self.sequences[value] = {}
        elif name == "pps_pic_parameter_set_id":
            self.fields = self.pictures[value] = {}
        elif name in ("slice_pic_parameter_set_id", "ph_pic_parameter_set_id"):
            picture = self.pictures.get(value, {})
            return _cropped(self.sequences.get(picture.get("seq_parameter_set_id", -1), {}) | picture)
        elif name.endswith(("_parameter_set_id", "_luma_samples", "_offset", "chroma_format_idc")):
            self.fields[name.removeprefix("sps_").removeprefix("pps_")] = value
        return None


def _cropped(fields: dict[str, int]) -> CodedSize | None:
    """The size within the conformance window."""
    width, height = (fields.get(f"pic_{side}_in_luma_samples", 0) for side in ("width", "height"))
    across, down = CHROMA.get(fields.get("chroma_format_idc", 1), (1, 1))
    width -= across * sum(fields.get(f"conf_win_{side}_offset", 0) for side in ("left", "right"))
    height -= down * sum(fields.get(f"conf_win_{side}_offset", 0) for side in ("top", "bottom"))
    return CodedSize(width, height, width) if width > 0 and height > 0 else None


def frame_pixels(sizes: Sequence[CodedSize]) -> NDArray[np.float64]:
    """(N, 2): pixels of each frame as coded and as decoded, more with super-resolution.

    A frame that states no size has that of the one before it; all are 1 where none states one.
    """
    last = next((size for size in sizes if size.width and size.height), CodedSize(1, 1, 1))
    pixels_N2 = np.empty((len(sizes), 2))
    for row, size in zip(pixels_N2, sizes, strict=True):
        last = size if size.width and size.height else last
        row[:] = last.coded_width * last.height, last.width * last.height
    return pixels_N2
