"""How a model is trained and run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rungwise.config.losses import LossWeights
from rungwise.config.section import Positive, Rate, Section, Weight


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
    """of the averaged weights, which are the ones in the checkpoint"""
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
