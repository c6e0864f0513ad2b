"""Batches mix contents and rungs, and use every row once."""

from __future__ import annotations

from distill.batches import epoch_batches

CONTENTS = [f"c{number % 6}" for number in range(54)]  # six contents of nine encodes
SHAPE = {"contents_per_batch": 3, "clips_per_content": 3}


def test_every_row_once_and_several_rungs_of_several_contents() -> None:
    batches = epoch_batches(CONTENTS, **SHAPE, seed=0, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(54))
    for batch in batches:
        counts = [sum(CONTENTS[row] == content for row in batch) for content in sorted({CONTENTS[r] for r in batch})]
        assert counts == [3, 3, 3]


def test_seed_and_epoch_decide() -> None:
    first = epoch_batches(CONTENTS, **SHAPE, seed=0, epoch=0)
    assert first == epoch_batches(CONTENTS, **SHAPE, seed=0, epoch=0)
    assert first != epoch_batches(CONTENTS, **SHAPE, seed=0, epoch=1)
    assert first != epoch_batches(CONTENTS, **SHAPE, seed=1, epoch=0)


def test_uneven_contents_lose_nothing() -> None:
    contents = ["a"] * 7 + ["b"] * 2 + ["c"]
    batches = epoch_batches(contents, contents_per_batch=2, clips_per_content=3, seed=3, epoch=1)
    assert sorted(row for batch in batches for row in batch) == list(range(10))
