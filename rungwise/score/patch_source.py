"""A decoded frame as a source of patches at the display size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rungwise.media.color import HDR_TRANSFERS
from rungwise.media.video import rgb, tone_mapped
from rungwise.score.patch_crop import NativeFrame, PatchCropper
from rungwise.score.video_metadata import ReadOptions, VideoMetadata
from rungwise.score.views import DisplayFrame, PatchSource

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def patch_source(
    frame: VideoFrame, seconds: float, metadata: VideoMetadata, options: ReadOptions, cropper: PatchCropper
) -> PatchSource:
    """A frame at the display size, from which patches can be taken."""
    transfer = HDR_TRANSFERS.get(int(frame.color_trc))
    if transfer and options.hdr == "refuse":
        raise ValueError(f"{metadata.name}: becomes HDR ({transfer}) at {seconds:.3f} s; the model supports SDR only")
    if not transfer and cropper.can_crop(frame, metadata.display_size, options.recipe.patch_px):
        return NativeFrame(cropper, frame)
    pixels = tone_mapped(frame) if transfer else rgb(frame)
    height, width = pixels.shape[:2]
    changed = (width, height) != (metadata.width, metadata.height)
    if changed and not any(note.startswith("frame size changes") for note in metadata.notes):
        display_width, display_height = metadata.display_size
        metadata.add_note(
            f"frame size changes to {width}x{height} at {seconds:.3f} s; "
            f"all frames are evaluated at {display_width}x{display_height}"
        )
    return DisplayFrame(pixels, *metadata.display_size)
