"""CONVIQT: the ridge, the two scales, and batches that keep to themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rungwise.config import ConviqtTeacher
from rungwise.score.views import ViewRecipe
from teacher.conviqt import Conviqt, conviqt_settings, load_conviqt, ridge, without_projector

RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=32)
SETTINGS: dict[str, Any] = {
    "backbone": "tf_efficientnet_lite0",
    "gru_dim": 12,
    "contrast_dim": 6,
    "num_levels": 5,
    "minimum": 0.0,
    "maximum": 100.0,
}


def section(checkpoint: str | None) -> ConviqtTeacher:
    names = ("backbone", "gru_dim", "contrast_dim", "num_levels")
    return ConviqtTeacher.model_construct(**{name: SETTINGS[name] for name in names}, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def model() -> Conviqt:
    torch.manual_seed(0)
    made = Conviqt(**SETTINGS)
    load_conviqt(made, section("imagenet_lite0"))
    return made.eval()


def frames(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 64, 64, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("rows", "columns"), [(7, 4), (4, 7)])
def test_ridge_is_the_least_penalized_error_either_way(rows: int, columns: int) -> None:
    generator = np.random.default_rng(0)
    x, y = torch.from_numpy(generator.normal(size=(rows, columns)) + 3), torch.from_numpy(generator.normal(size=rows))
    weight, bias = ridge(x, y, 0.1)
    # As scikit-learn's Ridge(alpha=0.1): the penalty as extra rows of zeros, the intercept unpenalized.
    design = np.vstack(
        [np.hstack([x, np.ones((rows, 1))]), np.hstack([0.1**0.5 * np.eye(columns), np.zeros((columns, 1))])]
    )
    want = np.linalg.lstsq(design, np.concatenate([y, np.zeros(columns)]), rcond=None)[0]
    np.testing.assert_allclose(torch.cat([weight, bias[None]]), want, atol=1e-10)


def test_two_scales_one_feature_and_unit_embeddings(model: Conviqt) -> None:
    with torch.inference_mode():
        judged = model(frames(4))
        alone = model(frames(4)[2:3])
    assert judged.feature.shape == (4, 24)
    assert judged.embeddings is not None
    assert judged.embeddings.shape == (4, 2, 6)
    torch.testing.assert_close(judged.embeddings.norm(dim=-1), torch.ones(4, 2))
    assert not torch.allclose(judged.embeddings[:, 0], judged.embeddings[:, 1])
    torch.testing.assert_close(alone.feature[0], judged.feature[2], rtol=1e-4, atol=1e-5)


def test_every_weight_trains_by_contrast_and_the_score_is_fitted(model: Conviqt) -> None:
    model.train()
    judged = model(frames(2))
    assert judged.embeddings is not None
    (judged.embeddings * torch.randn_like(judged.embeddings)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    model.zero_grad()
    model.eval()
    with torch.no_grad():
        judged = model(frames(6))
        labels = torch.linspace(10, 90, 6)
        model.fit_closed_form(judged, labels)
        assert (model(frames(6)).score - labels).abs().max() < (judged.score - labels).abs().max()


def test_long_views_go_through_the_gru_in_chunks_and_halves_are_contrasted(model: Conviqt) -> None:
    generator = torch.Generator().manual_seed(1)
    clip = torch.randint(0, 256, (2, 34, 32, 32, 3), generator=generator, dtype=torch.uint8)
    model.eval()
    with torch.inference_mode():
        judged = model(clip)
        frames_BTC = torch.nn.functional.normalize(
            model.backbone(model.normalize(clip))[-1].mean((2, 3)), dim=-1
        ).unflatten(0, (2, 34))
        states = [model.gru(frames_BTC[:, start : start + 16])[0] for start in (0, 16, 32)]
        torch.testing.assert_close(judged.feature[:, :12], torch.cat(states, 1).mean(1))
        assert judged.embeddings is not None
        changed = clip.clone()
        changed[:, 17:] = 0  # the first embedding is the first half's alone, the second the second half's
        again = model(changed).embeddings
        torch.testing.assert_close(again[:, 0], judged.embeddings[:, 0])
        assert not torch.allclose(again[:, 1], judged.embeddings[:, 1], atol=1e-3)


def test_the_projector_is_dropped_after_training(model: Conviqt) -> None:
    settings, state = without_projector(SETTINGS, model.state_dict())
    finished = Conviqt(**settings).eval()
    finished.load_state_dict(state, strict=True)
    with torch.inference_mode():
        judged = finished(frames(2))
        assert torch.equal(judged.score, model.eval()(frames(2)).score)
    assert judged.embeddings is None


def test_a_cnns_file_is_read_by_key(model: Conviqt, tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    save_file(state | {"classifier.weight": torch.zeros(2, 2)}, tmp_path / "cnn.safetensors")
    fresh = Conviqt(
        **conviqt_settings(section(None), RECIPE),
        minimum=0.0,
        maximum=1.0,
    )
    load_conviqt(fresh, section(str(tmp_path / "cnn.safetensors")))
    assert all(torch.equal(value, state[key]) for key, value in fresh.backbone.state_dict().items())
    del state["bn1.weight"]
    save_file(state, tmp_path / "lacks.safetensors")
    with pytest.raises(ValueError, match=r"1 missing key\(s\), the first 'bn1\.weight'"):
        load_conviqt(fresh, section(str(tmp_path / "lacks.safetensors")))
