"""A clip's views from as little decoding and conversion as they need: the teacher's GPU waits for them.

Frames are sought and non-reference frames skipped (rungwise/score/frames.py), and only patches are converted to RGB
(rungwise/score/patch_crop.py). Pixels are those of `read_views`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rungwise.media.packets import read_packets
from rungwise.media.video import rgb
from rungwise.score.frames import DecodeMismatch, InterlacedFrame, read_frames
from rungwise.score.patch_crop import NativeFrame, PatchCropper
from rungwise.score.views import DisplayFrame, PatchSource, View, read_views, stitch_views


def read_needed_pixels(path: Path, views: Sequence[View]) -> NDArray[np.uint8]:
    """Pixels of K views with the same frames and display size, x_KTSSC uint8.

    A file that decodes otherwise than its packets state, or is interlaced, is decoded whole.

    Raises:
        ValueError: as `read_views`.
    """
    try:
        return stitch_views(path, views, _needed_frames(path, views[0]))
    except (DecodeMismatch, InterlacedFrame):
        return read_views(path, views)


def _needed_frames(path: Path, view: View) -> Iterator[tuple[int, PatchSource]]:
    cropper, size = PatchCropper(), (view.display_width, view.display_height)
    for index, frame in read_frames(path, read_packets(path), view.frame_indices):
        can_crop = cropper.can_crop(frame, size, view.patch_px)
        yield index, NativeFrame(cropper, frame) if can_crop else DisplayFrame(rgb(frame), *size)
