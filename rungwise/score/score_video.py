"""Split a video file into windows, decode each window's patches, and apply a function to every window.

A file and a pipe (score_pipe.py) of the same frames give bit-identical windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import av
import numpy as np

from rungwise.bitstream.qp import QstepReader
from rungwise.media.clock import end_seconds
from rungwise.media.container import (
    container_notes,
    decode_all,
    open_video,
    refuse_fields,
    refuse_unshowable,
    video_stream,
)
from rungwise.media.packets import Packets, read_packets
from rungwise.media.video import is_variable
from rungwise.score.flat import is_flat_frame
from rungwise.score.frame_choice import luma_differences
from rungwise.score.frames import DecodeMismatch, InterlacedFrame, deinterlace, read_frames, with_decoded_times
from rungwise.score.patch_crop import PatchCropper
from rungwise.score.patch_source import patch_source
from rungwise.score.video_metadata import Bitstream, ReadOptions, VideoMetadata, first_frame_metadata
from rungwise.score.views import View, ViewRecipe, place_view
from rungwise.score.windows import (
    Span,
    WindowPixels,
    assemble_windows,
    content_frames,
    cut_windows,
    frame_times,
    plan_windows,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

DEINTERLACED = "interlaced: deinterlaced with bwdif"
Result = TypeVar("Result")
Item = TypeVar("Item")
WindowFunction = Callable[[WindowPixels, VideoMetadata], Result]
Frames = Iterator[tuple[int, "VideoFrame"]]  # (frame index, frame), ascending


@dataclass(frozen=True)
class _FileRead:
    """One attempt at reading a file.

    Attributes:
        seek: seek between key frames and skip frames that nothing references.
        deinterlaced: run interlaced frames through bwdif.
        recounted: `packets` already holds the times of the frames that really decode.
    """

    path: Path
    packets: Packets
    options: ReadOptions
    seek: bool
    deinterlaced: bool = False
    recounted: bool = False

    def frames(self, requested: list[int]) -> Frames:
        """Decode the frames with these indices (ascending)."""
        on_frame = self.options.on_frame is not None
        if self.deinterlaced or self.recounted or on_frame or self.packets.ticks_N is None or self.packets.restarts:
            return self._all_frames(requested)
        return read_frames(self.path, self.packets, requested, threads=self.options.threads, seek=self.seek)

    def _all_frames(self, requested: list[int]) -> Frames:
        """As `frames`, decoding every frame; unless `recounted`, times must match the packets."""
        ticks, times, on_frame = self.packets.ticks_N, frame_times(self.packets), self.options.on_frame
        position = 0
        with open_video(self.path, self.options.threads) as container:
            decoded = decode_all(container, self.path)
            for index, frame in enumerate(deinterlace(decoded) if self.deinterlaced else decoded):
                if ticks is not None and not self.recounted and (index >= len(ticks) or frame.pts != ticks[index]):
                    raise DecodeMismatch("a frame's time differs from its packet's")
                if on_frame is not None and index < len(times):
                    on_frame(times[index], frame)
                if position < len(requested) and index == requested[position]:
                    if frame.interlaced_frame and not self.deinterlaced:
                        refuse_fields(frame, self.packets.codec, self.path)
                        raise InterlacedFrame
                    position += 1
                    yield index, frame
                if position == len(requested) and on_frame is None:
                    return
        if position < len(requested):
            raise DecodeMismatch(f"frame {requested[position]} does not decode")


def map_file_windows(
    path: Path, options: ReadOptions, function: WindowFunction[Result]
) -> tuple[VideoMetadata, list[Result]]:
    """Apply `function` to every window of a file; return the metadata and the results, one for each window.

    The first attempt decodes as few frames as possible. If decoded frames do not match the packets, the file is read
    again with every frame decoded.

    Raises:
        ValueError: the file can't be decoded, or is HDR and `options.hdr` is "refuse".
    """
    packets, num_stated = read_packets(path, QstepReader if options.read_bitstream else None), 0
    attempt = _FileRead(path, packets, options, seek=options.on_frame is None)
    while True:
        try:
            metadata, results = _map_windows(attempt, function)
        except InterlacedFrame:
            attempt = replace(attempt, deinterlaced=True)
        except av.error.FFmpegError as error:
            raise ValueError(f"{path}: decoding or filtering failed ({error.strerror})") from error
        except DecodeMismatch as error:
            if attempt.seek and attempt.packets.ticks_N is not None:
                attempt = replace(attempt, seek=False)
            elif not attempt.recounted:
                num_stated = len(attempt.packets.is_key_N)
                packets = with_decoded_times(path, attempt.packets, options.threads)
                attempt = replace(attempt, packets=packets, recounted=True)
            else:
                raise ValueError(f"{path}: broken while decoding ({error})") from error
        else:
            if num_stated and num_stated != metadata.num_frames:
                metadata.add_note(f"{metadata.num_frames} of {num_stated} frames decode")
            return metadata, results


def _map_windows(attempt: _FileRead, function: WindowFunction[Result]) -> tuple[VideoMetadata, list[Result]]:
    packets, options = attempt.packets, attempt.options
    times = frame_times(packets)
    differences: list[float] = []
    if options.recipe.choice.needs_differences:
        differences = luma_differences(attempt.path).tolist()
        if len(differences) != len(times) - 1:
            raise DecodeMismatch("the number of decoded frames differs from the packets")
    spans = [
        span
        for length in options.window_seconds
        for span in plan_windows(times, packets.rate, length, options.recipe, differences, packets.breaks)
    ]
    frames = attempt.frames(sorted({0, *(index for span in spans for index in span.frame_indices)}))
    first = [next(frames)]
    metadata, stated_seconds = _file_metadata(attempt, first[0][1], times)
    cropper = PatchCropper()

    def assemble(spans: list[Span], frames: Frames) -> Iterator[WindowPixels]:
        displayed = (
            (i, patch_source(frame, times[i], metadata, options, cropper), is_flat_frame(frame)) for i, frame in frames
        )
        return assemble_windows(spans, _view_placer(metadata, options.recipe, times), displayed)

    results: list[Result] = []
    flat_spans: list[Span] = []  # with at least one flat frame among those chosen
    for window in assemble(spans, _chain(first, frames)):
        if window.flat:
            flat_spans.append(window.span)
        else:
            results.append(function(window, metadata))
    if flat_spans:
        again = replace(attempt, options=replace(options, on_frame=None))
        results += [
            function(window, metadata) for window in _rechosen_windows(flat_spans, times, differences, again, assemble)
        ]
    metadata.set_timing(len(times), end_seconds(times, packets.rate), packets.rate)
    if stated_seconds - metadata.duration_seconds > max(0.25, 0.05 * stated_seconds):
        metadata.add_note(
            f"the container states {stated_seconds:.3f} s, its video ends at {metadata.duration_seconds:.3f} s"
        )
    return metadata, results


def _file_metadata(attempt: _FileRead, first_frame: VideoFrame, times: list[float]) -> tuple[VideoMetadata, float]:
    """A file's metadata but for its timing, and the duration in seconds that its container states."""
    packets = attempt.packets
    with open_video(attempt.path) as container:
        refuse_unshowable(container, first_frame, attempt.path)
        metadata = first_frame_metadata(first_frame, video_stream(container), str(attempt.path), attempt.options)
        for note in container_notes(container, attempt.path):
            metadata.add_note(note)
        stated_seconds = _stated_seconds(container) - packets.clock.left_out_seconds
    if packets.log2_qsteps_N is not None and len(packets.sizes_N) == len(times):
        metadata.bitstream = Bitstream.of_packets(packets, times, metadata.width, metadata.height)
    else:
        metadata.no_bitstream_reason = "its frames can't be matched to its packets"
    for note in packets.notes():
        metadata.add_note(note)
    if attempt.deinterlaced:
        metadata.add_note(DEINTERLACED)
    if is_variable(np.asarray(times)):
        metadata.add_note("variable frame rate: windows by timestamp")
    return metadata, stated_seconds


def _rechosen_windows(
    spans: list[Span],
    times: list[float],
    differences: list[float],
    attempt: _FileRead,
    assemble: Callable[[list[Span], Frames], Iterator[WindowPixels]],
) -> Iterator[WindowPixels]:
    """Windows whose chosen frames include a flat one, with frames chosen again among all that are not flat.

    A window of flat frames only comes back as flat, with no pixels.
    """
    recipe, breaks = attempt.options.recipe, attempt.packets.breaks
    windows = {length: cut_windows(times, length, breaks) for length in {span.length_seconds for span in spans}}
    ranges = [windows[span.length_seconds][span.number] for span in spans]
    frames = attempt.frames(sorted({index for first, stop in ranges for index in range(first, stop)}))
    is_flat = {index: is_flat_frame(frame) for index, frame in frames}
    rechosen = []
    for span, (first, stop) in zip(spans, ranges, strict=True):
        is_flat_N = [is_flat[index] for index in range(first, stop)]
        if all(is_flat_N):
            yield WindowPixels(span, np.empty((0, 0, 0, 3), np.uint8), flat=True)
            continue
        chosen = content_frames(recipe, is_flat_N, differences[first : stop - 1])
        indices = tuple(first + index for index in chosen)
        rechosen.append(replace(span, frame_indices=indices, frame_seconds=tuple(times[index] for index in indices)))
    if rechosen:
        requested = sorted({index for span in rechosen for index in span.frame_indices})
        yield from assemble(rechosen, attempt.frames(requested))


def _chain(first: list[Item], rest: Iterator[Item]) -> Iterator[Item]:
    """The one item of `first`, then the rest. `first` is emptied so that it does not keep a large frame alive."""
    yield first.pop()
    yield from rest


def _stated_seconds(container: av.container.InputContainer) -> float:
    """The duration that a container states. Matroska states the end time, and its clock need not start at 0."""
    start = container.start_time or 0 if container.format.name.startswith("matroska") else 0
    return ((container.duration or 0) - max(0, start)) / av.time_base


def _view_placer(metadata: VideoMetadata, recipe: ViewRecipe, times: list[float]) -> Callable[[Span], View]:
    def place(span: Span) -> View:
        return place_view(recipe, span.number, metadata.display_size, span.frame_indices, times)

    return place
