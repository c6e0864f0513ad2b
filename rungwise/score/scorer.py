"""Score videos with an exported ONNX file: onnxruntime and the decoder only, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import fsum
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from rungwise.bitstream.features import NUM_TERMS, stream_terms
from rungwise.score.contract import (
    CONTRACT_VERSION,
    METADATA_KEY,
    Contract,
    Stream,
    check_golden,
    golden_deviation,
    golden_input,
)
from rungwise.score.score_video import Facts, Hdr, How, Watcher, judge_file, judge_pipe
from rungwise.score.shipped import check_shipped
from rungwise.score.windows import WINDOW_SECONDS, SeenWindow, Span

# Raised when any score may change. 2: windows of 4 s, sample aspect ratio, deinterlacing; 3: coded streams; 4: their
# quantizers; 5: those of VP8 and MPEG-2; 6: of blocks; 7: of more old codecs; 8: key frames before a window; 9: flat
# windows.
SCORER_VERSION = 9
EDGE_OCTAVES = 1.0  # so far outside what was taught a stream is taken at the edge; further, by its pictures alone
BANDS = ("bad", "poor", "fair", "good", "excellent")
DEVICES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
SHIPPED_MODEL = Path(__file__).with_name("models") / "default.onnx"


@dataclass(frozen=True)
class Window:
    """A stretch of time, its score and that of its pictures alone; the frames looked at, each with a score where the
    model gives one. Where each of its frames is one flat color it is `flat`, and its scores are the scale's best."""

    start_seconds: float
    end_seconds: float
    score: float
    pictures_score: float
    frame_indices: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    frame_scores: tuple[float, ...]
    flat: bool = False


@dataclass(frozen=True)
class Score:
    """One video's score on the contract's scale, with its conformal interval, and what was looked at.

    The score is the mean of its windows', weighted by how long they last; flat ones count only where
    all are flat. The interval is that of one window's view.
    `pictures_score` is that of the pictures alone; the score is the same unless `stream_used`: then how many bits the
    file's frames took, and at what size, counted too. `timeline` holds the windows of the length asked for, `windows`
    those that make the score.
    """

    path: str
    score: float
    low: float | None
    high: float | None
    band: str
    pictures_score: float
    stream_used: bool
    display_height: int
    frames_used: int
    width: int
    height: int
    fps: float
    duration_seconds: float
    kind: str
    polarity: str
    notes: tuple[str, ...]
    windows: tuple[Window, ...]
    timeline: tuple[Window, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; windows by their number, for an hour has 900."""
        values = {name: value for name, value in asdict(self).items() if name not in ("windows", "timeline")}
        values["notes"] = list(self.notes)
        num_flat = sum(window.flat for window in self.windows)
        return values | {"num_windows": len(self.windows), "num_flat_windows": num_flat}


class Scorer:
    """An exported model, ready to score. Same file, same bits: one thread unless asked otherwise.

    Safe to use from several threads at once.

    Args:
        path: the .onnx file; the one that the package ships if None.
        threads: of the decoder and of the model, each.
        device: one of `DEVICES`, if this onnxruntime has it.
        check: re-run the golden input that the file carries.

    Raises:
        ValueError: the file is missing, is no export of ours, its golden output does not come back, or this
            onnxruntime has no such device.
    """

    def __init__(
        self, path: str | Path | None = None, *, threads: int = 1, device: str = "cpu", check: bool = True
    ) -> None:
        self.path = SHIPPED_MODEL if path is None else Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: no such model file" if path else "no model is shipped with this build; give --model FILE"
            )
        if self.path == SHIPPED_MODEL:
            check_shipped(SHIPPED_MODEL)
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = [_provider(device)]
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # onnxruntime raises its own classes, which share no narrower public base
            raise ValueError(f"{self.path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        if self.session.get_providers()[0] != providers[0]:  # onnxruntime falls back without a word
            raise ValueError(f"--device {device}: onnxruntime can't use it here; its driver or libraries are missing")
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ValueError(f"{self.path}: carries no rungwise contract; export it with `rungwise export`")
        try:
            self.contract = Contract.model_validate_json(metadata[METADATA_KEY])
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(
                f"{self.path}: a contract of another version of rungwise (this one writes {CONTRACT_VERSION} and "
                f"can't read its {field}); export it again"
            ) from error
        outputs = {output.name for output in self.session.get_outputs()}
        self.outputs = [name for name in ("score", "frame_scores", "fused") if name in outputs]
        self.takes_streams = "stream" in {given.name for given in self.session.get_inputs()}
        if check:
            check_golden(self.contract, self.golden_scores(), str(self.path))

    def judge(
        self, frames_BTHWC: NDArray[np.uint8], terms_BF: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Scores_B of views, uint8 RGB, on the contract's scale; with `stream_terms` of each, by those too."""
        [scores] = self.run(["score" if terms_BF is None else "fused"], frames_BTHWC, terms_BF)
        return np.asarray(scores, np.float32)

    def run(
        self, outputs: list[str], frames_BTHWC: NDArray[np.uint8], terms_BF: NDArray[np.float32] | None
    ) -> list[NDArray[np.float32]]:
        """The graph's outputs by name (docs/onnx.md), in one run; without `terms_BF` its streams' are zeros."""
        given: dict[str, NDArray[Any]] = {"frames": frames_BTHWC}
        if self.takes_streams:
            given["stream"] = np.zeros((len(frames_BTHWC), NUM_TERMS), np.float32) if terms_BF is None else terms_BF
        found: list[NDArray[np.float32]] = self.session.run(outputs, given)
        return found

    def golden_scores(self) -> NDArray[np.float32]:
        """Scores of the golden input, (4,); of a model that takes streams, (8,): then those with all terms at 0.5."""
        names = [name for name in self.outputs if name != "frame_scores"]
        terms = np.full((1, NUM_TERMS), 0.5, np.float32)
        found = [self.run(names, view[None], terms) for view in golden_input(self.contract.view)]  # less memory so
        return np.concatenate([output for outputs in zip(*found, strict=True) for output in outputs], dtype=np.float32)

    def _judge_window(self, seen: SeenWindow, facts: Facts) -> Judged:
        span, terms, unlike = seen.span, None, None
        if seen.flat:
            return Judged(span, self._flat_window(span), None, None)
        if facts.coded is not None and self.contract.stream is not None:
            found = facts.coded.facts(span.start_seconds, span.end_seconds, facts.shown[1])
            unlike = _unlike(found, self.contract.stream)
            codec = facts.coded.codec if facts.coded.codec in self.contract.stream.codecs else ""
            at_edge = np.clip(found, self.contract.stream.low, self.contract.stream.high)
            terms = None if unlike else stream_terms(at_edge[None], [codec])
        found_outputs = self.run(self.outputs, seen.pixels[None], terms)
        values = dict(zip(self.outputs, found_outputs, strict=True))
        frame_scores = tuple(float(score) for score in values["frame_scores"][0]) if "frame_scores" in values else ()
        score = float(values["score"][0])
        ends = span.start_seconds, span.end_seconds
        window = Window(*ends, score, score, span.frame_indices, span.frame_seconds, frame_scores)
        return Judged(span, window, None if terms is None else float(values["fused"][0]), unlike)

    def _flat_window(self, span: Span) -> Window:
        """A window without content keeps all of its quality, whatever its codec; VMAF says so too."""
        best = self.contract.scale.best
        frame_scores = (best,) * len(span.frame_indices) if "frame_scores" in self.outputs else ()
        ends = span.start_seconds, span.end_seconds
        return Window(*ends, best, best, span.frame_indices, span.frame_seconds, frame_scores, flat=True)

    def _fused(self, facts: Facts, judged: list[Judged], pixel_only: bool) -> tuple[bool, list[tuple[Span, Window]]]:
        """Whether the stream's own facts count, and the windows with the scores that hold."""
        plain = [(each.span, each.window) for each in judged]
        num_content = sum(not each.window.flat for each in judged)
        if self.contract.stream is None or pixel_only or not num_content:
            return False, plain
        unlike = [each.unlike for each in judged if each.unlike]
        if facts.coded is None or 2 * len(unlike) > num_content:
            facts.note(f"judged by its pictures alone: {unlike[0] if unlike else facts.no_stream}")
            return False, plain
        if unlike:  # black, or a still: no reason to doubt the rest
            facts.note(f"some windows judged by their pictures alone: {unlike[0]}")
        if facts.coded.codec not in self.contract.stream.codecs:
            facts.note(f"the model knows no {facts.coded.codec} streams: judged as one of no known codec")
        scale, fused = self.contract.scale, []
        for span, window, score, _ in judged:
            if score is None:
                fused.append((span, window))
                continue
            moved = tuple(
                min(scale.maximum, max(scale.minimum, frame + score - window.score)) for frame in window.frame_scores
            )
            fused.append((span, replace(window, score=score, frame_scores=moved)))
        return True, fused

    def score(
        self,
        path: str | Path | IO[bytes],
        *,
        display_height: int | None = None,
        hdr: Hdr = "refuse",
        window_seconds: float | None = None,
        timeline_seconds: float | None = None,
        name: str | None = None,
        watch: Watcher | None = None,
        pixel_only: bool = False,
    ) -> Score:
        """Score one video as shown at `display_height` lines, its own height if None.

        Args:
            path: a file, or an open binary stream of y4m, which is read to its end.
            display_height: lines at which it is shown.
            hdr: "tonemap" shows PQ and HLG as an SDR screen would, "refuse" raises.
            window_seconds: length of the windows whose mean is the score. Another length is another score.
            timeline_seconds: length of the windows of `Score.timeline`, in the same pass.
            name: what to call it in the result, its path if None.
            pixel_only: ignore the bitstream features.
            watch: called with (seconds, frame) of every frame in order, which then are all decoded.

        Raises:
            ValueError: it can't be decoded, or is HDR, which the model never saw.
        """
        length = WINDOW_SECONDS if window_seconds is None else window_seconds
        lengths = (length,) if timeline_seconds in (None, length) else (length, timeline_seconds or length)
        if min(lengths) <= 0:
            raise ValueError(f"windows of {min(lengths):g} s: a window lasts longer than 0 s")
        by_stream = self.contract.stream is not None and not pixel_only
        how = How(self.contract.view, lengths, display_height, hdr, self.threads, watch, by_stream)
        if isinstance(path, str | Path):
            label = str(path) if name is None else name
            facts, judged = judge_file(Path(path), how, self._judge_window)
        else:
            label = "-" if name is None else name
            facts, judged = judge_pipe(path, label, how, self._judge_window)
        stream_used, scored = self._fused(facts, judged, pixel_only)
        scored.sort(key=lambda pair: pair[0].start_seconds)
        windows = tuple(window for span, window in scored if span.length_seconds == length)
        _note_flat(facts, windows)
        timeline: tuple[Window, ...] = ()
        if timeline_seconds is not None:
            timeline = tuple(window for span, window in scored if span.length_seconds == timeline_seconds)
        return self._summed(label, facts, windows, timeline, stream_used)

    def windows(self, path: str | Path | IO[bytes], seconds: float, **options: Any) -> Iterator[Window]:
        """The score of every window of so many seconds; options as those of `score`."""
        yield from self.score(path, timeline_seconds=seconds, **options).timeline

    def _summed(
        self,
        path: str,
        facts: Facts,
        windows: tuple[Window, ...],
        timeline: tuple[Window, ...],
        stream_used: bool,
    ) -> Score:
        scale, calibration = self.contract.scale, self.contract.calibration
        if stream_used:
            assert self.contract.stream is not None
            calibration = self.contract.stream.calibration
        score = mean_score(with_content(windows))
        half = calibration.half_width if calibration else None
        return Score(
            path=path,
            score=score,
            low=None if half is None else max(scale.minimum, score - half),
            high=None if half is None else min(scale.maximum, score + half),
            band=band(score, scale.minimum, scale.maximum, scale.polarity),
            pictures_score=mean_score(
                [replace(window, score=window.pictures_score) for window in with_content(windows)]
            ),
            stream_used=stream_used,
            display_height=facts.shown[1],
            frames_used=len({index for window in windows for index in window.frame_indices}),
            width=facts.width,
            height=facts.height,
            fps=facts.fps,
            duration_seconds=facts.duration_seconds,
            kind=scale.kind,
            polarity=scale.polarity,
            notes=tuple(facts.notes),
            windows=windows,
            timeline=timeline,
        )


class Judged(NamedTuple):
    """A window as judged: by its pictures, and by its stream too where that is like those that the model was taught by;
    otherwise in what it is unlike them."""

    span: Span
    window: Window
    fused: float | None
    unlike: str | None


def _unlike(facts: NDArray[np.float64], taught: Stream) -> str | None:
    """In what a window's stream is unlike all that the model was taught by, if in anything.

    Black frames and steps finer than any that was taught lie a little outside: those are taken at the edge.
    """
    if np.isnan(facts).any():
        return "its frames don't say how coarsely they are quantized"
    outside = np.maximum(np.array(taught.low) - facts, facts - np.array(taught.high)) > EDGE_OCTAVES
    if not outside.any():
        return None
    names = ("bits of its largest frames", "bits of its frames", "coded size", "quantizer", "quantizer", "quantizer")
    return f"the model knows no streams like it ({names[outside.argmax()]})"


def with_content(windows: Sequence[Window]) -> Sequence[Window]:
    """The windows that are not flat; all of them if there is no other."""
    return [window for window in windows if not window.flat] or windows


def _note_flat(facts: Facts, windows: Sequence[Window]) -> None:
    num_flat = sum(window.flat for window in windows)
    if num_flat == len(windows):
        facts.note("flat: every frame is one plain color, so the score is the scale's best, not the model's")
    elif num_flat:
        verb = "is" if num_flat == 1 else "are"
        facts.note(f"{num_flat} of {len(windows)} windows {verb} flat (one plain color) and left out of the score")


def mean_score(windows: Sequence[Window]) -> float:
    """Mean of the windows' scores, weighted by how long they last."""
    if len(windows) == 1:
        return windows[0].score
    lengths = [window.end_seconds - window.start_seconds for window in windows]
    return fsum(length * window.score for length, window in zip(lengths, windows, strict=True)) / fsum(lengths)


def band(score: float, minimum: float, maximum: float, polarity: str) -> str:
    """A word for a fifth of the scale, and no more than that: it says nothing of how people would speak."""
    share = (score - minimum) / (maximum - minimum)
    if polarity == "lower_is_better":
        share = 1 - share
    return BANDS[min(4, max(0, int(share * 5)))]


def _provider(device: str) -> str:
    available = onnxruntime.get_available_providers()
    here = [name for name, provider in DEVICES.items() if provider in available]
    if device not in DEVICES:
        raise ValueError(f"--device {device}: no such device; this onnxruntime has {', '.join(here)}")
    if DEVICES[device] not in available:
        raise ValueError(
            f"--device {device}: this onnxruntime ({onnxruntime.__version__}) has {', '.join(here)} only; "
            "for an NVIDIA card install onnxruntime-gpu in its place"
        )
    return DEVICES[device]


def golden_of_export(path: Path) -> tuple[dict[str, float], float]:
    """Deviation of an export's golden scores, and the tolerance that it carries.

    Raises:
        ValueError: the file is missing or no export of ours.
    """
    scorer = Scorer(path, check=False)
    deviation = golden_deviation(scorer.contract, scorer.golden_scores(), str(path))
    assert scorer.contract.golden is not None
    return {"score": deviation}, scorer.contract.golden.tolerance
