"""The example for Node gives the scorer's own number."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import rgb_frames
from rungwise.score.scorer import Scorer

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
@pytest.mark.skipif(
    not (ROOT / "node_modules" / "onnxruntime-node").is_dir(),
    reason="no node_modules/onnxruntime-node: npm install --no-save --ignore-scripts onnxruntime-node",
)
@pytest.mark.parametrize("lines", [54, 108, 200])
def test_it_gives_the_scorers_number(web_page: Path, clip: Path, lines: int) -> None:
    frames = np.stack([frame for _, frame in rgb_frames(clip, range(len(timestamps_seconds(clip))))])
    height, width = frames.shape[1:3]
    facts = ROOT / "docs" / "score_with_node.mjs", web_page, width, height, lines
    command = [str(NODE), *map(str, facts)]
    done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=True)
    expected = Scorer(check=False).score(clip, pixel_only=True, display_height=lines).score
    assert float(done.stdout) == pytest.approx(expected, abs=0.01)
