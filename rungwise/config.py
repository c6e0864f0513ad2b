"""One YAML a run. Extra keys are forbidden, no knob that changes results has a default, and all errors come at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rungwise.views import ViewRecipe

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the YAML; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sources(Section):
    """Where masters come from: the built-in scenes by name (or "all"), or a folder of the user's own."""

    builtin: Literal["all"] | tuple[str, ...] | None = None
    folder: Path | None = None
    width: Positive | None = None
    height: Positive | None = None
    num_frames: Positive | None = None
    fps: Rate | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Sources:
        if (self.builtin is None) == (self.folder is None):
            raise ValueError("give either `builtin` or `folder`")
        missing = [name for name in ("width", "height", "num_frames", "fps") if getattr(self, name) is None]
        if self.builtin is not None and missing:
            raise ValueError(f"built-in scenes need {', '.join(missing)}")
        return self


class Rungs(Section):
    """Encodes of one codec: every size at every CRF and at every bitrate.

    `heights` are in lines; `scales` are shares of the master's height. A height above the master's is left out.
    """

    codec: str
    preset: str
    heights: tuple[Positive, ...] = ()
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    crf: tuple[Annotated[int, Field(ge=0, le=63)], ...] = ()
    bitrate_kbps: tuple[Positive, ...] = ()

    @model_validator(mode="after")
    def _some_rate(self) -> Rungs:
        if not self.crf and not self.bitrate_kbps:
            raise ValueError("give `crf`, `bitrate_kbps`, or both")
        if not self.heights and not self.scales:
            raise ValueError("give `heights`, `scales`, or both")
        return self


class Ladder(Section):
    """What is encoded, and the full-reference metric that labels it."""

    rungs: tuple[Rungs, ...]
    label: str  # a model of libvmaf, such as vmaf_v1.0.16_3d0h
    extra_labels: tuple[str, ...]


class Splits(Section):
    """Numbers of source groups set aside; the rest trains."""

    validation: Positive
    test: Positive
    seed: int


class Views(Section):
    """The view recipe that teacher and student share, and how many views of a clip are kept for training."""

    recipe: ViewRecipe
    per_clip: Positive


class LossWeights(Section):
    """Weights of the terms in distill/losses.py; 0 leaves a term out."""

    label: Weight
    plcc: Weight
    rank: Weight
    vector: Weight
    contrast: Weight
    soft_target: Weight
    feature: Weight


class Augment(Section):
    """A training sample is a part of a view: `sample_frames` of its frames, `sample_grid`^2 of its patches, mirrored
    half of the time."""

    sample_frames: Positive
    sample_grid: Positive


class Training(Section):
    """One optimiser run. Learning rates are peaks of a one-cycle cosine. `augment` null: whole views, as they are."""

    epochs: Positive
    augment: Augment | None
    validate_every: Positive  # epochs; the last is always judged
    contents_per_batch: Positive
    clips_per_content: Positive
    learning_rate: Rate
    backbone_learning_rate: Weight
    weight_decay: Weight
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    losses: LossWeights


class Execution(Section):
    """How the teacher is run. Changes no answer beyond rounding, so it is not part of an artefact's id.

    `zero_stage` null: plain PyTorch, one process. 0 to 3: DeepSpeed with that ZeRO stage, any number of processes.
    """

    zero_stage: Literal[0, 1, 2, 3] | None
    gradient_checkpointing: bool
    keep_frozen: bool  # run the frozen lower layers once and train from what they gave; needs `augment: null`


class TeacherSection(Section):
    """What all teachers' sections hold. bf16: frozen and trained weights stay fp32, products are taken in bf16."""

    precision: Literal["fp32", "bf16"]
    execution: Execution
    training: Training

    @model_validator(mode="after")
    def _whole_views_are_kept(self) -> TeacherSection:
        if self.execution.keep_frozen and self.training.augment is not None:
            raise ValueError("execution.keep_frozen keeps what whole views gave: set training.augment to null")
        return self


class Lite0Teacher(TeacherSection):
    """EfficientNet-Lite0 with ImageNet weights from a package."""

    model: Literal["efficientnet_lite0"]
    num_levels: Annotated[int, Field(ge=2)]
    feature_dim: Positive
    frozen_stages: Annotated[int, Field(ge=0, le=7)]


class InternVideo2Shape(Section):
    """A shape that is none of the published sizes, for tests and experiments."""

    embed_dim: Positive
    depth: Positive
    num_heads: Positive
    mlp_ratio: Rate
    attn_pool_num_heads: Positive
    clip_embed_dim: Positive


class InternVideo2Teacher(TeacherSection):
    """InternVideo2; `checkpoint` is a file or a hub id ("OWNER/NAME" or "OWNER/NAME/FILE"), null: random weights."""

    model: Literal["internvideo2"]
    num_levels: Annotated[int, Field(ge=2)]
    size: Literal["S", "B", "L", "1B", "6B"] | InternVideo2Shape
    checkpoint: str | None
    gelu: Literal["tanh", "exact"]
    tune: Literal["head", "last_block", "internvqa", "all"]


class QClipTeacher(TeacherSection):
    """Q-CLIP; `clip` is a folder or a hub id; `vision` a timm PE-Core tower in place of CLIP's own, or null."""

    model: Literal["q_clip"]
    num_levels: Literal[5]
    clip: str
    vision: str | None
    vision_checkpoint: str | None
    adapter: Literal["paper", "release"]
    adapted_layers: Positive


class ClipVqaTeacher(TeacherSection):
    """CLIPVQA; the text tower and the first `frozen_blocks` of the image tower keep their weights."""

    model: Literal["clipvqa"]
    num_levels: Literal[6]
    clip: str
    frozen_blocks: Annotated[int, Field(ge=0)]
    aggregation_layers: Positive
    cross_attention_layers: Positive


class ConviqtTeacher(TeacherSection):
    """CONVIQT; `backbone` is a timm name, `checkpoint` a safetensors file of it, "imagenet_lite0", or null: random."""

    model: Literal["conviqt"]
    num_levels: Annotated[int, Field(ge=2)]
    backbone: str
    checkpoint: str | None
    gru_dim: Positive
    contrast_dim: Positive

    @model_validator(mode="after")
    def _no_labels(self) -> ConviqtTeacher:
        wanted = {name for name, weight in self.training.losses.model_dump().items() if weight > 0}
        if wanted != {"contrast"}:
            raise ValueError("conviqt learns by contrast alone and its score is a ridge regression: give "
                             "training.losses.contrast a weight above 0 and all others 0")  # fmt: skip
        return self


Teacher = Annotated[
    Lite0Teacher | InternVideo2Teacher | QClipTeacher | ClipVqaTeacher | ConviqtTeacher,
    Field(discriminator="model"),
]


class Cache(Section):
    """What of the teacher is kept, and how it is laid on disk.

    `layers` names modules of the teacher whose outputs are kept too, each averaged over time and place. Batches
    are cut inside shards, so the bytes don't depend on how many processes share the work.
    """

    clips_per_shard: Positive
    clips_per_batch: Positive
    feature_dtype: Literal["float16", "bfloat16"]
    layers: tuple[str, ...]


class Student(Section):
    """Which student, its sizes, and how it is distilled."""

    model: Literal["mamba"]
    embed_dim: tuple[Positive, ...]
    depths: tuple[Positive, ...]
    state_dim: tuple[Positive, ...]
    feature_dim: Positive
    training: Training


class Evaluate(Section):
    """Intervals of the final table."""

    num_resamples: Positive


class Export(Section):
    """The ONNX file."""

    opset: Annotated[int, Field(ge=18)]
    interval_coverage: Annotated[float, Field(gt=0, lt=1)]


class RunConfig(Section):
    """A whole run, from masters to the exported file."""

    name: str
    seed: int
    sources: Sources
    ladder: Ladder
    splits: Splits
    views: Views
    teacher: Teacher
    cache: Cache
    student: Student
    evaluate: Evaluate
    export: Export


def load_config(path: Path, *, sources: Path | None = None) -> RunConfig:
    """Read a run's YAML; `sources` replaces the config's masters by a folder.

    Raises:
        ValueError: the file is missing or no YAML, or keys are wrong; every wrong key is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such config; see configs/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a config is a mapping of keys")
    if sources is not None:
        values["sources"] = {"folder": str(sources)}
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{_where(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ValueError(f"{path}: {len(lines)} wrong key(s)\n  " + "\n  ".join(lines)) from error


def _where(location: tuple[str | int, ...]) -> str:
    """A key's path as the YAML has it: pydantic puts the teacher's name between `teacher` and its keys."""
    path = [str(part) for part in location]
    return ".".join(path[:1] + path[2:] if path[0] == "teacher" and len(path) > 2 else path)
