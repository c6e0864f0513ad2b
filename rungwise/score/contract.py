"""The contract that a checkpoint or an export carries with its weights.

Weights alone give no score: a score also needs the view recipe, the label's scale and polarity, the calibration,
and a proof that it was all loaded right: a golden input (made from a seed, so nothing is stored) and its output,
re-run on load.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rungwise.score.views import VIEWS_VERSION, ViewRecipe

# 2: precision, opset, inputs_sha256, left_in_float; intervals by content; 3: stream; 4: its facts are five, an input
CONTRACT_VERSION = 5
METADATA_KEY = "rungwise"  # the contract's place in a file's own metadata


class Scale(BaseModel):
    """What a score is: `kind` of label, its polarity and range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    polarity: str
    minimum: float
    maximum: float

    @property
    def best(self) -> float:
        """The end of the scale that stands for no visible loss."""
        return self.minimum if self.polarity == "lower_is_better" else self.maximum


class Calibration(BaseModel):
    """Split-conformal half width of the interval round a score, in score units, from validation contents.

    `half_width` is taken over validation clips, as is usual; clips of one content err alike, so for new contents it is
    an estimate. `content_half_width` is the width that contents, not clips, vouch for: whatever the model, it holds in
    expectation for the share `promised` of new contents' clips, and is wide where there are few contents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    coverage: float
    half_width: float
    num_clips: int
    num_contents: int = 0
    content_half_width: float | None = None
    promised: float | None = None


class BitstreamContract(BaseModel):
    """The codecs whose bitstream features (rungwise/bitstream/features.py) the model takes, and its interval with them.

    `codecs` by name; `low` and `high` are the ends of the six facts among the train clips.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    codecs: tuple[str, ...]
    low: tuple[float, float, float, float, float, float]
    high: tuple[float, float, float, float, float, float]
    calibration: Calibration | None = None


class Golden(BaseModel):
    """Outputs on `golden_input(shape)`; `tolerance` is absolute, in score units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_sha256: str
    scores: tuple[float, ...]
    tolerance: float


class Contract(BaseModel):
    """All that a scorer needs beside the weights.

    `training_id` names the training's manifest, `inputs_sha256` what it read (role -> content hash), `dataset_sha256`
    the labeled table. An export says its `precision`, its `opset`, and which operators of an int8 file are in float.
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


def golden_input(recipe: ViewRecipe) -> NDArray[np.uint8]:
    """Four fixed picture sequences, frames_BTHWC uint8, from integers alone: a drifting slope of gray, ever coarser.

    The first is clean, the second in pairs of pixels and steps of 8 under a little noise, the others in blocks of 4 and
    8 pixels and steps of 16 and 32. A trained model scores them far apart and off the ends of its scale, where wrong
    weights would not show.
    """
    shape = (4, recipe.num_frames, recipe.size_px, recipe.size_px, 3)
    b, t, y, x, c = np.indices(shape, dtype=np.int64, sparse=True)
    block, step = 2**b, np.array([1, 8, 16, 32])[b]
    slope = (x // block * block * 3 + y // block * block * 2 + t * 5 + c * 40) % 512
    gray = np.where(slope < 256, slope, 511 - slope) // step * step
    noise = np.random.PCG64(20_26).random_raw(gray.size).reshape(shape) % np.uint64(8)
    pixels: NDArray[np.uint8] = np.clip(gray + noise.astype(np.int64) * (b == 1), 0, 255).astype(np.uint8)
    return pixels


def sha256_array(array: NDArray[np.uint8]) -> str:
    """Hex sha256 of an array's shape, dtype and bytes."""
    return hashlib.sha256(f"{array.shape} {array.dtype}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def golden_deviation(contract: Contract, scores: NDArray[np.float32], where: str) -> float:
    """Largest deviation of the scores of `golden_input(contract.view)` from the contract's, in score units.

    Raises:
        ValueError: there is no golden output, or this build makes another input.
    """
    if contract.golden is None:
        raise ValueError(f"{where}: the contract holds no golden output")
    if sha256_array(golden_input(contract.view)) != contract.golden.input_sha256:
        raise ValueError(f"{where}: this version makes another golden input; use the version that wrote the file")
    return float(np.abs(scores - np.asarray(contract.golden.scores, np.float32)).max())


def check_golden(contract: Contract, scores: NDArray[np.float32], where: str) -> None:
    """Refuse weights whose golden scores don't come back.

    Raises:
        ValueError: as `golden_deviation`, or the deviation is above the contract's tolerance.
    """
    deviation = golden_deviation(contract, scores, where)
    assert contract.golden is not None
    if not deviation <= contract.golden.tolerance:
        raise ValueError(f"{where}: golden scores are off by {deviation:.3g}, allowed {contract.golden.tolerance:.3g}")
