"""Rated data sets as a source: one scale, official splits, links to videos; and scores from single ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.config import Sources, Splits
from rungwise.dataset_table import NUMBER_COLUMNS, TEXT_COLUMNS, write_table
from rungwise.datasets.rated import join_datasets, split_sets
from rungwise.datasets.raters import recover
from rungwise.metrics.statistics import srcc

QUALITY = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
SPLITS = Splits(validation=0.2, test=1, seed=0)


def write_set(path: Path, /, **columns: Any) -> Path:
    """A set of two clips each of three contents, of qualities `QUALITY`; its "videos" are text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, quality in enumerate(QUALITY):
        video = path.parent / f"{path.stem}_{number}.mp4"
        video.write_text(video.name)
        texts: dict[str, Any] = dict.fromkeys(TEXT_COLUMNS, "") | dict.fromkeys(NUMBER_COLUMNS, 1.0)
        content = f"scene_{number // 2}"
        names = {"clip": f"clip_{number}", "path": video.name, "content": content, "group": content}
        label = {"score": quality, "score_polarity": "higher_is_better", "score_min": 0.0, "score_max": 1.0}
        rows.append(texts | names | label | {"score_kind": "vmaf", "video_sha256": "0"})
    table = pd.DataFrame(rows).assign(**columns)
    write_table(path, table)
    return path


def write_mos(path: Path, /, **columns: Any) -> Path:
    """MOS of 1 to 5; its second scene is the official test."""
    score = {"score": [1 + 4 * quality for quality in QUALITY], "score_std": 0.5, "score_kind": "mos"}
    split = ["train"] * 2 + ["test"] * 2 + ["train"] * 2
    return write_set(path, **score, score_min=1.0, score_max=5.0, split=split, **columns)


def write_dmos(path: Path) -> Path:
    """DMOS of 0 to 100, lower is better, without splits."""
    score = {"score": [100 - 100 * quality for quality in QUALITY], "score_polarity": "lower_is_better"}
    return write_set(path, **score, score_kind="dmos", score_min=0.0, score_max=100.0)


def read(artifact: Any) -> pd.DataFrame:
    return pd.read_parquet(artifact.path / "table.parquet")


def test_a_set_alone_keeps_its_range_and_is_mirrored_where_lower_is_better(tmp_path: Path) -> None:
    mos = read(join_datasets((write_mos(tmp_path / "mos.parquet"),), tmp_path / "runs"))
    assert mos["score"].tolist() == pytest.approx([1 + 4 * quality for quality in QUALITY])
    assert (set(mos["score_kind"]), set(mos["score_max"]), set(mos["score_std"])) == ({"mos"}, {5.0}, {0.5})
    dmos = read(join_datasets((write_dmos(tmp_path / "dmos.csv"),), tmp_path / "runs"))
    assert dmos["score"].tolist() == pytest.approx([100 * quality for quality in QUALITY])
    assert set(dmos["score_kind"]) == {"dmos_mirrored"}
    assert set(dmos["score_polarity"]) == {"higher_is_better"}
    assert set(dmos["own_score_polarity"]) == {"lower_is_better"}


def test_several_sets_share_a_scale_and_no_name(tmp_path: Path) -> None:
    tables = (write_mos(tmp_path / "mos.parquet"), write_dmos(tmp_path / "other" / "dmos.csv"))
    artifact = join_datasets(tables, tmp_path / "runs")
    table = read(artifact)
    for _, rows in table.groupby("dataset"):
        assert rows["score"].tolist() == pytest.approx([100 * quality for quality in QUALITY])
    assert table["clip"].is_unique
    assert set(table["score_std"][table["dataset"] == "mos"]) == {12.5}
    assert [(artifact.path / link).read_text() for link in table["path"]][-1] == "dmos_5.mp4"


def test_official_splits_are_kept_and_the_rest_is_split_by_content_in_each_set(tmp_path: Path) -> None:
    tables = (write_mos(tmp_path / "mos.parquet"), write_dmos(tmp_path / "dmos.csv"))
    table = read(join_datasets(tables, tmp_path / "runs"))
    table["split"] = split_sets(table, SPLITS)
    assert set(table["content"][(table["dataset"] == "mos") & (table["split"] == "test")]) == {"mos/scene_1"}
    counts = table.groupby(["dataset", "split"])["content"].nunique()
    assert counts.to_dict() == {
        (name, split): 1 for name in ("mos", "dmos") for split in ("test", "train", "validation")
    }
    assert (table.groupby("content")["split"].nunique() == 1).all()
    with pytest.raises(ValueError, match=r"splits.test: no content 'mos/scene_9' among the 6 contents"):
        split_sets(table, SPLITS.model_copy(update={"test": ("mos/scene_9",)}))


def test_ids_do_not_depend_on_where_a_set_lies_and_links_follow_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = join_datasets((write_mos(tmp_path / "a" / "mos.parquet"),), runs)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = join_datasets((tmp_path / "b" / "mos.parquet",), runs)
    assert moved.hit
    assert moved.path == first.path
    assert all((moved.path / link).is_file() for link in read(moved)["path"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"video_sha256": ""}, "was imported without its videos"), ({"path": "gone.mp4"}, "6 of 6 videos are missing")],
)
def test_a_set_without_its_videos_is_refused(columns: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        join_datasets((write_mos(tmp_path / "mos.parquet", **columns),), tmp_path / "runs")


def test_one_table_or_a_list_and_no_two_of_one_name() -> None:
    assert Sources.model_validate({"dataset": "konvid.parquet"}).dataset == (Path("konvid.parquet"),)
    with pytest.raises(ValueError, match="two tables have one name"):
        Sources.model_validate({"dataset": ["a/x.parquet", "b/x.csv"]})


def test_bias_and_inconsistency_are_recovered_and_the_order_is_better_than_by_means() -> None:
    rng = np.random.default_rng(0)
    truth, bias = rng.uniform(1, 5, 300), rng.normal(0, 0.6, 24)
    spread = np.where(np.arange(24) < 5, 2.0, 0.4)  # five careless raters
    ratings = truth + bias[:, None] + spread[:, None] * rng.normal(size=(24, 300))
    ratings[rng.random(ratings.shape) < 0.6] = np.nan
    recovery, means = recover(ratings), np.nanmean(ratings, 0)
    assert np.abs(recovery.bias - (bias - bias.mean())).max() < 0.5
    assert np.abs(recovery.bias - (bias - bias.mean()))[5:].max() < 0.15
    assert recovery.inconsistency[5:].max() < 0.6 < 1.5 < recovery.inconsistency[:5].min()
    assert srcc(truth, recovery.score) > 0.985 > srcc(truth, means) + 0.02
    inside = np.abs(recovery.score - recovery.score.mean() - truth + truth.mean()) < recovery.ci95
    assert 0.85 < inside.mean() < 0.99


def test_equal_raters_give_the_mean() -> None:
    ratings = np.array([[1.0, 3.0, 5.0], [2.0, 3.0, 4.0]])
    assert recover(ratings).score == pytest.approx([1.5, 3.0, 4.5])
    with pytest.raises(ValueError, match="every clip needs a rating"):
        recover(np.array([[1.0, np.nan], [2.0, np.nan]]))


def test_the_verb_writes_the_table_with_recovered_scores(tmp_path: Path) -> None:
    table = write_mos(tmp_path / "mos.parquet")
    clips = pd.read_parquet(table)["clip"]
    marks = {"strict": [1, 1, 2, 3, 3, 4], "mild": [2, 3, 4, 4, 5, 5], "asleep": [5, 1, 3, 1, 4, 2]}
    rows = [(clip, rater, mark) for rater, scores in marks.items() for clip, mark in zip(clips, scores, strict=True)]
    pd.DataFrame(rows, columns=["clip", "rater", "score"]).to_csv(tmp_path / "ratings.csv", index=False)
    out = tmp_path / "out.parquet"
    arguments = ["dataset", "aggregate", str(table), str(tmp_path / "ratings.csv"), "--out", str(out), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["clips"], facts["raters"], facts["ratings"]) == (6, 3, 18)
    recovered = pd.read_parquet(out)
    assert recovered["score"].is_monotonic_increasing
    assert set(recovered["score_raters"]) == {3}
