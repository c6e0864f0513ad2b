"""Score frames as an encoder makes them, with the bitstream data of each."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from rungwise.bitstream.coded_frames import CodedFrame
from rungwise.media.clock import StreamClock
from rungwise.media.color import check_matrix
from rungwise.score.result import Score
from rungwise.score.scorer import Scorer, window_lengths
from rungwise.score.stream_windows import RecentFrames, StreamWindows
from rungwise.score.tally import WindowCallback, WindowScores
from rungwise.score.video_metadata import Hdr, ReadOptions, first_frame_metadata

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class _Samples(NamedTuple):
    """What a container states of a stream's samples."""

    sample_aspect_ratio: Fraction


class StreamScorer:
    """Scores frames that are pushed one at a time, at a constant rate and in presentation order.

    The score is that of a file of these frames and packets. Memory does not grow with their number.

    Args:
        scorer: the model.
        rate: frames per second.
        codec: short name of the codec, such as "h264"; None for frames without bitstream data.
        display_height: height in pixels to which frames are scaled; None for their own.
        hdr: "refuse" raises on PQ and HLG frames, "tonemap" converts them to SDR.
        sample_aspect_ratio: width over height of a sample.
        window_seconds: length of the windows whose mean is the score.
        name: label of the video in the result.
        on_window: called with each window as soon as it is scored, and whether its score is hybrid.
        keep_windows: True keeps the windows for `Score.windows`, and memory grows.
    """

    def __init__(
        self,
        scorer: Scorer,
        rate: Fraction | int,
        *,
        codec: str | None = None,
        display_height: int | None = None,
        hdr: Hdr = "refuse",
        sample_aspect_ratio: Fraction | int = 1,
        window_seconds: float | None = None,
        name: str = "-",
        on_window: WindowCallback | None = None,
        keep_windows: bool = False,
    ) -> None:
        lengths = window_lengths(window_seconds, None)
        self.scorer, self.rate, self.codec, self.name = scorer, Fraction(rate), codec, name
        self.samples = _Samples(Fraction(sample_aspect_ratio))
        self.options = ReadOptions(scorer.contract.view, lengths, display_height, hdr)
        self.scores = WindowScores(scorer, lengths, on_window, keep_windows=keep_windows)
        self.windows: StreamWindows | None = None

    def push(self, frame: VideoFrame, packet: CodedFrame | None = None) -> None:
        """Add the next frame and the data of its packet (`rungwise.bitstream.encoder_stats.coded_frame`).

        Windows that include a frame without packet are scored pixel-only.

        Raises:
            ValueError: the frame is too large, HDR that is refused, or has an unsupported color matrix.
        """
        if self.windows is None:
            check_matrix(frame, self.name)
            metadata = first_frame_metadata(frame, self.samples, self.name, self.options)
            recent = (
                None
                if self.codec is None or self.scorer.contract.stream is None
                else RecentFrames(self.codec, metadata)
            )
            self.windows = StreamWindows(metadata, self.options, StreamClock(self.rate), recent, self.scores.push)
        self.windows.push(frame, None, packet)

    def finish(self) -> Score:
        """The score of all frames.

        Raises:
            ValueError: there are none.
        """
        if self.windows is None:
            raise ValueError(f"{self.name}: has no frames")
        self.windows.finish()
        return self.scorer.video_score(self.name, self.windows.metadata, self.scores, None, pixel_only=False)
