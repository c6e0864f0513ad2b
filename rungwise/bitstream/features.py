"""Bitstream features: what QP, bits per frame and coded size tell about quality, beside the pixels.

The quantizer step size (qstep) bounds the coding error, and a frame that looks detailed but took few bits has probably
lost detail. A window has these features, all log2 but the last:

    bits_key      bits per coded pixel of the largest frame, usually a key frame
    bits_rest     bits per coded pixel of the other frames, without the largest tenth, so that it hardly depends on the
                  key frame interval
    scale         coded height over display height
    qstep_key     qstep of the largest frame
    qstep_rest    mean qstep of those other frames
    qstep_mean    mean qstep, frames weighted by their bits
    bits_spread   standard deviation of those other frames' bits: near 0 in a still scene without B frames
    bits_low      their 10 % quantile, less their mean
    bits_high     their 90 % quantile, less their mean
    qstep_spread  standard deviation of all frames' qsteps
    qstep_best    the smallest qstep, less their mean
    correlation   of bits and qstep among those other frames: negative where B frames are coarser, positive where rate
                  control follows the scene

The first six are levels, the others say how an encoder divides bits between frames: presets, rate control and motion
show in it. A model takes all standardized, together with a one-hot codec.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.bitstream.qp import CODECS
from rungwise.media.packets import Packets

NUM_LEVELS = 6
NUM_BITSTREAM_FEATURES = 12
BITSTREAM_INPUT_DIM = NUM_BITSTREAM_FEATURES + len(CODECS)
FEATURE_CENTER = np.array([-1.3, -5.5, -0.4, 4.3, 5.2, 4.6, 1.3, -1.3, 1.9, 0.4, -1.0, -0.5])
FEATURE_SCALE = np.array([1.5, 2.0, 0.5, 1.6, 1.4, 1.5, 1.0, 1.0, 1.4, 0.25, 0.8, 0.5])
LARGEST_FRACTION = 0.1  # of the frames: key frames and similar
MIN_FRAME_BITS = 40.0  # about the size of a frame's headers
LOW_FRACTION = 0.1
MIN_DEVIATION = 1e-6  # of constant values, whose correlation would be noise


def bitstream_features(
    num_bytes_N: ArrayLike,
    log2_qsteps_N: ArrayLike,
    num_pixels: int,
    height: int,
    display_height: int,
    pixel_ratios_N: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """The features of a window, (NUM_BITSTREAM_FEATURES,); those of qsteps are NaN if no qstep is known.

    Args:
        num_bytes_N: coded bytes of N frames, N >= 1.
        log2_qsteps_N: log2 of each frame's qstep; NaN if unknown.
        num_pixels: pixels of a decoded frame.
        height: height of a decoded frame.
        display_height: height at which frames are evaluated.
        pixel_ratios_N: coded pixels of each frame relative to `num_pixels`. The coded height is assumed to go with the
            square root, also where only the width is reduced.
    """
    order = np.argsort(-np.asarray(num_bytes_N, float), kind="stable")
    bits, qsteps = np.asarray(num_bytes_N, float)[order] * 8, np.asarray(log2_qsteps_N, float)[order]
    ratios = np.broadcast_to(np.asarray(pixel_ratios_N, float), bits.shape)[order]
    pixels, heights = num_pixels * ratios, height * np.sqrt(ratios)
    num_largest = int(np.ceil(LARGEST_FRACTION * len(bits)))
    rest = slice(num_largest if num_largest < len(bits) else 0, None)
    bits_per_pixel = np.maximum([bits[0], bits[rest].mean()], MIN_FRAME_BITS) / [pixels[0], pixels[rest].mean()]
    log2_bits = np.log2(np.maximum(bits[rest], MIN_FRAME_BITS))
    low, high = np.quantile(log2_bits, [LOW_FRACTION, 1 - LOW_FRACTION]) - log2_bits.mean()
    qstep_levels, qstep_shape = _qstep_features(bits, qsteps, log2_bits, rest)
    levels = (*np.log2(bits_per_pixel), np.log2(heights.mean() / display_height), *qstep_levels)
    return np.array([*levels, log2_bits.std(), low, high, *qstep_shape])


def _qstep_features(
    bits: NDArray[np.float64], qsteps: NDArray[np.float64], rest_log2_bits: NDArray[np.float64], rest: slice
) -> tuple[list[float], list[float]]:
    """(qstep_key, qstep_rest, qstep_mean) and (qstep_spread, qstep_best, correlation), frames by falling size."""
    known = ~np.isnan(qsteps)
    if not known.any():
        return [np.nan] * 3, [np.nan] * 3
    known_rest = qsteps[rest][known[rest]]
    rest_qsteps = known_rest if len(known_rest) else qsteps[known][:1]
    levels = [qsteps[known][0], rest_qsteps.mean(), np.average(qsteps[known], weights=bits[known] + 1)]
    correlation, rest_bits = 0.0, rest_log2_bits[known[rest]]
    if len(known_rest) > 1 and min(known_rest.std(), rest_bits.std()) > MIN_DEVIATION:
        correlation = float(np.corrcoef(rest_bits, known_rest)[0, 1])
    return levels, [qsteps[known].std(), qsteps[known].min() - qsteps[known].mean(), correlation]


def bitstream_input(features_NF: NDArray[np.float64], codecs: Sequence[str]) -> NDArray[np.float32]:
    """A model's bitstream input, (N, BITSTREAM_INPUT_DIM): standardized features and one-hot codec.

    The one-hot part is all zeros for a codec that is not in `CODECS`.
    """
    one_hot = np.array([[codec == known for known in CODECS] for codec in codecs], float)
    return np.concatenate([(features_NF - FEATURE_CENTER) / FEATURE_SCALE, one_hot], 1).astype(np.float32)


def features_from_packets(packets: Packets, num_pixels: int, height: int, display_height: int) -> NDArray[np.float64]:
    """`bitstream_features` of a whole file, whose packets were read with a `QstepReader`."""
    assert packets.log2_qsteps_N is not None
    assert packets.pixels_N2 is not None
    ratios = packets.pixels_N2[:, 0] / packets.pixels_N2[0, 1]
    return bitstream_features(packets.sizes_N, packets.log2_qsteps_N, num_pixels, height, display_height, ratios)


def coding_level(packets: Packets, num_pixels: int) -> tuple[float, float]:
    """log2 of a file's bits per coded pixel, and of its mean qstep, frames weighted by their bits."""
    assert packets.log2_qsteps_N is not None
    assert packets.pixels_N2 is not None
    ratios, bits = packets.pixels_N2[:, 0] / packets.pixels_N2[0, 1], packets.sizes_N * 8.0
    known = ~np.isnan(packets.log2_qsteps_N)
    bits_per_pixel = max(bits.sum(), MIN_FRAME_BITS) / (num_pixels * ratios.sum())
    qstep = np.average(packets.log2_qsteps_N[known], weights=bits[known] + 1)
    return float(np.log2(bits_per_pixel)), float(qstep)
