"""Students by name: built from a config's section, filled with pretrained weights, and what they cost.

student/protocol.py says what a student is. Light ones (student/frame_student.py) share an ImageNet stem that is small
enough to ship; others (student/pixel_student.py, student/internvideo2.py) are whole networks from the pixels up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rungwise.config import InternVideo2Student as InternVideo2Section
from rungwise.config import PixelStudentSection, PromptedSection, Student
from rungwise.score.views import ViewRecipe
from student.frame_student import FrameStudent
from student.internvideo2 import InternVideo2Student, internvideo2_settings, load_internvideo2
from student.mamba import MambaStudent
from student.pixel_student import PixelStudent, load_backbone
from student.qmamba import QMambaStudent
from student.quality_student import QualityStudent
from student.stem import load_imagenet_stem
from student.swin import SwinStudent
from student.swinv2 import SwinV2Student
from teacher.internvideo2 import InternVideo2

STUDENTS: dict[str, type[QualityStudent]] = {
    "mamba": MambaStudent,
    "qmamba": QMambaStudent,
    "swin": SwinStudent,
    "swinv2": SwinV2Student,
    "internvideo2": InternVideo2Student,
}


def student_settings(section: Student, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from a config's section, but for the label's range and levels."""
    if isinstance(section, InternVideo2Section):
        return internvideo2_settings(section, recipe)
    student = STUDENTS[section.model]
    size = student.SIZES[section.size] if isinstance(section.size, str) else section.size.model_dump()
    if isinstance(section, PixelStudentSection):
        return {**size, **_head_settings(section)}
    assert issubclass(student, FrameStudent)
    picture = recipe.model_copy(update={"grid": 1}) if section.patch_scores else recipe
    return {
        **size,
        "stem_stages": section.stem_stages,
        "tuned_stem": section.stem == "tuned",
        "pairs": recipe.pairs,
        **_head_settings(section),
        **student.view_settings(picture),
        **({"patch_px": recipe.patch_px} if section.patch_scores else {}),
    }


def _head_settings(section: PromptedSection) -> dict[str, Any]:
    return {
        "prompts": section.prompts,
        "aleatoric": section.aleatoric,
        "hybrid": section.training.losses.is_hybrid,
    }


def load_pretrained(model: QualityStudent, section: Student) -> None:
    """Fill a new student with the weights that it starts from; the rest starts from the seed."""
    if isinstance(section, InternVideo2Section):
        assert isinstance(model, InternVideo2Student)
        load_internvideo2(model, section)
    elif isinstance(section, PixelStudentSection):
        assert isinstance(model, PixelStudent)
        load_backbone(model, section.checkpoint)
    else:
        load_imagenet(model)


def load_imagenet(model: QualityStudent) -> None:
    """Fill the stem with ImageNet weights."""
    assert isinstance(model, FrameStudent), "only its students have a stem"
    load_imagenet_stem(model.backbone)


class Part(NamedTuple):
    """A part of a student: its name, weights, and multiply-adds for one video."""

    name: str
    weights: int
    macs: int


def cost(model: QualityStudent, recipe: ViewRecipe) -> list[Part]:
    """What each part costs for one video's view, in order; stages one by one.

    Multiply-adds are counted by PyTorch in convolutions, matrix products and attention; norms and activations, which
    it doesn't count, add little.
    """
    names: list[str] = []
    for name, child in model.named_children():
        is_split = name in ("stages", "prompts") or isinstance(child, InternVideo2 | nn.ModuleDict)
        names += [f"{name}.{part}" for part, _ in child.named_children()] if is_split else [name]
    frames = torch.zeros((1, recipe.num_frames, recipe.size_px, recipe.size_px, 3), dtype=torch.uint8)
    model.eval()
    counter = FlopCounterMode(display=False, depth=10)
    # The counter knows attention's plain form on every device, the CPU's fused one not at all.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(frames)
    counts, kind = counter.get_flop_counts(), type(model).__name__

    def flops(name: str) -> int:
        """A module that is never called itself, only its children, has no count of its own."""
        own = counts.get(f"{kind}.{name}")
        children = (f"{name}.{child}" for child, _ in model.get_submodule(name).named_children())
        return sum(own.values()) if own else sum(map(flops, children))

    parts = [
        Part(
            name,
            sum(parameter.numel() for parameter in model.get_submodule(name).parameters()),
            flops(name) // 2,
        )
        for name in names
    ]
    own = sum(p.numel() for p in model.parameters()) - sum(part.weights for part in parts)
    rest = counter.get_total_flops() // 2 - sum(part.macs for part in parts)
    return [part for part in (*parts, Part("other", own, rest)) if part.weights or part.macs]
