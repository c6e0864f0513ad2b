"""Coded size of each frame, from its headers: an encoder may code fewer pixels than are displayed.

The size changes with a parameter set that slice or picture headers refer to in HEVC (7.4.7.1) and VVC (7.4.3.8), at a
key frame in VP8 (RFC 6386 9.1), and at any frame in VP9 (7.2.5) and AV1 (5.9.7), which may inherit the size of a
reference. AV1 super-resolution codes fewer columns still (5.9.8). Codecs with per-block QP need no header parsing here:
their frames are decoded (rungwise/bitstream/qp.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc3]..\x08(..)(..)", re.DOTALL)  # ITU-T T.81 B.2.2
CHROMA = {1: (2, 2), 2: (2, 1)}  # chroma_format_idc -> luma samples (x, y) per cropping unit
SUPERRES_UNITS, SUPERRES_LEAST = 8, 9  # AV1: SUPERRES_NUM, SUPERRES_DENOM_MIN
ALL_SLOTS = 0xFF


class CodedSize(NamedTuple):
    """Size of a decoded frame, and its coded width, which is smaller with AV1 super-resolution; 0 if unknown."""

    width: int = 0
    height: int = 0
    coded_width: int = 0


def jpeg_size(data: bytes) -> CodedSize:
    """Size from a JPEG frame header; zeros if there is none."""
    header = JPEG_FRAME.search(data)
    if header is None:
        return CodedSize()
    height, width = (int.from_bytes(side, "big") for side in header.groups())
    return CodedSize(width, height, width)


class SizeReader:
    """Tracks the frame size through the headers of one stream, in coded order."""

    def __init__(self) -> None:
        self.size = CodedSize()  # size of the last frame
        self.largest = CodedSize()  # AV1: size of a frame without an override
        self.sets = ParameterSets()
        self.slots: dict[int, CodedSize] = {}  # VP9 and AV1: sizes of the reference frames
        self.refreshed = 0  # bit mask of the slots that the frame refreshes
        self.references: list[int] = []  # reference slots of the frame
        self.num_tried = 0  # references whose found_ref was read

    def read_packet(self, fields: Sequence[tuple[str, int]]) -> CodedSize:
        """Size of a packet's last frame, the one that is shown."""
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
                self._read_reference(name, value)
                self.size = self.sets.read_field(name, value) or self.size
        self._refresh_slots()
        return self.size

    def _read_reference(self, name: str, value: int) -> None:
        if name == "show_existing_frame":  # the first field of a frame
            self._refresh_slots()
            self.refreshed = 0 if value else ALL_SLOTS  # a key frame refreshes all slots without stating them
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

    def _refresh_slots(self) -> None:
        """Store the size of the finished frame in the slots that it refreshes."""
        self.slots.update({slot: self.size for slot in range(ALL_SLOTS.bit_length()) if self.refreshed >> slot & 1})
        self.refreshed = 0


class ParameterSets:
    """Sizes in HEVC and VVC parameter sets."""

    def __init__(self) -> None:
        self.sequences: dict[int, dict[str, int]] = {}
        self.pictures: dict[int, dict[str, int]] = {}
        self.fields: dict[str, int] = {}  # of the set being read

    def read_field(self, name: str, value: int) -> CodedSize | None:
        """Size of the frame if this field refers to its parameter set, else None."""
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
    """Size within the conformance window."""
    width, height = (fields.get(f"pic_{side}_in_luma_samples", 0) for side in ("width", "height"))
    across, down = CHROMA.get(fields.get("chroma_format_idc", 1), (1, 1))
    width -= across * sum(fields.get(f"conf_win_{side}_offset", 0) for side in ("left", "right"))
    height -= down * sum(fields.get(f"conf_win_{side}_offset", 0) for side in ("top", "bottom"))
    return CodedSize(width, height, width) if width > 0 and height > 0 else None


def frame_pixels(sizes: Sequence[CodedSize]) -> NDArray[np.float64]:
    """(N, 2): coded pixels and decoded pixels of each frame; they differ only with super-resolution.

    A frame of unknown size gets that of the frame before it. If no size is known, all are 1.
    """
    last = next((size for size in sizes if size.width and size.height), CodedSize(1, 1, 1))
    pixels_N2 = np.empty((len(sizes), 2))
    for row, size in zip(pixels_N2, sizes, strict=True):
        last = size if size.width and size.height else last
        row[:] = last.coded_width * last.height, last.width * last.height
    return pixels_N2
