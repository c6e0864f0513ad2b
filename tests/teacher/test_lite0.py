"""The teacher: ImageNet weights loaded strictly, a score that can't leave its scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rungwise.lite0 import match_keys, weights_path
from teacher.lite0 import EfficientNetLite0, load_imagenet_lite0, load_lite0_file
from teacher.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize

# (mean, std) of the five stages' maps on `picture()`, written down from the weights' own package's code
# (efficientnet_lite_pytorch 0.1.0), whose maps ours equal exactly.
GOLDEN = [
    (-0.238299, 13.039056),
    (-0.527716, 14.582399),
    (0.800818, 13.688635),
    (0.202346, 8.454982),
    (0.152141, 4.288533),
]


@pytest.fixture(scope="module")
def teacher() -> EfficientNetLite0:
    model = EfficientNetLite0(num_levels=5, feature_dim=8, frozen_stages=2, pairs=False, minimum=0.0, maximum=100.0)
    load_imagenet_lite0(model)
    return model.eval()


def picture() -> NDArray[np.uint8]:
    y, x, c = np.indices((64, 64, 3))
    return np.asarray((x * 5 + y * 3 + c * 50 + (x * y) % 37) % 256, np.uint8)


def test_imagenet_weights_give_the_golden_maps(teacher: EfficientNetLite0) -> None:
    x = Normalize(IMAGENET_MEAN, IMAGENET_STD)(torch.from_numpy(picture())[None])
    with torch.inference_mode():
        maps = teacher.backbone(x)
    found = [(float(stage.mean()), float(stage.std())) for stage in maps]
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-4, atol=1e-5)


def test_a_foreign_checkpoint_is_refused_by_key(teacher: EfficientNetLite0, tmp_path: Path) -> None:
    weights = torch.load(weights_path(), weights_only=True)
    weights["extra.weight"] = torch.zeros(1)
    torch.save(weights, tmp_path / "extra.pth")
    with pytest.raises(ValueError, match=r"unknown key 'extra\.weight'"):
        load_lite0_file(teacher, tmp_path / "extra.pth")
    del weights["extra.weight"], weights["_blocks.3._bn1.weight"]
    torch.save(weights, tmp_path / "missing.pth")
    with pytest.raises(ValueError, match=r"missing key '_blocks\.3\._bn1\.weight'"):
        load_lite0_file(teacher, tmp_path / "missing.pth")


def test_every_key_of_the_package_is_accounted_for() -> None:
    import timm

    weights = torch.load(weights_path(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", features_only=True).state_dict()
    keys = match_keys(whole, weights, "file")
    assert len(set(keys.values())) == len(whole)
    assert {weights[package].shape == whole[own].shape for own, package in keys.items()} == {True}
    left = {key.split(".")[0] for key in set(weights) - set(keys.values())}
    assert left == {"_conv_head", "_bn1", "_fc"}  # ImageNet's classifier


def test_scores_stay_on_the_scale_and_follow_the_levels(teacher: EfficientNetLite0) -> None:
    frames = torch.from_numpy(np.stack([[picture()] * 2] * 3))
    with torch.inference_mode():
        judged = teacher(frames)
    assert judged.score.shape == (3,)
    assert (judged.logits.shape, judged.feature.shape) == ((3, 5), (3, 8))
    expectation = judged.logits.softmax(-1) @ torch.tensor([0.0, 25.0, 50.0, 75.0, 100.0])
    torch.testing.assert_close(judged.score, expectation)
    assert torch.all((judged.score >= 0) & (judged.score <= 100))


def test_batch_norm_keeps_its_statistics_in_training(teacher: EfficientNetLite0) -> None:
    before = teacher.backbone.bn1.running_mean.clone()
    teacher.train()
    teacher(torch.zeros(2, 1, 64, 64, 3, dtype=torch.uint8))
    teacher.eval()
    torch.testing.assert_close(teacher.backbone.bn1.running_mean, before, rtol=0, atol=0)


def test_frozen_stages_get_no_gradient_and_the_rest_does(teacher: EfficientNetLite0) -> None:
    teacher(torch.from_numpy(picture()[None, None])).score.sum().backward()
    idle = {name for name, p in teacher.named_parameters() if p.grad is None}
    frozen = ("backbone.conv_stem.", "backbone.bn1.", "backbone.blocks.0.", "backbone.blocks.1.")
    assert idle == {name for name, _ in teacher.named_parameters() if name.startswith(frozen)}
