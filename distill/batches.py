"""Batches that have an order to train on: several contents, several rungs of each; and the groups of those rungs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def epoch_batches(
    contents: Sequence[str],
    *,
    contents_per_batch: int,
    clips_per_content: int,
    seed: int,
    epoch: int,
    codecs: Sequence[str] | None = None,
) -> list[list[int]]:
    """Row numbers of each batch of one epoch; every row comes up exactly once.

    Each content's rows are shuffled and cut into hands of `clips_per_content`; hands are shuffled and dealt so
    that the hands of one batch come from different contents while there are enough of them. The same seed and
    epoch always give the same batches.

    Args:
        contents: content of each row.
        contents_per_batch: hands in a batch.
        clips_per_content: rows in a hand; a content's last hand may be smaller.
        codecs: codec of each row; a content's rows are then dealt so that its hands, as even in size as they can
            be, hold as many different codecs as they can.
    """
    assert codecs is None or len(codecs) == len(contents), "one codec for each row"
    generator = np.random.default_rng([seed, epoch])
    rows_by_content: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        rows_by_content.setdefault(content, []).append(row)
    queues: list[list[list[int]]] = []
    for content in sorted(rows_by_content):
        rows = generator.permutation(rows_by_content[content]).tolist()
        starts = range(0, len(rows), clips_per_content)
        if codecs is None:
            queues.append([rows[start : start + clips_per_content] for start in starts])
            continue
        by_codec: dict[str, list[int]] = {}
        for row in rows:
            by_codec.setdefault(codecs[row], []).append(row)
        rows = [row for codec in generator.permutation(sorted(by_codec)).tolist() for row in by_codec[codec]]
        # One row to each hand in turn: a codec comes twice to a hand only once it has been to all of them.
        queues.append([rows[hand :: len(starts)] for hand in range(len(starts))])
    batches: list[list[int]] = []
    while any(queues):
        # The contents with most hands left go first, so that the last batches still mix contents.
        order = sorted(generator.permutation(len(queues)).tolist(), key=lambda index: -len(queues[index]))
        hands = [queues[index].pop() for index in order[:contents_per_batch] if queues[index]]
        batches.append([row for hand in hands for row in hand])
    return [batches[index] for index in generator.permutation(len(batches))]


def bitrate_groups(contents: Sequence[str], bitrate_kbps: NDArray[np.float64], num_groups: int) -> NDArray[np.int64]:
    """Bin of each row's log bitrate, 0..num_groups - 1, in equal steps over its own content's ladder.

    The largest bitrate is in the last bin. A content with one bitrate only has no ladder: its rows get -1.

    Raises:
        ValueError: a bitrate is not finite or not above 0.
    """
    if not (np.isfinite(bitrate_kbps) & (bitrate_kbps > 0)).all():
        raise ValueError("every bitrate must be finite and above 0")
    log_bitrate, names = np.log(bitrate_kbps), np.asarray(contents)
    groups = np.full(len(names), -1, dtype=np.int64)
    for content in set(contents):
        rows = names == content
        position = log_bitrate[rows] - log_bitrate[rows].min()
        if position.max() > 0:
            # The small addend keeps a rung on a bin's edge in the upper bin whatever the rounding.
            bins = np.floor(num_groups * position / position.max() + 1e-9).astype(np.int64)
            groups[rows] = bins.clip(max=num_groups - 1)
    return groups
