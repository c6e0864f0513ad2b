"""The CLIP teachers: parity with transformers' own CLIP, counts, and no clip seeing its neighbors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, CLIPConfig, CLIPModel

from rungwise.config import ClipVqaTeacher, QClipTeacher
from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from teacher.clip_towers import CLIP_MEAN, CLIP_STD, read_from, trainable_count
from teacher.clipvqa import ClipVqa, clipvqa_settings, load_clipvqa
from teacher.q_clip import Q_CLIP_PROMPTS, QClip, adapter_count, load_q_clip, q_clip_settings

RANGE: dict[str, Any] = {"minimum": 0.0, "maximum": 100.0}
RECIPE = ViewRecipe(num_frames=2, frame_choice="uniform", grid=2, patch_px=8)
PATCH = 8


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, teachers_benchmark: Any) -> Path:
    return Path(teachers_benchmark.write_tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="session")
def pe_clip(tmp_path_factory: pytest.TempPathFactory, teachers_benchmark: Any) -> Path:
    return Path(teachers_benchmark.write_tiny_clip(tmp_path_factory.mktemp("pe_clip"), joint_width=512))


def q_clip_section(clip: Path, **options: Any) -> QClipTeacher:
    values = {
        "model": "q_clip",
        "num_levels": 5,
        "clip": str(clip),
        "vision": None,
        "vision_checkpoint": None,
        "adapter": "release",
        "adapted_layers": 2,
    }
    return QClipTeacher.model_construct(**{**values, **options})


def clipvqa_section(clip: Path, **options: Any) -> ClipVqaTeacher:
    values = {"model": "clipvqa", "num_levels": 6, "clip": str(clip), "frozen_blocks": 1}
    layers = {"aggregation_layers": 1, "cross_attention_layers": 2}
    return ClipVqaTeacher.model_construct(**{**values, **layers, **options})


def q_clip(clip: Path, **options: Any) -> QClip:
    section = q_clip_section(clip, **options)
    torch.manual_seed(1)
    model = QClip(**q_clip_settings(section, RECIPE), **RANGE)
    load_q_clip(model, section)
    return model.eval()


def clipvqa(clip: Path, **options: Any) -> ClipVqa:
    section = clipvqa_section(clip, **options)
    torch.manual_seed(1)
    model = ClipVqa(**clipvqa_settings(section, RECIPE), **RANGE)
    load_clipvqa(model, section)
    return model.eval()


def build(kind: str, clip: Path, **options: Any) -> QClip | ClipVqa:
    return q_clip(clip, **options) if kind == "q_clip" else clipvqa(clip, **options)


def frames(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)


CLIPS = (3, 4, 2 * PATCH, 2 * PATCH)
both = pytest.mark.parametrize("kind", ["q_clip", "clipvqa"])


def pull(model: nn.Module, clips: Tensor) -> None:
    judged = model(clips)
    generator = torch.Generator().manual_seed(2)
    loss = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in (judged.score, judged.logits))
    loss.backward()


@pytest.mark.parametrize(("adapter", "count"), [("paper", 137_287), ("release", 1_910_023)])
def test_count_is_the_papers_and_the_releases_on_pe_core_l14(adapter: Any, count: int) -> None:
    assert adapter_count(adapter, 6, 1024, 1024, 1024) == count


@pytest.mark.parametrize("adapter", ["paper", "release"])
def test_q_clip_trains_adapters_scalars_context_and_w_alone(
    clip: Path, adapter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = q_clip(clip, adapter=adapter)
    count = adapter_count(adapter, 2, 32, 48, 24)
    assert trainable_count(model) == count
    assert f"q_clip: {count:,} trainable of " in capsys.readouterr().err
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"adapters", "context", "w"}


def test_q_clip_without_adapters_is_clip(clip: Path) -> None:
    model, clips = q_clip(clip), frames(*CLIPS)
    with torch.no_grad():
        for scale in model.adapters.scale.values():
            scale.zero_()
        judged = model(clips)
        reference = CLIPModel.from_pretrained(clip)
        reference.train(False)
        tokens = AutoTokenizer.from_pretrained(clip)(Q_CLIP_PROMPTS, padding=True, return_tensors="pt")
        t = F.normalize(reference.get_text_features(**tokens).pooler_output, dim=-1)
        pixels = ((clips.flatten(0, 1) / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(0, 3, 1, 2)
        images = F.normalize(reference.get_image_features(pixels).pooler_output, dim=-1)
    v = F.normalize(images.view(3, 4, -1).mean(1), dim=-1)
    torch.testing.assert_close(judged.feature, v, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(judged.logits, reference.logit_scale.exp() * v @ t.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(judged.score, 50 + 100 * (v @ t.T) @ torch.linspace(-1, 1, 5), atol=1e-3, rtol=1e-4)


@both
@pytest.mark.parametrize("recompute", [False, True])
def test_every_trained_parameter_has_a_gradient_and_the_rest_are_frozen(clip: Path, kind: str, recompute: bool) -> None:
    model = build(kind, clip).train()
    model.gradient_checkpointing = recompute
    pull(model, frames(*CLIPS))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-7, name
        else:
            assert parameter.grad is None, name


@both
def test_recomputing_changes_no_gradient(clip: Path, kind: str) -> None:
    kept, recomputed = build(kind, clip), build(kind, clip)
    recomputed.gradient_checkpointing = True
    for model in (kept, recomputed):
        pull(model, frames(*CLIPS))
    for (name, a), b in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_clipvqa_freezes_its_first_blocks(clip: Path) -> None:
    frozen = {name for name, p in clipvqa(clip).named_parameters() if not p.requires_grad}
    tower = "images.tower.vision_model."
    own = (f"{tower}embeddings.", f"{tower}pre_layrnorm.", f"{tower}encoder.layers.0.")
    later = {f"{tower}encoder.layers.{i}.self_attn.k_proj.bias" for i in (1, 2)}
    assert later < frozen
    assert all(name.startswith(own) for name in frozen - later)
    everything = {name for name, p in clipvqa(clip, frozen_blocks=0).named_parameters() if not p.requires_grad}
    assert everything == later | {f"{tower}encoder.layers.0.self_attn.k_proj.bias"}


@both
@torch.no_grad()
def test_a_clip_is_judged_alone(clip: Path, kind: str) -> None:
    model, clips = build(kind, clip), frames(*CLIPS)
    judged = model(clips)
    assert (judged.feature[0] - judged.feature[1]).abs().max() > 1e-3
    others = torch.cat([clips[:1], frames(*CLIPS, seed=1)[1:]])
    for which, rows in [(clips[:1], [0]), (others, [0]), (clips[[2, 0, 1]], [2, 0, 1])]:
        again = model(which)
        for a, b in zip(again[:3], judged[:3], strict=True):
            torch.testing.assert_close(a[: len(rows)], b[rows], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_clipvqa_frames_hear_of_one_another_and_order_counts(clip: Path) -> None:
    model, clips = clipvqa(clip), frames(*CLIPS)
    changed = clips.clone()
    changed[0, 1] = 255 - changed[0, 1]
    difference = (model.tokens(changed) - model.tokens(clips)).abs().amax((-1, -2))
    assert (difference[0] > 1e-4).all()
    assert (difference[1:] < 1e-6).all()
    assert (model(clips.flip(1)).feature - model(clips).feature).abs().max() > 1e-4


@both
@torch.no_grad()
def test_other_views_and_lengths(clip: Path, kind: str) -> None:
    model = build(kind, clip)
    for shape in [(1, 1, PATCH, 3 * PATCH), (2, 40, 2 * PATCH, 4 * PATCH)]:
        judged = model(frames(*shape))
        assert judged.score.shape == shape[:1]
        assert judged.logits.shape == (shape[0], 5 if kind == "q_clip" else 6)
        assert judged.feature.shape == (shape[0], 24)
    with pytest.raises(ValueError, match=r"view of 20x16 pixels: not whole patches of 8"):
        model(frames(1, 2, 20, 16))


@torch.no_grad()
def test_lower_then_upper_is_forward(clip: Path) -> None:
    model, clips = q_clip(clip), frames(*CLIPS)
    hidden = model.lower(clips)
    assert hidden.shape == (3, 4, 5, 32)
    for a, b in zip(model.upper(hidden)[:3], model(clips)[:3], strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_the_closed_form_recovers_an_affine_map(clip: Path) -> None:
    model, clips = q_clip(clip), frames(8, 2, 2 * PATCH, 2 * PATCH)
    judged = model(clips)
    label = 300 * judged.score - 7
    model.fit_closed_form(judged, label)
    torch.testing.assert_close(model(clips).score, label, rtol=1e-4, atol=0.05)
    model.fit_closed_form(model(clips), label)  # and from the settled gain and offset too
    torch.testing.assert_close(model(clips).score, label, rtol=1e-4, atol=0.05)
    same = Prediction(judged.score[:1].expand(3), judged.logits[:3], judged.feature[:3])
    model.fit_closed_form(same, torch.tensor([1.0, 2.0, 3.0]))
    assert model.gain.isfinite()
    assert model.gain != 0
    assert model.offset.isfinite()


@both
@torch.no_grad()
def test_rebuilt_without_the_folder(clip: Path, kind: str) -> None:
    model, clips = build(kind, clip), frames(*CLIPS)
    if isinstance(model, QClip):
        model.fit_closed_form(model(clips), torch.tensor([1.0, 5.0, 3.0]))
        settings = q_clip_settings(q_clip_section(clip), RECIPE)
    else:
        settings = clipvqa_settings(clipvqa_section(clip), RECIPE)
    assert str(clip) not in json.dumps(settings)
    again = type(model)(**json.loads(json.dumps(settings)), **RANGE).eval()
    again.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(again(clips).score, model(clips).score)


@torch.no_grad()
def test_clipvqa_keeps_messages_as_tokens(clip: Path) -> None:
    model, clips = clipvqa(clip).eval(), frames(1, 3, 16, 16)
    first, *later = (cast(Any, messages) for messages in model.messages)
    with torch.no_grad():
        for messages in later:  # these say nothing
            for part in (messages.message[1], messages.attention.out_proj):
                part.weight.zero_()
                part.bias.zero_()
        before = model.tokens(clips)
        first.message[1].bias += torch.randn_like(first.message[1].bias)
        after = model.tokens(clips)
    assert before.shape[2] == 1 + 4 + 1  # class token, patches, message
    assert (before - after)[:, :, -1].abs().max() > 0.1


def test_clipvqa_scores_within_the_range(clip: Path) -> None:
    judged = clipvqa(clip)(frames(*CLIPS))
    expected = judged.logits.softmax(-1) @ torch.arange(6.0) * 100 / 5
    torch.testing.assert_close(judged.score, expected)


@both
@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_odd_weights_are_named(clip: Path, tmp_path: Path, kind: str, change: str) -> None:
    for file in clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    key = "vision_model.surprise" if change == "extra" else "vision_model.post_layernorm.bias"
    state[key] = torch.zeros(1)
    if change == "missing":
        del state[key]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=key.replace(".", r"\.")) as error:
        build(kind, tmp_path)
    assert "\n" not in str(error.value)


@both
def test_folders_that_are_no_clip(clip: Path, tmp_path: Path, kind: str) -> None:
    def refuse(folder: Path, words: str) -> None:
        with pytest.raises(ValueError, match=words) as error:
            build(kind, folder)
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)

    refuse(tmp_path / "none", "no such folder")
    BertConfig().save_pretrained(tmp_path / "bert")
    refuse(tmp_path / "bert", "not a CLIP's but 'bert'")
    CLIPConfig.from_pretrained(clip).save_pretrained(tmp_path / "bare")
    refuse(tmp_path / "bare", "no tokenizer that knows")
    AutoTokenizer.from_pretrained(clip).save_pretrained(tmp_path / "bare")
    refuse(tmp_path / "bare", "no weights")


def test_without_the_hub_the_error_says_what_to_download() -> None:
    def unreachable() -> None:
        raise OSError("no network")

    files = "config.json, model.safetensors and the tokenizer's files"
    with pytest.raises(
        ValueError, match=rf"no network\); download {files} from https://huggingface\.co/OWNER/NAME into"
    ):
        read_from("OWNER/NAME", "config.json", unreachable)


def test_towers_too_shallow_are_refused(clip: Path) -> None:
    with pytest.raises(ValueError, match="adapted_layers 4"):
        q_clip(clip, adapted_layers=4)
    with pytest.raises(ValueError, match="frozen_blocks 4"):
        clipvqa(clip, frozen_blocks=4)


def test_pe_core_vision(pe_clip: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, weights, clips = "vit_pe_core_tiny_patch16_384", tmp_path / "pe.safetensors", frames(2, 2, 48, 48)
    tower = timm.create_model(name, pretrained=False, dynamic_img_size=True).eval()
    save_file(tower.state_dict(), weights)
    model = q_clip(pe_clip, vision=name, vision_checkpoint=str(weights), adapter="paper")
    assert trainable_count(model) == adapter_count("paper", 2, 192, 48, 512)
    pull(model, clips)
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for scale in model.adapters.scale.values():
            scale.zero_()
        pixels = (clips.flatten(0, 1).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        v = F.normalize(F.normalize(tower(pixels), dim=-1).view(2, 2, -1).mean(1), dim=-1)
        torch.testing.assert_close(model(clips).feature, v, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="48x32 pixels: PE-Core takes square views"):
        model(clips[:, :, :, :32])

    q_clip(pe_clip, vision=name)
    assert "are random" in capsys.readouterr().err
    save_file({"surprise": torch.zeros(1), **tower.state_dict()}, weights)
    with pytest.raises(ValueError, match="surprise is not known"):
        q_clip(pe_clip, vision=name, vision_checkpoint=str(weights))
    with pytest.raises(ValueError, match=r"embeddings of 512, but the text tower's are 24"):
        q_clip(clip, vision=name)
    with pytest.raises(ValueError, match=r"vision resnet18: not a PE-Core tower"):
        q_clip(clip, vision="resnet18")
    with pytest.raises(ValueError, match="name the tower too"):
        q_clip(clip, vision_checkpoint=str(weights))
