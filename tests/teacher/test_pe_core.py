"""PE-Core's checkpoint, faked to its keys, becomes the files that Q-CLIP reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.config import QClipTeacher
from rungwise.score.views import ViewRecipe
from teacher.convert import convert
from teacher.pe_core import clip_config, text_tower
from teacher.q_clip import QClip, load_q_clip, q_clip_settings

NAME = "vit_pe_core_tiny_patch16_384"
WIDTH, JOINT, LAYERS, CONTEXT, VOCABULARY = 128, 512, 2, 48, 54


class Text(nn.Module):
    """The text tower under the release's keys, plainly: a pre-norm transformer with a causal mask, read at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH))
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(TextBlock() for _ in range(LAYERS))})
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, JOINT) / WIDTH**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(4.5))

    def forward(self, ids_L: Tensor) -> Tensor:
        x = (self.token_embedding(ids_L) + self.positional_embedding[: len(ids_L)])[None]
        blocks = self.transformer["resblocks"]
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            x = block(x)
        end: Tensor = self.ln_final(x)[0, -1] @ self.text_projection
        return end


class TextBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        layers = {"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "gelu": nn.GELU(), "c_proj": nn.Linear(4 * WIDTH, WIDTH)}
        self.mlp = nn.Sequential()
        for name, layer in layers.items():
            self.mlp.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


def published(module: nn.Module) -> dict[str, Tensor]:
    """timm's image tower under the release's keys."""
    names = {
        "patch_embed.proj": "conv1",
        "blocks.": "transformer.resblocks.",
        "norm_pre": "ln_pre",
        ".norm1": ".ln_1",
        ".norm2": ".ln_2",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    state = dict(module.state_dict())
    out: dict[str, Tensor] = {"proj": state.pop("head.weight").T, "class_embedding": state.pop("cls_token").flatten()}
    del state["head.bias"]  # zeros, which timm adds
    out["positional_embedding"] = state.pop("pos_embed")[0]
    for part in ("weight", "bias"):
        joined = [state.pop(f"attn_pool.{name}.{part}") for name in ("q", "kv")]
        out[f"attn_pool.attn.in_proj_{part}"] = torch.cat(joined)
    for key, value in state.items():
        if key.startswith("attn_pool."):
            key = key.replace(".latent", ".probe").replace(".proj.", ".attn.out_proj.").replace(".norm.", ".layernorm.")
        elif key.startswith("norm."):
            key = key.replace("norm.", "ln_post.")
        for own, official in names.items():
            key = key.replace(own, official)
        out[key] = value
    return {f"visual.{key}": value for key, value in out.items()}


@pytest.fixture(scope="module")
def text() -> Text:
    torch.manual_seed(0)
    return Text().eval()


@pytest.fixture(scope="module")
def image() -> Any:
    torch.manual_seed(1)
    tower: Any = timm.create_model(NAME, pretrained=False, dynamic_img_size=True).eval()
    nn.init.zeros_(tower.head.bias)
    return tower


@pytest.fixture(scope="module")
def file(text: Text, image: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pe") / "PE-Core-T16-384.pt"
    torch.save(text.state_dict() | published(image), path)
    return path


def test_the_published_l14_text_tower_has_clips_config() -> None:
    width, joint = 1024, 1024
    with torch.device("meta"):
        keys = {
            "token_embedding.weight": torch.empty(49408, width),
            "positional_embedding": torch.empty(32, width),
            "text_projection": torch.empty(width, joint),
        }
        for i in range(24):
            keys[f"transformer.resblocks.{i}.mlp.c_fc.weight"] = torch.empty(4 * width, width)
    config: Any = clip_config(text_tower(keys))
    tower = config.text_config
    assert (tower.hidden_size, tower.num_hidden_layers, tower.num_attention_heads) == (1024, 24, 16)
    assert (tower.vocab_size, tower.max_position_embeddings, tower.eos_token_id) == (49408, 32, 49407)
    assert (tower.intermediate_size, tower.hidden_act, config.projection_dim) == (4096, "gelu", 1024)


def test_q_clip_runs_on_both_towers(
    file: Path, text: Text, image: Any, tmp_path: Path, teachers_benchmark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pe"
    done = CliRunner().invoke(app, ["teacher", "convert", str(file), str(folder), "--json"])
    assert done.exit_code == 0, done.exception
    facts = json.loads(done.stdout)
    assert (facts["vision"], facts["text tensors"]) == (NAME, len(load_file(folder / "model.safetensors")))
    assert json.loads((folder / "vision.card.json").read_text())["source"] == str(file)

    section = QClipTeacher.model_construct(
        model="q_clip", num_levels=5, clip=str(folder), adapter="paper", adapted_layers=2,
        vision=facts["vision"], vision_checkpoint=str(folder / "vision.safetensors"),
    )  # fmt: skip
    recipe = ViewRecipe(num_frames=2, frame_choice="uniform", grid=3, patch_px=16)
    with pytest.raises(ValueError, match=r"no tokenizer that knows.*copy CLIP's tokenizer files there"):
        q_clip_settings(section, recipe)
    AutoTokenizer.from_pretrained(teachers_benchmark.write_tiny_clip(tmp_path / "clip")).save_pretrained(folder)
    model = QClip(**q_clip_settings(section, recipe), minimum=0.0, maximum=100.0)
    load_q_clip(model, section)
    assert "random" not in capsys.readouterr().err
    assert model.logit_scale == 4.5
    with torch.no_grad():
        for scale in model.eval().adapters.scale.values():
            scale.zero_()
        frames = torch.randint(0, 256, (1, 2, 48, 48, 3), dtype=torch.uint8)
        prediction = model(frames)
        pixels = (frames[0].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        v = nn.functional.normalize(nn.functional.normalize(image(pixels), dim=-1).mean(0), dim=-1)
        torch.testing.assert_close(prediction.feature[0], v, atol=1e-5, rtol=1e-4)
        for ids, level, logit in zip(model.prompts_KL, model._levels(), prediction.logits[0], strict=True):
            t = text(ids[: ids.tolist().index(VOCABULARY - 1) + 1])
            torch.testing.assert_close(level, t, atol=1e-4, rtol=1e-4)
            cosine = nn.functional.cosine_similarity(v, t, dim=0)
            torch.testing.assert_close(logit, torch.tensor(4.5).exp() * cosine, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("ln_final.bias"), r"1 missing key\(s\), the first 'text_model\.final_layer_norm\.bias'"),
        (lambda s: s.pop("text_projection"), r"no text_projection\.weight in the checkpoint"),
        (lambda s: s.pop("visual.ln_post.bias"), r"1 missing key\(s\), the first 'norm\.bias'"),
        (lambda s: s.update({"surprise": torch.ones(1)}), r"1 unknown key\(s\), the first 'surprise'"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(100, 3, 16, 16)}), "width 100 and patches of 16 px"),
    ],
)
def test_what_does_not_fit_is_named(file: Path, tmp_path: Path, change: Any, words: str) -> None:
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=words):
        convert(str(tmp_path / "file.pt"), tmp_path / "out")


def test_out_is_a_folder(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"becomes a folder.*without \.safetensors"):
        convert(str(file), tmp_path / "out.safetensors")
