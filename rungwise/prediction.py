"""The one result type of teachers and students."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

Array = TypeVar("Array")  # `torch.Tensor`: this package runs without torch


class Prediction(NamedTuple, Generic[Array]):
    """What a model predicts of a batch of clips.

    Shapes: B clips, T frames, K quality levels, D and E feature widths, V views, Z embedding width,
    U frames or pairs of frames, P patches.
    """

    score: Array
    """(B,), on the label's scale"""
    logits: Array
    """(B, K), of the quality levels from worst to best"""
    feature: Array
    """(B, D)"""
    frame_scores: Array | None = None
    """(B, T), of students: each frame's own score"""
    embeddings: Array | None = None
    """(B, V, Z), unit vectors, of models that are trained by contrast"""
    projected: Array | None = None
    """(B, E), in training with a feature loss: the feature at the teacher's width; of a student of the teacher's
    family, the feature itself"""
    deviation: Array | None = None
    """(B,), of aleatoric students: the predicted error in score units"""
    fused: Array | None = None
    """(B,), of hybrid students given bitstream features: the hybrid score"""
    patch_scores: Array | None = None
    """(B, U, P), of models that score each patch: its own score, patches row by row"""
    fused_patch_scores: Array | None = None
    """(B, U, P), of hybrid students that score patches, given bitstream features"""
    projected_layers: Array | None = None
    """(B, E), in training with the loss of layers: the feature at the width of each, normalized one by one"""
    set_maps: Array | None = None
    """(B, 2, K), in training on K rated sets: the scale and the offset of the score in each"""
