"""The trainer: it learns, selects on validation, resumes to the same bits, and wants the targets it is told to use."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

import distill.train
from distill.batches import epoch_batches
from distill.data import Data
from distill.engine import Engine
from distill.examples import Examples, make_batch
from distill.objective import Bundle, Embedder, LayerProjector, Objective, make_bundle
from distill.precision import autocast
from distill.predict import predict, predict_batches
from distill.train import Trainer, batch_kinds, fit, parameter_groups
from distill.training_state import TrainingState
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM, NUM_BITSTREAM_FEATURES
from rungwise.config import Augment, BitrateGroups, LossWeights, Training
from rungwise.metrics.statistics import srcc
from rungwise.prediction import Prediction
from rungwise.ranks import Ranks
from rungwise.score.contract import Scale
from student.mamba import MambaStudent
from teacher.shard_files import StoredRows

SCALE = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)
WEIGHTS = {"label": 4.0, "plcc": 1.0, "rank": 1.0, "soft_target": 1.0, "feature": 1.0}
TRAINING = Training.model_validate(
    {
        "epochs": 4,
        "augment": {"sample_frames": 1, "sample_grid": 2},
        "validate_every": 1,
        "contents_per_batch": 2,
        "clips_per_content": 4,
        "mix_codecs": False,
        "batches_per_step": 1,
        "learning_rate": 3e-3,
        "backbone_learning_rate": 3e-3,
        "weight_decay": 0.01,
        "ema_decay": 0.5,
        "losses": WEIGHTS,
    }
)


def examples(count: int = 16) -> Examples:
    """Noise over a flat picture: the more noise, the lower the score."""
    generator = np.random.default_rng(0)
    scores = np.linspace(5, 95, count).astype(np.float32)
    noise = generator.normal(size=(count, 2, 1, 64, 64, 3)) * (100 - scores)[:, None, None, None, None, None] * 0.6
    levels = np.stack([1 - scores / 100, scores / 100], -1)[:, None].repeat(2, 1).astype(np.float32)
    features = generator.normal(size=(count, 2, 6)).astype(np.float32)
    pixels = np.clip(128 + noise, 0, 255).astype(np.uint8)
    contents = tuple(f"c{row % 4}" for row in range(count))
    return Examples(
        inputs=pixels,
        scores=scores,
        contents=contents,
        codecs=tuple(("h264", "av1")[row // 4 % 2] for row in range(count)),
        classes=np.arange(count) % 3,
        groups=np.arange(count) // 4 % 2,
        patch_px=32,
        frames_each=1,
        stream=np.full((count, BITSTREAM_INPUT_DIM), np.nan, np.float32),
        stream_weights=np.ones(count, np.float32),
        targets={"levels": levels, "features": features, "scores": scores[:, None].repeat(2, 1)},
    )


def student(*, stream: bool = False) -> MambaStudent:
    torch.manual_seed(0)
    return MambaStudent(
        embed_dim=(16, 16, 16),
        depths=(1, 1, 1),
        state_dim=(4, 4, 4),
        feature_dim=8,
        stem_stages=3,
        tuned_stem=True,
        pairs=stream,
        prompts=0,
        aleatoric=False,
        hybrid=stream,
        num_levels=2,
        minimum=0.0,
        maximum=100.0,
    )


def train(
    scratch: Path, training: Training = TRAINING, data: Examples | None = None
) -> tuple[MambaStudent, list[dict[str, float]]]:
    model = student()
    data = data or examples()
    history, state = fit(model, data, data, training, SCALE, seed=0, scratch=scratch, name="test")
    model.load_state_dict(state, strict=True)
    return model, history


def test_a_batch_has_clips_of_every_bitrate_group_of_a_content() -> None:
    data, groups = examples(), BitrateGroups(num_groups=2, temperature=0.1, margin=0.5, mix=True)
    kinds = batch_kinds(data, TRAINING, groups)
    batches = epoch_batches(data.contents, contents_per_batch=4, clips_per_content=2, seed=0, epoch=0, kinds=kinds)
    hands = [{data.groups[row] for row in batch if data.contents[row] == name} for batch in batches for name in
             set(data.contents)]  # fmt: skip
    assert all(hand == {0, 1} for hand in hands)
    assert batch_kinds(data, TRAINING, groups.model_copy(update={"mix": False})) is None


def test_it_learns_and_names_every_term(tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"epochs": 12})
    model, history = train(tmp_path, training)
    assert len(history) == 12
    assert {term for term, weight in WEIGHTS.items() if weight > 0} <= set(history[0])
    assert history[-1]["label"] < history[0]["label"] / 2
    data = examples()
    predicted = predict(model, data.inputs[:, 0])
    assert srcc(data.scores, predicted) > 0.9
    # The weights kept are the best epoch's, not the last one's.
    best = min(row["validation_rmse"] for row in history)
    assert float(np.sqrt(np.mean((predicted - data.scores) ** 2))) == pytest.approx(best, rel=1e-6)


def test_more_processes_than_clips_of_a_batch_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model, objective = examples(), student(), Objective(WEIGHTS, SCALE)
    bundle = make_bundle(model, data, objective)
    engine = Engine(bundle, parameter_groups(bundle, TRAINING), weight_decay=0.0, device="cpu", precision="fp32")
    for world in (8, 64):
        engine.where = Ranks(0, world, 0)
        Trainer(model, TrainingState(engine, tmp_path), objective, data, TRAINING, seed=0)
    assert capsys.readouterr().err.count("64 processes, but a batch has 8 clips at most") == 1


@pytest.mark.parametrize("augment", [None, Augment(sample_frames=1, sample_grid=2)])
def test_a_process_reads_its_own_rows_of_a_batch_alone(tmp_path: Path, augment: Augment | None) -> None:
    data = examples()
    np.save(tmp_path / "pixels.npy", data.inputs)
    stored = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    reads: list[int] = []

    class Counted(StoredRows):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index[0])
            return super().__getitem__(index)

    rows = [9, 3, 14, 0, 7]
    batch = partial(make_batch, rows=rows, augment=augment, seed=5, epoch=2, device="cpu")
    whole = batch(data)
    half = batch(replace(data, inputs=Counted(stored, np.arange(16))), own=[3, 4, 0])
    assert reads == [0, 7, 9]
    assert torch.equal(half.pop("inputs"), whole.pop("inputs")[[3, 4, 0]])
    for name, value in whole.items():
        torch.testing.assert_close(half[name], value, rtol=0, atol=0, equal_nan=True)
    # Examples keep no pixels: the rows of a split are read where they lie.
    split = StoredRows(stored, np.array([5, 2, 11]))
    assert split.shape == (3, *stored.shape[1:])
    for index in ((1, 0), np.s_[:, :1], np.s_[:1, 0], (np.array([2, 0]), 0)):
        assert np.array_equal(split[index], np.asarray(split)[index])


def test_the_next_batch_is_read_while_the_model_works_on_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model, objective = examples(), student(), Objective(WEIGHTS, SCALE)
    bundle = make_bundle(model, data, objective)
    engine = Engine(bundle, parameter_groups(bundle, TRAINING), weight_decay=0.0, device="cpu", precision="fp32")
    trainer = Trainer(model, TrainingState(engine, tmp_path), objective, data, TRAINING, seed=0)
    is_read = [threading.Event() for _ in range(3)]

    def read(_: object, rows: list[int], *__: object, **___: object) -> list[int]:
        is_read[rows[0]].set()
        return rows

    monkeypatch.setattr(distill.train, "make_batch", read)
    batches: Any = trainer.read_ahead([[0], [1], [2]], epoch=0)
    assert next(batches) == [0]
    assert is_read[1].wait(60)
    assert not is_read[2].is_set()  # one batch alone waits in memory
    assert [*batches] == [[1], [2]]


def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, whole_history = train(tmp_path / "whole")
    real, calls = make_batch, []

    def dies(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 6:  # two batches an epoch: in the third epoch
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(distill.train, "make_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed")
    resumed, resumed_history = train(tmp_path / "killed")
    assert len(calls) == 6 + 4  # epochs three and four only
    assert resumed_history == whole_history
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_a_loss_without_its_targets_is_an_error(tmp_path: Path) -> None:
    data = examples()
    bare = replace(data, targets={})
    with pytest.raises(ValueError, match=r"'soft_target' has weight 1\.0 but there are no teacher levels"):
        train(tmp_path, data=bare)


def test_layers_of_the_teacher_are_distilled_by_a_projection_each(tmp_path: Path) -> None:
    data = examples()
    with pytest.raises(ValueError, match=r"loss 'layers' has weight 1\.0 but the cache holds no layers"):
        train(tmp_path / "none", TRAINING.model_copy(update={"losses": LossWeights(layers=1.0)}), data)
    generator = np.random.default_rng(3)
    mixed = data.targets["features"] @ generator.normal(size=(6, 5)).astype(np.float32)
    wide = generator.normal(size=(len(data), 2, 12)).astype(np.float32)
    data = replace(data, targets={**data.targets, "layer.blocks.0": mixed, "layer.blocks.1": wide})
    objective = Objective({"layers": 1.0, "feature": 1.0}, SCALE)
    bundle = make_bundle(student(), data, objective).eval()
    batch = make_batch(data, [0, 5, 9], None, seed=0, epoch=0, device="cpu")
    prediction = bundle(batch["inputs"])
    _, terms = objective(prediction, batch)
    assert isinstance(bundle.projector, LayerProjector)
    assert [layer.weight.shape for layer in bundle.projector.layers] == [(5, 8), (12, 8)]
    costs = []
    for layer, field in zip(bundle.projector.layers, ("layer.blocks.0", "layer.blocks.1"), strict=True):
        pair = layer(prediction.feature), batch[field]
        own, target = (functional.layer_norm(value, value.shape[1:]) for value in pair)
        costs.append(functional.smooth_l1_loss(own, target, beta=2.0))
    torch.testing.assert_close(terms["layers"], (5 * costs[0] + 12 * costs[1]) / 17)
    _, history = train(
        tmp_path / "some", TRAINING.model_copy(update={"losses": LossWeights(label=1.0, layers=1.0)}), data
    )
    assert history[-1]["layers"] < history[0]["layers"]


def seen(scores: list[float], count: int) -> Prediction[torch.Tensor]:
    torch.manual_seed(0)
    score = torch.tensor(scores, requires_grad=True)
    logits, feature, projected = (torch.randn(count, width) for width in (2, 4, 6))
    return Prediction(score, logits, feature, projected=projected)


def test_clips_without_a_label_count_for_the_teacher_alone() -> None:
    batch = {
        "label": torch.tensor([20.0, 80.0, float("nan")]),
        "scores": torch.tensor([30.0, 70.0, 100.0]),
        "group": torch.tensor([0, 0, 0]),
    }
    judged = seen([30.0, 50.0, 0.0], 3)
    groups = BitrateGroups(num_groups=2, temperature=0.1, margin=0.5)
    terms = Objective({"label": 1.0, "score_target": 1.0, "fine": 1.0}, SCALE, groups).terms(judged, batch)
    assert terms["label"].item() == pytest.approx((0.1**2 + 0.3**2) / 2)
    assert terms["score_target"].item() == pytest.approx((0 + 0.2**2 + 1) / 3)
    # The third is ordered by the teacher's 1.0: gaps .6, .8, .2 want margins of half of them.
    assert terms["fine"].item() == pytest.approx((0.3 - 0.2 + 0.4 + 0.3 + 0.1 + 0.5) / 3)
    unlabeled = batch | {"label": torch.full((3,), float("nan"))}
    alone = Objective({"label": 1.0, "plcc": 1.0}, SCALE).terms(judged, unlabeled)
    assert [term.item() for term in alone.values()] == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(torch.stack([*alone.values()]).sum(), judged.score)
    assert not gradient.any()


def test_a_temperature_is_a_scale_of_the_embeddings() -> None:
    feature = torch.randn(5, 8)
    for temperature in (0.1, 0.4, "learned"):
        embedder = Embedder(8, temperature)
        z = embedder(feature)
        want = 1.0 if temperature == "learned" else 0.1 / float(temperature)
        torch.testing.assert_close((z * z).sum(1), torch.full((5,), want))
        assert embedder.log_scale.requires_grad == (temperature == "learned")


def test_frozen_batch_norms_keep_their_statistics() -> None:
    norms = torch.nn.ModuleList([torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)])
    norms[0].requires_grad_(False)
    Bundle(norms, torch.nn.Identity()).train()
    assert [norm.training for norm in norms] == [False, True]


def test_bf16_keeps_the_score_in_fp32(tmp_path: Path) -> None:
    data = examples()
    model = student()
    history, _ = fit(model, data, data, TRAINING, SCALE, seed=0, scratch=tmp_path, name="test", precision="bf16")
    assert np.isfinite(history[-1]["validation_rmse"])
    with autocast("cpu", "bf16"):
        judged = model.eval()(torch.from_numpy(data.inputs[:2, 0]))
    assert judged.score.dtype == judged.logits.dtype == torch.float32


def test_without_validation_the_last_epoch_is_taken(tmp_path: Path) -> None:
    model = student()
    history, state = fit(model, examples(), None, TRAINING, SCALE, seed=0, scratch=tmp_path, name="test")
    assert len(history) == TRAINING.epochs
    assert not any("validation_rmse" in row for row in history)
    assert state.keys() == model.state_dict().keys()


def test_the_stream_loss_looks_at_streams_and_at_labels_that_are_there() -> None:
    torch.manual_seed(0)
    scores = torch.rand(6) * 100
    fused = (torch.rand(6) * 100).requires_grad_()
    judged = seen(scores.tolist(), 6)._replace(fused=fused)
    bitstream = torch.randn(6, BITSTREAM_INPUT_DIM)
    batch = {"label": torch.tensor([10.0, 30, 50, 70, float("nan"), 90]), "bitstream": bitstream}
    batch["bitstream"][0] = float("nan")
    scale = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)
    objective = Objective({"stream": 1.0}, scale)
    objective.terms(judged, batch)["stream"].backward()
    assert fused.grad is not None
    assert [bool(grad) for grad in fused.grad] == [False, True, True, True, False, True]
    batch["bitstream"][:] = float("nan")
    assert objective.terms(judged, batch)["stream"] == 0


def test_a_clip_of_less_weight_shows_its_bitstream_features_less_often() -> None:
    data = replace(examples(), stream=np.zeros((16, BITSTREAM_INPUT_DIM), np.float32))
    data = replace(data, stream_weights=np.repeat([1, 0.25], 8).astype(np.float32))
    batches = [make_batch(data, [*range(16)], None, seed=0, epoch=n, device="cpu") for n in range(40)]
    shown = 1 - torch.stack([batch["bitstream"].isnan().any(1).float() for batch in batches]).mean(0)
    assert shown[:8].tolist() == [1] * 8
    assert float(shown[8:].mean()) == pytest.approx(0.25, abs=0.08)


def test_encodes_of_encodes_weigh_what_the_config_says() -> None:
    table = pd.DataFrame(
        {"content": ["a", "a"], "codec": "h264", "split": "train", "score": 50.0, "first_crf": [np.nan, 30], "clip": "",
         "rate_control": "", "width": 64, "height": 64, "display_height": 64, "path": ""}
    )  # fmt: skip
    nothing: Any = None
    data, blank = Data(table, nothing, nothing, nothing, 32, 1), np.zeros((2, 1), np.float32)
    weights = data.examples("train", inputs=blank, reencoded_weight=0.25).stream_weights
    assert weights.tolist() == [1, 0.25]
    of_others = replace(data, table=table.drop(columns="first_crf"))  # files of unknown making
    assert of_others.examples("train", inputs=blank, reencoded_weight=0.25).stream_weights.tolist() == [1, 1]


def hybrid_scores(model: torch.nn.Module, pixels: np.ndarray, terms: np.ndarray) -> np.ndarray:
    fused = [batch.fused for batch in predict_batches(model, pixels, terms)]
    return np.concatenate([scores.numpy() for scores in fused if scores is not None])


@pytest.mark.slow
def test_a_student_learns_from_streams_and_from_some_as_of_no_known_codec(tmp_path: Path) -> None:
    data, generator = examples(), np.random.default_rng(0)
    streams = np.zeros((len(data), BITSTREAM_INPUT_DIM), np.float32)
    streams[:, 0] = (data.scores - 50) / 25  # the stream alone says it all
    streams[:, NUM_BITSTREAM_FEATURES] = 1
    shown = generator.permutation(len(data))  # and the pictures nothing
    data = replace(data, stream=streams, inputs=data.inputs[shown].repeat(2, axis=2), frames_each=2)
    model = student(stream=True)
    training = TRAINING.model_copy(update={"losses": TRAINING.losses.model_copy(update={"stream": 4.0}), "epochs": 12})
    seen_by_model: list[torch.Tensor] = []
    hook = model.head.stream.register_forward_pre_hook(lambda _, inputs: seen_by_model.append(inputs[1]))  # type: ignore[union-attr]
    history, state = fit(model, data, None, training, SCALE, seed=0, scratch=tmp_path, name="test")
    hook.remove()
    named = torch.cat(seen_by_model)[:, NUM_BITSTREAM_FEATURES]
    assert 0.03 < float((named == 0).float().mean()) < 0.4
    assert history[-1]["stream"] < history[0]["stream"] / 2
    model.load_state_dict(state, strict=True)
    assert srcc(data.scores, hybrid_scores(model, data.inputs[:, 0], streams)) > 0.95
    unknown = streams * (np.arange(BITSTREAM_INPUT_DIM) < NUM_BITSTREAM_FEATURES)
    assert srcc(data.scores, hybrid_scores(model, data.inputs[:, 0], unknown)) > 0.9
