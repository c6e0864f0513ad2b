"""The dataset table: validation, files, splits by group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS, assign_splits, check_table, read_table, write_table


def rows(count: int = 3) -> pd.DataFrame:
    text = {name: [f"{name}{row}" for row in range(count)] for name in TEXT_COLUMNS}
    numbers = {name: [50.0] * count for name in NUMBER_COLUMNS}
    fixed: dict[str, Any] = {
        "score_polarity": "higher_is_better",
        "split": "train",
        "score_min": 0.0,
        "score_max": 100.0,
    }
    return pd.DataFrame(text | numbers).assign(**fixed)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_survives_writing_and_reading(tmp_path: Path, suffix: str) -> None:
    table = rows().assign(split=["train", "", "test"], psnr=[30.0, 31.5, 40.25])
    write_table(tmp_path / f"t{suffix}", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"t{suffix}"), table, check_dtype=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": "same"}, "2 duplicate clips, the first 'same'"),
        ({"score_polarity": "up"}, "score_polarity 'up' is not one of"),
        ({"split": "val"}, "split 'val' is not one of"),
        ({"score": 101.0}, "3 scores outside their range, the first 'clip0': 101.0"),
        ({"group": "g", "split": ["train", "test", "test"]}, "group 'g' is in more than one split"),
    ],
)
def test_all_problems_are_reported(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="table: ") as error:
        check_table(rows().assign(**change))
    assert message in str(error.value)


def test_all_missing_columns_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"'content'.*'score'"):
        check_table(rows().drop(columns=["content", "score"]))


def test_splits_keep_groups_whole_and_do_not_depend_on_order() -> None:
    groups = {f"content{number}": f"group{number // 2}" for number in range(20)}
    splits = assign_splits(groups, validation=2, test=3, seed=0)
    for number in range(0, 20, 2):
        assert splits[f"content{number}"] == splits[f"content{number + 1}"]
    assert [sorted(splits.values()).count(split) for split in ("train", "validation", "test")] == [10, 4, 6]
    assert splits == assign_splits(dict(reversed(groups.items())), validation=2, test=3, seed=0)
    assert splits != assign_splits(groups, validation=2, test=3, seed=1)


def test_splits_leave_groups_to_train_on() -> None:
    with pytest.raises(ValueError, match="leave none of 2 groups"):
        assign_splits({"a": "a", "b": "b"}, validation=1, test=1, seed=0)


def test_splits_by_name_take_whole_groups() -> None:
    groups = {"a": "a", "b": "pair", "c": "pair", "d": "d", "e": "e"}
    splits = assign_splits(groups, validation=("a",), test=("b",), seed=0)
    assert splits == {"a": "validation", "b": "test", "c": "test", "d": "train", "e": "train"}
    mixed = assign_splits(groups, validation=1, test=("b",), seed=0)
    assert (mixed["b"], mixed["c"]) == ("test", "test")
    assert list(mixed.values()).count("validation") == 1
    with pytest.raises(ValueError, match=r"splits\.test: no content 'z'"):
        assign_splits(groups, validation=1, test=("z",), seed=0)
    with pytest.raises(ValueError, match="shares its group with a test content"):
        assign_splits(groups, validation=("c",), test=("b",), seed=0)
    with pytest.raises(ValueError, match="none is left"):
        assign_splits(groups, validation=("a", "d", "e"), test=("b",), seed=0)
