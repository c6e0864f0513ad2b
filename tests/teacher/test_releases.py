"""Every published InternVideo2 file by its keys and shapes: each is read strictly, at full size without memory for it,
and tiny from disk, as it is wrapped and pickled."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_internvideo2 import SHAPE, tower
from published_internvideo2 import FILES, Faked
from torch import Tensor
from torch.nn import functional

from rungwise.config import InternVideo2Teacher
from rungwise.score.views import ViewRecipe
from teacher.convert import convert
from teacher.internvideo2 import SIZES, InternVideo2, fill_tower, internvideo2_settings
from teacher.releases import RELEASES
from teacher.weights import Card, find_weights, read_foreign

every_file = pytest.mark.parametrize("file", FILES)


def test_every_release_is_faked() -> None:
    assert {f"{repo}/{name}" for repo, names in RELEASES.items() for name in names} <= FILES.keys()


def test_the_distilled_b14_file_has_as_many_keys_as_the_published_one() -> None:
    assert len(Faked("B", kind="distilled").shapes(768, 12, 3072, 256, 768)) == 217


@every_file
def test_it_is_read_strictly_at_full_size(file: str) -> None:
    faked, size = FILES[file], SIZES[FILES[file].size]
    dim, hidden = size["embed_dim"], int(size["embed_dim"] * size["mlp_ratio"] + 1e-6)
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in faked.shapes(dim, size["depth"], hidden, 256, 768).items()}
        model = InternVideo2(**size, num_frames=8, extra_mlp=faked.kind == "attention pool")
    card = Card(source=file, sha256="")
    fill_tower(model, state, card)
    assert (card.prefix, len(card.used)) == (faked.prefix, len(model.state_dict()) - len(card.left_fresh))
    has_norm = faked.kind in ("classes", "attention pool")
    assert card.left_fresh == ([] if has_norm else ["fc_norm.bias", "fc_norm.weight"])
    assert ("interpolated" in card.positions) == (faked.frames == 4)
    assert len(card.used) + len(card.extras) == len(state)
    del state[f"{faked.prefix}blocks.7.ls2.gamma"]
    with pytest.raises(ValueError, match=r"1 missing key\(s\), the first 'blocks\.7\.ls2\.gamma'"):
        fill_tower(model, state, card)
    state |= {
        f"{faked.prefix}blocks.7.ls2.gamma": torch.empty(dim, device="meta"),
        "another_head.weight": torch.ones(1),
    }
    with pytest.raises(ValueError, match=r"1 unknown key\(s\), the first 'another_head\.weight'"):
        fill_tower(model, state, card)


@pytest.fixture
def easydict() -> Iterator[type]:
    """The class that the stage-2 6B file's settings are of, importable only while the file is written."""
    module = types.ModuleType("utils.easydict")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "utils.easydict"})  # type: ignore[attr-defined]
    sys.modules |= {"utils": types.ModuleType("utils"), "utils.easydict": module}
    yield module.EasyDict
    del sys.modules["utils"], sys.modules["utils.easydict"]


@every_file
def test_it_is_read_from_disk_and_converted(file: str, tmp_path: Path, easydict: Any) -> None:
    faked, dim, pooled = FILES[file], SHAPE["embed_dim"], SHAPE["clip_embed_dim"]
    hidden = int(dim * SHAPE["mlp_ratio"])
    shapes = faked.shapes(dim, SHAPE["depth"], hidden, 16, pooled)
    generator = torch.Generator().manual_seed(0)
    state = {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    path = tmp_path / "file.pt"
    settings = {"config": easydict(a=easydict(b=[1])), "epochs": {1, 2}}  # dictionaries of a class, and a set
    torch.save({faked.wrapper: state, **settings} if faked.wrapper else state, path)

    section = InternVideo2Teacher.model_construct(
        checkpoint=str(path), size="S", gelu="exact", tune="all", num_levels=5
    )
    recipe = ViewRecipe(num_frames=4, frame_choice="uniform", grid=1, patch_px=56)
    has_mlp = internvideo2_settings(section, recipe)["shape"].get("extra_mlp", False)
    assert has_mlp == (faked.kind == "attention pool")
    foreign, card = read_foreign(str(path))
    model = tower(extra_mlp=has_mlp)
    fill_tower(model, foreign, card)
    assert card.wrapper == faked.wrapper
    for key in card.used:
        if key != "pos_embed":
            assert torch.equal(model.state_dict()[key], state[faked.prefix + key]), key

    facts = convert(str(path), tmp_path / "out.safetensors")
    again, _ = read_foreign(facts["out"])
    assert again.keys() == {key.removeprefix(faked.prefix) for key in state} - set(card.extras) | {
        key for key in ("head.weight", "head.bias") if key in state
    }


def test_the_extra_mlp_adds_to_the_pooled_vector() -> None:
    x = torch.randn(2, 3, 4, 56, 56, generator=torch.Generator().manual_seed(0))
    model = tower(extra_mlp=True)
    assert model.extra_mlp is not None
    pooled: list[Tensor] = []
    model.clip_projector.register_forward_hook(lambda _module, _inputs, output: pooled.append(output))
    with torch.inference_mode():
        feature = model.classify(x)
        w = {name: value for name, value in model.extra_mlp.named_parameters()}
        normed = functional.layer_norm(pooled[0], (16,), w["0.weight"], w["0.bias"])
        hidden = functional.gelu(functional.linear(normed, w["1.fc1.weight"], w["1.fc1.bias"]))
        added = functional.linear(hidden, w["1.fc2.weight"], w["1.fc2.bias"])
        torch.testing.assert_close(feature, model.fc_norm(pooled[0] + added))


def test_without_the_hub_the_error_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    for source, words in (
        (
            "OpenGVLab/InternVideo2-Stage2_1B-224p-f4",
            r"\(no network\); download InternVideo2-stage2_1b-224p-f4\.pt from "
            r"https://huggingface\.co/OpenGVLab/InternVideo2-Stage2_1B-224p-f4 \(a gated one asks you to log in\) and "
            "give the file's path instead",
        ),
        ("OWNER/NAME/folder/file.bin", r"download folder/file\.bin from https://huggingface\.co/OWNER/NAME "),
        ("OWNER/NAME", "download its weight file from https"),
    ):
        with pytest.raises(ValueError, match=words):
            find_weights(source)
