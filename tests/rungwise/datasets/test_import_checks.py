"""Checks of an imported table: splits that divide a group, and a polarity that contradicts the bitrates."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rungwise.dataset_table import read_table
from rungwise.datasets import _clear_conflicting_splits, bitrate_srcc, import_dataset
from rungwise.datasets.import_report import ImportReport


def test_group_in_two_splits_has_none() -> None:
    table = pd.DataFrame({"group": ["a", "a", "b"], "split": ["train", "test", "train"]})
    report = ImportReport("x", "", [], 3)
    _clear_conflicting_splits(table, report)
    assert list(table["split"]) == ["", "", "train"]
    assert "divides 1 groups (a): the split of their 2 rows" in report.notes[0]


def test_wrong_polarity_is_noted(tmp_path: Path) -> None:
    rows = "".join(f"BigBuckBunny,BigBuckBunny_{k}.yuv,1,288,{k},{100 - k}\n" for k in (10, 20, 30))
    (tmp_path / "NFLX_public_parsed.csv").write_text("content,file,expert,height,kbps,dmos\n" + rows)
    report = import_dataset("nflx_public", tmp_path, tmp_path / "t.parquet", videos=False)
    assert any(note.startswith("CHECK POLARITY") for note in report.notes)
    assert bitrate_srcc(read_table(tmp_path / "t.parquet")) == (-1.0, 1)
