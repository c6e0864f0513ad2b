"""A model's scores of one title's rungs at the same places: equal patches and times in every rung.

A video's own score has one view for each window of time. Here places are those of the top rung, several views of a few
windows spread over the title, so rungs differ by their encoding alone. A hybrid score adds the bitstream features of
the place's window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rungwise.bitstream.features import coding_level
from rungwise.bitstream.qp import QstepReader
from rungwise.ladder.rungs import Frozen
from rungwise.media.container import decode_all, open_video, refuse_fields, video_stream
from rungwise.media.packets import Packets, read_packets
from rungwise.media.video import VideoInfo, first_frame, probe, rgb
from rungwise.score.flat import is_flat
from rungwise.score.frame_choice import luma_differences
from rungwise.score.frames import InterlacedFrame, deinterlace
from rungwise.score.scorer import Scorer, UnsupportedBitstream
from rungwise.score.video_metadata import Bitstream
from rungwise.score.views import DisplayFrame, RgbFrames, View, display_size, place_view, stitch
from rungwise.score.windows import WINDOW_SECONDS, frame_times, plan_windows


@dataclass(frozen=True)
class Place:
    """A view of the title, and the window of time whose bitstream features go with it."""

    view: View
    start_seconds: float
    end_seconds: float


class RungScores(Frozen):
    """A rung's scores by place. `hybrid` is None where bitstream features are not used, for `reason`.

    `log2_bits` per coded pixel and `log2_qstep` are of the whole file; None with hybrid scores that are.
    """

    pixel: tuple[float, ...]
    hybrid: tuple[float | None, ...]
    log2_bits: float | None = None
    log2_qstep: float | None = None
    reason: str = ""


def choose_places(scorer: Scorer, top: Path, count: int, display_height: int | None) -> list[Place]:
    """`count` places of the top rung, in windows at even steps; a short title has all of them in one window."""
    packets, recipe = read_packets(top), scorer.contract.view
    times = frame_times(packets)
    luma, sample_aspect_ratio = first_frame(top)
    size = display_size(luma.shape[1], luma.shape[0], display_height, sample_aspect_ratio)
    differences = luma_differences(top).tolist() if recipe.choice.needs_differences else []
    spans = plan_windows(times, packets.rate, WINDOW_SECONDS, recipe, differences, packets.breaks)
    chosen = [spans[(2 * number + 1) * len(spans) // (2 * count)] for number in range(count)]
    return [
        Place(place_view(recipe, number, size, span.frame_indices, times), span.start_seconds, span.end_seconds)
        for number, span in enumerate(chosen)
    ]


def shows_flat(path: Path, places: Sequence[Place]) -> bool:
    """Whether each frame of the places is one plain color (rungwise/score/flat.py); no if one does not decode."""
    try:
        return all(is_flat(np.moveaxis(picture, -1, 0)) for _, picture in shown_frames(path, _frame_indices(places)))
    except ValueError:
        return False  # scoring raises the same error, for its own rung


def shown_frames(path: Path, indices: Sequence[int]) -> RgbFrames:
    """RGB frames, deinterlaced where flagged, as for a video's own score. A frame may come twice: the last counts.

    Raises:
        ValueError: the video can't be decoded or is too short.
    """
    try:
        yield from _frames(path, indices, deinterlaced=False)
    except InterlacedFrame:
        yield from _frames(path, indices, deinterlaced=True)


def _frames(path: Path, indices: Sequence[int], *, deinterlaced: bool) -> RgbFrames:
    missing = set(indices)
    with open_video(path) as container:
        frames = decode_all(container, path)
        for index, frame in enumerate(deinterlace(frames) if deinterlaced else frames):
            if index in missing:
                if frame.interlaced_frame and not deinterlaced:
                    refuse_fields(frame, video_stream(container).codec_context.codec.canonical_name, path)
                    raise InterlacedFrame
                missing.remove(index)
                yield index, rgb(frame)
            if not missing:
                return
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {min(missing)} is missing")


def score_flat_at(scorer: Scorer, path: Path, places: Sequence[Place], *, pixel_only: bool = False) -> RungScores:
    """`score_at` for a title whose top rung shows a plain color: a rung that does too gets the scale's best.

    A rung that does not is left to the model.
    """
    if shows_flat(path, _places_in(path, read_packets(path), probe(path), places)):
        best = (scorer.contract.scale.best,) * len(places)
        return RungScores(pixel=best, hybrid=best)
    return score_at(scorer, path, places, pixel_only=pixel_only)


def score_at(scorer: Scorer, path: Path, places: Sequence[Place], *, pixel_only: bool = False) -> RungScores:
    """The model's scores at `places` in another rung: its frames nearest in time, shown at the same size.

    Raises:
        ValueError: the video can't be decoded, is HDR, or is too short for those times.
    """
    is_hybrid = scorer.contract.stream is not None and not pixel_only
    packets, video = read_packets(path, QstepReader if is_hybrid else None), probe(path)
    own_places = _places_in(path, packets, video, places)
    pixels = _read_pixels(path, own_places)
    inputs, reason = list[NDArray[np.float32] | None]([None] * len(places)), ""
    if is_hybrid:
        bitstream = Bitstream.of_packets(packets, frame_times(packets), video.width, video.height)
        inputs, reason = _bitstream_inputs(scorer, bitstream, own_places)
    known = [bitstream_1F for bitstream_1F in inputs if bitstream_1F is not None]
    if not known:
        pixel = tuple(float(score) for score in scorer.predict(pixels))
        return RungScores(pixel=pixel, hybrid=(None,) * len(places), reason=reason)
    bitstream_BF = np.concatenate([known[0] if row is None else row for row in inputs])
    pixel_B, hybrid_B = scorer.run(["score", "fused"], pixels, bitstream_BF)
    log2_bits, log2_qstep = coding_level(packets, video.width * video.height)
    return RungScores(
        pixel=tuple(float(score) for score in pixel_B),
        hybrid=tuple(None if row is None else float(score) for row, score in zip(inputs, hybrid_B, strict=True)),
        log2_bits=log2_bits,
        log2_qstep=log2_qstep,
        reason=reason,
    )


def _bitstream_inputs(
    scorer: Scorer, bitstream: Bitstream, places: Sequence[Place]
) -> tuple[list[NDArray[np.float32] | None], str]:
    """The model's bitstream input at each place, or None, and why the first None is."""
    inputs, reason = list[NDArray[np.float32] | None](), ""
    for place in places:
        try:
            times = place.start_seconds, place.end_seconds
            inputs.append(scorer.window_input(bitstream, *times, place.view.display_height))
        except UnsupportedBitstream as error:
            inputs.append(None)
            reason = reason or str(error)
    return inputs, reason


def _places_in(path: Path, packets: Packets, video: VideoInfo, places: Sequence[Place]) -> list[Place]:
    """`places` with the frame numbers of another rung."""
    if video.hdr:
        raise ValueError(f"{path}: HDR video ({video.hdr}); the model is trained on SDR only, tone-map it first")
    times = packets.times_N
    last = max(place.view.timestamps_seconds[-1] for place in places)
    if last > times[-1] + 0.5:
        raise ValueError(f"{path}: ends at {times[-1]:.2f} s, the title's other rungs at {last:.2f} s or later")
    own_places = []
    for place in places:
        frames = tuple(int(np.abs(times - seconds).argmin()) for seconds in place.view.timestamps_seconds)
        view = place.view.model_copy(update={"frame_indices": frames})
        own_places.append(Place(view, place.start_seconds, place.end_seconds))
    return own_places


def _frame_indices(places: Sequence[Place]) -> list[int]:
    return sorted({index for place in places for index in place.view.frame_indices})


def _read_pixels(path: Path, places: Sequence[Place]) -> NDArray[np.uint8]:
    """Pixels of K places, x_KTSSC uint8; the video is decoded once."""
    first = places[0].view
    pixels = np.empty((len(places), len(first.frame_indices), first.size_px, first.size_px, 3), np.uint8)
    for index, picture in shown_frames(path, _frame_indices(places)):
        frame = DisplayFrame(picture, first.display_width, first.display_height)
        for number, place in enumerate(places):
            slots = [slot for slot, requested in enumerate(place.view.frame_indices) if requested == index]
            if slots:
                pixels[number, slots] = stitch(frame, place.view)
    return pixels
