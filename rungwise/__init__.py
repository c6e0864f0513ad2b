"""Rungwise: no-reference quality prediction for compressed video, and the pipeline that trains the models.

This package scores videos and is shared by all training stages. It does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Scorer", "__version__"]

if TYPE_CHECKING:
    from rungwise.score.scorer import Scorer


def __getattr__(name: str) -> object:
    """`from rungwise import Scorer`; `import rungwise` alone does not import onnxruntime."""
    if name == "Scorer":
        from rungwise.score.scorer import Scorer

        return Scorer
    raise AttributeError(f"module 'rungwise' has no attribute {name!r}")
