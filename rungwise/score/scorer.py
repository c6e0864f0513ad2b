"""Score videos with an exported ONNX file: onnxruntime and the decoder only, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from rungwise.bitstream.encoder_stats import EncoderStats
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM, NUM_LEVELS, bitstream_input
from rungwise.score.contract import (
    CONTRACT_VERSION,
    METADATA_KEY,
    BitstreamContract,
    Contract,
    check_golden,
    golden_deviation,
    golden_input,
)
from rungwise.score.result import Score, Window, band
from rungwise.score.score_pipe import map_pipe_windows
from rungwise.score.score_video import map_file_windows
from rungwise.score.shipped import check_shipped
from rungwise.score.tally import Tally, WindowCallback, WindowPrediction, WindowScores
from rungwise.score.video_metadata import Bitstream, FrameCallback, Hdr, ReadOptions, VideoMetadata
from rungwise.score.windows import WINDOW_SECONDS, Span, WindowPixels

# Part of the key of cached scores; raised whenever a score or a field of `Score` may change. 2: 4 s windows, sample
# aspect ratio, deinterlacing; 3: bitstream features; 4: QP; 5: QP of VP8 and MPEG-2; 6: per-block QP; 7: QP of more
# legacy codecs; 8: key frames before a window; 9: flat windows; 10: fields renamed, scores unchanged; 11: times of a
# steady rate up to the first irregular one.
SCORER_VERSION = 11
# Features up to this far (log2) outside the training range are clamped to it; beyond, a window is scored pixel-only.
MAX_OUTSIDE_OCTAVES = 1.0
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


class UnsupportedBitstream(ValueError):
    """A window's bitstream features can't be used."""


class Scorer:
    """An exported model, ready to score videos.

    Scores are reproducible to the bit with one thread, the default. An instance may be used from several threads.

    Args:
        path: the .onnx file; None for the model shipped with the package.
        threads: decoder threads, and model threads.
        device: one of `DEVICES` that this onnxruntime supports.
        check: verify the file against its golden output.

    Raises:
        ValueError: the file is missing, is not a Rungwise export or fails the golden check, or the device is not
            available.
    """

    def __init__(
        self, path: str | Path | None = None, *, threads: int = 1, device: str = "cpu", check: bool = True
    ) -> None:
        self.path = SHIPPED_MODEL if path is None else Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: no such model file" if path else "this build ships no model; pass --model FILE"
            )
        if self.path == SHIPPED_MODEL:
            check_shipped(SHIPPED_MODEL)
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it takes half as much memory again
        options.log_severity_level = 3
        providers = [_provider(device)]
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no narrower public base class
            raise ValueError(f"{self.path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        if self.session.get_providers()[0] != providers[0]:  # onnxruntime falls back silently
            raise ValueError(f"--device {device}: onnxruntime can't use it here: a driver or library is missing")
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ValueError(f"{self.path}: has no rungwise contract; export it with `rungwise export`")
        try:
            self.contract = Contract.model_validate_json(metadata[METADATA_KEY])
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise ValueError(
                f"{self.path}: contract written by another version of rungwise (can't read its {field}; this version "
                f"writes contract {CONTRACT_VERSION}); export the model again"
            ) from error
        outputs = {output.name for output in self.session.get_outputs()}
        self.output_names = [name for name in ("score", "frame_scores", "fused") if name in outputs]
        self.takes_bitstream = "stream" in {graph_input.name for graph_input in self.session.get_inputs()}
        if check:
            check_golden(self.contract, self.golden_scores(), str(self.path))

    def predict(
        self, frames_BTHWC: NDArray[np.uint8], bitstream_BF: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Scores_B of views, uint8 RGB, on the contract's scale: hybrid with `bitstream_input`, else pixel-only."""
        [scores] = self.run(["score" if bitstream_BF is None else "fused"], frames_BTHWC, bitstream_BF)
        return np.asarray(scores, np.float32)

    def run(
        self, output_names: list[str], frames_BTHWC: NDArray[np.uint8], bitstream_BF: NDArray[np.float32] | None
    ) -> list[NDArray[np.float32]]:
        """Run the graph once and return outputs by name (docs/onnx.md). `bitstream_BF` defaults to zeros."""
        graph_inputs: dict[str, NDArray[Any]] = {"frames": frames_BTHWC}
        if self.takes_bitstream:
            if bitstream_BF is None:
                bitstream_BF = np.zeros((len(frames_BTHWC), BITSTREAM_INPUT_DIM), np.float32)
            graph_inputs["stream"] = bitstream_BF
        ort_outputs: list[NDArray[np.float32]] = self.session.run(output_names, graph_inputs)
        return ort_outputs

    def golden_scores(self) -> NDArray[np.float32]:
        """Scores of the golden input: (4,) pixel-only; a hybrid model appends 4 with all bitstream inputs at 0.5."""
        names = [name for name in self.output_names if name != "frame_scores"]
        bitstream = np.full((1, BITSTREAM_INPUT_DIM), 0.5, np.float32)
        # One view at a time takes less memory than a batch of four.
        by_view = [self.run(names, view[None], bitstream) for view in golden_input(self.contract.view)]
        by_output = zip(*by_view, strict=True)
        return np.concatenate([scores for outputs in by_output for scores in outputs], dtype=np.float32)

    def window_input(
        self, bitstream: Bitstream, start_seconds: float, end_seconds: float, display_height: int
    ) -> NDArray[np.float32]:
        """A hybrid model's bitstream input for one window, (1, BITSTREAM_INPUT_DIM).

        Raises:
            UnsupportedBitstream: there is no QP, or a feature is far outside the training range.
        """
        trained = self.contract.stream
        assert trained is not None
        features = bitstream.window_features(start_seconds, end_seconds, display_height)
        if (unsupported := _unsupported_feature(features, trained)) is not None:
            raise UnsupportedBitstream(unsupported)
        codec = bitstream.codec if bitstream.codec in trained.codecs else ""
        return bitstream_input(np.clip(features, trained.low, trained.high)[None], [codec])

    def predict_window(self, window: WindowPixels, metadata: VideoMetadata) -> WindowPrediction:
        """The model's outputs for one window."""
        span, bitstream_input_1F, unsupported = window.span, None, None
        if window.flat:
            return WindowPrediction(span, self._flat_window(span))
        if metadata.bitstream is not None and self.contract.stream is not None:
            try:
                times = span.start_seconds, span.end_seconds
                bitstream_input_1F = self.window_input(metadata.bitstream, *times, metadata.display_size[1])
            except UnsupportedBitstream as error:
                unsupported = str(error)
        ort_outputs = self.run(self.output_names, window.pixels[None], bitstream_input_1F)
        outputs = dict(zip(self.output_names, ort_outputs, strict=True))
        frame_scores = tuple(float(score) for score in outputs["frame_scores"][0]) if "frame_scores" in outputs else ()
        score = float(outputs["score"][0])
        return WindowPrediction(
            span,
            _window(span, score, frame_scores),
            None if bitstream_input_1F is None else float(outputs["fused"][0]),
            unsupported,
        )

    def _flat_window(self, span: Span) -> Window:
        """A window without content loses nothing, whatever its codec; VMAF gives such frames its best score too."""
        best = self.contract.scale.best
        frame_scores = (best,) * len(span.frame_indices) if "frame_scores" in self.output_names else ()
        return _window(span, best, frame_scores, flat=True)

    def _is_hybrid(self, metadata: VideoMetadata, tally: Tally, pixel_only: bool) -> bool:
        """Whether the video's score uses bitstream features; if it can't, a note says why."""
        if self.contract.stream is None or pixel_only or not tally.num_content:
            return False
        if metadata.bitstream is None or 2 * tally.num_unsupported > tally.num_content:
            metadata.add_note(f"scored pixel-only: {tally.first_unsupported or metadata.no_bitstream_reason}")
            return False
        if tally.num_unsupported:  # such as black or still windows: the others keep their hybrid scores
            metadata.add_note(f"some windows scored pixel-only: {tally.first_unsupported}")
        if metadata.bitstream.codec not in self.contract.stream.codecs:
            metadata.add_note(f"model not trained on {metadata.bitstream.codec}: scored as an unknown codec")
        return True

    def hybrid_window(self, prediction: WindowPrediction) -> Window:
        """A window with its hybrid score if it has one."""
        window, score, scale = prediction.window, prediction.hybrid_score, self.contract.scale
        if score is None:
            return window
        frame_scores = tuple(
            min(scale.maximum, max(scale.minimum, frame + score - window.score)) for frame in window.frame_scores
        )
        return replace(window, score=score, frame_scores=frame_scores)

    def score(
        self,
        path: str | Path | IO[bytes],
        *,
        display_height: int | None = None,
        hdr: Hdr = "refuse",
        window_seconds: float | None = None,
        timeline_seconds: float | None = None,
        name: str | None = None,
        on_frame: FrameCallback | None = None,
        pixel_only: bool = False,
        encoder_stats: EncoderStats | None = None,
        on_window: WindowCallback | None = None,
        keep_windows: bool = True,
    ) -> Score:
        """Score one video, evaluated at `display_height`.

        Args:
            path: a file, or an open binary stream that is read to its end: y4m, or coded video in a container that can
                be read in order.
            display_height: height in pixels to which frames are scaled; None for the video's own height.
            hdr: "refuse" raises on PQ and HLG video, "tonemap" converts it to SDR.
            window_seconds: length of the windows whose mean is the score; another length gives another score.
            timeline_seconds: length of the windows of `Score.timeline`, scored in the same pass.
            name: label of the video in the result; None for its path.
            on_frame: called with (seconds, frame) for every frame in order; every frame is then decoded.
            pixel_only: ignore bitstream features.
            encoder_stats: bitstream data of the frames of a y4m stream.
            on_window: called with each window (of the timeline, if there is one) as soon as it is scored, and whether
                its score is hybrid. Those of a stream come in order. If a file is read again, its windows come again.
            keep_windows: False leaves `Score.windows` and `Score.timeline` empty, so that memory does not grow with the
                length of a stream.

        Raises:
            ValueError: the video can't be decoded, or is HDR and `hdr` is "refuse".
        """
        lengths = window_lengths(window_seconds, timeline_seconds)
        options = ReadOptions(
            recipe=self.contract.view,
            window_seconds=lengths,
            display_height=display_height,
            hdr=hdr,
            threads=self.threads,
            on_frame=on_frame,
            read_bitstream=self.contract.stream is not None and not pixel_only,
            encoder_stats=encoder_stats,
        )
        scores = WindowScores(self, lengths, on_window, keep_windows=keep_windows)
        if isinstance(path, str | Path):
            label = str(path) if name is None else name
            metadata, predictions = map_file_windows(Path(path), options, scores.predict)
            for prediction in predictions:
                scores.add(prediction)
        else:
            label = "-" if name is None else name
            metadata = map_pipe_windows(path, label, options, scores.push)
        return self.video_score(label, metadata, scores, timeline_seconds, pixel_only=pixel_only)

    def windows(self, path: str | Path | IO[bytes], seconds: float, **options: Any) -> Iterator[Window]:
        """Windows of the given length in seconds, with their scores; options as for `score`."""
        yield from self.score(path, timeline_seconds=seconds, **options).timeline

    def video_score(
        self,
        path: str,
        metadata: VideoMetadata,
        scores: WindowScores,
        timeline_seconds: float | None,
        *,
        pixel_only: bool,
    ) -> Score:
        """The score of a video whose windows are all in `scores`."""
        tally = scores.tally
        scale, calibration = self.contract.scale, self.contract.calibration
        bitstream_used = self._is_hybrid(metadata, tally, pixel_only)
        if bitstream_used:
            assert self.contract.stream is not None
            calibration = self.contract.stream.calibration
        _note_flat(metadata, tally)
        score, pixel_score = tally.scores(is_hybrid=bitstream_used)

        def windows(length_seconds: float | None) -> tuple[Window, ...]:
            chosen = [
                prediction for prediction in scores.predictions if prediction.span.length_seconds == length_seconds
            ]
            scored = [self.hybrid_window(item) if bitstream_used else item.window for item in chosen]
            return tuple(sorted(scored, key=lambda window: window.start_seconds))

        low, high = calibration.interval(score, scale) if calibration else (None, None)
        return Score(
            path=path,
            score=score,
            low=low,
            high=high,
            band=band(score, scale.minimum, scale.maximum, scale.polarity),
            pixel_score=pixel_score,
            bitstream_used=bitstream_used,
            display_height=metadata.display_size[1],
            frames_used=tally.frames_used,
            width=metadata.width,
            height=metadata.height,
            fps=metadata.fps,
            duration_seconds=metadata.duration_seconds,
            kind=scale.kind,
            polarity=scale.polarity,
            notes=tuple(metadata.notes),
            num_windows=tally.num_windows,
            num_flat_windows=tally.num_flat,
            windows=windows(tally.length_seconds),
            timeline=windows(timeline_seconds),
        )


def window_lengths(window_seconds: float | None, timeline_seconds: float | None) -> tuple[float, ...]:
    """The window lengths that a video is cut by: that of its score, and that of its timeline if it is another.

    Raises:
        ValueError: not above 0.
    """
    length = WINDOW_SECONDS if window_seconds is None else window_seconds
    lengths = (length,) if timeline_seconds in (None, length) else (length, timeline_seconds or length)
    if min(lengths) <= 0:
        raise ValueError(f"window length is {min(lengths):g} s; it must be above 0")
    return lengths


def _window(span: Span, score: float, frame_scores: tuple[float, ...], *, flat: bool = False) -> Window:
    times = span.start_seconds, span.end_seconds
    return Window(*times, score, score, span.frame_indices, span.frame_seconds, frame_scores, flat)


def _unsupported_feature(features: NDArray[np.float64], trained: BitstreamContract) -> str | None:
    """Why a window's bitstream features can't be used; None if they can.

    Features slightly outside the training range, such as those of black frames or very low QP, can: they are clamped.
    """
    if np.isnan(features).any():
        return "no QP in the bitstream"
    outside = np.maximum(np.array(trained.low) - features, features - np.array(trained.high)) > MAX_OUTSIDE_OCTAVES
    outside = outside[:NUM_LEVELS]  # the others are clamped however far: a still scene has no spread
    if not outside.any():
        return None
    names = ("bits of the largest frame", "bits per frame", "coded size", "QP", "QP", "QP")
    return f"outside the model's training range ({names[outside.argmax()]})"


def _note_flat(metadata: VideoMetadata, tally: Tally) -> None:
    num_flat, num_windows = tally.num_flat, tally.num_windows
    if num_flat == num_windows:
        metadata.add_note("flat: every frame is a single color, so the score is the scale's best, not a prediction")
    elif num_flat:
        verb = "is" if num_flat == 1 else "are"
        metadata.add_note(
            f"{num_flat} of {num_windows} windows {verb} flat (a single color) and excluded from the score"
        )


def _provider(device: str) -> str:
    available = onnxruntime.get_available_providers()
    supported = [name for name, provider in DEVICES.items() if provider in available]
    if device not in DEVICES:
        raise ValueError(f"--device {device}: no such device; this onnxruntime has {', '.join(supported)}")
    if DEVICES[device] not in available:
        raise ValueError(
            f"--device {device}: this onnxruntime ({onnxruntime.__version__}) has {', '.join(supported)} only; "
            "for an NVIDIA GPU install onnxruntime-gpu instead"
        )
    return DEVICES[device]


def golden_of_export(path: Path) -> tuple[dict[str, float], float]:
    """Largest deviation of an export's golden scores by output, and the tolerance stored in its contract.

    Raises:
        ValueError: the file is missing or not a Rungwise export.
    """
    scorer = Scorer(path, check=False)
    deviation = golden_deviation(scorer.contract, scorer.golden_scores(), str(path))
    assert scorer.contract.golden is not None
    return {"score": deviation}, scorer.contract.golden.tolerance
