"""Teachers by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rungwise.progress import to_stderr
from rungwise.score.views import ViewRecipe
from teacher.conviqt import Conviqt, conviqt_settings, load_conviqt, without_projector
from teacher.internvideo2 import InternVideo2Quality, internvideo2_settings, load_internvideo2
from teacher.lite0 import EfficientNetLite0, lite0_settings, load_imagenet_lite0

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
    build: Callable[..., nn.Module]
    load: Callable[[Any, Any], None]
    finish: Callable[[Mapping[str, Any], Mapping[str, Tensor]], tuple[Settings, dict[str, Tensor]]] = _as_trained


def _clip(name: str) -> Callable[..., Any]:
    """A name of teacher/clip.py, imported when called: transformers takes seconds."""

    def call(*args: Any, **settings: Any) -> Any:
        with to_stderr():  # where DeepSpeed is installed, transformers imports it, and it speaks
            module = importlib.import_module("teacher.clip")
        return getattr(module, name)(*args, **settings)

    return call


TEACHERS: dict[str, Kind] = {
    "efficientnet_lite0": Kind(lite0_settings, EfficientNetLite0, load_imagenet_lite0),
    "internvideo2": Kind(internvideo2_settings, InternVideo2Quality, load_internvideo2),
    "q_clip": Kind(lambda section, _: _clip("q_clip_settings")(section), _clip("QClip"), _clip("load_q_clip")),
    "clipvqa": Kind(lambda section, _: _clip("clipvqa_settings")(section), _clip("ClipVqa"), _clip("load_clipvqa")),
    "conviqt": Kind(lambda section, _: conviqt_settings(section), Conviqt, load_conviqt, without_projector),
}
