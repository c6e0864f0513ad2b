"""Batches in which order can be learnt: several contents, several rungs of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def epoch_batches(
    contents: Sequence[str], *, contents_per_batch: int, clips_per_content: int, seed: int, epoch: int
) -> list[list[int]]:
    """Row numbers of each batch of one epoch; every row comes up exactly once.

    Each content's rows are shuffled and cut into hands of `clips_per_content`; hands are shuffled and dealt so
    that the hands of one batch come from different contents while there are enough of them. The same seed and
    epoch always give the same batches.

    Args:
        contents: content of each row.
        contents_per_batch: hands in a batch.
        clips_per_content: rows in a hand; a content's last hand may be smaller.
    """
    generator = np.random.default_rng([seed, epoch])
    rows_by_content: dict[str, list[int]] = {}
    for row, content in enumerate(contents):
        rows_by_content.setdefault(content, []).append(row)
    queues: list[list[list[int]]] = []
    for content in sorted(rows_by_content):
        rows = generator.permutation(rows_by_content[content]).tolist()
        queues.append([rows[start : start + clips_per_content] for start in range(0, len(rows), clips_per_content)])
    batches: list[list[int]] = []
    while any(queues):
        # The contents with most hands left go first, so that the last batches still mix contents.
        order = sorted(generator.permutation(len(queues)).tolist(), key=lambda index: -len(queues[index]))
        hands = [queues[index].pop() for index in order[:contents_per_batch] if queues[index]]
        batches.append([row for hand in hands for row in hand])
    return [batches[index] for index in generator.permutation(len(batches))]
