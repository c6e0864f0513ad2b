"""docs/recipes/add-a-loss.md, followed to the letter in a copy of the code: two files, then it trains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from distill.losses import LOSSES
from rungwise.config import LossWeights

ROOT = Path(__file__).parents[2]
FILES = ("rungwise/config/losses.py", "distill/losses.py")
STEP = re.compile(r"^\d+\. `([^`]+)`.*?```python\n(.*?)```", re.DOTALL | re.MULTILINE)
TRAIN = """
import sys
from pathlib import Path
import numpy as np
import torch
from distill.examples import Examples
from distill.train import fit
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.config import Training
from rungwise.prediction import Prediction
from rungwise.score.contract import Scale

class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 2)
    def forward(self, frames_BTHWC):
        feature = frames_BTHWC.float().mean((1, 2, 3)) / 255
        logits = self.head(feature)
        return Prediction(100 * logits.softmax(-1)[:, 1], logits, feature)

pixels = np.random.default_rng(0).integers(0, 255, (4, 1, 1, 8, 8, 3), dtype=np.uint8)
scores, numbers = np.array([10, 40, 60, 90], np.float32), np.zeros(4, np.int64)
train = Examples(pixels, scores, ("a", "a", "b", "b"), ("h264",) * 4, numbers, numbers, 8, 1,
                 np.full((4, BITSTREAM_INPUT_DIM), np.nan, np.float32), np.ones(4, np.float32), {})
training = Training.model_validate({
    "epochs": 2, "augment": None, "validate_every": 1, "contents_per_batch": 2, "clips_per_content": 2,
    "mix_codecs": False, "batches_per_step": 1, "learning_rate": 0.1, "backbone_learning_rate": 0,
    "weight_decay": 0, "ema_decay": 0.5, "losses": {"huber": 1.0}})
scale = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)
history, _ = fit(Mean(), train, None, training, scale, seed=0, scratch=Path(sys.argv[1]), name="recipe")
print(*(row["huber"] for row in history))
"""


def test_the_schema_and_the_register_hold_the_same_losses() -> None:
    assert LOSSES.keys() == LossWeights.model_fields.keys()


def test_the_recipe_touches_two_files_and_trains(tmp_path: Path) -> None:
    for package in ("rungwise", "distill", "student", "teacher"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    steps = dict(STEP.findall((ROOT / "docs" / "recipes" / "add-a-loss.md").read_text()))
    assert tuple(steps) == FILES
    weight, function = map(textwrap.dedent, steps.values())
    schema, losses = (tmp_path / name for name in FILES)
    before_validator, rest = schema.read_text().split("\n    @model_validator", 1)
    schema.write_text(before_validator + textwrap.indent(weight, "    ") + "\n    @model_validator" + rest)
    losses.write_text(losses.read_text() + "\n\n" + function)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", TRAIN, str(tmp_path / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    first, second = map(float, done.stdout.split())
    assert 0 < second < first
