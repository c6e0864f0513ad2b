"""How several rated sets share one score: a scale and an offset for each set, trained with the model.

Raters of two sets differ in how they use their scales. A model has one score s, a fraction of the shared scale; set k's
labels are fitted by scale_k * s + offset_k. The first set is the measure: its scale is 1, its offset 0. What scores
are compared with labels by, in losses and validation, is this map; the exported score is s, and intervals around it are
of labels by the inverse map.
Shapes: B clips, K sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rungwise.score.contract import Scale, SetMap

MAP_RATE: Final = (
    10.0  # learning rate of the maps over that of the heads: they move together with all of a set's labels
)
LOWEST_SCALE: Final = 0.2  # what a label is divided by where a loss needs it as a fraction of the shared scale


class SetMaps(nn.Module):
    """The maps of all sets but the first; weight decay pulls them to the first one's."""

    def __init__(self, num_sets: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(num_sets - 1))
        self.offset = nn.Parameter(torch.zeros(num_sets - 1))

    def forward(self, score_B: Tensor) -> Tensor:
        """Scales and offsets, (B, 2, K), the same in every row: engines gather rows."""
        scales = 1 + torch.cat([self.gain.new_zeros(1), self.gain])
        offsets = torch.cat([self.offset.new_zeros(1), self.offset])
        return torch.stack([scales, offsets]).expand(len(score_B), -1, -1)


def of_rows(maps_B2K: Tensor, set_B: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's own scale and offset, (B,)."""
    own_B2 = maps_B2K.float()[torch.arange(len(set_B), device=maps_B2K.device), :, set_B]
    return own_B2[:, 0], own_B2[:, 1]


def on_own_scale(
    scores_N: NDArray[Any], scale_N: NDArray[Any], offset_N: NDArray[Any], shared: Scale
) -> NDArray[np.float32]:
    """Scores on the shared scale as their own sets' labels have them."""
    low, span = shared.minimum, shared.maximum - shared.minimum
    return np.asarray(low + span * ((scores_N - low) / span * scale_N + offset_N), np.float32)


def on_shared_scale(
    labels_N: NDArray[Any], scale_N: NDArray[Any], offset_N: NDArray[Any], shared: Scale
) -> NDArray[np.float64]:
    """Labels as the shared scale has them, the inverse of `on_own_scale`; they may lie beyond its ends."""
    low, span = shared.minimum, shared.maximum - shared.minimum
    return np.asarray(low + span * ((labels_N - low) / span - offset_N) / np.maximum(scale_N, LOWEST_SCALE), float)


def figures(names: Sequence[str], state: Mapping[str, Tensor]) -> dict[str, float]:
    """The maps as figures of an epoch, from a bundle's state."""
    if len(names) < 2:
        return {}
    scales, offsets = (1 + state["sets.gain"]).tolist(), state["sets.offset"].tolist()
    rows = zip(names[1:], scales, offsets, strict=True)
    return {
        f"{name} {key}": value for name, scale, offset in rows for key, value in (("scale", scale), ("offset", offset))
    }


def best_maps(sets: Sequence[SetMap], history: Sequence[Mapping[str, float]]) -> tuple[SetMap, ...]:
    """The sets with the maps of the epoch whose weights were taken: of least validation RMSE, or the last."""
    if len(sets) < 2:
        return tuple(sets)
    measured = [row for row in history if f"{sets[1].name} scale" in row]
    best = min(reversed(measured), key=lambda row: row.get("validation_rmse", 0.0))
    return (sets[0], *(
        each.model_copy(update={"scale": best[f"{each.name} scale"], "offset": best[f"{each.name} offset"]})
        for each in sets[1:]
    ))  # fmt: skip
