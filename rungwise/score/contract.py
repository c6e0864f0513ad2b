"""The contract stored with the weights in every checkpoint and export.

A score needs more than weights: the view recipe, the label's scale and polarity, and the calibration. The contract also
has golden outputs for a fixed input, which are re-run on load to verify that everything was loaded correctly.
"""

from __future__ import annotations

import hashlib
from operator import not_
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rungwise.bitstream.features import NUM_BITSTREAM_FEATURES
from rungwise.score.views import VIEWS_VERSION, ViewRecipe

# 2: precision, opset, inputs_sha256, left_in_float; intervals by content; 3: stream; 4: five bitstream features, as a
# graph input; 5: six; 6: twelve, intervals whose width depends on the score
CONTRACT_VERSION = 6
METADATA_KEY = "rungwise"  # the contract's key in a file's metadata


class Scale(BaseModel):
    """The label that a score predicts: its kind, polarity and range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    polarity: str
    minimum: float
    maximum: float

    @property
    def best(self) -> float:
        """The end of the scale that means no visible loss."""
        return self.minimum if self.polarity == "lower_is_better" else self.maximum


class SetMap(BaseModel):
    """A data set that a model was trained on, where there were several: its own scale, and how its labels follow the
    score: label = scale * score + offset, both as fractions of their scales and higher is better.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    own: Scale
    scale: float = 1.0
    offset: float = 0.0


class Calibration(BaseModel):
    """Conformal interval around a score, from contents that the model did not train on (distill/intervals.py).

    Attributes:
        coverage: nominal coverage of the interval.
        half_width: half width at the best score, in score units.
        slope: what each point below the best score adds to it.
        num_clips, num_contents: held-out clips and their contents.
        promised: the fraction of new contents' clips that it covers in expectation; under `coverage` if there were too
            few contents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    coverage: float
    half_width: float
    num_clips: int
    slope: float = 0.0
    num_contents: int = 0
    promised: float | None = None

    def interval(self, score: float, scale: Scale) -> tuple[float, float]:
        """Lowest and highest score, within the scale."""
        half_width = self.half_width + self.slope * abs(scale.best - score)
        return max(scale.minimum, score - half_width), min(scale.maximum, score + half_width)


Features = Annotated[tuple[float, ...], Field(min_length=NUM_BITSTREAM_FEATURES, max_length=NUM_BITSTREAM_FEATURES)]


class BitstreamContract(BaseModel):
    """The bitstream part of a hybrid model (rungwise/bitstream/features.py).

    Attributes:
        codecs: codecs that the model was trained on.
        low, high: range of the bitstream features over the training clips.
        calibration: interval of hybrid scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    codecs: tuple[str, ...]
    low: Features
    high: Features
    calibration: Calibration | None = None


class Golden(BaseModel):
    """Scores of `golden_input`; `tolerance` is absolute, in score units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_sha256: str
    scores: tuple[float, ...]
    tolerance: float


class Contract(BaseModel):
    """Everything that a scorer needs besides the weights.

    Attributes:
        model: student or teacher architecture.
        view: which frames and patches are scored.
        training_id: artifact id of the training.
        dataset_sha256: content hash of the labeled table.
        inputs_sha256: artifacts that the training read, role -> content hash.
        precision, opset: of an ONNX export.
        left_in_float: operators of an int8 export that are not quantized.
        stream: bitstream part of a hybrid model, else None.
        sets: data sets that it was trained on together, the one whose scale the score has first; empty for one alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = CONTRACT_VERSION
    views_version: int = VIEWS_VERSION
    model: str
    view: ViewRecipe
    scale: Scale
    calibration: Calibration | None
    golden: Golden | None
    training_id: str
    dataset_sha256: str
    licence: str = "Apache-2.0"  # spelled so in contract 5
    precision: str = "fp32"
    opset: int | None = None
    inputs_sha256: dict[str, str] = {}
    left_in_float: tuple[str, ...] = ()
    stream: BitstreamContract | None = None
    sets: tuple[SetMap, ...] = Field(default=(), exclude_if=not_)


def golden_input(recipe: ViewRecipe) -> NDArray[np.uint8]:
    """Four fixed views, frames_BTHWC uint8, from integer arithmetic: a drifting gradient at decreasing quality.

    The first is clean, the second has blocks of 2 pixels, steps of 8 and a little noise, the others have blocks of 4
    and 8 pixels and steps of 16 and 32. A trained model scores them far apart and away from the ends of its scale,
    where wrong weights would not show.
    """
    pixels = np.empty((4, recipe.num_frames, recipe.size_px, recipe.size_px, 3), np.uint8)
    t, y, x, c = np.indices(pixels.shape[1:], dtype=np.int32, sparse=True)
    words = np.random.PCG64(20_26)
    for number, (view, step) in enumerate(zip(pixels, (1, 8, 16, 32), strict=True)):  # one at a time takes less memory
        block = 2**number
        gradient = (x // block * block * 3 + y // block * block * 2 + t * 5 + c * 40) % 512
        gray = np.where(gradient < 256, gradient, 511 - gradient) // step * step
        noise = words.random_raw(view.size).reshape(view.shape) % np.uint64(8)
        view[:] = np.clip(gray + noise.astype(np.int32) * (number == 1), 0, 255)
    return pixels


def sha256_array(array: NDArray[np.uint8]) -> str:
    """Hex sha256 of an array's shape, dtype and bytes."""
    return hashlib.sha256(f"{array.shape} {array.dtype}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def golden_deviation(contract: Contract, scores: NDArray[np.float32], where: str) -> float:
    """Largest absolute difference between scores of `golden_input(contract.view)` and the contract's.

    Raises:
        ValueError: the contract has no golden output, or this version generates another input.
    """
    if contract.golden is None:
        raise ValueError(f"{where}: the contract has no golden output")
    if sha256_array(golden_input(contract.view)) != contract.golden.input_sha256:
        raise ValueError(f"{where}: this version generates another golden input; use the version that wrote the file")
    return float(np.abs(scores - np.asarray(contract.golden.scores, np.float32)).max())


def check_golden(contract: Contract, scores: NDArray[np.float32], where: str) -> None:
    """Refuse weights that do not reproduce the golden scores.

    Raises:
        ValueError: as `golden_deviation`, or the difference exceeds the contract's tolerance.
    """
    deviation = golden_deviation(contract, scores, where)
    assert contract.golden is not None
    if not deviation <= contract.golden.tolerance:
        raise ValueError(f"{where}: golden scores are off by {deviation:.3g}, allowed {contract.golden.tolerance:.3g}")
