"""Trial encodes of one master: encoded once, scored by the model, compared by VMAF, all cached by content.

A long master is represented by samples: parts at even steps, copied without re-encoding, each from a key frame on. A
trial encodes every sample; its score is their mean, weighted by frames. A rough trial encodes a part of that only.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rungwise.artifact import sha256_file, sha256_json, write_json
from rungwise.ladder.encode import CODECS, EncodeSpec, encode, encoder_arguments
from rungwise.ladder.label import DEFAULT_MODELS, LABEL_VERSION, label
from rungwise.ladder.pairing import PAIRING_VERSION
from rungwise.media.ffmpeg import FfmpegError, ffmpeg_version, run_ffmpeg
from rungwise.media.video import VideoInfo, probe
from rungwise.progress import note
from rungwise.score.scorer import SCORER_VERSION, SHIPPED_MODEL, Scorer

TRIALS_VERSION = 1
SAMPLE_SECONDS = 8.0
SECONDS_PER_SAMPLE = 120.0  # one sample for so much of a long master
MIN_SAMPLES, MAX_SAMPLES = 3, 12
SAMPLES_PER_ROUGH = 3  # a rough trial encodes one sample of so many
ROUGH_FRACTION, MIN_ROUGH_FRAMES, MAX_ROUGH_FRAMES = 0.2, 12, 48  # of a master without samples
Measurement = Literal["encode", "model", "vmaf"]


@dataclass(frozen=True)
class Encoding:
    """A trial encode's size, and the seconds that its samples took one after the other."""

    num_bytes: int
    seconds: float


@dataclass
class Counts:
    """What was run, not read from the cache: times and seconds of each kind.

    A rough trial is counted as one, its encode and its VMAF together.
    """

    runs: dict[str, int]
    seconds: dict[str, float]

    @classmethod
    def zero(cls) -> Counts:
        """Nothing run yet."""
        kinds = ("rough", "encode", "model", "vmaf")
        return cls(dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0.0))


@dataclass(frozen=True)
class TrialRequest:
    """What `crf-search` and `ladder propose` have in common: their trial encodes' options, see `Trials`.

    Raises:
        ValueError: there is no such master.
    """

    master: Path
    cache: Path
    display_height: int | None = None
    num_samples: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if not self.master.is_file():
            raise ValueError(f"{self.master}: no such file")

    @contextmanager
    def open_trials(self) -> Iterator[Trials]:
        """The master's trial encodes, whose files are removed at the end."""
        with tempfile.TemporaryDirectory(prefix="rungwise-trials-") as scratch:
            yield Trials(
                self.master,
                Path(scratch),
                self.cache,
                display_height=self.display_height,
                num_samples=self.num_samples,
                jobs=self.jobs,
            )


class Trials:
    """Trial encodes of `master`; files lie in `scratch`, results in `cache` for the next run.

    Args:
        master: a progressive or interlaced video that ffmpeg reads.
        scratch: an existing folder.
        cache: folder of results.
        display_height: at which quality is measured; None for the master's own height.
        num_samples: None for all of a short master, and a sample every two minutes of a long one.
        jobs: samples at a time.
        rough: see `rough_trials`.
    """

    def __init__(
        self,
        master: Path,
        scratch: Path,
        cache: Path,
        *,
        display_height: int | None = None,
        num_samples: int | None = None,
        jobs: int = 1,
        rough: bool = False,
    ) -> None:
        self.master, self.scratch, self.cache, self.jobs = master, scratch, cache, jobs
        self.info: VideoInfo = probe(master)
        if self.info.hdr:
            raise ValueError(
                f"{master}: HDR video ({self.info.hdr}); VMAF v1 and the model are of SDR, tone-map it first"
            )
        self.display_height = display_height or self.info.height
        self.starts = sample_starts(self.info.duration_seconds, num_samples)
        self.rough = rough
        self.counts = Counts.zero()
        self._encodings: dict[EncodeSpec, list[Path]] = {}

    @cached_property
    def samples(self) -> list[tuple[Path, VideoInfo]]:
        """The samples as files; the master itself if it is short."""
        if not self.starts and not self.rough:
            return [(self.master, self.info)]
        if not self.starts:
            part = cut_part(self.master, self.scratch / "part.mkv", self.info.duration_seconds / 2, self._rough_frames)
            return [(part, probe(part))]
        paths = [cut_sample(self.master, self.scratch / f"sample{i}.mkv", start) for i, start in enumerate(self.starts)]
        return [(path, probe(path)) for path in paths]

    @cached_property
    def rough_trials(self) -> Trials | None:
        """Trials of a third of the samples, or of a fifth of a short master; None where that is too few frames.

        Their VMAF is near that of the whole, and falls with CRF in the same way.
        """
        if len(self.starts) == 1 or (not self.starts and self._rough_frames < MIN_ROUGH_FRAMES):
            return None
        scratch = self.scratch / "rough"
        scratch.mkdir()
        trials = Trials(
            self.master, scratch, self.cache, display_height=self.display_height, jobs=self.jobs, rough=True
        )
        trials.starts, trials.counts = self.starts[1::SAMPLES_PER_ROUGH], self.counts
        return trials

    @property
    def _rough_frames(self) -> int:
        return min(MAX_ROUGH_FRAMES, int(self.info.num_frames * ROUGH_FRACTION))

    @cached_property
    def scorer(self) -> Scorer:
        """The packaged model."""
        return Scorer()

    @cached_property
    def _model_sha256(self) -> str:
        """Of the packaged model, which need not be loaded for scores that are cached."""
        return sha256_file(SHIPPED_MODEL)

    @cached_property
    def _source_key(self) -> dict[str, Any]:
        seconds = SAMPLE_SECONDS if self.starts else None
        starts = [round(start, 3) for start in self.starts]
        key = {"version": TRIALS_VERSION, "master": sha256_file(self.master), "starts": starts, "seconds": seconds}
        return key | ({"rough_frames": self._rough_frames} if self.rough else {})

    def encoding(self, spec: EncodeSpec) -> Encoding:
        """Size and time of a trial encode."""
        return Encoding(**self._cached("encode", spec, {}, lambda: asdict(self._encode(spec))))

    def kbps(self, spec: EncodeSpec) -> float:
        """Bitrate of a trial encode."""
        return self.encoding(spec).num_bytes * 8 / 1000 / self.sampled_seconds()

    def model_score(self, spec: EncodeSpec) -> float:
        """The model's hybrid score, evaluated at the display height."""
        settings = {"scorer": SCORER_VERSION, "model": self._model_sha256, "height": self.display_height}

        def score(path: Path, number: int) -> float:
            return self.scorer.score(path, display_height=self.display_height).score

        return float(self._cached("model", spec, settings, lambda: self._mean(spec, score)))

    def vmaf(self, spec: EncodeSpec) -> float:
        """VMAF v1 against the master, at the display height."""
        (name,) = DEFAULT_MODELS
        settings = {"vmaf": name, "versions": [LABEL_VERSION, PAIRING_VERSION], "height": self.display_height}
        threads = max(1, (os.cpu_count() or 1) // min(self.jobs, len(self.starts) or 1))

        def compare(path: Path, number: int) -> float:
            reference = self.samples[number][0]
            labels = label(reference, path, display_height=self.display_height, num_threads=threads, psnr_ssim=False)
            return labels.metrics[name].mean

        return float(self._cached("vmaf", spec, settings, lambda: self._mean(spec, compare)))

    def sampled_seconds(self) -> float:
        """Duration of what a trial encodes."""
        whole = not self.starts and not self.rough
        return self.info.duration_seconds if whole else sum(info.duration_seconds for _, info in self.samples)

    def facts(self) -> dict[str, Any]:
        """What every report says: the master, how it was sampled, and what was run."""
        return {
            "master": str(self.master),
            "display_height": self.display_height,
            "sampled_seconds": self.sampled_seconds(),
            "duration_seconds": self.info.duration_seconds,
            "runs": self.counts.runs,
            "seconds": {kind: round(seconds, 2) for kind, seconds in self.counts.seconds.items()},
        }

    def command(self, spec: EncodeSpec) -> list[str]:
        """The ffmpeg command that encodes the whole master."""
        destination = f"{self.master.stem}_{spec.codec}_{spec.height}p_{rate_name(spec)}{CODECS[spec.codec].suffix}"
        return ["ffmpeg", "-i", str(self.master), "-map", "0:V:0", *encoder_arguments(spec, self.info.fps), destination]

    def _cached(self, kind: Measurement, spec: EncodeSpec, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
        key = sha256_json([self._source_key, asdict(spec), ffmpeg_version(), kind, settings])
        path = self.cache / key[:2] / f"{key}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not cached, or damaged
            pass
        if kind != "encode":
            self.prepare(spec)  # timed on its own
        started = time.monotonic()
        value = make()
        self.counts.runs["rough" if self.rough else kind] += not self.rough or kind != "encode"
        self.counts.seconds["rough" if self.rough else kind] += time.monotonic() - started
        write_json(path, value)
        return value

    def _encode(self, spec: EncodeSpec) -> Encoding:
        """Encode every sample."""
        stem = f"{spec.codec}_{spec.height}_{spec.preset}_{rate_name(spec)}"
        paths = [self.scratch / f"{stem}_{i}{CODECS[spec.codec].suffix}" for i in range(len(self.samples))]

        def encode_sample(number: int) -> float:
            started = time.monotonic()
            encode(self.samples[number][0], paths[number], spec)
            return time.monotonic() - started

        with ThreadPoolExecutor(self.jobs) as pool:
            seconds = sum(pool.map(encode_sample, range(len(paths))))
        self._encodings[spec] = paths
        return Encoding(sum(path.stat().st_size for path in paths), seconds)

    def encode_whole(self, specs: Sequence[EncodeSpec]) -> list[Path]:
        """Encodes of the whole master, as many at a time as there are jobs; trial encodes where it has no samples."""
        if not self.starts:
            return [self.prepare(spec)[0] for spec in specs]

        def encode_master(spec: EncodeSpec) -> Path:
            path = self.scratch / f"whole_{spec.codec}_{spec.height}_{rate_name(spec)}{CODECS[spec.codec].suffix}"
            encode(self.master, path, spec)
            note(f"{spec.codec} {spec.height}p {rate_name(spec)}: encoded")
            return path

        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(encode_master, specs))

    def prepare(self, spec: EncodeSpec) -> list[Path]:
        """The encodes of all samples, made again where only their results are cached."""
        if spec not in self._encodings:
            self.encoding(spec)
        if spec not in self._encodings:
            self._encode(spec)
        return self._encodings[spec]

    def _mean(self, spec: EncodeSpec, measure: Callable[[Path, int], float]) -> float:
        """The mean over samples, weighted by frames."""
        paths = self.prepare(spec)
        with ThreadPoolExecutor(self.jobs) as pool:
            scores = list(pool.map(measure, paths, range(len(paths))))
        frames = [info.num_frames for _, info in self.samples]
        return sum(score * n for score, n in zip(scores, frames, strict=True)) / sum(frames)


def counts_text(runs: Mapping[str, int], seconds: Mapping[str, float]) -> str:
    """Such as "run: 2 rough, 3 encodes, 2 vmaf; 9.3 s"."""
    counted = [f"{n} {kind}{'s' * (n != 1 and kind == 'encode')}" for kind, n in runs.items() if n]
    return f"run: {', '.join(counted)}; {sum(seconds.values()):.1f} s" if counted else "all from the cache"


def rate_name(spec: EncodeSpec) -> str:
    """Such as "crf30" or "1200k"."""
    return f"crf{spec.crf}" if spec.crf is not None else f"{spec.bitrate_kbps}k"


def sample_starts(duration_seconds: float, count: int | None) -> Sequence[float]:
    """Where the samples start, in seconds; none if the whole master is hardly longer than they are."""
    if count is None:
        count = min(MAX_SAMPLES, max(MIN_SAMPLES, round(duration_seconds / SECONDS_PER_SAMPLE)))
    if duration_seconds < 1.5 * count * SAMPLE_SECONDS:
        return ()
    return [duration_seconds * (i + 0.5) / count - SAMPLE_SECONDS / 2 for i in range(count)]


def cut_sample(master: Path, destination: Path, start_seconds: float) -> Path:
    """Copy SAMPLE_SECONDS of a master's coded frames, from the last key frame before `start_seconds` on.

    Raises:
        FfmpegError: ffmpeg fails; the message names the master.
    """
    command = ["-y", "-ss", f"{start_seconds:.3f}", "-i", str(master.absolute()), "-t", f"{SAMPLE_SECONDS:g}"]
    command += ["-map", "0:V:0", "-c", "copy", "-map_metadata", "-1", "-bitexact", str(destination.absolute())]
    try:
        run_ffmpeg(command, writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{master}: no sample can be copied at {start_seconds:.0f} s", error.stderr) from error
    return destination


def cut_part(master: Path, destination: Path, start_seconds: float, num_frames: int) -> Path:
    """Copy frames from `start_seconds` on, losslessly and fast.

    Raises:
        FfmpegError: ffmpeg fails; the message names the master.
    """
    command = ["-y", "-threads", "1", "-ss", f"{start_seconds:.3f}", "-i", str(master.absolute()), "-map", "0:V:0"]
    command += ["-map_metadata", "-1", "-frames:v", str(num_frames), "-fps_mode", "passthrough"]
    try:
        run_ffmpeg([*command, "-c:v", "ffvhuff", "-bitexact", str(destination.absolute())], writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{master}: no part can be copied at {start_seconds:.0f} s", error.stderr) from error
    return destination


def with_rate(spec: EncodeSpec, option: str, value: int) -> EncodeSpec:
    """`spec` at another CRF or bitrate."""
    if option == "crf":
        return replace(spec, crf=value, bitrate_kbps=None)
    return replace(spec, crf=None, bitrate_kbps=value)
