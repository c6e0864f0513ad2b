"""Bitstream features: what QP, bits per frame and coded size tell about quality, beside the pixels.

The quantizer step size (qstep) bounds the coding error, and a frame that looks detailed but took few bits has probably
lost detail. A window has six features, all log2:

    bits_key    bits per coded pixel of the largest frame, usually a key frame
    bits_rest   bits per coded pixel of the other frames, without the largest tenth, so that it hardly depends on the
                key frame interval
    scale       coded height over display height
    qstep_key   qstep of the largest frame
    qstep_rest  mean qstep of those other frames
    qstep_mean  mean qstep, frames weighted by their bits

A model takes them standardized, together with a one-hot codec.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.bitstream.qp import CODECS
from rungwise.media.packets import Packets

NUM_BITSTREAM_FEATURES = 6
BITSTREAM_INPUT_DIM = NUM_BITSTREAM_FEATURES + len(CODECS)
FEATURE_CENTER = np.array([-1.3, -5.5, -0.4, 4.3, 5.2, 4.6])
FEATURE_SCALE = np.array([1.5, 2.0, 0.5, 1.6, 1.4, 1.5])
LARGEST_FRACTION = 0.1  # of the frames: key frames and similar
MIN_FRAME_BITS = 40.0  # about the size of a frame's headers


def bitstream_features(
    num_bytes_N: ArrayLike,
    log2_qsteps_N: ArrayLike,
    num_pixels: int,
    height: int,
    display_height: int,
    pixel_ratios_N: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """The six features of a window, (NUM_BITSTREAM_FEATURES,); the qstep features are NaN if no qstep is known.

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
    known = ~np.isnan(qsteps)
    if not known.any():
        qstep_features = [np.nan, np.nan, np.nan]
    else:
        rest_qsteps = qsteps[rest][known[rest]] if known[rest].any() else qsteps[known][:1]
        mean_qstep = np.average(qsteps[known], weights=bits[known] + 1)
        qstep_features = [qsteps[known][0], rest_qsteps.mean(), mean_qstep]
    return np.array([*np.log2(bits_per_pixel), np.log2(heights.mean() / display_height), *qstep_features])


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
