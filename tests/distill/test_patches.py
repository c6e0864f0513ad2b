"""Students of patches in training: targets of patches, scales, the hybrid head, and which scores choose the epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.engine import ONE_PROCESS, make_engine
from distill.examples import Examples
from distill.model import Upper
from distill.objective import Objective, make_bundle
from distill.predict import predict_batches
from distill.students import fit_scales
from distill.train import Trainer, fit, parameter_groups
from distill.training_state import TrainingState
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM, NUM_BITSTREAM_FEATURES
from rungwise.config import LossWeights, Training
from rungwise.metrics.statistics import srcc
from rungwise.score.contract import Scale
from student.mamba import MambaStudent

SCALE = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)
TRAINING = Training.model_validate(
    {
        "epochs": 10,
        "augment": {"sample_frames": 1, "sample_grid": None},
        "validate_every": 1,
        "contents_per_batch": 2,
        "clips_per_content": 4,
        "mix_codecs": False,
        "batches_per_step": 1,
        "learning_rate": 3e-3,
        "backbone_learning_rate": 3e-3,
        "weight_decay": 0.01,
        "ema_decay": 0.5,
        "losses": {"label": 4.0, "patch": 1.0},
    }
)


def examples(count: int = 16) -> Examples:
    """Each patch has noise of its own: the more, the lower its score; a clip's score is the mean of its patches'."""
    generator = np.random.default_rng(0)
    scores = generator.uniform(5, 95, (count, 1, 1, 4)).astype(np.float32)
    spread = (100 - scores).reshape(count, 1, 1, 2, 2).repeat(32, 3).repeat(32, 4)[..., None]
    pixels = np.clip(128 + 0.6 * spread * generator.normal(size=(count, 1, 1, 64, 64, 3)), 0, 255).astype(np.uint8)
    streams = np.zeros((count, BITSTREAM_INPUT_DIM), np.float32)
    streams[:, 0] = generator.uniform(-1, 1, count)
    streams[:, NUM_BITSTREAM_FEATURES] = 1
    return Examples(
        inputs=pixels,
        scores=scores.mean((1, 2, 3)),
        contents=tuple(f"c{row % 4}" for row in range(count)),
        codecs=("h264",) * count,
        classes=np.arange(count) % 3,
        groups=np.arange(count) // 4 % 2,
        patch_px=32,
        frames_each=1,
        stream=streams,
        stream_weights=np.ones(count, np.float32),
        targets={"patch_scores": scores},
    )


def student(*, hybrid: bool = False, stages: int = 1, tuned_stem: bool = True) -> MambaStudent:
    torch.manual_seed(0)
    return MambaStudent(
        embed_dim=(16,) * stages, depths=(1,) * stages, state_dim=(4,) * stages, feature_dim=8, stem_stages=3,
        tuned_stem=tuned_stem, pairs=False, prompts=4, aleatoric=False, hybrid=hybrid, num_levels=2,
        minimum=0.0, maximum=100.0, patch_px=32,
    )  # fmt: skip


def stored(model: MambaStudent, data: Examples) -> Examples:
    """The examples with the stem's output for pixels."""
    with torch.no_grad():
        return replace(data, inputs=model.eval().lower(torch.from_numpy(data.inputs[:, 0])).numpy()[:, None])


def first_rows(data: Examples, count: int) -> Examples:
    """The first rows, or the last ones of a negative count."""
    rows = slice(0, count) if count > 0 else slice(count, None)
    arrays = ("inputs", "scores", "contents", "codecs", "classes", "groups", "stream", "stream_weights")
    targets = {name: values[rows] for name, values in data.targets.items()}
    return replace(data, targets=targets, **{name: getattr(data, name)[rows] for name in arrays})


def test_a_student_learns_each_patchs_own_score(tmp_path: Path) -> None:
    data, model = examples(), student()
    fit_scales(model, data)
    training = TRAINING.model_copy(update={"learning_rate": 1e-2, "epochs": 15})
    history, state = fit(model, data, data, training, SCALE, seed=0, scratch=tmp_path, name="test")
    assert history[-1]["patch"] < history[0]["patch"] / 2
    model.load_state_dict(state, strict=True)
    [judged] = predict_batches(model, data.inputs[:, 0])
    assert judged.patch_scores is not None
    assert srcc(np.asarray(data.targets["patch_scores"]).ravel(), judged.patch_scores.numpy().ravel()) > 0.9


def test_patches_learn_the_same_from_the_frozen_stems_stored_output(tmp_path: Path) -> None:
    data, histories = examples(8), []
    training = TRAINING.model_copy(update={"epochs": 1})
    for keep in (False, True):
        model = student(tuned_stem=False)
        if keep:
            data = stored(model, data)
            assert data.inputs.shape[:4] == (8, 1, 1, 4)
        fit_scales(model, data)
        fitted = Upper(model, "mamba") if keep else model
        folder = tmp_path / str(keep)
        histories.append(fit(fitted, data, data, training, SCALE, seed=0, scratch=folder, name="test")[0])
    for ours, theirs in zip(*histories, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_patch_loss_without_patch_targets_is_an_error(tmp_path: Path) -> None:
    data = replace(examples(), targets={})
    with pytest.raises(ValueError, match=r"loss 'patch' has weight 1\.0 but there are no teacher patch_scores"):
        fit(student(), data, None, TRAINING, SCALE, seed=0, scratch=tmp_path, name="test")


def test_the_hybrid_head_learns_what_bitstream_and_patch_say_together(tmp_path: Path) -> None:
    model = student(hybrid=True, stages=0, tuned_stem=False)
    data = stored(model, examples(48))
    # Pictures tell patches apart, bitstreams clips: a score is their sum.
    scores: Any = np.asarray(data.targets["patch_scores"]) / 2 + 25 * (1 + data.stream[:, 0, None, None, None])
    data = replace(data, scores=scores.mean((1, 2, 3)), targets={"patch_scores": scores})
    data, other = first_rows(data, 32), first_rows(data, -16)
    fit_scales(model, data)
    losses = LossWeights(label=4.0, stream_smooth=1.0, stream_patch=1.0)
    training = TRAINING.model_copy(update={"losses": losses, "epochs": 30, "learning_rate": 1e-2})
    history, state = fit(Upper(model, "mamba"), data, None, training, SCALE, seed=0, scratch=tmp_path, name="test")
    assert history[-1]["stream_patch"] < history[0]["stream_patch"] / 3
    Upper(model, "mamba").load_state_dict(state, strict=True)
    with torch.no_grad():
        judged = model.eval().upper(torch.from_numpy(other.inputs[:, 0]), torch.from_numpy(other.stream))
    assert judged.fused is not None
    assert judged.fused_patch_scores is not None
    assert srcc(other.scores, judged.fused.numpy()) > 0.9
    assert srcc(np.asarray(other.targets["patch_scores"]).ravel(), judged.fused_patch_scores.numpy().ravel()) > 0.9
    assert srcc(other.scores, judged.score.numpy()) < 0.8


@pytest.mark.parametrize("coded", [True, False])
def test_epochs_are_chosen_by_hybrid_scores_where_a_clip_has_bitstream_features(tmp_path: Path, coded: bool) -> None:
    model, data = student(hybrid=True, stages=0, tuned_stem=False), examples(8)
    data = stored(model, data if coded else replace(data, stream=np.full_like(data.stream, np.nan)))
    losses = LossWeights(label=4.0, stream=4.0)
    objective, upper = Objective(losses.used, SCALE), Upper(model, "mamba")
    bundle = make_bundle(upper, data, objective)
    groups: Any = parameter_groups(bundle, TRAINING)
    engine = make_engine(bundle, groups, weight_decay=0.0, device="cpu", precision="fp32", execution=ONE_PROCESS)
    trainer = Trainer(upper, TrainingState(engine, tmp_path), objective, data, TRAINING, 0)
    with torch.no_grad():
        judged = model.eval().upper(torch.from_numpy(data.inputs[:, 0]), torch.from_numpy(np.nan_to_num(data.stream)))
    assert judged.fused is not None
    expected = judged.fused if coded else judged.score
    np.testing.assert_allclose(trainer.predict_scores(data), expected.numpy(), rtol=1e-5)


def test_a_start_keeps_the_scales_it_was_trained_with() -> None:
    model, data = student(tuned_stem=False), examples(8)
    fit_scales(model, data)
    assert model.scales is not None
    scales = model.scales.centre.clone()
    assert scales.any()
    fit_scales(model, replace(data, inputs=255 - np.asarray(data.inputs)))
    assert torch.equal(model.scales.centre, scales)
