"""One YAML a run. Extra keys are forbidden, no knob that changes results has a default, and all errors come at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rungwise.views import ViewRecipe

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Scaler = Literal["bicubic", "bilinear", "lanczos", "area"]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the YAML; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sources(Section):
    """Where masters come from: the built-in scenes by name (or "all"), or a folder of the user's own.

    `more_scenes` of a family are drawn beside those: {water: 40} draws "water_1" to "water_40".
    `photographs` is a folder of pictures, filmed by a synthetic camera: `shots` are the sizes of each one's, width and
    height in pixels. `variants` of each of the folder's masters are masters too: cropped, mirrored, reversed, sped up,
    enlarged or graded anew; named test contents are left alone. `groups` names contents that share footage, group by
    group; they stay in one split. Others are their own group. `width` and `height` are the built-in scenes'.
    `num_frames` of a folder's masters: so many of their first frames; null: all. `unlabelled`: a folder of videos
    without masters, to be taken as they are; students learn from them what the teacher says.
    """

    builtin: Literal["all"] | tuple[str, ...] | None = None
    more_scenes: dict[str, Positive] = {}
    folder: Path | None = None
    photographs: Path | None = None
    shots: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)] | None = None
    variants: Annotated[int, Field(ge=0)] = 0
    unlabelled: Path | None = None
    groups: dict[str, tuple[str, ...]] = {}
    width: Positive | None = None
    height: Positive | None = None
    num_frames: Positive | None = None
    fps: Rate | None = None

    @model_validator(mode="after")
    def _some_kind(self) -> Sources:
        drawn = self.builtin or self.more_scenes or None
        if drawn is None and self.folder is None and self.photographs is None:
            raise ValueError("give `builtin`, `more_scenes`, `folder` or `photographs`, or several of them")
        made = {
            "built-in scenes": (drawn, ("width", "height", "num_frames", "fps")),
            "photographs": (self.photographs, ("num_frames", "fps")),
        }
        for kind, (wanted, needed) in made.items():
            missing = [name for name in needed if getattr(self, name) is None]
            if wanted is not None and missing:
                raise ValueError(f"{kind} need {', '.join(missing)}")
        if (self.photographs is None) != (self.shots is None):
            raise ValueError("`photographs` and `shots` go together")
        if self.variants and (self.folder is None or self.num_frames is None):
            raise ValueError("`variants` need `folder` and `num_frames`")
        return self


class Rungs(Section):
    """Encodes of one codec: every size at every CRF and at every bitrate.

    `heights` are in lines; `scales` are shares of the master's height. A height above the master's is left out. Each
    of `scalers` is an encode of its own. `first_crf`: what is encoded is an H.264 encode of the master at that CRF.
    """

    codec: str
    preset: str
    tune: str = ""
    heights: tuple[Positive, ...] = ()
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    crf: tuple[Annotated[int, Field(ge=0, le=63)], ...] = ()
    bitrate_kbps: tuple[Positive, ...] = ()
    scalers: Annotated[tuple[Literal["bicubic", "bilinear", "lanczos", "area"], ...], Field(min_length=1)] = (
        "bicubic",
    )
    bit_depth: Literal[8, 10] = 8
    first_crf: Annotated[int, Field(ge=0, le=51)] | None = None

    @model_validator(mode="after")
    def _some_rate(self) -> Rungs:
        if not self.crf and not self.bitrate_kbps:
            raise ValueError("give `crf`, `bitrate_kbps`, or both")
        if not self.heights and not self.scales:
            raise ValueError("give `heights`, `scales`, or both")
        return self


class RungSample(Section):
    """How many rungs a folder's master gets, and how many each other master: variant, photograph or built-in scene."""

    masters: Positive
    others: Positive


class Beside(Section):
    """Rungs beside a ladder's own, `sample` of them drawn for themselves: older codecs, say, or slower presets."""

    rungs: tuple[Rungs, ...]
    sample: RungSample


class Ladder(Section):
    """What is encoded, and the full-reference metric that labels it.

    `sample` null: every master gets every rung; else so many of them, drawn by the master's name.
    """

    rungs: tuple[Rungs, ...]
    sample: RungSample | None = None
    beside: tuple[Beside, ...] = ()
    label: str  # a model of libvmaf, such as vmaf_v1.0.16_3d0h
    extra_labels: tuple[str, ...]


class Splits(Section):
    """Source groups set aside, so many or those of the named contents; the rest trains."""

    validation: Positive | tuple[str, ...]
    test: Positive | tuple[str, ...]
    seed: int

    @property
    def named(self) -> tuple[str, ...]:
        """The test contents that are named: nothing but themselves is made of them."""
        return () if isinstance(self.test, int) else self.test


class Views(Section):
    """The view recipe that teacher and student share, and how many views of a clip are kept for training."""

    recipe: ViewRecipe
    per_clip: Positive


class LossWeights(Section):
    """Weights of the terms in distill/losses.py; a term that isn't named is left out."""

    label: Weight = 0
    plcc: Weight = 0
    rank: Weight = 0
    vector: Weight = 0
    likelihood: Weight = 0
    stream: Weight = 0
    contrast: Weight = 0
    score_target: Weight = 0
    soft_target: Weight = 0
    cosine_target: Weight = 0
    feature: Weight = 0
    feature_cosine: Weight = 0
    relation: Weight = 0
    coarse: Weight = 0
    fine: Weight = 0

    @model_validator(mode="after")
    def _some_term(self) -> LossWeights:
        if not self.used:
            raise ValueError("no loss has a weight above 0, so nothing would be learnt")
        return self

    @property
    def used(self) -> dict[str, float]:
        """Term -> weight, of the terms that are in the sum."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}


class Augment(Section):
    """A training sample is a part of a view: `sample_frames` of its frames (or pairs), `sample_grid`^2 of its patches,
    mirrored half of the time; `sample_grid` null: frames alone are sampled."""

    sample_frames: Positive
    sample_grid: Positive | None


class Training(Section):
    """One optimiser run. Learning rates are peaks of a one-cycle cosine.

    `augment` null: whole views, as they are. `mix_codecs`: a content's clips in a batch are of as many codecs as there
    are. `batches_per_step`: gradients of so many batches are averaged for one update.
    """

    epochs: Positive
    augment: Augment | None
    validate_every: Positive  # epochs; the last is always judged
    contents_per_batch: Positive
    clips_per_content: Positive
    mix_codecs: bool
    batches_per_step: Positive
    learning_rate: Rate
    backbone_learning_rate: Weight
    weight_decay: Weight
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    losses: LossWeights


class Execution(Section):
    """How a model is trained and run. Changes no answer beyond rounding, so it is not part of an artefact's id.

    `zero_stage` null: plain PyTorch, one process. 0 to 3: DeepSpeed with that ZeRO stage, any number of processes.
    """

    zero_stage: Literal[0, 1, 2, 3] | None
    gradient_checkpointing: bool
    keep_frozen: bool  # run the frozen lower layers once and train from what they gave; patches can't be sampled then


class TeacherSection(Section):
    """What all teachers' sections hold. bf16: frozen and trained weights stay fp32, products are taken in bf16."""

    precision: Literal["fp32", "bf16"]
    execution: Execution
    training: Training

    @model_validator(mode="after")
    def _whole_views_are_kept(self) -> TeacherSection:
        if self.execution.keep_frozen and self.training.augment is not None:
            raise ValueError("execution.keep_frozen keeps what whole views gave: set training.augment to null")
        own = {"likelihood", "stream", "coarse", "fine", "score_target", "soft_target", "cosine_target", "feature",
               "feature_cosine", "relation"} & set(self.training.losses.used)  # fmt: skip
        if own:
            raise ValueError(f"training.losses.{min(own)}: only a student learns by it")
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
        if set(self.training.losses.used) != {"contrast"}:
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


class BitrateGroups(Section):
    """Coarse to fine: each content's clips in `num_groups` bins of log bitrate between its own ends.

    `temperature` of the coarse contrast, or "learned" (from 0.1); `margin` of the fine rank loss, as a share of the
    label gap.
    """

    num_groups: Annotated[int, Field(ge=2)]
    temperature: Rate | Literal["learned"]
    margin: Rate


class StudentSection(Section):
    """What all students' sections hold.

    `stem_stages` of an ImageNet EfficientNet-Lite0 come first; `stem` frozen: their weights stay. `prompts`: size of
    each stage's prompt bank, 0 for none. `aleatoric`: the student also says how far off it expects to be; needs
    losses.likelihood. `start`: a student's checkpoint to go on from, null: ImageNet stem and random weights. `tune`
    styleprompt: only prompts and the last layer learn. `refit`: when validation contents have chosen the epoch and
    given the interval, the student that is kept learns anew, for all epochs, from them too. `pretrain`: a first run by
    contrast between encoder settings, which needs no labels; null: none. `reencoded_weight`: of an encode of an encode,
    in what is learnt of coded streams (losses.stream), whose quantiser says nothing of the first encode; in files of
    unknown making there are few.
    """

    stem_stages: Literal[3, 5]
    stem: Literal["tuned", "frozen"]
    prompts: Annotated[int, Field(ge=0)]
    aleatoric: bool
    start: Path | None
    tune: Literal["all", "styleprompt"]
    refit: bool
    bitrate_groups: BitrateGroups | None
    precision: Literal["fp32", "bf16"]
    execution: Execution
    pretrain: Training | None
    training: Training
    reencoded_weight: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> StudentSection:
        used = self.training.losses.used
        problems = []
        if self.bitrate_groups is None and {"coarse", "fine"} & set(used):
            problems.append("losses.coarse and losses.fine need `bitrate_groups`")
        if "contrast" in used:
            problems.append("losses.contrast belongs to `pretrain`, not to `training`")
        if self.aleatoric != ("likelihood" in used):
            problems.append("`aleatoric` and losses.likelihood go together")
        if (self.reencoded_weight is not None) != ("stream" in used):
            problems.append("`reencoded_weight` and losses.stream go together")
        if self.pretrain is not None and set(self.pretrain.losses.used) != {"contrast"}:
            problems.append("`pretrain` learns by losses.contrast alone")
        if self.tune == "styleprompt" and (self.start is None or not self.prompts):
            problems.append("`tune: styleprompt` needs `start`, a trained student, and `prompts` above 0")
        if self.start is not None and self.pretrain is not None:
            problems.append("give `start` or `pretrain`, not both")
        if self.execution.keep_frozen and self.stem == "tuned" and self.tune == "all":
            problems.append("execution.keep_frozen needs `stem: frozen`")
        augment = self.training.augment
        if self.execution.keep_frozen and augment is not None and augment.sample_grid is not None:
            problems.append("execution.keep_frozen keeps what whole frames gave: set augment.sample_grid to null")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class MambaShape(Section):
    """One entry a stage."""

    embed_dim: tuple[Positive, ...]
    depths: tuple[Positive, ...]
    state_dim: tuple[Positive, ...]
    feature_dim: Positive


class MambaStudent(StudentSection):
    """EfficientViM frames, an SSD layer over time."""

    model: Literal["mamba"]
    size: Literal["nano", "small"] | MambaShape


class SwinShape(Section):
    """`depths` and `num_heads` have one entry a stage, `embed_dim` doubles from one to the next; `window` in tokens."""

    embed_dim: Positive
    depths: tuple[Positive, ...]
    num_heads: tuple[Positive, ...]
    window: Positive
    feature_dim: Positive


class SwinStudent(StudentSection):
    """SwinV2 frames, stages fused by attention, a transformer layer over time."""

    model: Literal["swin"]
    size: Literal["nano", "small"] | SwinShape


Student = Annotated[MambaStudent | SwinStudent, Field(discriminator="model")]


class Evaluate(Section):
    """Intervals of the final table."""

    num_resamples: Positive


class Export(Section):
    """The ONNX files, one a precision. `interval_coverage`: share of clips that the interval round a score holds."""

    opset: Annotated[int, Field(ge=18)]
    interval_coverage: Annotated[float, Field(gt=0, lt=1)]
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...]

    @model_validator(mode="after")
    def _fp32_is_the_measure(self) -> Export:
        if "fp32" not in self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise ValueError("`precisions` needs fp32, against which the others are judged, and each but once")
        return self


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

    @model_validator(mode="after")
    def _streams_have_texture(self) -> RunConfig:
        recipe = self.views.recipe
        fits = recipe.frame_choice == "pairs" and recipe.patch_px >= 32 and recipe.patch_px % 4 == 0
        if "stream" in self.student.training.losses.used and not fits:
            raise ValueError("student.training.losses.stream needs views.recipe.frame_choice: pairs, and a patch_px of"
                             " 32 or more that 4 divides")  # fmt: skip
        return self


def load_config(path: Path, *, sources: Path | None = None, student: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a run's YAML; `sources` replaces the config's masters by a folder, `student` keys of that section.

    Raises:
        ValueError: the file is missing or no YAML, or keys are wrong; every wrong key is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such config; see configs/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a config is a mapping of keys")
    if sources is not None:
        own = values.get("sources")
        kept = own if isinstance(own, dict) and "folder" in own else {}  # of built-in scenes nothing holds for a folder
        values["sources"] = kept | {"folder": str(sources)}
    if student and isinstance(values.get("student"), dict):
        values["student"] |= student
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{_where(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ValueError(f"{path}: {len(lines)} wrong key(s)\n  " + "\n  ".join(lines)) from error


def _where(location: tuple[str | int, ...]) -> str:
    """A key's path as the YAML has it: pydantic puts a model's name between `teacher` or `student` and its keys."""
    path = [str(part) for part in location] or ["keys together"]
    return ".".join(path[:1] + path[2:] if path[0] in ("teacher", "student") and len(path) > 2 else path)
