"""A model's scores of one title's rungs, all looked at in the same places at the same times.

A single score looks at few places, the same for all videos, and each window's frames are chosen by its own
times. Here every rung is shown at the top rung's places and times, several draws of them, and scores are means.
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
from rungwise.score.views import Pictures, View, make_views, read_views


def choose_places(scorer: Scorer, top: Path, count: int, display_height: int | None) -> list[View]:
    """Views of the top rung: the model's own recipe, `count` draws of places."""
    return make_views(top, scorer.contract.view, count=count, display_height=display_height)


def shows_flat(path: Path, view: View) -> bool:
    """Whether each frame of a view is one plain color (rungwise/score/flat.py); no if one does not decode."""
    try:
        return all(is_flat(np.moveaxis(picture, -1, 0)) for _, picture in shown_frames(path, view.frame_indices))
    except ValueError:
        return False  # the score that follows raises the same error, for its own rung


def shown_frames(path: Path, indices: Sequence[int]) -> Pictures:
    """`rgb_frames`, deinterlaced where flagged, as a single score sees them; a frame may come twice, the last counts.

    Raises:
        ValueError: the video can't be decoded or is too short.
    """
    try:
        yield from _frames(path, indices, deinterlaced=False)
    except InterlacedFrame:
        yield from _frames(path, indices, deinterlaced=True)


def _frames(path: Path, indices: Sequence[int], *, deinterlaced: bool) -> Pictures:
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
    raise ValueError(f"{path}: only {index + 1} frames decode, frame {min(missing)} was wanted")


def score_flat_at(scorer: Scorer, path: Path, places: Sequence[View]) -> list[float]:
    """`score_at` of a title whose top rung shows a plain color: the scale's best where this rung does too.

    A rung that is flat where the top rung is not has lost its content, so that one is left to the model.
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
    seen = probe(path)
    if seen.hdr:
        raise ValueError(f"{path}: HDR video ({seen.hdr}); the model knows SDR only, tone-map it first")
    times = timestamps_seconds(path)
    wanted = np.asarray(places[0].timestamps_seconds)
    if wanted[-1] > times[-1] + 0.5:
        raise ValueError(
            f"{path}: ends at {times[-1]:.2f} s, the title's other rungs go on to {wanted[-1]:.2f} s or more"
        )
    frames = tuple(int(np.abs(times - time).argmin()) for time in wanted)
    return [view.model_copy(update={"frame_indices": frames}) for view in places]
