"""Golden files: ours by the plain reference, the official code's if it is there, and those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_internvideo2 import SHAPE, reference, tower
from safetensors.torch import save_file
from typer.testing import CliRunner

from rungwise.cli import app
from teacher.golden import run_golden


def write_golden(
    path: Path, *, config: dict[str, Any], spoil: float = 0.0, separable: bool = False, file_frames: int = 4
) -> None:
    """A golden file of our own maths (the plain reference), in the form of the official ones."""
    model = tower(num_classes=5, num_frames=file_frames)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if separable:
        del state["pos_embed"]
        rows = {"pos_embed_temporal": 4, "pos_embed_spatial": 16, "pos_embed_cls": 1}
        state |= {name: torch.randn(1, count, 32) for name, count in rows.items()}
        joint = (state["pos_embed_temporal"][0][:, None] + state["pos_embed_spatial"][0][None]).flatten(0, 1)
        whole = state | {"pos_embed": torch.cat([state["pos_embed_cls"][0], joint])[None]}
    else:
        whole = state
    video = torch.randn(2, 3, file_frames, 56, 56)
    feature = reference(whole, video, 2, 4, 2, lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)))
    logits = feature @ state["head.weight"].double().T + state["head.bias"].double()
    tensors = {f"checkpoint/{key}": value for key, value in state.items()}
    tensors |= {"input/video_bcthw": video, "output/fc_norm": feature.float(), "output/logits": logits.float() + spoil}
    save_file(
        {key: value.contiguous() for key, value in tensors.items()},
        path,
        {"model": "internvideo2", "config": json.dumps(config)},
    )


def official() -> dict[str, Any]:
    return SHAPE | {"patch_size": 14, "num_classes": 5, "use_flash_attn": False, "sep_pos_embed": False}


@pytest.mark.parametrize(("separable", "frames"), [(False, 4), (True, 4), (False, 8)])
def test_a_golden_file_of_any_positions_passes(tmp_path: Path, separable: bool, frames: int) -> None:
    path = tmp_path / "golden.safetensors"
    write_golden(
        path,
        config=official() | {"num_frames": frames, "sep_pos_embed": separable},
        separable=separable,
        file_frames=frames,
    )
    found = run_golden(path)
    assert list(found) == ["fc_norm", "logits"]
    assert max(found.values()) < 2e-5


def test_the_verb_prints_each_output_and_exits_1_above_the_tolerance(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    write_golden(good, config=official())
    write_golden(bad, config=official(), spoil=1e-3)
    runner = CliRunner()
    assert runner.invoke(app, ["golden", str(good)]).exit_code == 0
    done = runner.invoke(app, ["golden", str(good), str(bad), "--json"])
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["output"], row["ok"]) for row in rows] == [
        ("fc_norm", True),
        ("logits", True),
        ("fc_norm", True),
        ("logits", False),
    ]
    assert rows[3]["deviation"] == pytest.approx(1e-3, rel=0.05)
    assert runner.invoke(app, ["golden", str(bad), "--tolerance", "0.01"]).exit_code == 0
    assert runner.invoke(app, ["golden", str(good), "--tolerance", "0"]).exit_code == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"depht": 2}, "config key 'depht' is unknown"),
        ({"qkv_bias": True}, "qkv_bias: True; only False is supported"),
        ({"depth": 3}, r"missing key\(s\), the first 'blocks\.2"),
    ],
)
def test_a_golden_file_that_does_not_fit_is_named(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    path = tmp_path / "golden.safetensors"
    write_golden(path, config=official() | config)
    with pytest.raises(ValueError, match=words):
        run_golden(path)


def test_files_that_are_no_golden_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for tensors, metadata, words in (
        ({"a": torch.ones(1)}, {"model": "internvideo2", "config": "{}"}, "tensor 'a' is neither"),
        ({"input/a": torch.ones(1)}, {"model": "internvideo2", "config": "{}"}, "holds no checkpoint/"),
        ({"a": torch.ones(1)}, {"model": "other", "config": "{}"}, "golden file of 'other'; known are internvideo2"),
        ({"a": torch.ones(1)}, {"model": "internvideo2"}, "no 'config' in its metadata"),
        ({"a": torch.ones(1)}, {"model": "internvideo2", "config": "{"}, "is no JSON"),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=words):
            run_golden(path)


@pytest.mark.data
def test_the_official_codes_golden_file(outside_data: Callable[[str], Path]) -> None:
    found = run_golden(outside_data("golden/internvideo2_tiny.safetensors"))
    assert list(found) == ["blocks.0", "blocks.1", "blocks.2", "clip_projector", "logits"]
    assert max(found.values()) < 1e-5
