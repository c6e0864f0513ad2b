"""Features of a teacher's inner layers, and what a pass through it costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


class Layers:
    """Keeps the outputs of named modules during a forward pass, each pooled to one vector a clip."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        """
        Raises:
            ValueError: the model has no such module; some that it has are named.
        """
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                near = [other for other in modules if other.startswith(name.split(".")[0])][:4] or list(modules)[1:5]
                raise ValueError(f"cache.layers: the teacher has no module {name!r}; it has {', '.join(near)}, ...")
            modules[name].register_forward_hook(self._keeper(name))
        self.names = tuple(names)
        self.outputs = threading.local()  # on a CPU several batches are judged at once

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.outputs.__dict__[name] = output[0] if isinstance(output, tuple) else output

        return keep

    def pooled(self, clips: int) -> dict[str, Tensor]:
        """Name -> (clips, D) of the pass just done, means over time and place.

        Tokens (rows, N, D) and vectors (rows, D) hold channels last, maps (rows, D, H, W) second; rows are clips, or
        frames of clips in order.

        Raises:
            ValueError: a module gave something whose rows aren't the clips'.
        """
        means = {}
        for name in self.names:
            output = self.outputs.__dict__.pop(name, None)
            if output is None or output.ndim < 2 or len(output) % clips:
                shape = None if output is None else tuple(output.shape)
                raise ValueError(f"cache.layers: {name!r} gives {shape} for {clips} clips, no features of clips")
            by_row = output.float().movedim(1, -1) if output.ndim == 4 else output.float()
            means[name] = by_row.unflatten(0, (clips, -1)).flatten(1, -2).mean(1)
        return means


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of one call, two for each multiply-add, as PyTorch counts them."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._addmm_activation: _linear_flops})
    # The counter knows attention's plain form on every device, the CPU's fused one not at all.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops()


def _linear_flops(
    bias_O: Sequence[int], a_NI: Sequence[int], b_IO: Sequence[int], *_: Any, out_shape: object = None, **__: object
) -> int:
    return 2 * a_NI[0] * b_IO[0] * b_IO[1]


def matrix_rate(device: str, dtype: torch.dtype, size: int, repeats: int = 20) -> float:
    """Operations a second of a square matrix product, the best of three: what this device can do at most."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(3):
        seconds = time_calls(lambda: a @ b, device, repeats)
        best = max(best, 2 * size**3 * repeats / seconds)
    return best


def time_calls(call: Callable[[], object], device: str, repeats: int) -> float:
    """Seconds of `repeats` calls after two to warm up."""

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    for _ in range(2):
        call()
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    wait()
    return time.perf_counter() - started
