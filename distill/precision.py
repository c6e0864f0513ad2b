"""The precision of products: bf16 where the config says so, else fp32 in full on every device; and the check of it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of products, by the config's `precision`


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[Any]:
    """fp32: nothing. bf16: products in bf16; weights, norms and losses stay fp32."""
    return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bf16")


def pin_fp32() -> None:
    """Compute fp32 products in fp32 on a GPU too: by default its convolutions round to TF32, which has 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def fp32_products() -> str:
    """How this process computes fp32 products on a GPU: "ieee" or "tf32"."""
    tf32 = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return "tf32" if tf32 else "ieee"


def check_products(module: nn.Module, precision: str) -> None:
    """Assert at the module's first forward pass that products inside it have the configured dtype.

    Whatever runs the module may change the precision behind our back: DeepSpeed switches an outer autocast off.
    """

    def check(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        one = torch.ones(1, 1, device=inputs[0].device)
        dtype = nn.functional.linear(one, one).dtype
        assert dtype == DTYPES[precision], f"precision is {precision}, but the engine computes products in {dtype}"
        handle.remove()

    handle = module.register_forward_pre_hook(check)
