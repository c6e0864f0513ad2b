"""Loss terms: weight, stages and needs of each. Their functions are in distill/losses.py, under the same names."""

from __future__ import annotations

from operator import not_
from typing import Any

from pydantic import Field, model_validator

from rungwise.config.section import Section


def term(*stages: str, needs: str | None = None, hash_zero: bool = True) -> Any:
    """The weight of a loss for these stages; `needs` is a key of the student's section.

    `hash_zero`: a weight of 0 is part of an artifact's id; not of terms that came later, so that old ids stay.
    """
    exclude = None if hash_zero else not_
    return Field(default=0, ge=0, exclude_if=exclude, json_schema_extra={"stages": list(stages), "needs": needs})


class LossWeights(Section):
    """Weights of the loss terms; a term without a weight is left out."""

    label: float = term("teach", "distill")
    """mean squared error between score and label"""
    plcc: float = term("teach", "distill")
    """(1 - PLCC) / 2 over the batch"""
    rank: float = term("teach", "distill")
    """hinge on pairs of the batch that are out of the label's order"""
    vector: float = term("teach", "distill")
    """1 - cosine between the level distribution and levels softened around the label"""
    likelihood: float = term("distill", needs="aleatoric")
    """Gaussian negative log likelihood with the predicted error; needs `student.aleatoric`"""
    stream: float = term("distill", needs="reencoded_weight")
    """mean squared error of the hybrid score; needs bitstream features"""
    contrast: float = term("teach", "pretrain")
    """contrast between encoder settings; only for CONVIQT and `student.pretrain`"""
    score_target: float = term("distill")
    """mean squared error to the teacher's score"""
    soft_target: float = term("distill")
    """KL divergence from the teacher's level distribution"""
    cosine_target: float = term("distill")
    """1 - cosine between the level distributions of student and teacher"""
    feature: float = term("distill")
    """smooth L1 between the normalized features of student and teacher"""
    feature_cosine: float = term("distill")
    """1 - cosine between the normalized features of student and teacher"""
    relation: float = term("distill")
    """squared difference between the clip-to-clip similarities of student and teacher"""
    coarse: float = term("distill", needs="bitrate_groups")
    """contrast between bitrate groups; needs `student.bitrate_groups`"""
    fine: float = term("distill", needs="bitrate_groups")
    """order inside a bitrate group; needs `student.bitrate_groups`"""
    patch: float = term("distill", hash_zero=False)
    """smooth L1 between the patch scores of student and teacher; needs `student.patch_scores`"""
    stream_smooth: float = term("distill", needs="reencoded_weight", hash_zero=False)
    """smooth L1 of the hybrid score, which heeds outliers less than `stream` does; needs bitstream features"""
    stream_patch: float = term("distill", hash_zero=False)
    """`patch` of the hybrid patch scores; needs `stream` or `stream_smooth`"""
    layers: float = term("distill", hash_zero=False)
    """smooth L1 between the teacher's `cache.layers` and projections of the student's feature, one a layer"""

    @model_validator(mode="after")
    def _some_term(self) -> LossWeights:
        if not self.used:
            raise ValueError("no loss has a weight above 0, so nothing would train")
        return self

    @property
    def used(self) -> dict[str, float]:
        """Term -> weight, of the terms that are in the sum."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}

    @property
    def is_hybrid(self) -> bool:
        """Whether the hybrid score is trained."""
        return self.stream > 0 or self.stream_smooth > 0

    def misplaced(self, stage: str) -> list[str]:
        """One line for each term in use that is not for this stage."""
        stages = {name: _extra(name)["stages"] for name in self.used}
        return [f"losses.{name} is for {' and '.join(of)}, not for {stage}"
                for name, of in stages.items() if stage not in of]  # fmt: skip

    @classmethod
    def terms_by_need(cls) -> dict[str, list[str]]:
        """Key of the student's section -> the terms that need it."""
        terms: dict[str, list[str]] = {}
        for name in cls.model_fields:
            if need := _extra(name)["needs"]:
                terms.setdefault(need, []).append(name)
        return terms


def _extra(name: str) -> dict[str, Any]:
    """What `term` gives a loss."""
    extra = LossWeights.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra
