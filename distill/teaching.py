"""The teacher's stages: tuned on labels, then run once over every view; and the audit of what that left.

Any number of processes, on any hosts that share the runs folder, take part (distill/engine.py, teacher/cache.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.checkpoint import load_checkpoint, load_unchecked, save_checkpoint
from distill.data import Data, make_contract, read_data, training_params
from distill.engine import own_device, shard_for_inference
from distill.examples import Examples
from distill.frozen import keep_frozen
from distill.model import Upper
from distill.precision import autocast, check_products, fp32_products, pin_fp32
from distill.reference import open_parts, with_patches
from distill.stage import Artifacts, Inputs, constants
from distill.train import fit
from distill.view_store import read_view_lists
from rungwise import __version__
from rungwise.artifact import (
    SCRATCH,
    hash_files,
    sha256_file,
    sha256_json,
    write_json,
)
from rungwise.config import (
    ClipVqaTeacher,
    ConviqtTeacher,
    FullReferenceTeacher,
    InternVideo2Teacher,
    RunConfig,
    TeacherSection,
)
from rungwise.progress import note
from rungwise.ranks import ranks
from rungwise.score.contract import Contract
from rungwise.score.needed_pixels import read_needed_pixels
from rungwise.score.views import VIEWS_VERSION, View, ViewRecipe
from teacher import conviqt, full_reference, positions
from teacher.cache import Clock, Fields, write_cache
from teacher.layers import Layers, count_flops, matrix_rate
from teacher.models import TEACHERS
from teacher.quality_teacher import QualityTeacher
from teacher.ray_cache import write_cache_on_ray
from teacher.shard_files import missing_shards, write_index

PRETRAINED = ("checkpoint", "clip", "vision_checkpoint")  # keys with a path or a hub id of weights
NOT_HASHED = {"execution", *PRETRAINED}
MATRIX_SIZE = 8192  # of the product against which a card's use is measured


def teacher_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the teacher."""
    section = config.teacher
    params = training_params(config) | section.model_dump(mode="json", exclude=NOT_HASHED)
    if isinstance(section, FullReferenceTeacher):
        params |= {"full_reference": constants(full_reference)}
    if isinstance(section, InternVideo2Teacher) and section.checkpoint is None:
        params |= {"positions": constants(positions)}
    if isinstance(section, ClipVqaTeacher):
        from teacher import clipvqa  # transformers takes seconds to import

        params |= {"clipvqa": constants(clipvqa)}
    if isinstance(section, ConviqtTeacher):
        params |= {"conviqt": constants(conviqt)}
    return params | {"pretrained": pretrained(section)}


def build_teacher(folder: Path, config: RunConfig, inputs: Inputs) -> None:
    """Tune the teacher on the train contents' labels."""
    section, data = config.teacher, read_data(config, inputs["dataset"], inputs["views"])
    kind, device = TEACHERS[section.model](), own_device(inputs.device)
    model, settings = new_teacher(config, data)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    note(f"teach: {section.model}, {trained:,} of {sum(p.numel() for p in model.parameters()):,} weights train")
    if device.startswith("cuda") and section.execution.zero_stage != 3:
        model.compile_blocks()
    fitted: QualityTeacher | Upper = model
    hidden: NDArray[Any] | None = None
    if section.execution.keep_frozen:
        fitted = Upper(model, section.model)
        hidden = frozen_output(model, config, data, inputs, device)
    train, validation = (data.examples(split, inputs=hidden) for split in ("train", "validation"))
    if isinstance(section, FullReferenceTeacher):
        train = with_patches(train, section.patches_per_clip, config.seed)
    history, state = fit_teacher(config, data, fitted, train, validation, folder=folder, name="teach", device=device)
    if ranks().rank > 0:
        return
    if section.execution.keep_frozen:
        state = {name.removeprefix("model."): value for name, value in state.items()}
    final_settings, state = kind.finish(settings, state)
    finished = kind.build(**final_settings)
    finished.load_state_dict(state, strict=True)
    write_json(folder / "history.json", history)
    contract = make_contract(config, data, inputs.key, section.model, history)
    save_checkpoint(folder / "teacher.safetensors", finished, final_settings, contract)


def frozen_output(model: QualityTeacher, config: RunConfig, data: Data, inputs: Inputs, device: str) -> NDArray[Any]:
    """The frozen layers' output of every view, (N, V, ...) in table order, from the artifact that holds it."""
    if model.sees_master:
        return open_parts(inputs["parts"])
    section = config.teacher
    return keep_frozen(model, section.model, data, inputs.runs, device=device, precision=section.precision)


def new_teacher(config: RunConfig, data: Data) -> tuple[QualityTeacher, dict[str, Any]]:
    """The teacher as it is before tuning, and its constructor settings."""
    section, kind = config.teacher, TEACHERS[config.teacher.model]()
    settings = kind.settings(section, config.views.recipe) | data.range
    torch.manual_seed(config.seed)
    model = kind.build(**settings)
    kind.load(model, section)
    if section.execution.gradient_checkpointing:
        _recompute_activations(model, section.model)
    return model, settings


def fit_teacher(
    config: RunConfig,
    data: Data,
    model: QualityTeacher | Upper,
    train: Examples,
    validation: Examples | None,
    *,
    folder: Path,
    name: str,
    device: str = "cpu",
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Tune the teacher; its history, and the state dict with the averaged weights of the best epoch."""
    return fit(
        model,
        train,
        validation,
        config.teacher.training,
        data.scale,
        seed=config.seed,
        scratch=folder / SCRATCH,
        name=name,
        device=device,
        precision=config.teacher.precision,
        execution=config.teacher.execution,
        sets=[each.name for each in data.sets],
    )


def pretrained(section: TeacherSection) -> dict[str, str | None]:
    """What a teacher starts from, by content: a file's or a folder's hash wherever it lies, or a hub's or package's
    name."""
    sources: dict[str, str | None] = section.model_dump(include=set(PRETRAINED))
    return {name: source and content_hash(source) for name, source in sources.items()}


def content_hash(source: str) -> str:
    """Hash of a file or a folder, wherever it lies; else the name itself."""
    path = Path(source)
    if path.is_file():
        return sha256_file(path)
    return sha256_json(hash_files(path)) if path.is_dir() else source


def _recompute_activations(model: QualityTeacher, name: str) -> None:
    try:
        model.recompute_activations()
    except NotImplementedError as error:
        raise ValueError(
            f"teacher.execution.gradient_checkpointing: {name} can't recompute its blocks; set it to false"
        ) from error


def cache_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the cache."""
    return config.cache.model_dump(mode="json") | {
        "precision": config.teacher.precision,
        "preprocessing": preprocessing_sha256(config.views.recipe),
    }


def build_cache(folder: Path, config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Run the tuned teacher over every view once, or over the stored output of its frozen layers."""
    data = read_data(config, inputs["dataset"], inputs["views"])
    views, table = read_view_lists(data.views), data.table
    device = own_device("cpu" if inputs.ray else inputs.device)  # of this process
    per_shard, precision = config.cache.clips_per_shard, config.teacher.precision
    lockstep = config.teacher.execution.zero_stage == 3 and ranks().world > 1
    weights = inputs["teacher"].path / "teacher.safetensors"
    hidden: NDArray[Any] | None = None
    is_compared = isinstance(config.teacher, FullReferenceTeacher)  # all of its layers are above the frozen output
    if is_compared or (config.teacher.execution.keep_frozen and not config.cache.layers):
        model, _, _ = load_checkpoint(weights)
        assert isinstance(model, QualityTeacher)
        hidden = frozen_output(model, config, data, inputs, device)
    open_judge = partial(
        _open_judge, weights.resolve(), layers=config.cache.layers, dtype=config.cache.feature_dtype,
        precision=precision, upper=hidden is not None,
    )  # fmt: skip
    predict = open_judge(device=device, sharded=lockstep)

    def source(row: int) -> tuple[Path, list[View]] | NDArray[Any]:
        clip = table.iloc[row]
        return (Path(clip["path"]).absolute(), views[clip["clip"]]) if hidden is None else np.array(hidden[row])

    def read(row: int) -> NDArray[Any]:
        part = source(row)
        return read_needed_pixels(*part) if isinstance(part, tuple) else part

    one = torch.zeros((1, config.views.per_clip, *_view_shape(config.views.recipe)), dtype=torch.uint8, device=device)
    if hidden is not None:
        one = torch.from_numpy(np.array(hidden[:1])).to(device)
    fields = predict(one)
    shards = -(-len(table) // per_shard)
    _note_size(fields, len(table), shards)
    sizes = {"clips_per_shard": per_shard, "clips_per_batch": config.cache.clips_per_batch}
    if inputs.ray is not None:
        on_node = partial(open_judge, device=inputs.device)
        write_cache_on_ray(
            folder, len(table), source, on_node, device=inputs.device, address=inputs.ray, **sizes
        )  # fmt: skip
    else:
        flops = 0 if not device.startswith("cuda") else count_flops(lambda: predict(one))
        clock = write_cache(
            folder, len(table), read, predict, device=device, workers=ranks().workers,
            turns=_turns(folder, shards) if lockstep else None, describe=_describe(flops, device, precision), **sizes,
        )  # fmt: skip
        note(f"cache: rank {ranks().rank} of {ranks().world} done, {clock.shares()}")
    if ranks().rank == 0:
        relative = table.assign(path=[str(Path(path).relative_to(data.ladder.path)) for path in table["path"]])
        write_index(folder, relative, views, clips_per_shard=per_shard)
    return cache_facts(fields, len(table), config, inputs)


def _open_judge(weights: Path, **settings: Any) -> Callable[[Tensor], Fields]:
    predict, _ = open_teacher(weights, **settings)
    return predict


def _note_size(fields: Fields, clips: int, shards: int) -> None:
    """Say how large the cache will be, before the work."""
    if ranks().rank > 0:
        return
    sizes = {name: value.nbytes for name, value in fields.items()}
    each, total = ", ".join(f"{name} {_bytes(size)}" for name, size in sizes.items()), sum(sizes.values())
    note(f"cache: {_bytes(total)} a clip ({each}), {_bytes(total * clips)} in all, {shards} shards")


def cache_facts(fields: Fields, clips: int, config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """The facts of the cache's manifest; `fields` are those of one clip."""
    return {
        "code_version": __version__,
        "fp32_products": fp32_products(),
        "clips": clips,
        "views_per_clip": config.views.per_clip,
        "fields": {
            name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": ["clips", *value.shape[1:]]}
            for name, value in fields.items()
        },
        "bytes_per_clip": sum(value.nbytes for value in fields.values()),
        "teacher_artifact": inputs["teacher"].id,
        "ladder_artifact": inputs["dataset"].id,
    } | ({"parts_artifact": inputs["parts"].id} if "parts" in inputs.artifacts else {})


def preprocessing_sha256(recipe: ViewRecipe) -> str:
    """Hash of all that turns a file into a teacher's input."""
    return sha256_json({"recipe": recipe.model_dump(mode="json"), "views_version": VIEWS_VERSION})


def open_teacher(
    weights: Path,
    *,
    layers: tuple[str, ...],
    dtype: str,
    precision: str,
    device: str,
    sharded: bool = False,
    upper: bool = False,
) -> tuple[Callable[[Tensor], Fields], Contract]:
    """The function from pixels_MVTSSC, or with `upper` from what its frozen layers gave of them, to cached fields; and
    the teacher's contract.

    Raises:
        ValueError: not a checkpoint, golden scores that don't come back, or an unknown layer.
    """
    model, contract, _ = load_unchecked(weights) if sharded else load_checkpoint(weights)
    assert isinstance(model, QualityTeacher)
    hooks = Layers(model, layers)
    whole = Upper(model, contract.model) if upper else model
    check_products(whole, precision)
    call: Callable[[Tensor], Any] = (
        shard_for_inference(whole, device, precision) if sharded else whole.to(device).eval()
    )
    if precision == "bf16" and not sharded:
        if device.startswith("cuda"):
            model.prepare_for_inference()
        matrices_to_bf16(model)
    # ZeRO-3 moves weights during the pass: no_grad, so that none becomes an inference tensor.
    without_gradients = torch.no_grad if sharded else torch.inference_mode
    return make_predict(call, hooks, dtype=dtype, precision=precision, device=device, mode=without_gradients), contract


def make_predict(
    call: Callable[[Tensor], Any],
    hooks: Layers,
    *,
    dtype: str,
    precision: str,
    device: str,
    mode: Callable[[], AbstractContextManager[Any]] = torch.inference_mode,
) -> Callable[[Tensor], Fields]:
    """From a teacher that takes frames_BTHWC to the function from pixels_MVTSSC to cached fields."""
    pin_fp32()
    feature_dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]

    def predict(pixels_MVTSSC: Tensor) -> Fields:
        clips, views = pixels_MVTSSC.shape[:2]
        with mode(), autocast(device, precision):
            prediction = call(pixels_MVTSSC.flatten(0, 1))
        fields = {
            "scores": prediction.score.float(),
            "levels": prediction.logits.float().softmax(-1),
            "features": prediction.feature.to(feature_dtype),
        }
        if prediction.patch_scores is not None:
            fields["patch_scores"] = prediction.patch_scores.float()
        fields |= {f"layer.{name}": value.to(feature_dtype) for name, value in hooks.pooled(clips * views).items()}
        return {name: value.unflatten(0, (clips, views)) for name, value in fields.items()}

    return predict


def matrices_to_bf16(model: QualityTeacher) -> None:
    """Put the weights of products in bf16; norms, positions, scales and the score stay fp32."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and name not in model.full_precision:
            module.to(torch.bfloat16)


def _view_shape(recipe: ViewRecipe) -> tuple[int, ...]:
    return (recipe.num_frames, recipe.size_px, recipe.size_px, 3)


def _turns(folder: Path, shards: int) -> list[int | None]:
    """This process's shards, one a turn, where all must predict in lockstep; all have one list of missing shards."""
    where = ranks()
    lists: list[Any] = [missing_shards(folder, shards) if where.rank == 0 else None]
    torch.distributed.broadcast_object_list(lists, src=0)
    missing: list[int] = lists[0]
    padded = [*missing, *[None] * (-len(missing) % where.world)]
    return padded[where.rank :: where.world]


def _describe(flops_per_clip: int, device: str, precision: str) -> Callable[[Clock], str]:
    """What the progress line adds: fractions of time and, on a GPU, the fraction of its matrix rate that is used."""
    if not flops_per_clip:
        return Clock.shares
    rate = matrix_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32, MATRIX_SIZE)

    def describe(clock: Clock) -> str:
        seconds = max(time.monotonic() - clock.began, 1e-9)
        return f"{clock.shares()}, MFU {clock.clips * flops_per_clip / seconds / rate:.0%}"

    return describe


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
