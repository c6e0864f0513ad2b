"""RGB patches of a frame without converting the whole frame: the same pixels for 1 % of the work at 1080p.

A patch is cropped with a margin wider than the support of swscale's filters, so that its pixels match those of the
whole converted frame. This holds for even frame sizes, where chroma siting is the same everywhere, and for frames
displayed as coded: rotated or scaled frames are converted whole (`views.DisplayFrame`).
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

PACKED_RGB = {  # format -> (bytes per pixel, offset of the first color channel)
    "rgb24": (3, 0), "bgr24": (3, 0), "rgba": (4, 0), "bgra": (4, 0), "argb": (4, 1), "abgr": (4, 1),
    "rgb0": (4, 0), "bgr0": (4, 0), "0rgb": (4, 1), "0bgr": (4, 1),
}  # fmt: skip
MARGIN_PX = 16
MAX_GRAPHS = 64  # more than the patches of one view


class PatchCropper:
    """Crops patches out of the frames of one stream; ffmpeg crop graphs are reused."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.graphs: OrderedDict[tuple[object, ...], Graph] = OrderedDict()

    def can_crop(self, frame: VideoFrame, display_size: tuple[int, int], patch_px: int) -> bool:
        """Whether cropped patches of this frame equal those of the whole converted frame, bit for bit."""
        width, height = frame.width, frame.height
        known_format: bool = frame.format.name.startswith(("yuv4", "yuvj4", "gray")) and {
            frame.format.chroma_width(16),
            frame.format.chroma_height(16),
        } <= {8, 16}
        known_format = known_format or frame.format.name in PACKED_RGB
        unscaled = (width, height) == display_size and frame.rotation % 360 == 0 and min(display_size) >= patch_px
        return bool(known_format and unscaled and width % 2 == 0 and height % 2 == 0)

    def patch(self, frame: VideoFrame, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB with its top left corner at (y, x)."""
        left, top = max(0, x - MARGIN_PX) // 16 * 16, max(0, y - MARGIN_PX) // 16 * 16
        width = min(frame.width, (x + size + MARGIN_PX) // 2 * 2) - left
        height = min(frame.height, (y + size + MARGIN_PX) // 2 * 2) - top
        key = (frame.width, frame.height, frame.format.name, left, top, width, height)
        graph = self.graphs.pop(key, None)
        if graph is None:
            graph = filter_graph(frame, "crop", f"w={width}:h={height}:x={left}:y={top}:exact=1")
        self.graphs[key] = graph
        if len(self.graphs) > MAX_GRAPHS:
            self.graphs.popitem(last=False)
        graph.vpush(frame)
        pixels: NDArray[np.uint8] = converted(graph.vpull(), "rgb24", self.reformatter)
        return pixels[y - top : y - top + size, x - left : x - left + size]


class NativeFrame:
    """A frame displayed at its coded size, of which only the requested patches are converted to RGB."""

    def __init__(self, cropper: PatchCropper, frame: VideoFrame) -> None:
        self.cropper, self.frame = cropper, frame

    def patch(self, y: int, x: int, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB with its top left corner at (y, x)."""
        return self.cropper.patch(self.frame, y, x, size)
