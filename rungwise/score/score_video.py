"""Split one video into windows, decode each window's patches, and apply a function to every window.

A file and a pipe of the same frames give bit-identical windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import av
import numpy as np

from rungwise.bitstream.qp import QstepReader
from rungwise.media.color import HDR_TRANSFERS
from rungwise.media.container import (
    container_notes,
    decode_all,
    open_video,
    refuse_fields,
    refuse_unshowable,
    video_stream,
)
from rungwise.media.limits import CheckedY4m, check_frames
from rungwise.media.packets import Packets, read_packets
from rungwise.media.video import is_variable, luma, rgb, tone_mapped
from rungwise.score.flat import is_flat_frame
from rungwise.score.frame_choice import luma_differences
from rungwise.score.frames import DecodeMismatch, InterlacedFrame, deinterlace, read_frames, with_decoded_times
from rungwise.score.patch_crop import NativeFrame, PatchCropper
from rungwise.score.video_metadata import Bitstream, ReadOptions, VideoMetadata, first_frame_metadata
from rungwise.score.views import DisplayFrame, PatchSource, View, ViewRecipe, place_view
from rungwise.score.windows import (
    Assembler,
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
            (i, _patch_source(frame, times[i], metadata, options, cropper), is_flat_frame(frame)) for i, frame in frames
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
    metadata.set_timing(times, packets.rate)
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


def map_pipe_windows(
    stream: IO[bytes] | str, name: str, options: ReadOptions, function: WindowFunction[Result]
) -> tuple[VideoMetadata, list[Result]]:
    """Apply `function` to every window of a y4m stream, which is read once, in order.

    Raises:
        ValueError: not a y4m stream, or it ends before the first frame.
    """
    source = stream if isinstance(stream, str) else CheckedY4m(stream, name)
    try:
        container: Any = av.open(source, format="yuv4mpegpipe")
    except (av.error.FFmpegError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"
        raise ValueError(
            f"{name}: not a y4m stream ({reason}); make one with ffmpeg -i FILE -f yuv4mpegpipe -"
        ) from error
    with container:
        rate = Fraction(container.streams.video[0].guessed_rate or 25)
        decoded = decode_all(container, Path(name))
        first = next(decoded, None)
        if first is None:
            raise ValueError(f"{name}: the y4m stream has no frames")
        interlaced = first.interlaced_frame
        frames = _chain([first], decoded)
        if interlaced:
            frames = deinterlace(frames)
        refuse_unshowable(container, first, name)
        metadata = first_frame_metadata(first, container.streams.video[0], name, options)
        del first  # a frame may be very large
        results, times = _map_stream_windows(frames, rate, metadata, options, function)
        if interlaced:
            metadata.add_note(DEINTERLACED)
        metadata.set_timing(times, rate)
        return metadata, results


def _map_stream_windows(
    frames: Iterator[VideoFrame],
    rate: Fraction,
    metadata: VideoMetadata,
    options: ReadOptions,
    function: WindowFunction[Result],
) -> tuple[list[Result], list[float]]:
    """Results for windows of frames at a constant rate, and the frames' times in seconds."""
    results: list[Result] = []
    times: list[float] = []
    place = _view_placer(metadata, options.recipe, times)
    assemblers = [Assembler(length, options.recipe, place) for length in options.window_seconds]
    cropper = PatchCropper()
    for index, frame in enumerate(frames):
        check_frames(index + 1, metadata.name)
        times.append(index * rate.denominator / rate.numerator)
        if options.on_frame is not None:
            options.on_frame(times[-1], frame)
        source, is_flat = _patch_source(frame, times[-1], metadata, options, cropper), is_flat_frame(frame)
        for assembler in assemblers:
            for window in assembler.push(times[-1], source, luma(frame), is_flat):
                results.append(function(window, metadata))
    for assembler in assemblers:
        for window in assembler.finish(rate):
            results.append(function(window, metadata))
    return results, times


def _view_placer(metadata: VideoMetadata, recipe: ViewRecipe, times: list[float]) -> Callable[[Span], View]:
    def place(span: Span) -> View:
        return place_view(recipe, span.number, metadata.display_size, span.frame_indices, times)

    return place


def _patch_source(
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
