"""The register of teachers: docs/recipes/add-a-teacher.md. teacher/protocol.py says what a teacher is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rungwise.progress import to_stderr
from rungwise.score.views import ViewRecipe
from teacher.conviqt import Conviqt, conviqt_settings, load_conviqt, without_projector
from teacher.internvideo2 import InternVideo2Quality, internvideo2_settings, load_internvideo2
from teacher.lite0 import EfficientNetLite0, lite0_settings, load_imagenet_lite0
from teacher.quality_teacher import QualityTeacher

Settings = dict[str, Any]


def _as_trained(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[Settings, dict[str, Tensor]]:
    return dict(settings), dict(state)


@dataclass(frozen=True)
class Kind:
    """How a teacher comes to be: its section of the config -> JSON-able settings -> module -> pretrained weights.

    `settings` may read files (a CLIP folder's config); `build` may not: a checkpoint carries the settings. `finish`
    drops what only training needed.
    """

    settings: Callable[[Any, ViewRecipe], Settings]
    build: Callable[..., QualityTeacher]
    load: Callable[[Any, Any], None]
    finish: Callable[[Mapping[str, Any], Mapping[str, Tensor]], tuple[Settings, dict[str, Tensor]]] = _as_trained


def _q_clip() -> Kind:
    with to_stderr():  # transformers takes seconds to import; with DeepSpeed installed it prints too
        from teacher.q_clip import QClip, load_q_clip, q_clip_settings
    return Kind(q_clip_settings, QClip, load_q_clip)


def _clipvqa() -> Kind:
    with to_stderr():
        from teacher.clipvqa import ClipVqa, clipvqa_settings, load_clipvqa
    return Kind(clipvqa_settings, ClipVqa, load_clipvqa)


def _full_reference() -> Kind:
    from teacher.full_reference import FullReference, full_reference_settings, load_full_reference

    return Kind(full_reference_settings, FullReference, load_full_reference)


TEACHERS: dict[str, Callable[[], Kind]] = {
    "efficientnet_lite0": lambda: Kind(lite0_settings, EfficientNetLite0, load_imagenet_lite0),
    "internvideo2": lambda: Kind(internvideo2_settings, InternVideo2Quality, load_internvideo2),
    "q_clip": _q_clip,
    "clipvqa": _clipvqa,
    "conviqt": lambda: Kind(conviqt_settings, Conviqt, load_conviqt, without_projector),
    "full_reference": _full_reference,
}
