"""InternVideo2's blocks on a GPU: the same function in fewer and larger kernels.

In eager bf16 a third of a pass is norms, layer scales, sums and casts. Compiled, they fuse. For inference a layer scale
also goes into the weights of the product before it, and a tanh GELU into the kernel of its product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from teacher.internvideo2 import Block

# cuDNN's attention is the fastest on Hopper; PyTorch's own order puts it last.
ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def prepare_for_inference(blocks: Iterable[nn.Module]) -> None:
    """Fold and compile, before weights turn bf16, so that a folded weight is rounded once.

    A block of which an inner module's output is cached (`cache.layers`) stays as it is.
    """
    whole = [block for block in blocks if not any(inner._forward_hooks for inner in list(block.modules())[1:])]
    for block in (cast("Block", each) for each in whole):
        _fold(block, "ls1", block.attn.proj)
        _fold(block, "ls2", block.mlp.fc2)
        block.mlp.gelu_in_product = block.mlp.approximate == "tanh"  # cuBLAS has no exact GELU
    compile_blocks(whole, dynamic=False)


def compile_blocks(blocks: Iterable[nn.Module], *, dynamic: bool | None = None) -> None:
    """Compile each block's forward pass; its hooks stay outside. Blocks of one kind share a compilation.

    `dynamic` False: once for every batch size, of which a cache has few; None: once for the first and once for all.
    """
    for block in blocks:
        setattr(block, "forward", _with_attention(torch.compile(block.forward, dynamic=dynamic)))  # noqa: B010


def _with_attention(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def call(x_BND: Tensor) -> Tensor:
        with sdpa_kernel(ATTENTION, set_priority=True):
            return forward(x_BND)

    return call


@torch.no_grad()
def _fold(block: Block, name: str, product: nn.Linear) -> None:
    """Multiply a layer scale into the rows of the product before it."""
    gamma = block.get_parameter(f"{name}.gamma")
    product.weight.mul_(gamma[:, None])
    product.bias.mul_(gamma)
    block.set_submodule(name, nn.Identity())
