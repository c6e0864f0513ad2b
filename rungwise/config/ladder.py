"""Masters, encodes and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from rungwise.config.section import Positive, Rate, Section


def _listed(value: Any) -> Any:
    """One path as a list of one."""
    return (value,) if isinstance(value, str | Path) else value


class Sources(Section):
    """Masters (built-in scenes, a folder of videos, photographs), rated data sets, or several of them."""

    builtin: Literal["all"] | tuple[str, ...] | None = None
    """built-in scenes by name, or all of them"""
    more_scenes: dict[str, Positive] = Field(default={})
    """further scenes per built-in family: `{water: 40}` draws `water_1` to `water_40`"""
    folder: Path | None = None
    """folder of master videos"""
    photographs: Path | None = None
    """folder of stills, turned into clips by a synthetic pan and zoom; needs `shots`"""
    shots: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)] | None = None
    """sizes of the clips made from each photograph, as `[width, height]` in pixels"""
    variants: Annotated[int, Field(ge=0)] = 0
    """augmented copies of each folder master: cropped, mirrored, reversed, sped up, enlarged or graded; test contents
    that are named in `splits.test` get none"""
    unlabelled: Path | None = None
    """folder of videos without masters; students train on the teacher's outputs for them"""
    dataset: Annotated[tuple[Path, ...], BeforeValidator(_listed)] = ()
    """tables of rated videos, as `rungwise dataset import` writes them: one, or a list; they need no `ladder`"""
    groups: dict[str, tuple[str, ...]] = Field(default={})
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
        if not self.have_masters and not self.dataset:
            raise ValueError("give `builtin`, `more_scenes`, `folder`, `photographs` or `dataset`, or several of them")
        stems = [path.stem for path in self.dataset]
        if len(set(stems)) < len(stems):
            raise ValueError("`dataset`: two tables have one name; sets are told apart by it")
        made = {
            "built-in scenes": (drawn, ("width", "height", "num_frames", "fps")),
            "photographs": (self.photographs, ("num_frames", "fps")),
        }
        for kind, (section, needed) in made.items():
            missing = [name for name in needed if getattr(self, name) is None]
            if section is not None and missing:
                raise ValueError(f"{kind} need {', '.join(missing)}")
        if (self.photographs is None) != (self.shots is None):
            raise ValueError("`photographs` and `shots` go together")
        if self.variants and (self.folder is None or self.num_frames is None):
            raise ValueError("`variants` need `folder` and `num_frames`")
        return self

    @property
    def have_masters(self) -> bool:
        """Whether there is anything to encode."""
        return bool(self.builtin or self.more_scenes or self.folder or self.photographs)


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
    first_crf: Annotated[int, Field(ge=1, le=51)] | None = None
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
    """Rungs beside the ladder's own, sampled separately: older codecs or slower presets, for example."""

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
    """further libvmaf models, as columns of the table"""
