"""The students."""

from __future__ import annotations

from operator import not_
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rungwise.config.losses import LossWeights
from rungwise.config.section import Positive, Rate, Section
from rungwise.config.teachers import InternVideo2Shape
from rungwise.config.training import Execution, Training


class BitrateGroups(Section):
    """Coarse-to-fine contrast over bins of log bitrate."""

    num_groups: Annotated[int, Field(ge=2)]
    """bins between each content's lowest and highest log bitrate"""
    temperature: Rate | Literal["learned"]
    """of the coarse contrast; learned starts at 0.1"""
    margin: Rate
    """of the fine rank loss, as a fraction of the label gap"""
    mix: bool = Field(default=False, exclude_if=not_)
    """a content's clips in a batch are of as many groups as possible, so that each group has other contents"""


class StudentSection(Section):
    """Keys of all students."""

    start: Path | None
    """a student's checkpoint to continue from; null: pretrained weights where there are some, random ones else"""
    refit: bool
    """after validation chose the epoch and the interval, retrain on train and validation contents"""
    folds: Annotated[int, Field(ge=2)] | None = Field(default=None, exclude_if=not_)
    """for the interval, score all train and validation contents by students trained on the other folds; needs `refit`,
    and the last epoch is taken; null: validation contents alone"""
    bitrate_groups: BitrateGroups | None
    """for `losses.coarse` and `losses.fine`"""
    precision: Literal["fp32", "bf16"]
    """bf16: products are taken in bf16, weights stay in fp32"""
    execution: Execution
    """how it is run"""
    training: Training
    """how it is distilled"""

    @model_validator(mode="after")
    def _fits(self) -> StudentSection:
        if problems := self._problems():
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """One line for each pair of keys that don't go together."""
        used = self.training.losses.used
        problems = self.training.losses.misplaced("distill")
        if self.training.mix_codecs and self.bitrate_groups is not None and self.bitrate_groups.mix:
            problems.append("give `training.mix_codecs` or `bitrate_groups.mix`, not both")
        if self.folds is not None and not self.refit:
            problems.append("`folds` needs `refit: true`")
        for need, terms in LossWeights.terms_by_need().items():
            if bool(getattr(self, need)) != any(term in used for term in terms):
                problems.append(f"`{need}` and {' or '.join(f'losses.{term}' for term in terms)} go together")
        return problems


class PromptedSection(StudentSection):
    """Keys of students that give each frame a feature and that StylePrompt can tune."""

    prompts: Annotated[int, Field(ge=0)]
    """size of each StylePrompt's bank; 0: none"""
    aleatoric: bool
    """also predict the expected error; needs `losses.likelihood`"""
    tune: Literal["all", "styleprompt", "head"]
    """styleprompt: only the prompts and the last layer are trained; head: only the layers after the pooled feature"""
    pretrain: Training | None
    """a first run by contrast between encoder settings, without labels; null: none"""
    reencoded_weight: Annotated[float, Field(gt=0, le=1)] | None = None
    """weight of re-encodes in `losses.stream`: their QP only reflects the last encode"""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.pretrain is not None:
            problems += self.pretrain.losses.misplaced("pretrain")
        if self.tune == "styleprompt" and (self.start is None or not self.prompts):
            problems.append("`tune: styleprompt` needs `start`, a trained student, and `prompts` above 0")
        if self.tune == "head" and self.start is None:
            problems.append("`tune: head` needs `start`, a trained student")
        if self.start is not None and self.pretrain is not None:
            problems.append("give `start` or `pretrain`, not both")
        return problems


class StemStudentSection(PromptedSection):
    """Keys of light students, whose stem is an ImageNet network's first stages."""

    stem_stages: Literal[3, 5]
    """stages of an ImageNet EfficientNet-Lite0 that come first"""
    stem: Literal["tuned", "frozen"]
    """whether those stages are trained"""
    patch_scores: bool = Field(default=False, exclude_if=not_)
    """score each patch on its own, without its neighbors in the stitched view, then pool; for `losses.patch`"""

    def _problems(self) -> list[str]:
        used, problems = self.training.losses.used, super()._problems()
        for name in ("patch", "stream_patch"):
            if name in used and not self.patch_scores:
                problems.append(f"losses.{name} needs `patch_scores: true`")
        if "stream_patch" in used and not self.training.losses.is_hybrid:
            problems.append("losses.stream_patch needs losses.stream or losses.stream_smooth")
        if self.patch_scores and self.pretrain is not None:
            problems.append("`pretrain` takes views at half their size, which `patch_scores` can't cut: set it to null")
        if self.execution.keep_frozen and self.stem == "tuned" and self.tune == "all":
            problems.append("execution.keep_frozen needs `stem: frozen`")
        augment = self.training.augment
        if self.execution.keep_frozen and augment is not None and augment.sample_grid is not None:
            problems.append("execution.keep_frozen keeps what whole frames gave: set augment.sample_grid to null")
        return problems


class PixelStudentSection(PromptedSection):
    """Keys of students whose own first layers see the pixels."""

    checkpoint: str | None
    """ImageNet weights: a file, or a hub id (`OWNER/NAME` or `OWNER/NAME/FILE`); null: random weights"""

    patch_scores: ClassVar[Literal[False]] = False

    def _problems(self) -> list[str]:
        problems, used = super()._problems(), self.training.losses.used
        problems += [f"losses.{name}: this student scores no patches"
                     for name in ("patch", "stream_patch") if name in used]  # fmt: skip
        if self.start is not None and self.checkpoint is not None:
            problems.append("give `start` or `checkpoint`, not both")
        if self.execution.keep_frozen:
            problems.append("execution.keep_frozen: this student has no layers below those that train: set it to false")
        return problems


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


class MambaStudent(StemStudentSection):
    """The light Mamba student: EfficientViM stages on the ImageNet stem's maps, an SSD layer over time."""

    model: Literal["mamba"]
    """the student"""
    size: Literal["pooled", "nano", "small"] | MambaShape
    """a named size, or a custom shape; pooled: no stages over the frame, only the layer over time"""

    @model_validator(mode="after")
    def _sees_a_frame(self) -> MambaStudent:
        has_stages = self.size != "pooled" and (isinstance(self.size, str) or bool(self.size.embed_dim))
        if not has_stages and not self.patch_scores:
            raise ValueError("size: a student without stages needs `patch_scores: true`")
        return self


class QMambaShape(MambaShape):
    """A custom shape; one entry a stage."""

    window: Positive
    """side of the windows that are scanned one by one"""


class QMambaStudent(PixelStudentSection):
    """EfficientViM over each frame's pixels with scans of local windows (QMamba), an SSD layer over time."""

    model: Literal["qmamba"]
    """the student"""
    size: Literal["nano", "tiny", "small", "base"] | QMambaShape
    """a named size, EfficientViM-M1 to M4, or a custom shape"""


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


class SwinStudent(StemStudentSection):
    """The light Swin student: SwinV2 stages on the ImageNet stem's maps, fused by attention, then a transformer."""

    model: Literal["swin"]
    """the student"""
    size: Literal["nano", "small"] | SwinShape
    """a named size, or a custom shape"""


class SwinV2Student(PixelStudentSection):
    """SwinV2 over each frame's pixels, local features of all stages at their places and global ones, a transformer."""

    model: Literal["swinv2"]
    """the student"""
    size: Literal["tiny", "small", "base"] | SwinShape
    """a named size, or a custom shape"""


class InternVideo2Student(StudentSection):
    """InternVideo2 itself, of the teacher's family (InternVQA); pixel-only."""

    model: Literal["internvideo2"]
    """the student"""
    size: Literal["S", "B"] | InternVideo2Shape
    """a published size, or a custom shape"""
    checkpoint: str | None
    """a file, or a hub id (`OWNER/NAME` or `OWNER/NAME/FILE`); null: random weights"""
    gelu: Literal["tanh", "exact"]
    """form of the GELU, as the checkpoint was trained"""
    tune: Literal["head", "last_block", "all"]
    """layers that are trained"""

    # What only students with a stem have.
    aleatoric: ClassVar[Literal[False]] = False
    pretrain: ClassVar[None] = None
    reencoded_weight: ClassVar[None] = None
    patch_scores: ClassVar[Literal[False]] = False

    def _problems(self) -> list[str]:
        problems, used = super()._problems(), self.training.losses.used
        problems += [
            f"losses.{name}: internvideo2 scores no patches" for name in ("patch", "stream_patch") if name in used
        ]
        if self.start is not None and self.checkpoint is not None:
            problems.append("give `start` or `checkpoint`, not both")
        if self.execution.keep_frozen and self.tune == "all":
            problems.append("execution.keep_frozen needs `tune: head` or `last_block`")
        if self.execution.keep_frozen and self.training.augment is not None:
            problems.append("execution.keep_frozen keeps what whole views gave: set training.augment to null")
        return problems


Student = Annotated[
    MambaStudent | QMambaStudent | SwinStudent | SwinV2Student | InternVideo2Student,
    Field(discriminator="model"),
]
