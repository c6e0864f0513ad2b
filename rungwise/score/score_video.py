"""What a scorer sees of one video: facts and notes for its reader, windows of pixels for its model.

A file and a pipe of the same frames give the same windows to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from rungwise.bitstream.features import stream_facts
from rungwise.bitstream.qp import StepReader
from rungwise.media.clock import end_seconds
from rungwise.media.color import HDR_TRANSFERS
from rungwise.media.container import (
    container_notes,
    decode_all,
    open_video,
    refuse_fields,
    refuse_unshowable,
    video_stream,
)
from rungwise.media.limits import MAX_SAMPLE_ASPECT, CheckedY4m, check_frames, check_size, is_absurd_aspect
from rungwise.media.packets import HiddenKey, Packets, read_packets
from rungwise.media.video import is_variable, luma, rgb, sample_aspect, tone_mapped
from rungwise.score.flat import is_flat_frame
from rungwise.score.frame_choice import luma_differences
from rungwise.score.frames import Interlaced, NotAsListed, decoded_times, deinterlace, read_frames
from rungwise.score.patch_crop import CutFrame, Cutter
from rungwise.score.views import Patches, Shown, View, ViewRecipe, display_size, place_view
from rungwise.score.windows import (
    Assembler,
    SeenWindow,
    Span,
    content_frames,
    cut_windows,
    frame_times,
    gather,
    plan_windows,
)

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

DEINTERLACED = "interlaced: deinterlaced with bwdif"
Hdr = Literal["refuse", "tonemap"]
Watcher = Callable[[float, "VideoFrame"], None]
Judged = TypeVar("Judged")
Item = TypeVar("Item")
Judge = Callable[[SeenWindow, "Facts"], Judged]
Frames = Iterator[tuple[int, "VideoFrame"]]


@dataclass(frozen=True)
class How:
    """How a video is looked at: windows of each of `lengths` seconds; `watch` is shown every frame and its time.

    Where a file turns out not to be as announced, `watch` sees its frames again from the first, at 0 s. `stream`: the
    coded stream's facts are wanted too.
    """

    recipe: ViewRecipe
    lengths: tuple[float, ...]
    display_height: int | None = None
    hdr: Hdr = "refuse"
    threads: int = 1
    watch: Watcher | None = None
    stream: bool = False


@dataclass(frozen=True)
class Coded:
    """A file's stream as coded: its codec, when each frame is shown, whether it is a key frame, the bytes that it took
    and its quantizer's step, a frame's pixels."""

    codec: str
    times_N: NDArray[np.float64]
    is_intra_N: NDArray[np.bool_]
    sizes_N: NDArray[np.int64]
    steps_N: NDArray[np.float64]
    width: int
    height: int
    pixels_N2: NDArray[np.float64]
    hidden_key: HiddenKey | None = None

    def facts(self, start_seconds: float, end_seconds: float, display_height: int) -> NDArray[np.float64]:
        """`stream_facts` of a stretch of time, and of the key frame before it where it has none of its own, or none at
        the stream's start, shown or not.

        So a long group of pictures is judged in all its windows as a clip is that starts with its key frame. Frames
        count at the size at which each was coded. Measured on AV1 resizing and super-resolution, that is nearer to VMAF
        than pixel-only scores are.
        """
        inside = (self.times_N >= start_seconds - 1e-9) & (self.times_N < end_seconds - 1e-9)
        earlier = np.flatnonzero(self.is_intra_N & (self.times_N < start_seconds))[-1:]
        if not self.is_intra_N[inside].any():
            inside[earlier] = True
        sizes, steps, pixels = self.sizes_N[inside], self.steps_N[inside], self.pixels_N2[inside, 0]
        if self.hidden_key is not None and (inside[0] or not self.is_intra_N[inside].any()):
            sizes, steps = np.append(sizes, self.hidden_key.size), np.append(steps, self.hidden_key.step)
            pixels = np.append(pixels, self.hidden_key.num_pixels)
        ratios = pixels / self.pixels_N2[0, 1]  # to the first frame's, whose size as shown is known
        return stream_facts(sizes, steps, self.width * self.height, self.height, display_height, ratios)


@dataclass
class Facts:
    """What was seen. Width and height are as shown, before samples that are not square are stretched."""

    name: str
    width: int
    height: int
    shown: tuple[int, int]
    coded: Coded | None = None
    no_stream: str = "no coded stream"  # why `coded` is None
    notes: list[str] = field(default_factory=list)
    fps: float = 0.0
    duration_seconds: float = 0.0
    num_frames: int = 0

    def note(self, text: str) -> None:
        """Add what a reader of the score should know, once."""
        if text not in self.notes:
            self.notes.append(text)


def judge_file(path: Path, how: How, judge: Judge[Judged]) -> tuple[Facts, list[Judged]]:
    """Judge every window of a file.

    Raises:
        ValueError: the file can't be decoded, or is HDR and that is refused.
    """
    packets, announced = read_packets(path, StepReader if how.stream else None), 0
    jump, deinterlaced = how.watch is None, False
    while True:
        try:
            facts, judged = _judge_frames(path, packets, how, judge, jump, deinterlaced, bool(announced))
        except Interlaced:
            deinterlaced = True
        except av.error.FFmpegError as error:
            raise ValueError(f"{path}: its frames can't be worked on ({error.strerror})") from error
        except NotAsListed as error:
            if jump and packets.ticks_N is not None:
                jump = False
            elif not announced:
                announced = len(packets.is_key_N)
                packets = decoded_times(path, packets, how.threads)
            else:
                raise ValueError(f"{path}: broken while decoding ({error})") from error
        else:
            if announced and announced != facts.num_frames:
                facts.note(f"{facts.num_frames} of {announced} frames decode")
            return facts, judged


def _judge_frames(
    path: Path,
    packets: Packets,
    how: How,
    judge: Judge[Judged],
    jump: bool,
    deinterlaced: bool,
    counted: bool,
) -> tuple[Facts, list[Judged]]:
    times = frame_times(packets)
    differences: list[float] = []
    if how.recipe.choice.needs_differences:
        differences = luma_differences(path).tolist()
        if len(differences) != len(times) - 1:
            raise NotAsListed("another number of frames decodes")
    breaks = packets.breaks
    spans = [
        span
        for length in how.lengths
        for span in plan_windows(times, packets.rate, length, how.recipe, differences, breaks)
    ]
    wanted = sorted({0, *(index for span in spans for index in span.frame_indices)})

    def read(wanted: list[int], how: How) -> Frames:
        if deinterlaced or counted or how.watch is not None or packets.ticks_N is None or packets.restarts:
            return _in_order(path, packets, wanted, how, deinterlaced=deinterlaced, counted=counted)
        return read_frames(path, packets, wanted, threads=how.threads, jump=jump)

    frames = read(wanted, how)
    first = [next(frames)]
    with open_video(path) as container:
        refuse_unshowable(container, first[0][1], path)
        facts = _facts(first[0][1], video_stream(container), str(path), how)
        for note in container_notes(container, path):
            facts.note(note)
        announced = _announced_seconds(container) - packets.clock.left_out_seconds
    if packets.steps_N is not None and len(packets.sizes_N) == len(times):
        coded = packets.codec, np.asarray(times), packets.is_intra_N, packets.sizes_N, packets.steps_N
        assert packets.pixels_N2 is not None
        facts.coded = Coded(*coded, facts.width, facts.height, packets.pixels_N2, packets.hidden_key)
    else:
        facts.no_stream = "its frames can't be matched with its packets"
    for note in packets.notes():
        facts.note(note)
    if deinterlaced:
        facts.note(DEINTERLACED)
    if is_variable(np.asarray(times)):
        facts.note("variable frame rate: windows by timestamp")
    cutter = Cutter()

    def look(spans: list[Span], frames: Frames) -> Iterator[SeenWindow]:
        shown = ((i, _shown(frame, times[i], facts, how, cutter), is_flat_frame(frame)) for i, frame in frames)
        return gather(spans, _placer(facts, how.recipe, times), shown)

    judged, doubtful = [], []
    for seen in look(spans, _chained(first, frames)):
        if seen.flat:
            doubtful.append(seen.span)
        else:
            judged.append(judge(seen, facts))
    if doubtful:
        unwatched = replace(how, watch=None)
        windows = _read_whole(
            doubtful, times, how.recipe, differences, lambda wanted: read(wanted, unwatched), look, breaks
        )
        judged += [judge(seen, facts) for seen in windows]
    _measure(facts, times, packets.rate)
    if announced - facts.duration_seconds > max(0.25, 0.05 * announced):
        facts.note(f"the file announces {announced:.3f} s, its video ends at {facts.duration_seconds:.3f} s")
    return facts, judged


def _read_whole(
    spans: list[Span],
    times: list[float],
    recipe: ViewRecipe,
    differences: list[float],
    read: Callable[[list[int]], Frames],
    look: Callable[[list[Span], Frames], Iterator[SeenWindow]],
    breaks: tuple[int, ...],
) -> Iterator[SeenWindow]:
    """Windows for which a flat frame was chosen, with every frame read: all flat, or judged by those that are not."""
    cuts = {length: cut_windows(times, length, breaks) for length in {span.length_seconds for span in spans}}
    ends = [cuts[span.length_seconds][span.number] for span in spans]
    frames = read(sorted({index for first, stop in ends for index in range(first, stop)}))
    is_flat = {index: is_flat_frame(frame) for index, frame in frames}
    moved = []
    for span, (first, stop) in zip(spans, ends, strict=True):
        flat = [is_flat[index] for index in range(first, stop)]
        if all(flat):
            yield SeenWindow(span, np.empty((0, 0, 0, 3), np.uint8), flat=True)
            continue
        indices = tuple(first + index for index in content_frames(recipe, flat, differences[first : stop - 1]))
        moved.append(replace(span, frame_indices=indices, frame_seconds=tuple(times[index] for index in indices)))
    if moved:
        yield from look(moved, read(sorted({index for span in moved for index in span.frame_indices})))


def _chained(first: list[Item], rest: Iterator[Item]) -> Iterator[Item]:
    """The one item of `first`, then the rest; `first` is emptied, since a frame kept in it could be very large."""
    yield first.pop()
    yield from rest


def _announced_seconds(container: av.container.InputContainer) -> float:
    """The length that a file states. Matroska's is the end on the file's clock, which need not start at 0."""
    start = container.start_time or 0 if container.format.name.startswith("matroska") else 0
    return ((container.duration or 0) - max(0, start)) / av.time_base


def _in_order(
    path: Path, packets: Packets, wanted: list[int], how: How, *, deinterlaced: bool, counted: bool
) -> Frames:
    """As `read_frames`, every frame decoded; of a file not yet `counted` the times must be those announced."""
    ticks, times = packets.ticks_N, frame_times(packets)
    position = 0
    with open_video(path, how.threads) as container:
        frames = decode_all(container, path)
        for index, frame in enumerate(deinterlace(frames) if deinterlaced else frames):
            if ticks is not None and not counted and (index >= len(ticks) or frame.pts != ticks[index]):
                raise NotAsListed("a frame's time is not as announced")
            if how.watch is not None and index < len(times):
                how.watch(times[index], frame)
            if position < len(wanted) and index == wanted[position]:
                if frame.interlaced_frame and not deinterlaced:
                    refuse_fields(frame, packets.codec, path)
                    raise Interlaced
                position += 1
                yield index, frame
            if position == len(wanted) and how.watch is None:
                return
    if position < len(wanted):
        raise NotAsListed(f"frame {wanted[position]} does not decode")


def judge_pipe(stream: IO[bytes] | str, name: str, how: How, judge: Judge[Judged]) -> tuple[Facts, list[Judged]]:
    """Judge every window of a y4m stream, read once and forwards.

    Raises:
        ValueError: it is no y4m, or ends before its first frame.
    """
    checked = stream if isinstance(stream, str) else CheckedY4m(stream, name)
    try:
        container: Any = av.open(checked, format="yuv4mpegpipe")
    except (av.error.FFmpegError, EOFError) as error:
        words = getattr(error, "strerror", None) or "it ends at once"
        raise ValueError(f"{name}: no y4m stream ({words}); ffmpeg -i FILE -f yuv4mpegpipe - makes one") from error
    with container:
        rate = Fraction(container.streams.video[0].guessed_rate or 25)
        decoded = decode_all(container, Path(name))
        first = next(decoded, None)
        if first is None:
            raise ValueError(f"{name}: the y4m stream holds no frame")
        interlaced = first.interlaced_frame
        frames = _chained([first], decoded)
        if interlaced:
            frames = deinterlace(frames)
        refuse_unshowable(container, first, name)
        facts = _facts(first, container.streams.video[0], name, how)
        del first  # a frame may be very large
        judged: list[Judged] = []
        times: list[float] = []
        place = _placer(facts, how.recipe, times)
        assemblers = [Assembler(length, how.recipe, place) for length in how.lengths]
        cutter = Cutter()
        for index, frame in enumerate(frames):
            check_frames(index + 1, name)
            times.append(index * rate.denominator / rate.numerator)
            if how.watch is not None:
                how.watch(times[-1], frame)
            shown, is_flat = _shown(frame, times[-1], facts, how, cutter), is_flat_frame(frame)
            for assembler in assemblers:
                for seen in assembler.push(times[-1], shown, luma(frame), is_flat):
                    judged.append(judge(seen, facts))
        for assembler in assemblers:
            for seen in assembler.finish(rate):
                judged.append(judge(seen, facts))
        if interlaced:
            facts.note(DEINTERLACED)
        _measure(facts, times, rate)
        return facts, judged


def _facts(frame: VideoFrame, stream: Any, name: str, how: How) -> Facts:
    """What the first frame says."""
    transfer = HDR_TRANSFERS.get(int(frame.color_trc))
    if transfer and how.hdr == "refuse":
        raise ValueError(
            f"{name}: HDR video ({transfer}); the model knows SDR only: tone-map it, or --hdr tonemap does so plainly"
        )
    plane = luma(frame)
    height, width = plane.shape
    ratio = sample_aspect(stream, frame.rotation)
    facts = Facts(name, width, height, display_size(width, height, how.display_height, ratio))
    check_size(*facts.shown, name, shown=True)
    if is_absurd_aspect(stream.sample_aspect_ratio):
        facts.note(
            f"sample aspect ratio {stream.sample_aspect_ratio}: more than {MAX_SAMPLE_ASPECT}:1, taken as square"
        )
    if transfer:
        facts.note(f"tone-mapped from {transfer} for an SDR screen")
    if frame.rotation % 360:
        facts.note(f"rotated by {frame.rotation % 360} degrees, as the file asks")
    if ratio != 1:
        facts.note(f"samples are {ratio:.4g} wide to 1 high: shown at {facts.shown[0]}x{facts.shown[1]}")
    if frame.format.name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya")):
        facts.note("alpha is left out: the colors are judged as stored")
    cell = min(facts.shown) / how.recipe.grid
    if cell < how.recipe.patch_px:
        facts.note(f"smaller than the model's view of {how.recipe.size_px} pixels: some places are seen twice")
    return facts


def _placer(facts: Facts, recipe: ViewRecipe, times: list[float]) -> Callable[[Span], View]:
    def place(span: Span) -> View:
        return place_view(recipe, span.number, facts.shown, span.frame_indices, times)

    return place


def _shown(frame: VideoFrame, time: float, facts: Facts, how: How, cutter: Cutter) -> Patches:
    """A frame that the model's patches can be taken from."""
    transfer = HDR_TRANSFERS.get(int(frame.color_trc))
    if transfer and how.hdr == "refuse":
        raise ValueError(f"{facts.name}: becomes HDR ({transfer}) at {time:.3f} s; the model knows SDR only")
    if not transfer and cutter.can_cut(frame, facts.shown, how.recipe.patch_px):
        return CutFrame(cutter, frame)
    picture = tone_mapped(frame) if transfer else rgb(frame)
    height, width = picture.shape[:2]
    if (width, height) != (facts.width, facts.height) and not any("size changes" in note for note in facts.notes):
        facts.note(
            f"the size changes: {width}x{height} at {time:.3f} s; all is shown at {facts.shown[0]}x{facts.shown[1]}"
        )
    return Shown(picture, *facts.shown)


def _measure(facts: Facts, times: list[float], rate: Fraction) -> None:
    facts.num_frames = len(times)
    facts.duration_seconds = round(end_seconds(times, rate), 6)
    facts.fps = round(len(times) / facts.duration_seconds, 3) if facts.duration_seconds else float(rate)
