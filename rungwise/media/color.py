"""Color description of video (ITU-T H.273): names, supported matrices, and values that only the container states.

A decoder sets a frame's color description from the bitstream. Values that it leaves unspecified are taken from the
container, as players do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from av.video.reformatter import Colorspace

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

HDR_TRANSFERS = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}  # ITU-T H.273 transfer_characteristics
COLOR_SPACES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
    8: "ycgco",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
COLOR_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    12: "p3",
}
COLOR_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    8: "linear",
    13: "srgb",
    14: "bt2020-10",
}
COLOR_RANGES = {1: "limited", 2: "full"}
# swscale's matrices by H.273 matrix_coefficients. Unspecified is taken as BT.709: most encoders mean it, and a y4m
# pipe, which can't state a matrix, then gives the same pixels as its file.
MATRICES: dict[int, int] = {
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

UNSPECIFIED = (0, 2, 3)  # transfer or primaries; matrix 0 is RGB
CONVERTIBLE = {0, 1, 2, 3, *MATRICES}  # matrices with a conversion, and unspecified
NO_BASE_LAYER = {5: "profile 5, whose base layer is neither SDR nor HDR10"}  # Dolby Vision profiles


@dataclass(frozen=True)
class StatedColor:
    """Color description in a container, as H.273 code points."""

    matrix: int
    transfer: int
    primaries: int
    range: int
    codec: str = ""

    def applied_to(self, frame: VideoFrame) -> VideoFrame:
        """The frame itself, with unspecified values replaced by the container's."""
        if self.range == 2 and self._has_default_range(frame):
            frame.color_range = 2
        if int(frame.colorspace) in (2, 3) and self.matrix not in (0, 2, 3):
            frame.colorspace = self.matrix
        if int(frame.color_trc) in UNSPECIFIED and self.transfer not in UNSPECIFIED:
            frame.color_trc = self.transfer
        if int(frame.color_primaries) in UNSPECIFIED and self.primaries not in UNSPECIFIED:
            frame.color_primaries = self.primaries
        if int(frame.color_range) == 0 and self.range:
            frame.color_range = self.range
        return frame

    def _has_default_range(self, frame: VideoFrame) -> bool:
        """Whether an HEVC frame is limited range only by default, without a color description (H.265 E.3.1)."""
        described = [int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)]
        return self.codec == "hevc" and int(frame.color_range) == 1 and described == [2, 2, 2]


def stated_color(stream: Any) -> StatedColor:
    """The container's color description; call before decoding, which overwrites it."""
    context = stream.codec_context
    return StatedColor(
        int(context.colorspace),
        int(context.color_trc),
        int(context.color_primaries),
        int(context.color_range),
        context.codec.canonical_name,
    )


def with_color(stated: StatedColor, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames with unspecified color values replaced by the container's."""
    return (stated.applied_to(frame) for frame in frames)


def hdr_name(transfer: int, dolby_vision_profile: int | None) -> str:
    """Name of the HDR format: a Dolby Vision profile without base layer, or the HDR transfer; "" for SDR."""
    if dolby_vision_profile in NO_BASE_LAYER:
        return f"Dolby Vision {NO_BASE_LAYER[dolby_vision_profile]}"
    return HDR_TRANSFERS.get(transfer, "")


def check_matrix(frame: VideoFrame, name: str) -> None:
    """Refuse a frame whose colors can't be converted.

    Raises:
        ValueError: no conversion to RGB is known for the frame's matrix.
    """
    matrix = int(frame.colorspace)
    if matrix not in CONVERTIBLE:
        matrix_name = COLOR_SPACES.get(matrix, f"number {matrix}")
        raise ValueError(f"{name}: unsupported color matrix ({matrix_name}); convert the video to BT.709 first")
