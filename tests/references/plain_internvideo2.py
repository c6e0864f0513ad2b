"""A tiny InternVideo2 of random weights, and its maths as a plain reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from teacher.internvideo2 import InternVideo2

SHAPE: dict[str, Any] = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 48 / 11,
    "num_frames": 4,
    "img_size": 56,
    "attn_pool_num_heads": 2,
    "clip_embed_dim": 16,
}


def tower(**changes: Any) -> InternVideo2:
    """A tower whose every weight is random, zeros and ones included."""
    torch.manual_seed(0)
    model = InternVideo2(**SHAPE | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


def reference(state: dict[str, Tensor], x_BCTHW: Tensor, depth: int, heads: int, pool_heads: int, gelu: Any) -> Tensor:
    """The same maths, plainly, in float64: section by section as the release describes it."""
    w = {key: value.double() for key, value in state.items()}

    def rms(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]

    def layer_norm(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        return (
            centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        width = q.shape[-1] // heads
        parts = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            weights = (q[..., part] @ k[..., part].transpose(1, 2) / width**0.5).softmax(-1)
            parts.append(weights @ v[..., part])
        return torch.cat(parts, -1)

    clips, channels, frames, height, width = x_BCTHW.shape
    patches = x_BCTHW.double().reshape(clips, channels, frames, height // 14, 14, width // 14, 14)
    patches = patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(clips, -1, channels * 14 * 14)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = torch.cat([w["cls_token"].expand(clips, -1, -1), x], 1) + w["pos_embed"]
    for number in range(depth):
        name = f"blocks.{number}"
        q, k, v = (rms(x, f"{name}.norm1") @ w[f"{name}.attn.qkv.weight"].T).chunk(3, -1)
        attended = attend(rms(q, f"{name}.attn.q_norm"), rms(k, f"{name}.attn.k_norm"), v, heads)
        attended = attended @ w[f"{name}.attn.proj.weight"].T + w[f"{name}.attn.proj.bias"]
        x = x + w[f"{name}.ls1.gamma"] * attended
        hidden = gelu(rms(x, f"{name}.norm2") @ w[f"{name}.mlp.fc1.weight"].T + w[f"{name}.mlp.fc1.bias"])
        x = x + w[f"{name}.ls2.gamma"] * (hidden @ w[f"{name}.mlp.fc2.weight"].T + w[f"{name}.mlp.fc2.bias"])
    pool = "clip_projector"
    q, k, v = (
        layer_norm(tokens, f"{pool}.norm1_{part}") @ w[f"{pool}.cross_attn.{part}.weight"].T
        + w[f"{pool}.cross_attn.{part}_bias"]
        for part, tokens in (("q", x.mean(1, keepdim=True)), ("k", x), ("v", x))
    )
    pooled = attend(q, k, v, pool_heads) @ w[f"{pool}.cross_attn.proj.weight"].T + w[f"{pool}.cross_attn.proj.bias"]
    return layer_norm(pooled[:, 0], "fc_norm")
