"""InternVideo2: maths against a plain reference, and every way an official checkpoint may come."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_internvideo2 import SHAPE, reference, tower
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from rungwise.cli import app
from teacher.convert import convert
from teacher.internvideo2 import (
    SIZES,
    InternVideo2,
    InternVideo2Quality,
    fill_tower,
)
from teacher.positions import file_grid, interpolate, sincos_3d
from teacher.weights import Card, find_weights, read_foreign


@pytest.mark.parametrize("gelu", ["tanh", "exact"])
def test_it_is_the_plain_maths_in_either_gelu(gelu: str) -> None:
    def tanh(x: Tensor) -> Tensor:
        inner: Tensor = (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + inner.tanh())

    def exact(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))

    model = tower(gelu=gelu).double()
    x = torch.randn(2, 3, 4, 56, 56, dtype=torch.float64)
    forms = {"tanh": tanh, "exact": exact}
    plain = {name: reference(model.state_dict(), x, 2, 4, 2, form) for name, form in forms.items()}
    with torch.inference_mode():
        torch.testing.assert_close(model.classify(x), plain[gelu], rtol=1e-6, atol=1e-6)
        assert (model.classify(x) - plain["exact" if gelu == "tanh" else "tanh"]).abs().max() > 1e-5


def test_published_sizes_have_their_published_shapes() -> None:
    for size in SIZES.values():
        with torch.device("meta"):
            model = InternVideo2(**size, num_frames=8)
        hidden, dim = model.get_parameter("blocks.0.mlp.fc1.weight").shape
        assert dim == size["embed_dim"]
        assert model.pos_embed.shape == (1, 2049, dim)
        assert model.fc_norm.weight.shape == (768,)
        # Matrices of the blocks, then of patches, positions and pooling; the rest is vectors.
        matrices = size["depth"] * (4 * dim**2 + 2 * dim * hidden) + dim * (588 + 2049) + 3 * dim**2 + 768 * dim
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(matrices, rel=5e-3)
    assert hidden == 4 * 3200  # the last, 6B
    with torch.device("meta"):
        model = InternVideo2(**SIZES["1B"], num_frames=8)
    assert model.get_parameter("blocks.0.mlp.fc1.weight").shape == (6144, 1408)


def test_fresh_positions_are_sines_in_a_quarter_time_three_quarters_space() -> None:
    rows = sincos_3d(32, (2, 3, 3))[0]
    assert not rows[0].any()  # the class token
    grid = rows[1:].unflatten(0, (2, 3, 3))
    assert torch.equal(grid[0, :, :, 8:], grid[1, :, :, 8:])
    assert torch.equal(grid[:, 0, 0, :8], grid[:, 2, 1, :8])
    assert torch.equal(grid[:, :, 1, 8:20], grid[:, :1, 1, 8:20].expand(-1, 3, -1))  # columns first, as in the release
    assert torch.equal(grid[:, 1, :, 20:], grid[:, 1, :1, 20:].expand(-1, 3, -1))
    torch.testing.assert_close(grid[1, 0, 0, 0], torch.tensor(1.0).sin())
    torch.testing.assert_close(grid[0, 1, 2, [8, 20]], torch.tensor([2.0, 1.0]).sin())


@pytest.mark.parametrize("tune", ["head", "last_block", "internvqa", "all"])
def test_presets_train_what_they_say_and_every_trained_weight_gets_a_gradient(tune: str) -> None:
    model = InternVideo2Quality(shape=SHAPE, tune=tune, num_levels=5, minimum=0.0, maximum=100.0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    lower_blocks = {name for name in everything if name.startswith("backbone.blocks.0.")}
    last = {
        name for name in everything if name.startswith(("backbone.blocks.1.", "backbone.clip_proj", "backbone.fc_n"))
    }
    head = {"score.weight", "score.bias"}
    want = {"head": head, "last_block": head | last, "internvqa": everything - lower_blocks, "all": everything}
    assert trained == want[tune]
    frames = torch.randint(0, 256, (2, 4, 56, 56, 3), dtype=torch.uint8)
    judged = model(frames)
    (judged.score.sum() + judged.logits.sum()).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # Softmax is blind to what all keys share; the query's own bias is not.
    assert [name for name in without if not name.endswith("cross_attn.k_bias")] == []
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    if tune in ("head", "last_block"):
        again = model.upper(model.lower(frames))
        assert torch.equal(again.score, judged.score)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    frames = torch.randint(0, 256, (2, 4, 56, 56, 3), dtype=torch.uint8)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = InternVideo2Quality(shape=SHAPE, tune="all", num_levels=5, minimum=0.0, maximum=100.0)
        model.backbone.gradient_checkpointing = recompute
        model(frames).score.sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_other_views_than_the_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \(4, 56, 56\); set sample_frames"):
        tower()(torch.zeros(1, 3, 2, 56, 56))
    with pytest.raises(ValueError, match="4 frames of 60 px are no whole number"):
        tower(img_size=60)


# Checkpoints


def fill(state: dict[str, Tensor], **changes: Any) -> tuple[InternVideo2, Card]:
    model, card = InternVideo2(**SHAPE | changes).eval(), Card(source="file.pt", sha256="")
    fill_tower(model, state, card)
    return model, card


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("wrap", ["", "model", "module", "module.model"])
@pytest.mark.parametrize("prefix", ["", "vision_encoder.", "backbone.", "encoder."])
def test_any_wrapping_is_read_and_every_key_accounted_for(tmp_path: Path, suffix: str, wrap: str, prefix: str) -> None:
    source = tower(num_classes=7)
    state = {f"{prefix}{key}": value for key, value in source.state_dict().items()}
    extras = [
        "clip_decoder.0.weight",
        "final_clip_decoder.norm.bias",
        "clip_pos_embed",
        "img_pos_embed",
        "mae_decoder.x",
    ]
    state |= {f"{prefix}{key}": torch.zeros(2) for key in extras}
    path = tmp_path / f"file{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        whole: Any = state
        for name in reversed(wrap.split(".") if wrap else []):
            whole = {name: whole, "epoch": 3, "args": argparse.Namespace(lr=1.0)}
        torch.save(whole, path)
    found, card = read_foreign(str(path))
    model = InternVideo2(**SHAPE).eval()
    fill_tower(model, found, card)
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key
    assert card.extras == sorted([*extras, "head.weight", "head.bias"])
    assert len(card.used) == len(model.state_dict())
    assert (card.prefix, card.left_fresh) == (prefix, [])
    assert suffix == ".safetensors" or card.wrapper == wrap


@pytest.mark.parametrize(("file_frames", "file_px"), [(8, 56), (16, 56), (4, 84), (8, 84)])
@pytest.mark.parametrize("separable", [False, True])
def test_positions_of_other_lengths_and_crops_are_interpolated(file_frames: int, file_px: int, separable: bool) -> None:
    side, dim = file_px // 14, SHAPE["embed_dim"]
    generator = torch.Generator().manual_seed(1)
    # Linear in time and in place, so that what interpolation must give is known in the middle.
    t, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in (file_frames, side, side)), indexing="ij")
    slopes = torch.randn(3, dim, generator=generator)
    temporal, spatial = t[:, 0, 0, None] * slopes[0], y[0, ..., None] * slopes[1] + x[0, ..., None] * slopes[2]
    state = {key: value.clone() for key, value in tower().state_dict().items()}
    cls = torch.randn(1, 1, dim, generator=generator)
    del state["pos_embed"]
    if separable:
        state |= {
            "pos_embed_temporal": temporal[None],
            "pos_embed_spatial": spatial.flatten(0, 1)[None],
            "pos_embed_cls": cls,
        }
    else:
        joint = (temporal[:, None, None] + spatial[None]).flatten(0, 2)[None]
        state["pos_embed"] = torch.cat([cls, joint], 1)
    if (file_frames, file_px, separable) == (16, 56, False):
        # 256 rows are 16 x 4^2 and 4 x 8^2: the model's own grid decides.
        assert file_grid(state, (4, 4, 4), Card("", "")) == (16, 4, 4)
    model, card = fill(state)
    assert torch.equal(model.pos_embed[:, :1], cls)
    found = model.pos_embed[0, 1:].unflatten(0, (4, 4, 4)).detach()
    ratio = file_frames / 4
    want_t = [(step + 0.5) * ratio - 0.5 for step in range(4)]
    middle = slice(1, 3)
    places = [(place + 0.5) * side / 4 - 0.5 for place in range(4)]
    for step in (1, 2):
        for row in range(4)[middle]:
            for column in range(4)[middle]:
                want = want_t[step] * slopes[0] + places[row] * slopes[1] + places[column] * slopes[2]
                torch.testing.assert_close(
                    found[step, row, column], want, rtol=0, atol=0.08 * float(slopes.abs().max())
                )
    assert card.positions.startswith("separable" if separable else "joint")
    assert ("interpolated" in card.positions) == ((file_frames, file_px) != (4, 56))


def test_published_rows_tell_their_frames() -> None:
    for rows, grid in ((2049, (8, 16, 16)), (1025, (4, 16, 16)), (4097, (16, 16, 16))):
        assert file_grid({"pos_embed": torch.zeros(1, rows, 1)}, (8, 4, 4), Card("", "")) == grid
    with pytest.raises(ValueError, match="2000 rows after the class token; no known frame count"):
        file_grid({"pos_embed": torch.zeros(1, 2001, 1)}, (8, 16, 16), Card("", ""))


def test_interpolation_keeps_a_grid_that_fits() -> None:
    rows = torch.randn(1, 1 + 2 * 3 * 3, 5)
    assert torch.equal(interpolate(rows, (2, 3, 3), (2, 3, 3)), rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("blocks.1.mlp.fc1.weight"), r"1 missing key\(s\), the first 'blocks\.1\.mlp\.fc1\.weight'"),
        (
            lambda s: s.update({"blocks.2.norm1.weight": torch.ones(32)}),
            r"1 unknown key\(s\), the first 'blocks\.2\.nor",
        ),
        (
            lambda s: s.update({"fc_norm.weight": torch.ones(8)}),
            r"the first 'fc_norm\.weight': file \(8,\), model \(16,\)",
        ),
        (lambda s: s.update({"pos_embed_cls": torch.ones(1, 1, 32)}), "both joint and separable"),
        (lambda s: s.pop("pos_embed"), "missing key 'pos_embed'"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, words: str) -> None:
    state = tower().state_dict()
    change(state)
    with pytest.raises(ValueError, match=words):
        fill(state)


def test_files_of_the_pre_training_lack_the_last_norm_and_it_stays_the_identity() -> None:
    state = {key: value for key, value in tower().state_dict().items() if not key.startswith("fc_norm.")}
    model, card = fill(state)
    assert card.left_fresh == ["fc_norm.bias", "fc_norm.weight"]
    assert torch.equal(model.fc_norm.weight, torch.ones(16))
    assert "left as initialized: fc_norm.bias, fc_norm.weight" in card.summary()


class Harm:
    """A pickle that runs code when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch /tmp/harmed",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "harm.pt"
    torch.save({"model": tower().state_dict(), "harm": Harm()}, path)
    with pytest.raises(ValueError, match=r"a pickle that asks for code to be run.*not loaded"):
        read_foreign(str(path))
    assert not Path("/tmp/harmed").exists()


def test_files_that_are_no_checkpoints_are_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    torch.save(tower().state_dict(), whole)
    cases: dict[str, bytes] = {
        "text.pt": b"not a checkpoint",
        "empty.bin": b"",
        "half.pth": whole.read_bytes()[:-4000],
        "half.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
            read_foreign(str(tmp_path / name))
        assert len(str(error.value).splitlines()) == 1
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        read_foreign(str(tmp_path / "list.pt"))


def test_a_hub_id_is_fetched_and_a_choice_of_files_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    fetched = tmp_path / "one.pt"
    torch.save(tower().state_dict(), fetched)
    files = {"OWNER/one": ["README.md", "one.pt"], "OWNER/two": ["S.pt", "B.pt"], "OWNER/none": ["README.md"]}
    asked = []

    def download(repo: str, name: str) -> str:
        asked.append((repo, name))
        return str(fetched)

    def unreachable(repo: str) -> list[str]:
        if repo not in files:
            raise OSError("no network\nlong story")
        return files[repo]

    monkeypatch.setattr(huggingface_hub, "list_repo_files", unreachable)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find_weights("OWNER/one") == fetched
    assert find_weights("OWNER/two/sub/B.pt") == fetched
    assert asked == [("OWNER/one", "one.pt"), ("OWNER/two", "sub/B.pt")]
    assert find_weights(str(tmp_path)) == fetched
    for source, words in (
        ("OWNER/two", "holds 2 weight files; give one as OWNER/two/FILE: B.pt, S.pt"),
        ("OWNER/none", "0 weight files.*there is none"),
        ("OWNER/absent", r"no such file here, and the hub gave none \(no network\); download its weight file from"),
        (str(tmp_path / "absent.pt"), "no such file, nor a hub id"),
    ):
        with pytest.raises(ValueError, match=words):
            find_weights(source)


@pytest.mark.parametrize("separable", [False, True])
def test_convert_writes_official_keys_and_a_card(tmp_path: Path, separable: bool) -> None:
    state = tower(num_classes=3).state_dict()
    if separable:
        del state["pos_embed"]
        shapes = {"pos_embed_temporal": 8, "pos_embed_spatial": 16, "pos_embed_cls": 1}
        state |= {name: torch.randn(1, rows, 32) for name, rows in shapes.items()}
    torch.save(
        {"module": {f"vision_encoder.{k}": v for k, v in state.items()} | {"temp": torch.ones(1)}}, tmp_path / "in.pt"
    )
    done = CliRunner().invoke(
        app, ["teacher", "convert", str(tmp_path / "in.pt"), str(tmp_path / "out.safetensors"), "--json"]
    )
    assert done.exit_code == 0, done.exception
    facts = json.loads(done.stdout)
    assert (facts["wrapper"], facts["prefix"], facts["extras"]) == ("module", "vision_encoder.", 1)
    assert facts["positions"].startswith("separable, 8 frames of 4x4" if separable else "joint, 4 frames of 4x4")
    converted = load_file(tmp_path / "out.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)
    card = json.loads((tmp_path / "out.card.json").read_text())
    assert card["extras"] == ["temp"]
    assert len(card["sha256"]) == 64
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        convert(str(tmp_path / "in.pt"), tmp_path / "out.pt")
