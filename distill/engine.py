"""What runs a training step: plain PyTorch in one process, or DeepSpeed in any number of them.

Both take the same rows of the same batch to the same loss: each process predicts its rows of a batch, all get all
predictions, and each computes the whole batch's loss. So correlation and rank losses don't change with the number
of processes, and neither does anything else beyond rounding.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from distill.precision import autocast, check_products, pin_fp32
from rungwise.config import Execution
from rungwise.progress import note, to_stderr
from rungwise.ranks import Ranks, ranks

CLIP_NORM: Final = 1.0
BUILD_SECONDS = 600  # a lock of an extension's build that is older was left by a build that was killed
MEETING = timedelta(hours=1)  # processes first meet when each has read its data, on hosts of unequal speed
ONE_PROCESS = Execution(zero_stage=None, gradient_checkpointing=False, keep_frozen=False)


def own_device(device: str) -> str:
    """ "cuda" is this process's own card, by its rank on the host; the only one where the launcher shows it one.

    Raises:
        ValueError: there is no card, or more processes than cards.
    """
    if device != "cuda":
        return device
    cards, where = torch.cuda.device_count(), ranks()
    if cards == 0:
        raise ValueError("--device cuda: PyTorch sees no GPU here; check nvidia-smi and CUDA_VISIBLE_DEVICES")
    if cards == 1:
        return "cuda:0"
    if where.local >= cards:
        raise ValueError(f"--device cuda: {where.local_world} processes on this host and {cards} GPUs; start one each")
    return f"cuda:{where.local}"


class Engine:
    """Plain PyTorch, one process. `module` returns a tuple of tensors (or None), rows first."""

    def __init__(
        self, module: nn.Module, groups: list[dict[str, Any]], *, weight_decay: float, device: str, precision: str
    ) -> None:
        pin_fp32()
        check_products(module, precision)
        self.module, self.device, self.precision = module.to(device), device, precision
        self.where = Ranks(0, 1, 0)
        self.adamw = torch.optim.AdamW(groups, weight_decay=weight_decay)
        self.optimizer: Any = self.adamw

    def own_rows(self, rows: int) -> list[int]:
        """The rows of a batch that this process predicts: equally many in all processes, some twice if need be."""
        each = math.ceil(rows / self.where.world)
        return [number % rows for number in range(self.where.rank * each, (self.where.rank + 1) * each)]

    def __call__(self, rows: int, *inputs: Tensor) -> tuple[Any, ...]:
        """Run this process's rows of a batch of `rows`; every process gets all rows, with gradients of its own."""
        outputs = self.run(*(each.to(self.device) for each in inputs))
        return tuple(None if output is None else self.gather(output)[:rows] for output in outputs)

    def run(self, *inputs: Tensor) -> tuple[Any, ...]:
        with autocast(self.device, self.precision):
            outputs: tuple[Any, ...] = self.module(*inputs)
        return outputs

    def gather(self, own: Tensor) -> Tensor:
        """All processes' rows, in order of rank."""
        return own

    def step(self, loss: Tensor, *, update: bool = True) -> float | None:
        """Add the loss's gradients; on `update` clip, update, and return the gradient's norm before clipping.

        Clips what belongs to the model; a projector of the loss is left alone.
        """
        loss.backward()
        if not update:
            return None
        clipped = [p for group in self.optimizer.param_groups for p in group["params"] if group["clip"]]
        norm = nn.utils.clip_grad_norm_(clipped, CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    @contextlib.contextmanager
    def whole(self, *, write: bool = False) -> Iterator[dict[str, Tensor]]:
        """Trained weights and buffers by name, whole for the time of the context."""
        yield trained_state(self.module)

    def frozen_state(self) -> dict[str, Tensor]:
        """Everything else, on the CPU; whole in the first process."""
        trained = trained_state(self.module)
        return {name: value.cpu() for name, value in self.module.state_dict().items() if name not in trained}

    def save(self, folder: Path, tag: str) -> Mapping[str, Any]:
        """What `load` needs beside `whole`."""
        return {"optimizer": self.optimizer.state_dict()}

    def load(self, folder: Path, tag: str, saved: Mapping[str, Any]) -> None:
        """Take up a finished epoch."""
        self.optimizer.load_state_dict(saved["optimizer"])


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Weights that train and the buffers that a checkpoint keeps (batch-norm statistics, fitted maps)."""
    parameters = dict(module.named_parameters())
    trained = {name: p.detach() for name, p in parameters.items() if p.requires_grad}
    return trained | {name: value for name, value in module.state_dict().items() if name not in parameters}


class DeepSpeedEngine(Engine):
    """DeepSpeed with one ZeRO stage; started by plain python, torchrun or the deepspeed launcher."""

    def __init__(
        self,
        module: nn.Module,
        groups: list[dict[str, Any]],
        *,
        weight_decay: float,
        device: str,
        precision: str,
        zero_stage: int,
    ) -> None:
        pin_fp32()
        check_products(module, precision)
        self.deepspeed = start_deepspeed(device)
        self.device, self.precision, self.zero_stage, self.where = device, precision, zero_stage, ranks()
        if self.where.world > 1 and device != "cpu":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        # DeepSpeed clips everything or nothing, and replaces the parameters in `groups`.
        clips_all = all(group["clip"] for group in groups)
        self.clipped = [] if clips_all else [p for group in groups if group["clip"] for p in group["params"]]
        self.adamw = torch.optim.AdamW(groups, weight_decay=weight_decay)
        settings = deepspeed_config(zero_stage, precision) | {"gradient_clipping": CLIP_NORM if clips_all else 0.0}
        with to_stderr():
            engine, self.optimizer, _, _ = self.deepspeed.initialize(
                model=module, optimizer=self.adamw, config=settings, dist_init_required=False
            )
        self.engine, self.module = engine, engine.module

    def run(self, *inputs: Tensor) -> tuple[Any, ...]:
        outputs: tuple[Any, ...] = self.engine(*inputs)
        return outputs

    def gather(self, own: Tensor) -> Tensor:
        if self.where.world == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.where.world)]
        torch.distributed.all_gather(parts, own.detach().contiguous())
        parts[self.where.rank] = own
        return torch.cat(parts)

    def step(self, loss: Tensor, *, update: bool = True) -> float | None:
        self.engine.set_gradient_accumulation_boundary(update)
        # Each process's gradient holds its own rows' part of the whole batch's loss; DeepSpeed takes the mean.
        self.engine.backward(loss * self.where.world)
        if not update:
            self.engine.step()
            return None
        norm = self._clip() if self.clipped else None
        if norm is None and self.zero_stage == 0:  # it keeps whole gradients, but not their norm
            norm = nn.utils.get_total_norm([p.grad for p in self.module.parameters() if p.grad is not None])
        self.engine.step()
        self._share_statistics()
        return float(self.engine.get_global_grad_norm() if norm is None else norm)

    def _clip(self) -> Tensor:
        """Clip the gradients of `clipped` alone, wherever their parts lie; their norm before."""
        parts = self.deepspeed.utils
        gradients = [(p, gradient) for p in self.clipped if (gradient := parts.safe_get_full_grad(p)) is not None]
        norm = nn.utils.get_total_norm([gradient for _, gradient in gradients])
        factor = (CLIP_NORM / (norm + 1e-6)).clamp(max=1.0)
        for parameter, gradient in gradients:
            if self.zero_stage == 3:
                parts.safe_set_local_grad(parameter, parts.safe_get_local_grad(parameter) * factor)
            else:
                parts.safe_set_full_grad(parameter, gradient * factor)
        return norm

    def _share_statistics(self) -> None:
        """Batch norms' running statistics are the mean of all processes'."""
        if self.where.world == 1:
            return
        for module in self.module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                for statistic in (module.running_mean, module.running_var):
                    if statistic is not None:
                        torch.distributed.all_reduce(statistic)
                        statistic /= self.where.world

    @contextlib.contextmanager
    def whole(self, *, write: bool = False) -> Iterator[dict[str, Tensor]]:
        trained = [p for p in self.module.parameters() if p.requires_grad]
        gathered = self.deepspeed.zero.GatheredParameters(trained, modifier_rank=0 if write else None)
        with gathered if self.zero_stage == 3 else contextlib.nullcontext():
            yield trained_state(self.module)

    def frozen_state(self) -> dict[str, Tensor]:
        frozen = super().frozen_state()
        for name, parameter in self.module.named_parameters():
            if not parameter.requires_grad and self.zero_stage == 3:
                # One at a time: a 6B tower never lies whole on a card.
                with self.deepspeed.zero.GatheredParameters([parameter]):
                    if self.where.rank == 0:
                        frozen[name] = parameter.detach().cpu().clone()
        return frozen

    def save(self, folder: Path, tag: str) -> Mapping[str, Any]:
        with to_stderr():
            self.engine.save_checkpoint(str(folder), tag=tag, exclude_frozen_parameters=True)
        return {"world": self.where.world, "zero_stage": self.zero_stage}

    def load(self, folder: Path, tag: str, saved: Mapping[str, Any]) -> None:
        for name, have in (("world", self.where.world), ("zero_stage", self.zero_stage)):
            if saved.get(name) != have:
                raise ValueError(
                    f"{folder.parent}: was started with {name} {saved.get(name)}, now it is {have}; resume with "
                    f"{saved.get(name)}, or delete the folder to start again"
                )
        with to_stderr():
            self.engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)


def make_engine(
    module: nn.Module,
    groups: list[dict[str, Any]],
    *,
    weight_decay: float,
    device: str,
    precision: str,
    execution: Execution,
) -> Engine:
    """The engine that `execution` asks for.

    Raises:
        ValueError: several processes without DeepSpeed.
    """
    settings: dict[str, Any] = {"weight_decay": weight_decay, "device": device, "precision": precision}
    if execution.zero_stage is None:
        if ranks().world > 1:
            raise ValueError(f"{ranks().world} processes train one model by DeepSpeed only: set execution.zero_stage")
        return Engine(module, groups, **settings)
    return DeepSpeedEngine(module, groups, **settings, zero_stage=execution.zero_stage)


def shard_for_inference(module: nn.Module, device: str, precision: str) -> Callable[[Tensor], Any]:
    """A model that fits no single card, its weights spread over all processes by ZeRO-3; call in lockstep."""
    deepspeed = start_deepspeed(device)
    config = deepspeed_config(3, precision)
    module.requires_grad_(False)
    with to_stderr():
        if ranks().world > 1:
            # Moves and cuts one weight after another, so the whole never lies on one card.
            deepspeed.zero.Init(module=module, config_dict_or_path=config)
        engine, _, _, _ = deepspeed.initialize(model=module, config=config, dist_init_required=False)
    engine.eval()
    call: Callable[[Tensor], Any] = engine
    return call


def start_deepspeed(device: str) -> Any:
    """Import DeepSpeed and join the other processes, once.

    Raises:
        ValueError: DeepSpeed is not installed, or the launcher's addresses are missing.
    """
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    where = ranks()
    for name, value in {"RANK": where.rank, "WORLD_SIZE": where.world, "LOCAL_RANK": where.local}.items():
        os.environ.setdefault(name, str(value))
    if where.world > 1 and "MASTER_ADDR" not in os.environ:
        raise ValueError("several processes, but no MASTER_ADDR: start with torchrun, deepspeed, or set it under srun")
    check_builds()
    with to_stderr():
        try:
            import deepspeed
        except ImportError as error:
            raise ValueError(f"execution.zero_stage needs DeepSpeed ({error}): pip install -e '.[multi]'") from error
        if not torch.distributed.is_initialized():
            if device != "cpu":
                torch.cuda.set_device(device)
            settings: dict[str, Any] = {"backend": _backend(device), "timeout": MEETING}
            if where.world == 1:
                store = torch.distributed.HashStore()  # type: ignore[attr-defined]
                torch.distributed.init_process_group(**settings, store=store, rank=0, world_size=1)
            else:
                torch.distributed.init_process_group(**settings)
            deepspeed.init_distributed(_backend(device), dist_init_required=False, verbose=False)
    return deepspeed


def check_builds() -> None:
    """DeepSpeed builds extensions at first use, and waits without a word for a lock that a killed build left.

    Raises:
        ValueError: there is such a lock.
    """
    from torch.utils.cpp_extension import get_default_build_root

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    for lock in (*root.glob("*/lock"), *root.glob("*/*/lock")):
        age = time.time() - lock.stat().st_mtime
        if age > BUILD_SECONDS:
            raise ValueError(f"{lock}: a build of an extension was killed {age / 60:.0f} minutes ago; delete this file")
        note(
            f"{lock}: another process builds this extension; if none does, delete the file, or this one waits for ever"
        )


def _backend(device: str) -> str:
    return "gloo" if device == "cpu" else "nccl"


def deepspeed_config(zero_stage: int, precision: str) -> dict[str, Any]:
    """The ZeRO stage and the precision: DeepSpeed switches an autocast from outside off. The trainer cuts the batches.

    Weights, gradients and what processes exchange of them stay fp32, as in plain PyTorch.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {
            "enabled": precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # whose weights and gradients would be exchanged in bf16
        },
        "steps_per_print": 1_000_000_000,
    }
