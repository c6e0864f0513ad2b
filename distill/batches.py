"""Batches that have an order to train on: several contents, several rungs of each; and the groups of those rungs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # contents that are dealt together: to shuffle all of them for every batch takes time by their square


def epoch_batches(
    contents: Sequence[str],
    *,
    contents_per_batch: int,
    clips_per_content: int,
    seed: int,
    epoch: int,
    kinds: Sequence[str] | None = None,
) -> list[list[int]]:
    """Row numbers of each batch of one epoch; every row comes up exactly once.

    Each content's rows are shuffled and cut into hands of `clips_per_content`; hands are shuffled and dealt so
    that the hands of one batch come from different contents while there are enough of them. More than `BLOCK`
    contents are dealt in blocks, other ones each epoch. The same seed and epoch always give the same batches.

    Args:
        contents: content of each row.
        contents_per_batch: hands in a batch.
        clips_per_content: rows in a hand; a content's last hand may be smaller.
        kinds: codec or bitrate group of each row; a content's rows are then dealt so that its hands, as even in size
            as they can be, hold as many different kinds as they can.
    """
    assert kinds is None or len(kinds) == len(contents), "one kind for each row"
    generator = np.random.default_rng([seed, epoch])
    rows_by_content: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        rows_by_content.setdefault(content, []).append(row)
    queues: list[list[list[int]]] = []
    for content in sorted(rows_by_content):
        rows = generator.permutation(rows_by_content[content]).tolist()
        starts = range(0, len(rows), clips_per_content)
        if kinds is None:
            queues.append([rows[start : start + clips_per_content] for start in starts])
            continue
        by_kind: dict[str, list[int]] = {}
        for row in rows:
            by_kind.setdefault(kinds[row], []).append(row)
        rows = [row for kind in generator.permutation(sorted(by_kind)).tolist() for row in by_kind[kind]]
        # One row to each hand in turn: a kind comes twice to a hand only once it has been to all of them.
        queues.append([rows[hand :: len(starts)] for hand in range(len(starts))])
    order = np.arange(len(queues)) if len(queues) <= BLOCK else generator.permutation(len(queues))
    blocks = np.array_split(order, max(1, -(-len(queues) // BLOCK)))
    batches = [
        batch for block in blocks for batch in _deal([queues[index] for index in block], contents_per_batch, generator)
    ]
    return [batches[index] for index in generator.permutation(len(batches))]


def _deal(queues: list[list[list[int]]], contents_per_batch: int, generator: np.random.Generator) -> list[list[int]]:
    """Batches of the hands of some contents, until none is left."""
    batches: list[list[int]] = []
    hands_left = np.array([len(queue) for queue in queues])
    while hands_left.any():
        # The contents with most hands left go first, so that the last batches still mix contents.
        order = generator.permutation(len(queues))
        first = order[np.argsort(-hands_left[order], kind="stable")[:contents_per_batch]]
        chosen = [index for index in first.tolist() if queues[index]]
        hands_left[chosen] -= 1
        batches.append([row for index in chosen for row in queues[index].pop()])
    return batches


def bitrate_groups(contents: Sequence[str], bitrate_kbps: NDArray[np.float64], num_groups: int) -> NDArray[np.int64]:
    """Bin of each row's log bitrate, 0..num_groups - 1, in equal steps over its own content's ladder.

    The largest bitrate is in the last bin. A content with one bitrate only has no ladder: its rows get -1.

    Raises:
        ValueError: a bitrate is not finite or not above 0.
    """
    if not (np.isfinite(bitrate_kbps) & (bitrate_kbps > 0)).all():
        raise ValueError("every bitrate must be finite and above 0")
    log_bitrate = np.log(bitrate_kbps)
    names, content = np.unique(np.asarray(contents), return_inverse=True)
    lowest, span = np.full(len(names), np.inf), np.zeros(len(names))
    np.minimum.at(lowest, content, log_bitrate)
    position = log_bitrate - lowest[content]
    np.maximum.at(span, content, position)
    groups = np.full(len(content), -1, dtype=np.int64)
    rows = span[content] > 0
    # The small addend keeps a rung on a bin's edge in the upper bin whatever the rounding.
    bins = np.floor(num_groups * position[rows] / span[content][rows] + 1e-9).astype(np.int64)
    groups[rows] = bins.clip(max=num_groups - 1)
    return groups
