"""A model's scores of one title's rungs on the same views: equal places and times in every rung.

A video's own score uses a few places and chooses frames by its own times. Here places and times are those of the top
rung, several draws of them, so rungs differ by their encoding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rungwise.media.container import decode_all, open_video, refuse_fields, video_stream
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import probe, rgb
from rungwise.score.flat import is_flat
from rungwise.score.frames import InterlacedFrame, deinterlace
from rungwise.score.scorer import Scorer
from rungwise.score.views import RgbFrames, View, make_views, read_views


def choose_places(scorer: Scorer, top: Path, count: int, display_height: int | None) -> list[View]:
    """`count` views of the top rung by the model's own recipe."""
    return make_views(top, scorer.contract.view, count=count, display_height=display_height)


def shows_flat(path: Path, view: View) -> bool:
    """Whether each frame of a view is one plain color (rungwise/score/flat.py); no if one does not decode."""
    try:
        return all(is_flat(np.moveaxis(picture, -1, 0)) for _, picture in shown_frames(path, view.frame_indices))
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


def score_flat_at(scorer: Scorer, path: Path, places: Sequence[View]) -> list[float]:
    """`score_at` for a title whose top rung shows a plain color: a rung that does too gets the scale's best.

    A rung that does not is left to the model.
    """
    if shows_flat(path, _views_at(path, places)[0]):
        return [scorer.contract.scale.best] * len(places)
    return score_at(scorer, path, places)


def score_at(scorer: Scorer, path: Path, places: Sequence[View]) -> list[float]:
    """The model's score of each of `places` in another rung: its frames nearest in time, shown at the same size.

    Raises:
        ValueError: the video can't be decoded, is HDR, or is too short for those times.
    """
    return [float(score) for score in scorer.predict(read_views(path, _views_at(path, places), shown_frames))]


def _views_at(path: Path, places: Sequence[View]) -> list[View]:
    """`places` with the frame numbers of another rung."""
    video = probe(path)
    if video.hdr:
        raise ValueError(f"{path}: HDR video ({video.hdr}); the model is trained on SDR only, tone-map it first")
    times, view_times = timestamps_seconds(path), np.asarray(places[0].timestamps_seconds)
    if view_times[-1] > times[-1] + 0.5:
        raise ValueError(
            f"{path}: ends at {times[-1]:.2f} s, the title's other rungs at {view_times[-1]:.2f} s or later"
        )
    frames = tuple(int(np.abs(times - time).argmin()) for time in view_times)
    return [view.model_copy(update={"frame_indices": frames}) for view in places]
