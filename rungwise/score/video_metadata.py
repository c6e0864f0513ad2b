"""Metadata of one video: sizes, duration, bitstream features, and notes for whoever reads the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rungwise.bitstream.encoder_stats import EncoderStats
from rungwise.bitstream.features import bitstream_features
from rungwise.media.color import HDR_TRANSFERS
from rungwise.media.limits import MAX_SAMPLE_ASPECT, check_size, is_absurd_aspect
from rungwise.media.packets import HiddenKeyFrame, Packets
from rungwise.media.video import luma, sample_aspect
from rungwise.score.views import ViewRecipe, display_size

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Hdr = Literal["refuse", "tonemap"]
FrameCallback = Callable[[float, "VideoFrame"], None]
ALPHA_FORMATS = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya")
LEAST_COVER = 0.6  # of the view's side: patches of smaller frames overlap so much that they show few places


@dataclass(frozen=True)
class ReadOptions:
    """How a video is read and split into windows.

    Attributes:
        recipe: which frames and patches each window gives.
        window_seconds: window lengths; each length covers the whole video.
        display_height: height in pixels at which frames are evaluated; None for the video's own height.
        hdr: "refuse" raises on HDR video, "tonemap" converts it to SDR.
        threads: decoder threads.
        on_frame: called with (seconds, frame) for every frame in order. If a file has to be read again, the calls
            restart at 0 s.
        read_bitstream: also read QP and frame sizes from the bitstream.
        encoder_stats: these data of the frames of a y4m stream.
    """

    recipe: ViewRecipe
    window_seconds: tuple[float, ...]
    display_height: int | None = None
    hdr: Hdr = "refuse"
    threads: int = 1
    on_frame: FrameCallback | None = None
    read_bitstream: bool = False
    encoder_stats: EncoderStats | None = None


@dataclass(frozen=True)
class Bitstream:
    """Per-frame bitstream data of a file, N frames in presentation order.

    Attributes:
        codec: short codec name, such as "h264".
        times_N: presentation times in seconds.
        is_intra_N: whether each frame is a key frame.
        sizes_N: coded bytes.
        log2_qsteps_N: log2 of the quantizer step size; NaN if unknown.
        width, height: frame size after rotation.
        pixels_N2: (coded pixels, decoded pixels).
        hidden_key_frame: a key frame before the first shown frame, hidden by an edit list.
    """

    codec: str
    times_N: NDArray[np.float64]
    is_intra_N: NDArray[np.bool_]
    sizes_N: NDArray[np.int64]
    log2_qsteps_N: NDArray[np.float64]
    width: int
    height: int
    pixels_N2: NDArray[np.float64]
    hidden_key_frame: HiddenKeyFrame | None = None

    @classmethod
    def of_packets(cls, packets: Packets, times: Sequence[float], width: int, height: int) -> Bitstream:
        """The data of `packets`, which were read with a `QstepReader`, at `times` in seconds."""
        assert packets.log2_qsteps_N is not None
        assert packets.pixels_N2 is not None
        return cls(
            codec=packets.codec,
            times_N=np.asarray(times),
            is_intra_N=packets.is_intra_N,
            sizes_N=packets.sizes_N,
            log2_qsteps_N=packets.log2_qsteps_N,
            width=width,
            height=height,
            pixels_N2=packets.pixels_N2,
            hidden_key_frame=packets.hidden_key_frame,
        )

    def window_features(self, start_seconds: float, end_seconds: float, display_height: int) -> NDArray[np.float64]:
        """`bitstream_features` of the frames in [start_seconds, end_seconds).

        A window without a key frame includes the last one before it. Windows inside a long GOP then score like clips
        that start with their key frame. Each frame counts at its own coded size: on AV1 with resizing or
        super-resolution this is closer to VMAF than pixel-only scores.
        """
        inside = (self.times_N >= start_seconds - 1e-9) & (self.times_N < end_seconds - 1e-9)
        earlier = np.flatnonzero(self.is_intra_N & (self.times_N < start_seconds))[-1:]
        if not self.is_intra_N[inside].any():
            inside[earlier] = True
        sizes, qsteps, pixels = self.sizes_N[inside], self.log2_qsteps_N[inside], self.pixels_N2[inside, 0]
        if self.hidden_key_frame is not None and (inside[0] or not self.is_intra_N[inside].any()):
            sizes = np.append(sizes, self.hidden_key_frame.size)
            qsteps = np.append(qsteps, self.hidden_key_frame.log2_qstep)
            pixels = np.append(pixels, self.hidden_key_frame.num_pixels)
        ratios = pixels / self.pixels_N2[0, 1]  # relative to the first frame, whose decoded size is width x height
        return bitstream_features(sizes, qsteps, self.width * self.height, self.height, display_height, ratios)


@dataclass
class VideoMetadata:
    """What is known of a video besides its pixels.

    Attributes:
        name: path or label of the video.
        width, height: frame size after rotation, before the sample aspect ratio is applied.
        display_size: (width, height) at which frames are evaluated.
        bitstream: per-frame bitstream data, or None.
        no_bitstream_reason: why `bitstream` is None.
        notes: remarks that come with the score.
    """

    name: str
    width: int
    height: int
    display_size: tuple[int, int]
    bitstream: Bitstream | None = None
    no_bitstream_reason: str = "no bitstream"
    notes: list[str] = field(default_factory=list)
    fps: float = 0.0
    duration_seconds: float = 0.0
    num_frames: int = 0

    def add_note(self, text: str) -> None:
        """Append a note unless it is already there."""
        if text not in self.notes:
            self.notes.append(text)

    def set_timing(self, num_frames: int, end_seconds: float, rate: Fraction) -> None:
        """Set frame count, duration and mean frame rate; `rate` serves where the duration is 0."""
        self.num_frames = num_frames
        self.duration_seconds = round(end_seconds, 6)
        self.fps = round(num_frames / self.duration_seconds, 3) if self.duration_seconds else float(rate)


def first_frame_metadata(frame: VideoFrame, stream: Any, name: str, options: ReadOptions) -> VideoMetadata:
    """Sizes and notes from a video's first frame.

    Raises:
        ValueError: the frame is HDR and `options.hdr` is "refuse", or it is too large at the display height.
    """
    transfer = HDR_TRANSFERS.get(int(frame.color_trc))
    if transfer and options.hdr == "refuse":
        raise ValueError(
            f"{name}: HDR video ({transfer}); the model supports SDR only: tone-map it first or pass --hdr tonemap"
        )
    height, width = luma(frame).shape
    ratio = sample_aspect(stream, frame.rotation)
    metadata = VideoMetadata(name, width, height, display_size(width, height, options.display_height, ratio))
    display_width, display_height = metadata.display_size
    check_size(display_width, display_height, name, scaled=True)
    if is_absurd_aspect(stream.sample_aspect_ratio):
        metadata.add_note(
            f"sample aspect ratio {stream.sample_aspect_ratio} is beyond {MAX_SAMPLE_ASPECT}:1: treated as square"
        )
    if transfer:
        metadata.add_note(f"tone-mapped from {transfer} to SDR")
    if frame.rotation % 360:
        metadata.add_note(f"rotated by {frame.rotation % 360} degrees, per the file's metadata")
    if ratio != 1:
        metadata.add_note(f"sample aspect ratio {ratio:.4g}:1: evaluated at {display_width}x{display_height}")
    if frame.format.name.startswith(ALPHA_FORMATS):
        metadata.add_note("alpha is ignored: colors are scored as stored")
    if min(metadata.display_size) < LEAST_COVER * options.recipe.size_px:
        metadata.add_note(f"smaller than the model's {options.recipe.size_px}-pixel view: patches overlap")
    return metadata
