"""Rungwise: a small no-reference model that judges compressed video, and the road that makes it.

This package is what a scoring box needs and what all stages share. It imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Scorer", "__version__"]

if TYPE_CHECKING:
    from rungwise.score.scorer import Scorer


def __getattr__(name: str) -> object:
    """`from rungwise import Scorer` without paying for onnxruntime at `import rungwise`."""
    if name == "Scorer":
        from rungwise.score.scorer import Scorer

        return Scorer
    raise AttributeError(f"module 'rungwise' has no attribute {name!r}")
