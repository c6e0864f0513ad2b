"""Hybrid scores of one title's rungs, corrected by how many bits each took beside the others.

A hybrid score relies on the QP, which says nothing of what was lost before the last encode. But lost detail takes no
bits: in the rungs of one title and codec, bits per pixel follow from qstep and height, so a rung that took fewer than
the others suggest was encoded from a worse source, such as another encode or a blurred picture.
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
# log2 of bits per pixel against log2 qstep and log2 height: typical slopes and their spread, as few rungs tell little.
_SLOPES, _SPREAD = np.array([-1.1, -0.4]), np.array([0.2, 0.25])
_SCATTER = 0.15  # octaves around that plane, from which on a rung pulls on it less than by the square


def joint_scores(hybrid: ArrayLike, missing_octaves: ArrayLike) -> NDArray[np.float64]:
    """Hybrid scores (n,), lower where bits are missing (`missing_octaves`); higher is better."""
    beyond = np.maximum(np.asarray(missing_octaves, np.float64) - SPARE_OCTAVES, 0.0)
    return np.asarray(np.asarray(hybrid, np.float64) - POINTS_PER_OCTAVE * beyond, np.float64)


def missing_octaves(
    log2_bits: ArrayLike, log2_qsteps: ArrayLike, heights: ArrayLike, codecs: Sequence[str]
) -> NDArray[np.float64]:
    """By how much less each rung took than its codec's other rungs suggest, in octaves of bits; (n,), below 0 for more.

    Args:
        log2_bits: per coded pixel, (n,).
        log2_qsteps: of the mean quantizer, (n,).
        heights: in pixels, (n,).
        codecs: n names.
    """
    bits, codec = np.asarray(log2_bits, np.float64), np.asarray(codecs)
    x = np.stack([np.asarray(log2_qsteps, np.float64), np.log2(np.asarray(heights, np.float64))], axis=1)
    missing = np.zeros(len(bits))
    for name in dict.fromkeys(codecs):
        rows = np.flatnonzero(codec == name)
        if len(rows) >= MIN_RUNGS:
            missing[rows] = _below_plane(bits[rows], x[rows] - x[rows].mean(axis=0))
    return missing


def _below_plane(bits: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance below a robust plane over the two columns of x, whose slopes are typical unless proved."""
    from scipy.optimize import least_squares

    def residuals(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = (bits - plane[0] - x @ plane[1:]) / _SCATTER
        # The root of a pseudo-Huber loss: the slopes' own residuals stay squared.
        robust = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([robust, (plane[1:] - _SLOPES) / _SPREAD])

    start = np.array([np.median(bits - x @ _SLOPES), *_SLOPES])
    plane = least_squares(residuals, start).x
    return np.asarray(plane[0] + x @ plane[1:] - bits, np.float64)
