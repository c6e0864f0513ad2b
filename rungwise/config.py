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
    soft_target: Weight
    feature: Weight


class Training(Section):
    """One optimiser run. Learning rates are peaks of a one-cycle cosine.

    A training sample is a part of a view: `sample_frames` of its frames, `sample_grid`^2 of its patches.
    """

    epochs: Positive
    sample_frames: Positive
    sample_grid: Positive
    validate_every: Positive  # epochs; the last is always judged
    contents_per_batch: Positive
    clips_per_content: Positive
    learning_rate: Rate
    backbone_learning_rate: Weight
    weight_decay: Weight
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    losses: LossWeights


class Teacher(Section):
    """Which teacher, and how it is tuned."""

    model: Literal["efficientnet_lite0"]
    num_levels: Annotated[int, Field(ge=2)]
    feature_dim: Positive
    frozen_stages: Annotated[int, Field(ge=0, le=7)]
    training: Training


class Cache(Section):
    """How soft targets are laid on disk. Changes no answer, but one cache is one layout."""

    clips_per_shard: Positive


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
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ValueError(f"{path}: {len(lines)} wrong key(s)\n  " + "\n  ".join(lines)) from error
