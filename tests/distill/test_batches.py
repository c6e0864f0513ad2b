"""Batches mix contents, rungs and codecs, and use every row once; groups follow each content's own ladder."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest

from distill.batches import bitrate_groups, epoch_batches

CONTENTS = [f"c{number % 6}" for number in range(54)]  # six contents of nine encodes
epoch_of_nines = partial(epoch_batches, CONTENTS, contents_per_batch=3, clips_per_content=3)


def test_every_row_once_and_several_rungs_of_several_contents() -> None:
    batches = epoch_of_nines(seed=0, epoch=0)
    assert sorted(row for batch in batches for row in batch) == list(range(54))
    for batch in batches:
        counts = [sum(CONTENTS[row] == content for row in batch) for content in sorted({CONTENTS[r] for r in batch})]
        assert counts == [3, 3, 3]


def test_seed_and_epoch_decide() -> None:
    first = epoch_of_nines(seed=0, epoch=0)
    assert first == epoch_of_nines(seed=0, epoch=0)
    assert first != epoch_of_nines(seed=0, epoch=1)
    assert first != epoch_of_nines(seed=1, epoch=0)


def test_uneven_contents_lose_nothing() -> None:
    contents = ["a"] * 7 + ["b"] * 2 + ["c"]
    batches = epoch_batches(contents, contents_per_batch=2, clips_per_content=3, seed=3, epoch=1)
    assert sorted(row for batch in batches for row in batch) == list(range(10))


def test_batches_without_codecs_stay_as_they_were() -> None:
    # Written down before `codecs` existed: committed figures rest on these draws.
    batches = epoch_batches(list("abacbaca"), contents_per_batch=2, clips_per_content=2, seed=5, epoch=2)
    assert batches == [[0, 2, 1, 4], [7, 5, 6, 3]]
    contents = [f"c{number * 7 % 300}" for number in range(2500)]
    batches = epoch_batches(contents, contents_per_batch=4, clips_per_content=3, seed=7, epoch=3)
    assert hashlib.sha256(repr(batches).encode()).hexdigest()[:16] == "d19e3b5fecdf789d"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ladder", ["xxxyyyzzz", "xxyz", "xxxxyyz", "xxxx", "wxyyz", "x"])
def test_hands_mix_codecs(ladder: str, seed: int) -> None:
    contents, codecs = ["a"] * len(ladder) + ["b"] * len(ladder), list(ladder * 2)
    hands = epoch_batches(contents, contents_per_batch=1, clips_per_content=3, seed=seed, epoch=0, kinds=codecs)
    assert sorted(row for hand in hands for row in hand) == list(range(len(contents)))
    per_content = -(-len(ladder) // 3)
    assert len(hands) == 2 * per_content
    assert max(len(hand) for hand in hands) <= 3
    # No deal can do better: a codec is in every hand, or in as many hands as it has rows.
    most = sum(min(ladder.count(codec), per_content) for codec in set(ladder))
    assert sum(len({codecs[row] for row in hand}) for hand in hands) == 2 * most


def test_seed_and_epoch_decide_with_codecs() -> None:
    codecs = [["x", "y", "z"][number // 6 % 3] for number in range(54)]
    first = epoch_of_nines(seed=0, epoch=0, kinds=codecs)
    assert first == epoch_of_nines(seed=0, epoch=0, kinds=codecs)
    assert first != epoch_of_nines(seed=0, epoch=1, kinds=codecs)


# Content "a" spans 100..800, three octaves; "b" is alone, "c" has one bitrate twice, "d" spans 10..1000.
LADDERS = ["a", "b", "a", "c", "a", "d", "a", "c", "d", "d", "a"]
BITRATES = np.array([100.0, 500, 200, 70, 399, 10, 400, 70, 1000, 99, 800])
GROUPS = [0, -1, 1, -1, 1, 0, 2, -1, 2, 1, 2]


def test_bitrate_groups_by_hand() -> None:
    groups = bitrate_groups(LADDERS, BITRATES, 3)
    assert groups.dtype == np.int64
    assert groups.tolist() == GROUPS
    assert bitrate_groups(LADDERS, BITRATES, 1).tolist() == [min(group, 0) for group in GROUPS]


@pytest.mark.parametrize("factor", [1e-3, 1 / 3, 0.7, 1.1, np.pi, 1e4])
@pytest.mark.parametrize("content", ["a", "b", "c", "d"])
def test_bitrate_groups_are_blind_to_the_scale_of_a_content(content: str, factor: float) -> None:
    scaled = np.where(np.array(LADDERS) == content, factor * BITRATES, BITRATES)
    assert bitrate_groups(LADDERS, scaled, 3).tolist() == GROUPS


@pytest.mark.parametrize("bitrate", [0.0, -1.0, np.nan, np.inf])
def test_bitrate_groups_refuse_what_has_no_logarithm(bitrate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        bitrate_groups(["a", "a"], np.array([1.0, bitrate]), 2)
