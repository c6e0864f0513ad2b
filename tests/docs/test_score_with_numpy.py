"""The worked example of docs/onnx.md gives the scorer's own number, with NumPy and onnxruntime alone."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.media.packets import timestamps_seconds
from rungwise.media.video import rgb_frames
from rungwise.score.contract import Contract, Scale
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe, place_view
from student.export import export_onnx
from student.mamba import MambaStudent

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "score_with_numpy.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of pairs."""
    return export(tmp_path_factory.mktemp("example") / "student.onnx", "pairs")


def export(path: Path, frame_choice: str) -> Path:
    """A small untrained student whose scores differ from video to video."""
    torch.manual_seed(0)
    student = MambaStudent(
        embed_dim=(16, 24), depths=(1, 1), state_dim=(9, 4), feature_dim=16, stem_stages=3, tuned_stem=True,
        pairs=frame_choice == "pairs", prompts=0, aleatoric=False, hybrid=False, num_levels=5,
        minimum=0.0, maximum=100.0,
    )  # fmt: skip
    head: Any = student.head
    head.levels.weight.data *= 20
    contract = Contract(
        model="mamba",
        view=ViewRecipe.model_validate({"num_frames": 4, "frame_choice": frame_choice, "grid": 3, "patch_px": 32}),
        scale=Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100),
        calibration=None,
        golden=None,
        training_id="0123",
        dataset_sha256="4567",
    )
    export_onnx(student, contract, path, opset=20)
    return path


@pytest.fixture(scope="module")
def example() -> Any:
    """docs/score_with_numpy.py."""
    spec = importlib.util.spec_from_file_location("score_with_numpy", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decode(path: Path) -> np.ndarray:
    """All frames as RGB."""
    return np.stack([frame for _, frame in rgb_frames(path, range(len(timestamps_seconds(path))))])


def test_it_gives_the_scorers_number_at_any_display_height(
    example: Any, model: Path, clip: Path, small_clip: Path
) -> None:
    scorer = Scorer(model)
    cases = [(clip, 108), (small_clip, 108), (small_clip, 54), (clip, 71), (clip, 200), (small_clip, 20)]
    found = [example.score(str(model), decode(path), lines) for path, lines in cases]
    wanted = [scorer.score(path, display_height=lines).score for path, lines in cases]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert len(set(wanted)) == len(cases)


def test_it_runs_as_a_program_without_rungwise(model: Path, small_clip: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", decode(small_clip))
    command = [sys.executable, "-I", str(EXAMPLE), str(model), str(tmp_path / "frames.npy")]
    done = subprocess.run([*command, "108"], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(Scorer(model).score(small_clip, display_height=108).score, abs=1e-6)


def test_it_is_fifty_lines_of_numpy_and_onnxruntime() -> None:
    text = EXAMPLE.read_text()
    tree = ast.parse(text)
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert modules == {"hashlib", "json", "sys", "numpy", "onnxruntime"}
    code = text.split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 50


def test_the_documented_vector_is_what_views_are_made_of(example: Any) -> None:
    vector = json.loads((DOCS / "onnx.md").read_text().split("```json\n", 1)[1].split("```", 1)[0])
    recipe = ViewRecipe.model_validate(vector["recipe"])
    view = place_view(recipe, 0, tuple(vector["shown"]), (0,), (0.0,))
    assert view.seed == vector["seed"]
    assert [list(corner) for corner in view.corners_yx] == vector["corners_yx"]
    draws = (np.random.PCG64(int(view.seed[:32], 16)).random_raw(8) >> np.uint64(11)) / 2.0**53
    assert list(draws) == vector["draws"]
    width, height = vector["shown"]
    for cell, (down, across) in enumerate(draws.reshape(-1, 2)):
        corner = example.place(cell // 2, height, 2, 80, down), example.place(cell % 2, width, 2, 80, across)
        assert list(corner) == vector["corners_yx"][cell]


def test_the_documented_inputs_and_outputs_are_the_shipped_files() -> None:
    """Of each its name, type and shape, and how many numbers a bitstream gives."""
    text = (DOCS / "onnx.md").read_text()
    rows = re.findall(r"^\| `(\w+)`(?: \(in\))? \| (\w+) \| (batch[^|]*) \|", text, re.MULTILINE)
    documented = {name: (kind, shape.split(", ")) for name, kind, shape in rows}
    session = Scorer(check=False).session
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    assert documented.keys() == {node.name for node in (*session.get_inputs(), *session.get_outputs())}
    for node in (*session.get_inputs(), *session.get_outputs()):
        kind, shape = documented[node.name]
        assert kind == types[node.type]
        assert len(shape) == len(node.shape)
        for written, real in zip(shape, node.shape, strict=True):
            assert not written.isdigit() or int(written) == real, node.name
    assert documented["stream"][1] == ["batch", str(BITSTREAM_INPUT_DIM)]


@pytest.mark.parametrize("choice", ["uniform", "difference"])
def test_other_choices_of_frames_are_the_scorers_or_refused(
    example: Any, clip: Path, tmp_path: Path, choice: str
) -> None:
    path = export(tmp_path / "student.onnx", choice)
    if choice == "difference":
        with pytest.raises(ValueError, match="frame_choice is difference"):
            example.score(str(path), decode(clip), 108)
    else:
        assert example.score(str(path), decode(clip), 108) == pytest.approx(Scorer(path).score(clip).score, abs=1e-6)
