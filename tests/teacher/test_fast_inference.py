"""The blocks as a GPU runs them, on the CPU: what is folded and compiled gives the reference's output."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from plain_internvideo2 import SHAPE, tower
from torch import nn

from teacher.fast_inference import compile_blocks, prepare_for_inference
from teacher.internvideo2 import InternVideo2, InternVideo2Quality
from teacher.layers import Layers, count_flops


def scaled_tower(gelu: str) -> InternVideo2:
    model = tower(gelu=gelu).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            nn.init.uniform_(parameter, 0.2, 0.9)
    return model


def uncompiled(forward: Callable[..., object], **_: object) -> Callable[..., object]:
    return forward


@pytest.mark.parametrize("gelu", ["tanh", "exact"])
def test_folded_blocks_give_the_reference_output(gelu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", uncompiled)
    model = scaled_tower(gelu)
    fast = copy.deepcopy(model)
    prepare_for_inference(fast.blocks)
    assert isinstance(fast.get_submodule("blocks.0.ls1"), nn.Identity)
    clips = torch.randn(2, 3, 4, 56, 56)
    with torch.inference_mode():
        # On a CPU the fused product has the exact GELU, 5e-4 from the tanh form.
        torch.testing.assert_close(fast.classify(clips), model.classify(clips), rtol=1e-3, atol=1e-4)


def test_a_block_with_a_cached_inner_layer_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", uncompiled)
    model = InternVideo2Quality(shape=SHAPE, tune="head", num_levels=5, minimum=0.0, maximum=100.0).eval()
    frames = torch.randint(0, 256, (1, 4, 56, 56, 3), dtype=torch.uint8)
    layers = Layers(model, ("backbone.blocks.0.mlp", "backbone.blocks.1"))
    with torch.inference_mode():
        model(frames)
        plain = layers.pooled(1)
        model.prepare_for_inference()
        model(frames)
    assert "ls1" in [name for name, part in model.backbone.blocks[0].named_children() if list(part.parameters())]
    assert isinstance(model.backbone.get_submodule("blocks.1.ls1"), nn.Identity)
    fast = layers.pooled(1)
    for name in plain:
        torch.testing.assert_close(fast[name], plain[name], rtol=1e-3, atol=1e-4)


def test_a_prepared_tower_counts_the_same_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", uncompiled)
    monkeypatch.setattr("teacher.fast_inference.ATTENTION", [torch.nn.attention.SDPBackend.MATH])
    model = scaled_tower("tanh")
    clips = torch.randn(1, 3, 4, 56, 56)
    operations = count_flops(lambda: model.classify(clips))
    prepare_for_inference(model.blocks)
    assert count_flops(lambda: model.classify(clips)) == operations


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns
def test_compiled_blocks_train_alike_and_share_one_compilation() -> None:
    torch._dynamo.reset()
    model = scaled_tower("tanh").train()
    compiled = copy.deepcopy(model)
    compile_blocks(compiled.blocks)
    compiled.gradient_checkpointing = True
    clips = torch.randn(2, 3, 4, 56, 56)
    for each in (model, compiled):
        each.classify(clips).square().sum().backward()
    for (name, plain), fast in zip(model.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-3, atol=1e-4, msg=name)
    assert list(compiled.state_dict()) == list(model.state_dict())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
