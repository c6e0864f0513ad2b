"""What a coded stream says of its own quality, beside its pictures: how many bits its frames take, and at what size.

A picture that looks detailed and took few bits is likelier to have lost something. Three facts of a window, on a log2
scale: a, bits a coded pixel of the largest frame (a key frame, as a rule); b, the same of the mean of the rest but for
the largest tenth, so that it hardly depends on how far apart key frames are; r, coded lines for a line shown. A model
takes them as standard scores and their squares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rungwise.video import Packets

NUM_TERMS = 6
CENTRE = np.array([-1.3, -5.5, -0.4])
SPREAD = np.array([1.5, 2.0, 0.5])
LARGEST_SHARE = 0.1  # of the frames: key frames and their like
LEAST_BITS = 40.0  # of a frame: what its headers take


def stream_facts(num_bytes_N: ArrayLike, num_pixels: int, height: int, display_height: int) -> NDArray[np.float64]:
    """(a, b, r) of a window of a stream.

    Args:
        num_bytes_N: coded bytes of its N frames, N >= 1.
        num_pixels: of a coded frame.
        height: coded lines.
        display_height: lines shown.
    """
    bits = np.sort(np.asarray(num_bytes_N, float) * 8)[::-1]
    rest = bits[int(np.ceil(LARGEST_SHARE * len(bits))) :]
    usual = float(rest.mean()) if len(rest) else float(bits.mean())
    shares = np.maximum([bits[0], usual], LEAST_BITS) / num_pixels
    return np.array([*np.log2(shares), np.log2(height / display_height)])


def stream_terms(facts: NDArray[np.float64]) -> NDArray[np.float32]:
    """(..., NUM_TERMS) that a model takes, of facts (..., 3)."""
    standard = (facts - CENTRE) / SPREAD
    return np.concatenate([standard, standard**2], -1).astype(np.float32)


def facts_of_packets(packets: Packets, num_pixels: int, height: int, display_height: int) -> NDArray[np.float64]:
    """`stream_facts` of a whole file."""
    return stream_facts(packets.sizes_N, num_pixels, height, display_height)


def fused_score(
    stream_BF: NDArray[np.float32], terms_BF: NDArray[np.float32], minimum: float, maximum: float
) -> NDArray[np.float32]:
    """Scores_B from a model's `stream` output, (B, 1 + NUM_TERMS): an offset and a weight for each term."""
    logit = stream_BF[:, 0] + (stream_BF[:, 1:] * terms_BF).sum(1)
    share = 0.5 + 0.5 * np.tanh(logit.astype(np.float64) / 2)  # a sigmoid that never overflows
    return np.asarray(minimum + (maximum - minimum) * share, np.float32)
