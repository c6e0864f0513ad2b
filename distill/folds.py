"""Folds by source group: every train and validation content is scored by a student that did not train on it.

The interval around a score is measured on these scores: validation contents alone are too few to tell how far scores of
a new content lie from its labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from distill.data import Data

HELD_OUT_SPLIT = "held out"


def assign_folds(data: Data, num_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row of the table, (N,); -1 in the test split. Groups are dealt by a seeded hash.

    Raises:
        ValueError: there are fewer groups than folds.
    """
    table = data.table
    group = table["group"].fillna(table["content"])
    closed = (table["split"] == "test").to_numpy()
    names = sorted(set(group[~closed]), key=lambda name: hashlib.sha256(f"{seed}:fold:{name}".encode()).hexdigest())
    if len(names) < num_folds:
        raise ValueError(f"student.folds: {num_folds} folds of {len(names)} source groups; give fewer folds")
    fold_of = {name: number % num_folds for number, name in enumerate(names)}
    return np.where(closed, -1, group.map(fold_of).fillna(-1)).astype(np.int64)


def leave_out(data: Data, fold_N: NDArray[np.int64], number: int) -> Data:
    """The data with one fold as split `HELD_OUT_SPLIT` and all other folds as train contents."""
    split = np.where(fold_N == number, HELD_OUT_SPLIT, np.where(fold_N < 0, data.table["split"], "train"))
    return replace(data, table=data.table.assign(split=split))
