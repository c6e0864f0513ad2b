"""Rated data sets are trained on and evaluated, beside a ladder and with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from distill.pipeline import Outcome, run
from rungwise.config import load_config
from rungwise.dataset_table import write_table
from rungwise.ladder.make import read_ladder


@pytest.fixture(scope="module")
def mos(unbroken: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rated set of a run's encodes: MOS of 1 to 5, with an official test content."""
    table = read_ladder(unbroken[1].artifacts["ladder"])
    scale: dict[str, Any] = {"score_kind": "mos", "score_min": 1.0, "score_max": 5.0, "rate_control": ""}
    split = ["test" if content == "fog_b" else "train" for content in table["content"]]
    path = tmp_path_factory.mktemp("rated") / "mos.parquet"
    write_table(path, table.assign(score=table["score"] / 25 + 1, split=split, **scale))
    return path


def test_a_rated_set_trains_beside_a_ladder(
    config_path: Path, mos: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    values = yaml.safe_load(config_path.read_text())
    values["sources"] |= {"dataset": str(mos)}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(values))
    outcome = run(load_config(path), unbroken[0])
    predictions = pd.read_csv(outcome.artifacts["evaluate"].path / "predictions.csv")
    assert set(predictions["dataset"]) == {"ladder", "mos"}
    assert set(predictions["content"][predictions["dataset"] == "mos"]) == {"mos/fog_b"}
