"""What a coded stream says of its own quality, beside its pictures: how coarsely it was quantized, how many bits its
frames take, and at what size.

A quantizer's step bounds what was lost; a picture that looks detailed and took few bits is likelier to have lost it.
Six facts of a window, on a log2 scale: a, bits a coded pixel of the largest frame (a key frame, as a rule); b, the
same of the mean of the rest but for the largest tenth, so that it hardly depends on how far apart key frames are; r,
coded lines for a line shown; p and q, the step of the largest frame and the mean of that rest; s, the mean step, each
frame's weighing as many bits as it took. A model takes them as standard scores, and which codec it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.bitstream.qp import CODECS
from rungwise.media.packets import Packets

NUM_BITSTREAM_FEATURES = 6
BITSTREAM_INPUT_DIM = NUM_BITSTREAM_FEATURES + len(CODECS)
CENTER = np.array([-1.3, -5.5, -0.4, 4.3, 5.2, 4.6])
SPREAD = np.array([1.5, 2.0, 0.5, 1.6, 1.4, 1.5])
LARGEST_SHARE = 0.1  # of the frames: key frames and their like
LEAST_BITS = 40.0  # of a frame: what its headers take


def bitstream_features(
    num_bytes_N: ArrayLike,
    log2_qsteps_N: ArrayLike,
    num_pixels: int,
    height: int,
    display_height: int,
    pixel_ratios_N: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """(a, b, r, p, q, s) of a window of a stream; p, q and s are NaN where no frame says its step.

    Args:
        num_bytes_N: coded bytes of its N frames, N >= 1.
        steps_N: log2 of their quantizers' steps; NaN of a frame that says none.
        num_pixels: of a frame.
        height: its lines.
        display_height: lines shown.
        pixel_ratios_N: coded pixels of each frame to `num_pixels`. Lines are taken to go with their square root, also
            where only columns are fewer.
    """
    order = np.argsort(-np.asarray(num_bytes_N, float), kind="stable")
    bits, steps = np.asarray(num_bytes_N, float)[order] * 8, np.asarray(log2_qsteps_N, float)[order]
    ratios = np.broadcast_to(np.asarray(pixel_ratios_N, float), bits.shape)[order]
    pixels, lines = num_pixels * ratios, height * np.sqrt(ratios)
    first = int(np.ceil(LARGEST_SHARE * len(bits)))
    rest = slice(first if first < len(bits) else 0, None)
    shares = np.maximum([bits[0], bits[rest].mean()], LEAST_BITS) / [pixels[0], pixels[rest].mean()]
    told = ~np.isnan(steps)
    if not told.any():
        quantizers = [np.nan, np.nan, np.nan]
    else:
        usual = steps[rest][told[rest]] if told[rest].any() else steps[told][:1]
        quantizers = [steps[told][0], usual.mean(), np.average(steps[told], weights=bits[told] + 1)]
    return np.array([*np.log2(shares), np.log2(lines.mean() / display_height), *quantizers])


def bitstream_input(facts_NF: NDArray[np.float64], codecs: Sequence[str]) -> NDArray[np.float32]:
    """(N, BITSTREAM_INPUT_DIM): a model's bitstream input."""
    named = np.array([[codec == known for known in CODECS] for codec in codecs], float)
    return np.concatenate([(facts_NF - CENTER) / SPREAD, named], 1).astype(np.float32)


def features_from_packets(packets: Packets, num_pixels: int, height: int, display_height: int) -> NDArray[np.float64]:
    """`bitstream_features` of a whole file, read with its steps."""
    assert packets.log2_qsteps_N is not None
    assert packets.pixels_N2 is not None
    ratios = packets.pixels_N2[:, 0] / packets.pixels_N2[0, 1]
    return bitstream_features(packets.sizes_N, packets.log2_qsteps_N, num_pixels, height, display_height, ratios)
