"""Loss terms and their weights."""

from __future__ import annotations

from pydantic import model_validator

from rungwise.config.section import Section, Weight


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
