"""Trial encodes of one codec and height: some scored by the model, some measured by VMAF, the rest estimated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from rungwise.ladder.encode import EncodeSpec
from rungwise.ladder.search import Axis, log_loss
from rungwise.ladder.trials import Trials, with_rate
from rungwise.progress import note

TRIAL_DOUBLINGS = (-1.2, 0.8, 2.8)  # places of the trial encodes, in doublings of the loss from a typical one
FURTHER_DOUBLINGS = 1.5  # from the last trial encode to one beyond it


@dataclass
class HeightCurve:
    """Trial encodes of one codec and height, by place on the axis: bitrate, model's scores, VMAF."""

    trials: Trials
    spec: EncodeSpec
    axis: Axis
    kbps: dict[int, float] = field(default_factory=dict)
    model: dict[int, float] = field(default_factory=dict)
    vmaf: dict[int, float] = field(default_factory=dict)

    def spec_at(self, place: int) -> EncodeSpec:
        """The encode at a place."""
        return with_rate(self.spec, self.axis.option, self.axis.values[place])

    def try_places(self) -> None:
        """Encode and score the trial places; VMAF measures the middle one."""
        places = {self._inside(self.axis.start + shift * self.axis.doubling) for shift in TRIAL_DOUBLINGS}
        for place in sorted(places):
            self._try(place)
        self.measure(sorted(self.model)[len(self.model) // 2])

    def try_further(self, direction: Literal[-1, 1]) -> bool:
        """Encode and score a place beyond the first (-1, better quality) or the last (1); False if there is none."""
        end = min(self.model) if direction < 0 else max(self.model)
        place = self._inside(end + direction * FURTHER_DOUBLINGS * self.axis.doubling)
        if place == end:
            return False
        self._try(place)
        return True

    def _inside(self, place: float) -> int:
        return min(max(round(place), 0), len(self.axis.values) - 1)

    def _try(self, place: int) -> None:
        self._encode(place)
        self.model[place] = self.trials.model_score(self.spec_at(place))

    def measure(self, place: int) -> None:
        """Measure a place by VMAF."""
        self._encode(place)
        self.vmaf[place] = self.trials.vmaf(self.spec_at(place))
        note(f"{self.spec.codec} {self.spec.height}p crf {self.axis.values[place]}: VMAF v1 {self.vmaf[place]:.1f}")

    def _encode(self, place: int) -> None:
        self.kbps[place] = self.trials.kbps(self.spec_at(place))

    def estimates(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Places between the outer trials, their bitrates and scores: the model's curve shifted through VMAF's."""
        known = sorted(self.model)
        x = np.arange(known[0], known[-1] + 1)
        rates = 2 ** np.interp(x, sorted(self.kbps), [np.log2(self.kbps[place]) for place in sorted(self.kbps)])
        curve = PchipInterpolator(known, [log_loss(self.model[place]) for place in known])
        measured = sorted(self.vmaf)
        shifts = [log_loss(self.vmaf[place]) - float(curve(place)) for place in measured]
        scores = 100 - 2 ** (curve(x) + np.interp(x, measured, shifts))
        return x, np.asarray(rates, np.float64), np.asarray(scores, np.float64)
