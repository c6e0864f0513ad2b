"""Windows of frames that come one at a time, each with the bitstream features of its frames.

Memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rungwise.bitstream.coded_frames import CodedFrame
from rungwise.media.clock import StreamClock
from rungwise.media.packets import HiddenKeyFrame
from rungwise.media.video import is_variable_step, luma
from rungwise.score.flat import is_flat_frame
from rungwise.score.patch_crop import PatchCropper
from rungwise.score.patch_source import patch_source
from rungwise.score.video_metadata import Bitstream, ReadOptions, VideoMetadata
from rungwise.score.views import View, place_view
from rungwise.score.windows import Assembler, Span, WindowPixels

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

WindowCallback = Callable[[WindowPixels, VideoMetadata], None]


class RecentFrames:
    """Bitstream data of the frames that open windows may need: theirs, the key frame before them, and the first."""

    def __init__(self, codec: str, metadata: VideoMetadata, hidden_key_frame: CodedFrame | None = None) -> None:
        self.codec, self.width, self.height = codec, metadata.width, metadata.height
        self.hidden_key_frame = hidden_key_frame
        self.rows: deque[tuple[float, CodedFrame | None]] = deque()  # (seconds, frame; None if unknown)
        self.first: tuple[float, CodedFrame] | None = None
        self.last_key: tuple[float, CodedFrame] | None = None  # before `rows`
        self.num_unknown = 0

    def add(self, seconds: float, coded: CodedFrame | None) -> None:
        """Add the next frame in presentation order; None if its data are unknown."""
        self.num_unknown += coded is None
        self.rows.append((seconds, coded))

    def is_settled(self, end_seconds: float) -> bool:
        """Whether the data of all frames before a time are final."""
        return all(coded is None or coded.is_settled for seconds, coded in self.rows if seconds < end_seconds)

    def forget(self, before_seconds: float) -> None:
        """Forget frames before a time that no later window needs."""
        while self.rows and self.rows[0][0] < before_seconds:
            seconds, coded = self.rows.popleft()
            if coded is not None and self.first is None:
                self.first = seconds, coded
            elif coded is not None and coded.is_intra:
                self.last_key = seconds, coded

    def bitstream(self, span: Span) -> Bitstream | None:
        """The data of these frames, which give a window the features that it has in the whole video.

        None if those of a frame in the window are unknown.
        """
        rows = [row for row in (self.first, self.last_key) if row is not None]
        for seconds, coded in self.rows:
            if coded is not None:
                rows.append((seconds, coded))
            elif span.start_seconds <= seconds < span.end_seconds:
                return None
        hidden = self.hidden_key_frame
        return Bitstream(
            codec=self.codec,
            times_N=np.asarray([seconds for seconds, _ in rows]),
            is_intra_N=np.asarray([coded.is_intra for _, coded in rows]),
            sizes_N=np.asarray([coded.num_bytes for _, coded in rows]),
            log2_qsteps_N=np.asarray([coded.log2_qstep for _, coded in rows]),
            width=self.width,
            height=self.height,
            pixels_N2=np.asarray([(coded.coded_pixels, coded.decoded_pixels) for _, coded in rows]),
            hidden_key_frame=None
            if hidden is None
            else HiddenKeyFrame(hidden.num_bytes, hidden.log2_qstep, hidden.coded_pixels),
        )


class StreamWindows:
    """Calls `function` on each window of a stream as soon as it is complete.

    Args:
        metadata: of the stream; `function` takes it with the window's bitstream data.
        options: how windows are cut.
        clock: times of the frames.
        recent: collects bitstream data; None if there are none.
        function: takes each window.
    """

    def __init__(
        self,
        metadata: VideoMetadata,
        options: ReadOptions,
        clock: StreamClock,
        recent: RecentFrames | None,
        function: WindowCallback,
    ) -> None:
        self.metadata, self.options, self.clock, self.recent = metadata, options, clock, recent
        self.function = function
        self.assemblers = [Assembler(length, options.recipe, self._place) for length in options.window_seconds]
        self.cropper = PatchCropper()
        self.pending: deque[WindowPixels] = deque()  # complete, but for QP

    def _place(self, span: Span) -> View:
        times = dict(zip(span.frame_indices, span.frame_seconds, strict=True))
        return place_view(self.options.recipe, span.number, self.metadata.display_size, span.frame_indices, times)

    def push(self, frame: VideoFrame, tick: int | None, coded: CodedFrame | None, *, after_gap: bool = False) -> None:
        """Add the next frame in presentation order, its timestamp if it has one, and its bitstream data.

        `after_gap`: frames before it are left out; they belong to no window.
        """
        gap_seconds = self.clock.end_seconds if after_gap else None
        is_jump = self.clock.add_frame(tick)
        seconds = self.clock.seconds
        if self.options.on_frame is not None:
            self.options.on_frame(seconds, frame)
        if self.recent is not None:
            self.recent.add(seconds, coded)
        source = patch_source(frame, seconds, self.metadata, self.options, self.cropper)
        is_flat = is_flat_frame(frame)
        for assembler in self.assemblers:
            if gap_seconds is not None:
                self.pending += assembler.restart(seconds, end_seconds=min(gap_seconds, seconds))
            elif is_jump and coded is not None and coded.is_intra:
                self.pending += assembler.restart(seconds, end_seconds=seconds)
            self.pending += assembler.push(seconds, source, luma(frame), is_flat)
        self._complete()

    def finish(self) -> None:
        """Complete the open windows and the metadata; all bitstream data are settled."""
        for assembler in self.assemblers:
            self.pending += assembler.finish(self.clock.end_seconds)
        self._complete()
        if self.recent is not None and self.recent.num_unknown:
            self.metadata.add_note(f"{self.recent.num_unknown} frames can't be matched to their packets")
        for note in self.clock.notes():
            self.metadata.add_note(note)
        if is_variable_step(*self.clock.step_range()):
            self.metadata.add_note("variable frame rate: windows by timestamp")
        self.metadata.set_timing(self.clock.num_frames, self.clock.end_seconds, self.clock.rate)

    def _complete(self) -> None:
        while self.pending and (self.recent is None or self.recent.is_settled(self.pending[0].span.end_seconds)):
            window = self.pending.popleft()
            bitstream = None if self.recent is None else self.recent.bitstream(window.span)
            self.function(window, replace(self.metadata, bitstream=bitstream))
            self.metadata.bitstream = bitstream or self.metadata.bitstream
        if self.recent is not None:
            starts = [assembler.open_seconds for assembler in self.assemblers]
            self.recent.forget(min(starts + [window.span.start_seconds for window in self.pending]))
