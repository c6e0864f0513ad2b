"""Rated data sets are trained on and evaluated, beside a ladder and with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from distill.checkpoint import load_checkpoint
from distill.data import Data, read_data
from distill.examples import Examples
from distill.exporting import calibrate_rows
from distill.pipeline import Outcome, run
from distill.rated_maps import best_maps
from distill.students import new_student
from distill.train import fit
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.config import Training, load_config
from rungwise.dataset_table import write_table
from rungwise.ladder.make import read_ladder
from rungwise.prediction import Prediction
from rungwise.score.contract import Scale, SetMap


@pytest.fixture(scope="module")
def mos(unbroken: tuple[Path, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rated set of a run's encodes: MOS of 1 to 5, with an official test content."""
    table = read_ladder(unbroken[1].artifacts["ladder"])
    scale: dict[str, Any] = {"score_kind": "mos", "score_min": 1.0, "score_max": 5.0, "rate_control": ""}
    split = ["test" if content == "fog_b" else "train" for content in table["content"]]
    path = tmp_path_factory.mktemp("rated") / "mos.parquet"
    write_table(path, table.assign(score=table["score"] / 25 + 1, split=split, **scale))
    return path


class Brightness(torch.nn.Module):
    """A model whose score can follow the brightness of frames exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 1)

    def forward(self, frames_BTHWC: torch.Tensor) -> Prediction[torch.Tensor]:
        feature_B1 = frames_BTHWC.float().mean((1, 2, 3, 4), keepdim=True).flatten(1) / 255
        score_B1 = self.head(feature_B1)
        return Prediction(100 * score_B1.squeeze(1), score_B1, feature_B1)


def test_a_scale_and_an_offset_are_found_for_each_set_but_the_first(tmp_path: Path) -> None:
    """The second set's raters use 20 to 70 of its scale of 0 to 100 for what the first rates 0 to 100."""
    quality_N = np.linspace(0, 1, 24, dtype=np.float32)
    sets_N = np.arange(24) % 2
    pixels = np.broadcast_to((quality_N * 255).astype(np.uint8)[:, None, None, None, None, None], (24, 1, 1, 4, 4, 3))
    zeros, blank = np.zeros(24, np.int64), np.full((24, BITSTREAM_INPUT_DIM), np.nan, np.float32)
    scores = np.where(sets_N == 0, 100 * quality_N, 20 + 50 * quality_N).astype(np.float32)
    contents = tuple(f"{row % 6}" for row in range(24))
    train = Examples(
        pixels, scores, contents, ("h264",) * 24, zeros, zeros, 4, 1, blank, np.ones(24, np.float32), {}, sets_N
    )
    training = Training.model_validate({
        "epochs": 300, "augment": None, "validate_every": 150, "contents_per_batch": 6, "clips_per_content": 4,
        "mix_codecs": False, "batches_per_step": 1, "learning_rate": 0.03, "backbone_learning_rate": 0,
        "weight_decay": 0, "ema_decay": 0.5, "losses": {"label": 1.0}})  # fmt: skip
    scale = Scale(kind="universal", polarity="higher_is_better", minimum=0, maximum=100)
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"seed": 0, "scratch": tmp_path, "name": "sets", "sets": ["first", "second"]}
    history, _ = fit(Brightness(), train, train, training, scale, **arguments)  # type: ignore[arg-type]
    first, second = best_maps([SetMap(name=name, own=scale) for name in arguments["sets"]], history)
    assert (first.scale, first.offset) == (1, 0)
    assert [second.scale, second.offset] == pytest.approx([0.5, 0.2], abs=0.03)
    assert history[-1]["validation_rmse"] < 2


def test_intervals_and_their_coverage_bring_labels_to_the_score_by_their_sets_maps(
    unbroken: tuple[Path, Outcome],
) -> None:
    """The second set's labels are half a score and 20, so that only its map makes errors equal."""
    artifacts, scale = (
        unbroken[1].artifacts,
        Scale(kind="universal", polarity="higher_is_better", minimum=0, maximum=100),
    )
    error_N = np.random.default_rng(0).normal(0, 4, 40)
    quality_N, second_N = np.linspace(20, 80, 40), np.arange(40) % 2 == 1
    labels = np.where(second_N, 20 + 0.5 * (quality_N + error_N), quality_N + error_N)
    table = pd.DataFrame({
        "score": labels, "dataset": np.where(second_N, "second", "first"), "content": [f"{n // 4}" for n in range(40)],
        "own_score_kind": "mos", "own_score_polarity": "higher_is_better", "own_score_min": 1.0, "own_score_max": 5.0,
    })  # fmt: skip
    data = Data(table, artifacts["ladder"], artifacts["views"], scale, patch_px=32, frames_each=1)
    first, second = data.sets
    sets, rows = (first, second.model_copy(update={"scale": 0.5, "offset": 0.2})), np.arange(40)
    np.testing.assert_allclose(data.shared_labels(rows, sets), quality_N + error_N)
    fitted = calibrate_rows(data, rows, quality_N.astype(np.float32), sets, 0.9)
    assert fitted.half_width == pytest.approx(np.abs(error_N).max())  # ten contents promise no more


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
    folder = outcome.artifacts["evaluate"].path
    assert "Data set mos" in (folder / "table.txt").read_text()
    assert (folder / "evaluation-ladder.json").is_file()
    ladder, mos_map = load_checkpoint(outcome.artifacts["distill"].path / "student.safetensors")[1].sets
    assert (ladder.name, ladder.scale, mos_map.own.kind, mos_map.own.maximum) == ("ladder", 1.0, "mos", 5.0)
    assert mos_map.scale != 1.0


@pytest.fixture
def images(unbroken: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A rated set of pictures: the small run's scenes under three strengths of noise, MOS of 1 to 5."""
    table = read_ladder(unbroken[1].artifacts["ladder"]).drop_duplicates("content")
    rng, parts = np.random.default_rng(0), []
    for strength, score in ((0, 5.0), (20, 3.0), (60, 1.0)):
        names = [f"{content}-{strength}" for content in table["content"]]
        for name, path in zip(names, table["path"], strict=True):
            with av.open(str(path)) as video:
                picture = next(video.decode(video=0)).to_ndarray(format="rgb24")
            noisy = (picture + rng.normal(0, strength, picture.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / f"{name}.png")
        parts.append(table.assign(clip=names, path=[f"{name}.png" for name in names], score=score))
    scale: dict[str, Any] = {"score_kind": "mos", "score_min": 1.0, "score_max": 5.0, "rate_control": "", "split": ""}
    write_table(tmp_path / "images.parquet", pd.concat(parts, ignore_index=True).assign(**scale))
    return tmp_path / "images.parquet"


def test_a_student_of_rated_images_is_the_start_of_one_of_video(
    config_path: Path, images: Path, unbroken: tuple[Path, Outcome], tmp_path: Path
) -> None:
    values = yaml.safe_load(config_path.read_text())
    del values["ladder"]
    values["sources"], values["splits"] = {"dataset": str(images)}, {"validation": 2, "test": 1, "seed": 0}
    values["views"] = {"per_clip": 1, "recipe": values["views"]["recipe"] | {"num_frames": 1}}
    path = tmp_path / "images.yaml"
    path.write_text(yaml.safe_dump(values))
    start = run(load_config(path), tmp_path, until="distill").artifacts["distill"].path / "student.safetensors"
    rated, contract, _ = load_checkpoint(start)
    assert (contract.view.num_frames, contract.scale.kind, contract.scale.maximum) == (1, "mos", 5.0)
    config = load_config(config_path, student={"start": str(start)})
    artifacts = run(config, unbroken[0], until="distill").artifacts
    data = read_data(config, artifacts["ladder"], artifacts["views"])
    same = new_student(config, data, start).state_dict()
    assert all(torch.equal(weight, same[name]) for name, weight in rated.state_dict().items())
    _, contract, _ = load_checkpoint(artifacts["distill"].path / "student.safetensors")
    assert (contract.view.num_frames, contract.scale.maximum) == (2, 100.0)
    assert artifacts["distill"].id != unbroken[1].artifacts["distill"].id
