"""What colors a video's samples mean: names of ITU-T H.273, what we can convert, and what a container alone states.

A decoder says of a frame what the bitstream says. Where that says nothing, the container's word holds, as in players.
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
# swscale's matrices by H.273 matrix_coefficients. Files that say nothing are taken as BT.709: most encoders of
# today mean it, and a y4m pipe, which cannot say, then gives the same pixels as the file.
MATRICES: dict[int, int] = {
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

UNSPECIFIED = (0, 2, 3)  # of transfers and primaries; a matrix of 0 is RGB's
CONVERTIBLE = {0, 1, 2, 3, *MATRICES}  # matrices that frames can be converted by, or that say nothing
NO_BASE_LAYER = {5: "profile 5, whose pictures are neither SDR nor HDR10"}  # of Dolby Vision


@dataclass(frozen=True)
class StatedColor:
    """What a container states of its video, in numbers of H.273."""

    matrix: int
    transfer: int
    primaries: int
    range: int
    codec: str = ""

    def given_to(self, frame: VideoFrame) -> VideoFrame:
        """The frame, with what the container states where the frame says nothing."""
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
        """Whether libav calls an HEVC frame limited only because the bitstream describes no colors (H.265 E.3.1)."""
        described = [int(frame.colorspace), int(frame.color_trc), int(frame.color_primaries)]
        return self.codec == "hevc" and int(frame.color_range) == 1 and described == [2, 2, 2]


def stated_color(stream: Any) -> StatedColor:
    """What the container states; to be asked before anything is decoded, which overwrites it."""
    context = stream.codec_context
    return StatedColor(
        int(context.colorspace),
        int(context.color_trc),
        int(context.color_primaries),
        int(context.color_range),
        context.codec.canonical_name,
    )


def with_color(stated: StatedColor, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames with what the container states of them."""
    return (stated.given_to(frame) for frame in frames)


def hdr_name(transfer: int, dolby_vision_profile: int | None) -> str:
    """Why a video is not SDR: its Dolby Vision profile if that has no base layer, or its transfer; "" if it is SDR."""
    if dolby_vision_profile in NO_BASE_LAYER:
        return f"Dolby Vision {NO_BASE_LAYER[dolby_vision_profile]}"
    return HDR_TRANSFERS.get(transfer, "")


def check_matrix(frame: VideoFrame, name: str) -> None:
    """Refuse colors that we would show wrongly.

    Raises:
        ValueError: no conversion to RGB is known for the frame's matrix.
    """
    matrix = int(frame.colorspace)
    if matrix not in CONVERTIBLE:
        known = COLOR_SPACES.get(matrix, f"number {matrix}")
        raise ValueError(f"{name}: its color matrix ({known}) can't be converted; convert the video to BT.709 first")
