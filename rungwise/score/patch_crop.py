"""Patches of a frame without converting all of it: a hundred times less work for a 1080p frame, and the same pixels.

A patch is cut out with a margin wider than any of swscale's filters reach, so it can't tell that the rest is missing.
That holds where both sides are even, since chroma then lies at exactly half steps everywhere, and where the frame is
shown as coded: turned or scaled frames are converted whole (`views.Shown`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from rungwise.media.video import converted, filter_graph

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

PACKED_RGB = {  # format -> bytes of a pixel, the first of them that is a color
    "rgb24": (3, 0), "bgr24": (3, 0), "rgba": (4, 0), "bgra": (4, 0), "argb": (4, 1), "abgr": (4, 1),
    "rgb0": (4, 0), "bgr0": (4, 0), "0rgb": (4, 1), "0bgr": (4, 1),
}  # fmt: skip
MARGIN_PX = 16
MOST_GRAPHS = 64  # more than the places of one view


class Cutter:
    """Cuts patches out of the frames of one stream."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.graphs: OrderedDict[tuple[object, ...], Graph] = OrderedDict()

    def can_cut(self, frame: VideoFrame, shown: tuple[int, int], patch_px: int) -> bool:
        """Whether patches of this frame, shown at (width, height), would be the whole frame's to the bit."""
        width, height = frame.width, frame.height
        halves: bool = frame.format.name.startswith(("yuv4", "yuvj4", "gray")) and {
            frame.format.chroma_width(16),
            frame.format.chroma_height(16),
        } <= {8, 16}
        halves = halves or frame.format.name in PACKED_RGB
        plain = (width, height) == shown and frame.rotation % 360 == 0 and min(shown) >= patch_px
        return bool(halves and plain and width % 2 == 0 and height % 2 == 0)

    def patch(self, frame: VideoFrame, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB of the frame."""
        left, top = max(0, x - MARGIN_PX) // 16 * 16, max(0, y - MARGIN_PX) // 16 * 16
        width = min(frame.width, (x + size + MARGIN_PX) // 2 * 2) - left
        height = min(frame.height, (y + size + MARGIN_PX) // 2 * 2) - top
        key = (frame.width, frame.height, frame.format.name, left, top, width, height)
        graph = self.graphs.pop(key, None)
        if graph is None:
            graph = filter_graph(frame, "crop", f"w={width}:h={height}:x={left}:y={top}:exact=1")
        self.graphs[key] = graph
        if len(self.graphs) > MOST_GRAPHS:
            self.graphs.popitem(last=False)
        graph.vpush(frame)
        part: NDArray[np.uint8] = converted(graph.vpull(), "rgb24", self.reformatter)
        return part[y - top : y - top + size, x - left : x - left + size]


class CutFrame:
    """A frame as `views.Shown`, of which only patches are converted."""

    def __init__(self, cutter: Cutter, frame: VideoFrame) -> None:
        self.cutter, self.frame = cutter, frame

    def patch(self, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 at a display corner."""
        return self.cutter.patch(self.frame, y, x, size)
