"""Published label files of rated data sets: numbers of rows and correlations that hold only if every join is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS, read_table
from rungwise.datasets import bitrate_srcc, import_dataset

# Data set, label files, rows read, rows imported, contents, and a lower bound on the per-content SRCC of bitrate.
REAL: list[tuple[str, str, int, int, int, float | None]] = [
    ("lsvq", "ugc_labels/LSVQ", 35242, 35242, 35242, None),
    ("lsvq_1080p", "ugc_labels/LSVQ", 3573, 3573, 3573, None),
    ("konvid_1k", "ugc_labels/KoNViD", 1200, 1200, 1200, None),
    ("live_vqc", "ugc_labels/LIVE_VQC", 585, 585, 585, None),
    ("youtube_ugc", "ugc_labels/YouTubeUGC", 1147, 1147, 1147, None),
    ("youtube_ugc", "ugc_labels/YOUTUBE_UGC_H264_metadata.csv", 1036, 1036, 1036, None),
    ("cvd2014", "ugc_labels/CVD2014", 234, 234, 5, None),
    ("live_qualcomm", "ugc_labels/LIVE_Qualcomm", 208, 208, 54, None),
    ("live_yt_gaming", "ugc_labels", 600, 600, 600, None),
    ("maxwell", "maxwell", 4543, 4543, 4543, None),
    ("kvq", "ugc_labels", 4200, 4200, 600, 0.8),
    ("kvq", "kvq", 3780, 2926, 418, None),
    ("finevd", "ugc_labels", 5074, 5074, 5074, None),
    ("cvqad", "cvqad_labels", 1022, 1022, 36, 0.8),
    ("avt_vqdb_uhd_1", "avt_vqdb_uhd1", 756, 756, 17, 0.9),
    ("avt_vqdb_uhd_1_nvc", "avt_nvc", 216, 216, 6, 0.9),
    ("avt_vqdb_uhd_1_nvc", "avt_nvc/subjective.csv", 216, 216, 6, None),
    ("avt_vqdb_uhd_1_vsr", "avt_vsr", 222, 222, 6, 0.7),
    ("avt_vqdb_uhd_1_vsr", "avt_vsr/subjective.json", 222, 222, 6, None),
    ("waterloo_ivc_4k", "waterloo_4k", 1200, 1200, 20, None),
    ("etri_live", "etri_live_stsvq", 437, 437, 15, 0.9),
    ("etri_live_dmos", "etri_live_stsvq", 437, 437, 15, 0.9),
    ("nflx_public", "vmaf", 79, 70, 9, 0.95),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "place", "rows", "imported", "contents", "min_srcc"), REAL)
def test_real_labels(
    name: str,
    place: str,
    rows: int,
    imported: int,
    contents: int,
    min_srcc: float | None,
    tmp_path: Path,
    outside_data: Callable[[str], Path],
) -> None:
    report = import_dataset(
        name, tmp_path, tmp_path / "t.parquet", labels=outside_data(f"data/mos/{place}"), videos=False
    )
    assert (report.rows, report.imported, report.contents) == (rows, imported, contents)
    refused = {"no score": 854} if place == "kvq" else {"reference video": 9} if name == "nflx_public" else {}
    assert {reason: len(names) for reason, names in report.refused.items()} == refused
    table = read_table(tmp_path / "t.parquet")
    assert not any("POLARITY" in note for note in report.notes)
    mean_srcc, num_contents = bitrate_srcc(table)
    assert num_contents == (contents if min_srcc else 0)  # checks the polarity wherever bitrates are known
    assert min_srcc is None or mean_srcc > min_srcc
    extras = set(table.columns) - set(TEXT_COLUMNS) - set(NUMBER_COLUMNS)
    assert all(column == column.lower() for column in extras)
    known = table["bitrate_kbps"].dropna()
    assert known.between(1, 1e6).all()
    if name == "waterloo_ivc_4k":  # no bitrates: level 4 is the best, which checks the polarity
        ladders = table.groupby(["content", "codec", "height"])
        assert np.mean([ladder["level"].corr(ladder["score"], method="spearman") for _, ladder in ladders]) > 0.95
        assert table.groupby("split")["content"].nunique().to_dict() == {"test": 4, "train": 16}


@pytest.mark.data
def test_published_metrics_are_joined_correctly(tmp_path: Path, outside_data: Callable[[str], Path]) -> None:
    """Published correlations are reproduced only if every join is correct."""
    labels = outside_data("data/mos/avt_vqdb_uhd1")
    import_dataset("avt_vqdb_uhd_1", tmp_path, tmp_path / "t.parquet", labels=labels, videos=False)
    table = read_table(tmp_path / "t.parquet")
    by_test = {test: rows["vmaf"].corr(rows["score"], method="spearman") for test, rows in table.groupby("test")}
    assert list(by_test.values()) == pytest.approx([0.850, 0.930, 0.909, 0.811], abs=5e-4)
    assert table["psnr"].corr(table["score"], method="spearman") == pytest.approx(0.679, abs=5e-4)
    assert table["crowd_mos"].corr(table["score"], method="spearman") == pytest.approx(0.935, abs=5e-4)
    import_dataset(
        "avt_vqdb_uhd_1_nvc", tmp_path, tmp_path / "n.parquet", labels=outside_data("data/mos/avt_nvc"), videos=False
    )
    table = read_table(tmp_path / "n.parquet")
    correlations = {"vmaf": 0.907, "dover": 0.598, "musiq": 0.683, "fastvqa": 0.401, "qalign": 0.263}
    for metric, expected in correlations.items():
        assert table[metric].corr(table["score"], method="spearman") == pytest.approx(expected, abs=5e-4)


@pytest.mark.data
def test_other_files_are_not_label_files(tmp_path: Path, outside_data: Callable[[str], Path]) -> None:
    labels = outside_data("data/mos/avt_vqdb_uhd1/codec_retraining.csv")
    with pytest.raises(ValueError, match="no label file of AVT-VQDB-UHD-1"):
        import_dataset("avt_vqdb_uhd_1", tmp_path, tmp_path / "t.csv", labels=labels)
