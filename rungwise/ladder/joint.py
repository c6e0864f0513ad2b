"""Hybrid scores of one title's rungs, corrected by what the rungs say of each other.

A hybrid score relies on the QP, which says nothing of what was lost before the last encode. But lost detail takes no
bits: in the rungs of one title and codec, bits per pixel follow from qstep and height, so a rung that took fewer than
the others suggest was encoded from a worse source, such as another encode or a blurred picture.

A QP does not mean the same in all codecs and contents. Pixel-only scores err by content, but much the same in all
codecs, so they set the codecs' levels beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_RUNGS = 3  # of a codec; fewer can't tell which of them is the odd one
# Chosen on the contents of benchmarks/ladder_encodes.py, where re-encodes lack 0.7 to 1.4 octaves of bits, blurred
# encodes 0.3 to 1.3, and others 0.3 at most.
SPARE_OCTAVES = 0.25  # fewer missing are chance, or another preset
POINTS_PER_OCTAVE = 15.0
LEVEL_PART = 0.75  # of the difference between two codecs' pixel-only and hybrid scores
# log2 of bits per pixel against log2 qstep and log2 height: typical slopes and their spread, as few rungs tell little.
_SLOPES, _SPREADS = np.array([-1.1, -0.4]), np.array([0.2, 0.25])
_SCATTER_OCTAVES = 0.15  # around that plane, from which on a rung pulls on it less than by the square
_SCATTER_POINTS = 2.0
FloatArray = NDArray[np.float64]


def joint_scores(
    hybrid: ArrayLike, pixel: ArrayLike, missing: ArrayLike, heights: ArrayLike, codecs: Sequence[str]
) -> FloatArray:
    """Hybrid scores (n,) at their codec's level, lower where octaves of bits are `missing`; higher is better."""
    scores, height = np.asarray(hybrid, np.float64), np.asarray(heights, np.float64)
    beyond = np.maximum(np.asarray(missing, np.float64) - SPARE_OCTAVES, 0.0)
    shift = _codec_levels(np.asarray(pixel, np.float64) - scores, scores, height, codecs)
    return np.asarray(scores + LEVEL_PART * shift - POINTS_PER_OCTAVE * beyond, np.float64)


def missing_octaves(
    log2_bits: ArrayLike, log2_qsteps: ArrayLike, heights: ArrayLike, codecs: Sequence[str]
) -> FloatArray:
    """By how much less each rung took than its codec's other rungs suggest, in octaves of bits; (n,), below 0 for more.

    Args:
        log2_bits: per coded pixel, (n,); NaN where unknown, for which nothing is missing.
        log2_qsteps: of the mean quantizer, (n,).
        heights: in pixels, (n,).
        codecs: n names.
    """
    bits = np.asarray(log2_bits, np.float64)
    known = [codec if np.isfinite(level) else "" for codec, level in zip(codecs, bits, strict=True)]
    x = np.stack([np.asarray(log2_qsteps, np.float64), np.log2(np.asarray(heights, np.float64))], axis=1)
    missing = np.zeros(len(bits))
    for name in _common([codec for codec in known if codec]):
        own = np.asarray(known) == name
        (level,), slopes = _robust_plane(
            bits[own], np.ones((own.sum(), 1)), x[own], _SLOPES, _SPREADS, _SCATTER_OCTAVES
        )
        missing[own] = level + x[own] @ slopes - bits[own]
    return missing


def _codec_levels(
    differences: FloatArray, scores: FloatArray, heights: FloatArray, codecs: Sequence[str]
) -> FloatArray:
    """Each rung's codec's mean difference less that of all codecs, but for a trend along score and height; (n,)."""
    names = _common(codecs)
    one_hot = np.asarray(codecs)[:, None] == np.asarray(names)
    known = one_hot.any(axis=1)
    if len(names) < 2:
        return np.zeros(len(scores))
    trend = np.stack([(scores - scores.mean()) / 10, np.log(heights / heights.max())], axis=1)
    levels, _ = _robust_plane(
        differences[known], one_hot[known].astype(float), trend[known], np.zeros(2), np.ones(2) * 0.5, _SCATTER_POINTS
    )
    return np.asarray(one_hot @ (levels - levels.mean()), np.float64)


def _common(codecs: Sequence[str]) -> list[str]:
    """Codecs with enough rungs."""
    return [name for name in dict.fromkeys(codecs) if list(codecs).count(name) >= MIN_RUNGS]


def _robust_plane(
    y: FloatArray, groups: FloatArray, x: FloatArray, slopes: FloatArray, spreads: FloatArray, scatter: float
) -> tuple[FloatArray, FloatArray]:
    """Levels of one-hot groups and two slopes along x, which are `slopes` unless proved; outliers count less."""
    from scipy.optimize import least_squares

    num_groups = groups.shape[1]

    def residuals(plane: FloatArray) -> FloatArray:
        errors = (y - groups @ plane[:num_groups] - x @ plane[num_groups:]) / scatter
        # The root of a pseudo-Huber loss: the slopes' own residuals stay squared.
        robust = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([robust, (plane[num_groups:] - slopes) / spreads])

    start = [np.median((y - x @ slopes)[group]) for group in groups.T.astype(bool)]
    plane = least_squares(residuals, np.array([*start, *slopes])).x
    return plane[:num_groups], plane[num_groups:]
