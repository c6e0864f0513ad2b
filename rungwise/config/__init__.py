"""The schema of a run's YAML: unknown keys are errors, all errors are reported at once.

ladder.py: masters, encodes and labels; teachers.py and students.py: the models; training.py and losses.py: how they are
trained; run.py: the whole and its reader.
"""

from __future__ import annotations

from rungwise.config.ladder import Beside, Ladder, Rungs, RungSample, Sources
from rungwise.config.losses import LossWeights
from rungwise.config.run import Evaluate, Export, RunConfig, Splits, Views, load_config
from rungwise.config.students import (
    BitrateGroups,
    InternVideo2Student,
    MambaShape,
    MambaStudent,
    PixelStudentSection,
    PromptedSection,
    QMambaStudent,
    Student,
    StudentSection,
    SwinShape,
    SwinStudent,
    SwinV2Student,
)
from rungwise.config.teachers import (
    PATCH_LABEL,
    Cache,
    ClipVqaTeacher,
    ConviqtTeacher,
    FullReferenceTeacher,
    InternVideo2Shape,
    InternVideo2Teacher,
    Lite0Teacher,
    QClipTeacher,
    Teacher,
    TeacherSection,
)
from rungwise.config.training import Augment, Execution, Training

__all__ = [
    "PATCH_LABEL", "Augment", "Beside", "BitrateGroups", "Cache", "ClipVqaTeacher", "ConviqtTeacher", "Evaluate",
    "Execution", "Export", "FullReferenceTeacher", "InternVideo2Shape", "InternVideo2Student",
    "InternVideo2Teacher", "Ladder", "Lite0Teacher", "LossWeights", "MambaShape", "MambaStudent",
    "PixelStudentSection", "PromptedSection", "QClipTeacher", "QMambaStudent", "RunConfig", "RungSample", "Rungs",
    "Sources", "Splits", "Student", "StudentSection", "SwinShape", "SwinStudent", "SwinV2Student", "Teacher",
    "TeacherSection", "Training", "Views", "load_config",
]  # fmt: skip
