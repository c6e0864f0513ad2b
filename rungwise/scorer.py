"""Score videos with an exported ONNX file: onnxruntime and the decoder only, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rungwise.contract import METADATA_KEY, Contract, check_golden, golden_deviation, golden_input
from rungwise.video import probe
from rungwise.views import make_views, read_views


@dataclass(frozen=True)
class Score:
    """One video's score on the contract's scale, with its conformal interval, and what was looked at."""

    path: str
    score: float
    low: float | None
    high: float | None
    display_height: int
    frames_used: int
    width: int
    height: int
    fps: float
    kind: str
    polarity: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Scorer:
    """An exported model, ready to score. Same file, same bits: one thread unless asked otherwise.

    Raises:
        ValueError: the file is missing, is no export of ours, or its golden output does not come back.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, check: bool = True) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: no such model file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, which share no narrower public base
            raise ValueError(f"{self.path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ValueError(f"{self.path}: carries no rungwise contract; export it with `rungwise export`")
        self.contract = Contract.model_validate_json(metadata[METADATA_KEY])
        if check:
            check_golden(self.contract, self.judge(golden_input(self.contract.view)), str(self.path))

    def judge(self, frames_BTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores_B of views, uint8 RGB, on the contract's scale."""
        (scores,) = self.session.run(["score"], {"frames": frames_BTHWC})
        return np.asarray(scores, np.float32)

    def score(self, path: str | Path, *, display_height: int | None = None) -> Score:
        """Score one video as shown at `display_height` lines, its own height if None.

        Raises:
            ValueError: the file can't be decoded, or is HDR, which the model never saw.
        """
        path = Path(path)
        seen = probe(path)
        if seen.hdr:
            raise ValueError(f"{path}: HDR video ({seen.hdr}); the model knows SDR only, tone-map it first")
        views = make_views(path, self.contract.view, display_height=display_height)
        score = float(self.judge(read_views(path, views))[0])
        scale, calibration = self.contract.scale, self.contract.calibration
        half = calibration.half_width if calibration else None
        return Score(
            path=str(path),
            score=score,
            low=None if half is None else max(scale.minimum, score - half),
            high=None if half is None else min(scale.maximum, score + half),
            display_height=views[0].display_height,
            frames_used=len(set(views[0].frame_indices)),
            width=seen.width,
            height=seen.height,
            fps=seen.fps,
            kind=scale.kind,
            polarity=scale.polarity,
        )


def golden_of_export(path: Path) -> tuple[dict[str, float], float]:
    """Deviation of an export's golden scores, and the tolerance that it carries.

    Raises:
        ValueError: the file is missing or no export of ours.
    """
    scorer = Scorer(path, check=False)
    deviation = golden_deviation(scorer.contract, scorer.judge(golden_input(scorer.contract.view)), str(path))
    assert scorer.contract.golden is not None
    return {"score": deviation}, scorer.contract.golden.tolerance
