"""A whole run, and the reader of its YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from rungwise.config.ladder import Ladder, Sources
from rungwise.config.section import Positive, Section
from rungwise.config.students import Student
from rungwise.config.teachers import PATCH_LABEL, Cache, FullReferenceTeacher, Teacher
from rungwise.score.views import ViewRecipe

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Splits(Section):
    """Source groups held out; the rest trains. Rated data sets keep their official splits; numbers and fractions are
    of each data set, for the splits that it doesn't have."""

    validation: Positive | Fraction | tuple[str, ...]
    """number of groups, fraction of them, or names of contents (`DATASET/CONTENT` of a rated one)"""
    test: Positive | Fraction | tuple[str, ...]
    """as `validation`"""
    seed: int
    """of the draw, where numbers are given"""

    @property
    def named(self) -> tuple[str, ...]:
        """The test contents that are named: no variants are made of them."""
        return self.test if isinstance(self.test, tuple) else ()


class Views(Section):
    """The pixels that teacher and student are given."""

    recipe: ViewRecipe
    """shared by teacher and student"""
    per_clip: Positive
    """views of each clip for training"""


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
            raise ValueError("`precisions` needs fp32, against which the others are compared, and each once")
        return self


class RunConfig(Section):
    """A whole run, from masters to the exported file."""

    name: str
    """of the run, for reports"""
    seed: int
    """of training"""
    sources: Sources
    """masters, and rated data sets"""
    ladder: Ladder | None = None
    """encodes of the masters, and their labels; null: rated data sets alone"""
    splits: Splits
    """held-out contents"""
    views: Views
    """which pixels the models are given"""
    teacher: Teacher
    """one of six teachers"""
    cache: Cache
    """the teacher's outputs on disk"""
    student: Student
    """one of five students"""
    evaluate: Evaluate
    """the final table"""
    export: Export
    """ONNX files"""

    @model_validator(mode="after")
    def _layers_are_cached(self) -> RunConfig:
        if self.student.training.losses.layers > 0 and not self.cache.layers:
            raise ValueError("student.training.losses.layers needs modules of the teacher in cache.layers")
        return self

    @model_validator(mode="after")
    def _masters_are_encoded(self) -> RunConfig:
        if self.ladder is None and (self.sources.have_masters or self.sources.unlabelled):
            raise ValueError("ladder: masters and unlabelled videos need it")
        if self.ladder is not None and not self.sources.have_masters:
            raise ValueError("ladder: there are no masters in `sources` to encode: leave it out")
        return self

    @model_validator(mode="after")
    def _masters_are_at_hand(self) -> RunConfig:
        if not isinstance(self.teacher, FullReferenceTeacher):
            return self
        if self.sources.dataset or self.ladder is None:
            raise ValueError("sources.dataset: full_reference compares every clip with its master, and rated videos"
                             " have none: take another teacher")  # fmt: skip
        if self.sources.unlabelled is not None:
            raise ValueError("sources.unlabelled: full_reference compares every clip with its master: set it to null")
        if not self.views.recipe.pairs:
            raise ValueError("views.recipe.frame_choice: full_reference measures motion inside pairs of frames: set it"
                             " to pairs")  # fmt: skip
        if self.teacher.patches_per_clip and self.ladder.label != PATCH_LABEL:
            raise ValueError(f"teacher.patches_per_clip: patches are labeled by {PATCH_LABEL}, clips by "
                             f"{self.ladder.label}: set it to 0, or ladder.label to {PATCH_LABEL}")  # fmt: skip
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
        folder_keys = own if isinstance(own, dict) and "folder" in own else {}  # keys of built-in scenes fit no folder
        values["sources"] = folder_keys | {"folder": str(sources)}
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
