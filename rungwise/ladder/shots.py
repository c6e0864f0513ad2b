"""One CRF for each shot of a master, in place of one for all: the same average VMAF at fewer bits.

Every shot is encoded at three CRFs around the rung's, between which size and VMAF are interpolated. The cheapest choice
is taken whose average VMAF is at least that of one CRF for all, and measured, until all of a choice is measured. These
encodes are joined without encoding again. Shots are cut losslessly, which takes
room for an uncompressed copy of the master.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from rungwise.ladder.encode import CODECS, EncodeSpec
from rungwise.ladder.rungs import Frozen
from rungwise.ladder.search import crf_axis, log_loss
from rungwise.ladder.trials import Trials
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.metrics.curves import pareto_front
from rungwise.progress import note

CUT_THRESHOLD = 10  # of ffmpeg's scdet, its default
MIN_SHOT_SECONDS = 1.0  # a shorter shot belongs to the one before
MAX_FRONT = 1000
SPAN = 0.7  # doublings of the loss between a rung's CRF and the ends of its shots'
MAX_ROUNDS = 6
HUGE = 1e15  # bytes of an encode that is no choice


class ShotCrfs(Frozen):
    """One CRF a shot, its bitrate and average VMAF, and the bitrate saved against one CRF for all shots."""

    crfs: tuple[int, ...]
    bitrate_kbps: float
    vmaf: float
    saved_percent: float


@dataclass
class _ShotCurve:
    """Sizes and VMAF of one shot by CRF."""

    trials: Trials
    spec: EncodeSpec
    sizes: dict[int, float] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)

    def measure(self, crf: int) -> None:
        """Encode and compare."""
        spec = replace(self.spec, crf=crf)
        self.sizes[crf], self.scores[crf] = self.trials.encoding(spec).num_bytes, self.trials.vmaf(spec)

    def estimates(self, crfs: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sizes and scores at CRFs, exact where they are measured."""
        known = sorted(self.sizes)
        sizes = 2 ** PchipInterpolator(known, [np.log2(self.sizes[crf]) for crf in known])(crfs)
        scores = 100 - 2 ** PchipInterpolator(known, [log_loss(self.scores[crf]) for crf in known])(crfs)
        at = np.isin(crfs, known)
        sizes[at], scores[at] = [self.sizes[crf] for crf in known], [self.scores[crf] for crf in known]
        return sizes, scores


@dataclass(frozen=True)
class Shots:
    """The shots of a master: their first frames, and trials of each."""

    first_frames: tuple[int, ...]
    trials: tuple[Trials, ...]

    @classmethod
    def of(cls, master: Trials) -> Shots:
        """Find and cut the shots of a master; they share its cache and its counts."""
        frames = first_frames(master.master, master.info.fps)
        folder = master.scratch / "shots"
        folder.mkdir()
        parts = list[Trials]()
        for path in cut_shots(master.master, frames, folder):
            scratch = folder / path.stem
            scratch.mkdir()
            # As many samples as no shot has room for: all of it is encoded.
            part = Trials(
                path,
                scratch,
                master.cache,
                display_height=master.display_height,
                num_samples=int(master.info.duration_seconds) + 1,
                jobs=master.jobs,
            )
            part.counts = master.counts
            parts.append(part)
        return cls(frames, tuple(parts))

    def choose(self, spec: EncodeSpec) -> ShotCrfs:
        """The cheapest CRFs around that of `spec` with at least its average VMAF."""
        assert spec.crf is not None
        axis = crf_axis(spec.codec, CODECS[spec.codec].crf_range)
        span = round(SPAN * axis.doubling)
        crfs = np.arange(max(spec.crf - span, axis.values[0]), min(spec.crf + span, axis.values[-1]) + 1)
        own = int(np.searchsorted(crfs, spec.crf))
        curves = [_ShotCurve(part, spec) for part in self.trials]
        for curve in curves:
            for crf in {int(crfs[0]), spec.crf, int(crfs[-1])}:
                curve.measure(crf)
        weights = np.array([part.info.num_frames for part in self.trials], np.float64)
        weights /= weights.sum()
        columns = self._measured_columns(curves, crfs, own, weights)
        chosen = [int(crfs[column]) for column in columns]
        sizes = [curve.sizes[crf] for curve, crf in zip(curves, chosen, strict=True)]
        scores = [curve.scores[crf] for curve, crf in zip(curves, chosen, strict=True)]
        choice = ShotCrfs(
            crfs=tuple(chosen),
            bitrate_kbps=sum(sizes) * 8 / 1000 / sum(part.info.duration_seconds for part in self.trials),
            vmaf=float(np.dot(scores, weights)),
            saved_percent=100 * (1 - sum(sizes) / sum(curve.sizes[spec.crf] for curve in curves)),
        )
        note(f"{spec.codec} {spec.height}p per shot: {choice.saved_percent:.1f} % less than crf {spec.crf} for all")
        return choice

    def _measured_columns(
        self, curves: Sequence[_ShotCurve], crfs: NDArray[np.int64], own: int, weights: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """The cheapest column of each shot, all measured; in the last round among what is measured."""
        for round_number in range(MAX_ROUNDS):
            sizes, scores = (np.array(rows) for rows in zip(*(curve.estimates(crfs) for curve in curves), strict=True))
            if round_number == MAX_ROUNDS - 1:
                sizes[[[crf not in curve.sizes for crf in crfs] for curve in curves]] = HUGE
            columns = cheapest(sizes, scores * weights[:, None], own)
            missing = [(curve, crf) for curve, crf in zip(curves, crfs[columns], strict=True) if crf not in curve.sizes]
            if not missing:
                return columns
            for curve, crf in missing:
                curve.measure(int(crf))
        raise AssertionError("a shot's own CRF is measured")

    def join(self, spec: EncodeSpec, crfs: Sequence[int], destination: Path) -> Path:
        """One file of the shots' encodes, each of which begins with a key frame and refers to no other."""
        paths = [part.prepare(replace(spec, crf=crf))[0] for part, crf in zip(self.trials, crfs, strict=True)]
        playlist = destination.with_suffix(".txt")
        playlist.write_text("".join(f"file '{path.absolute()}'\n" for path in paths), encoding="utf-8")
        command = ["-y", "-f", "concat", "-safe", "0", "-i", str(playlist.absolute()), "-c", "copy", "-bitexact"]
        run_ffmpeg([*command, str(destination.absolute())], writes=destination)
        return destination


def first_frames(master: Path, fps: float) -> tuple[int, ...]:
    """The number of the first frame of each shot, by ffmpeg's scdet."""
    filters = f"scdet=t={CUT_THRESHOLD},metadata=mode=print:key=lavfi.scd.time:file=-"
    text = run_ffmpeg(["-i", str(master.absolute()), "-map", "0:V:0", "-vf", filters, "-f", "null", "-"]).decode()
    frames = [0]
    for number in map(int, re.findall(r"^frame:(\d+)", text, re.MULTILINE)):
        if number - frames[-1] >= MIN_SHOT_SECONDS * fps:
            frames.append(number)
    return tuple(frames)


def cut_shots(master: Path, frames: Sequence[int], folder: Path) -> list[Path]:
    """Lossless copies of the shots, in order."""
    cuts = ["-segment_frames", ",".join(map(str, frames[1:]))] if len(frames) > 1 else ["-segment_time", "1e9"]
    command = ["-y", "-threads", "1", "-i", str(master.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += ["-fps_mode", "passthrough", "-c:v", "ffvhuff", "-bitexact", "-f", "segment", *cuts]
    run_ffmpeg([*command, "-reset_timestamps", "1", str(folder.absolute() / "shot%04d.mkv")])
    return sorted(folder.glob("shot*.mkv"))


def cheapest(num_bytes: NDArray[np.float64], scores: NDArray[np.float64], column: int) -> NDArray[np.int64]:
    """The column of each row with the least bytes in all, whose scores add up to at least those of one `column`.

    Rows are added one by one; of their sums only the Pareto front is left, thinned where it is long.
    """
    sizes, points, choices = np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int64)
    count = num_bytes.shape[1]
    for row_bytes, row_scores in zip(num_bytes, scores, strict=True):
        sizes, points = (sizes[:, None] + row_bytes).ravel(), (points[:, None] + row_scores).ravel()
        choices = np.c_[np.repeat(choices, count, axis=0), np.tile(np.arange(count), len(choices))]
        front = pareto_front(sizes, points)
        front = front[np.unique(np.linspace(0, len(front) - 1, MAX_FRONT).round().astype(np.int64))]
        sizes, points, choices = sizes[front], points[front], choices[front]
    enough = np.flatnonzero(points >= scores[:, column].sum() - 1e-9)
    uniform = np.full(len(num_bytes), column)
    if not enough.size or sizes[enough].min() >= num_bytes[:, column].sum():
        return uniform
    return np.asarray(choices[enough[sizes[enough].argmin()]], np.int64)
