"""Recipes of docs/recipes/ followed to the letter in a copy of the code: at most two files edited, and it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEP = re.compile(r"^\d+\. `(?P<file>[^`]+)`: (?P<what>.*?)(?=^\d+\. |\Z)", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^ {4}```python\n(.*?)^ {4}```", re.DOTALL | re.MULTILINE)
MAX_EDITED_FILES = 2

FRAME_CHOICE = """
import numpy as np
from rungwise.score.views import ViewRecipe
recipe = ViewRecipe.model_validate({"num_frames": 4, "frame_choice": "first", "grid": 3, "patch_px": 80})
assert recipe.choose_frames(3, np.empty(0)) == (0, 1, 2, 2)
"""
CONFIG = """
import sys
from pathlib import Path
import torch, yaml
from rungwise.config import RunConfig, load_config
path = Path(sys.argv[1])
values = yaml.safe_load((path / "quickstart.yaml").read_text())
def config_of(section, **changes):
    kept = {name: value for name, value in values[section].items() if name not in ("feature_dim", "patches_per_clip")}
    return RunConfig.model_validate(values | {section: kept | changes})
"""
SAVE = """
from distill.checkpoint import load_checkpoint, save_checkpoint
from rungwise.score.contract import Contract, Scale
scale = Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100)
def save(name, model, settings, recipe):
    contract = Contract(model=name, view=recipe, scale=scale, calibration=None, golden=None, training_id="",
                        dataset_sha256="")
    saved = save_checkpoint(path / "model.safetensors", model.eval(), settings, contract)
    load_checkpoint(path / "model.safetensors")
    return saved
"""
STUDENT = """
from student.export import export_onnx
from student.models import STUDENTS, load_imagenet, student_settings
config = config_of("student", model="conv", size="nano")
recipe = config.views.recipe
settings = student_settings(config.student, recipe) | {"num_levels": 5, "minimum": 0.0, "maximum": 100.0}
model = STUDENTS["conv"](**settings)
load_imagenet(model)
contract = save("conv", model, settings, recipe)
scores = export_onnx(model, contract, path / "student.onnx", opset=20).golden_scores()[:4]  # the rest are hybrid
assert abs(scores - contract.golden.scores).max() < 0.01
"""
TEACHER = """
from teacher.models import TEACHERS
config = config_of("teacher", model="colors", execution=values["teacher"]["execution"] | {"keep_frozen": False})
kind, recipe = TEACHERS["colors"](), config.views.recipe
settings = kind.settings(config.teacher, recipe) | {"minimum": 0.0, "maximum": 100.0}
model = kind.build(**settings)
kind.load(model, config.teacher)
save("colors", model, settings, recipe)
"""
TARGET = """
from student.export import seal
from student.mamba import MambaStudent
from student.targets import EXPORT_TARGETS, Source
from student.trace import trace
config = config_of("export", precisions=["fp32", "w16"])
recipe = config.views.recipe
settings = {"embed_dim": (16, 24, 32), "depths": (1, 1, 1), "state_dim": (9, 4, 4), "feature_dim": 32,
            "stem_stages": 3, "tuned_stem": True, "pairs": True, "prompts": 0, "aleatoric": False, "hybrid": False,
            "num_levels": 5, "minimum": 0.0, "maximum": 100.0}
contract = save("mamba", MambaStudent(**settings), settings, recipe)
graph = trace(MambaStudent(**settings), recipe, opset=20)
source, files = Source(graph, contract, lambda: None, path), {}
for name in config.export.precisions:
    attempt = next(EXPORT_TARGETS[name].attempts(source))
    file = path / EXPORT_TARGETS[name].file
    scorer = seal(attempt.graph, contract.model_copy(update={"precision": name}), file)
    files[name] = scorer.golden_scores(), file.stat().st_size
assert abs(files["w16"][0] - files["fp32"][0]).max() < 0.5
assert files["w16"][1] < 0.7 * files["fp32"][1]
"""
DATASET = """
import sys
from pathlib import Path
import pandas as pd
from rungwise.datasets import import_dataset
folder = Path(sys.argv[1])
rows = ["file,source,mos,bitrate", "a_1.mp4,a,4.5,2000000", "a_2.mp4,a,2,300000", "b_1.mp4,b,9,1000000"]
(folder / "scores.csv").write_text("\\n".join(rows) + "\\n")
report = import_dataset("town", folder, folder / "town.csv", videos=False)
table = pd.read_csv(folder / "town.csv")
assert table["bitrate_kbps"].tolist() == [2000.0, 300.0], table
assert table["content"].tolist() == ["a", "a"]
assert [len(names) for names in report.refused.values()] == [1]
"""
CODEC = """
import sys
from pathlib import Path
from rungwise.ladder.encode import EncodeSpec, encode
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import probe
folder = Path(sys.argv[1])
run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1", "-c:v", "ffv1", str(folder / "master.mkv")])
sizes = []
for crf in (4, 16):
    encode(folder / "master.mkv", folder / f"{crf}.mkv", EncodeSpec("mpeg2", height=64, crf=crf))
    sizes.append((folder / f"{crf}.mkv").stat().st_size)
assert probe(folder / "4.mkv").codec == "mpeg2video"
assert sizes[0] > sizes[1]
"""
RECIPES = {
    "add-a-dataset": DATASET,
    "add-a-codec": CODEC,
    "add-a-frame-choice": FRAME_CHOICE,
    "add-a-student": CONFIG + SAVE + STUDENT,
    "add-a-teacher": CONFIG + SAVE + TEACHER,
    "add-an-export-target": CONFIG + SAVE + TARGET,
}


def follow(recipe: str, folder: Path) -> set[str]:
    """Apply a recipe's steps to a copy of the code; the names of the files that were edited."""
    edited = set()
    for step in STEP.finditer(recipe):
        path, what = folder / step["file"], step["what"]
        code, *imports = [textwrap.dedent(block) for block in CODE.findall(what)]
        if "new file" in what:
            assert not path.exists()
            path.write_text(code)
            continue
        edited.add(step["file"])
        text = path.read_text()
        if entry := re.search(r"add to `(\w+)`", what):
            start = re.search(rf"^{entry[1]}\b.*\{{\n", text, re.MULTILINE)
            assert start is not None
            text = text[: start.end()] + textwrap.indent(code, "    ") + text[start.end() :]
        elif above := re.search(r"add the \w+ above `(\w+)`", what):
            place = re.search(rf"^{above[1]}\b", text, re.MULTILINE)
            assert place is not None
            text = f"{text[: place.start()]}\n{code}\n\n{text[place.start() :]}"
        else:
            name = re.search(r"replace `(\w+)`", what)
            assert name is not None
            old = re.search(rf"^( *){name[1]}\b[:=\s].*?(?<=[\])])\n", text, re.DOTALL | re.MULTILINE)
            assert old is not None
            text = text[: old.start()] + textwrap.indent(code, old[1]) + text[old.end() :]
        for line in imports:
            text = text.replace("\n\nfrom rungwise", f"\n\n{line}from rungwise", 1)
        path.write_text(text)
    return edited


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_edits_two_files_at_most_and_runs(name: str, tmp_path: Path) -> None:
    for package in ("rungwise", "distill", "student", "teacher"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    shutil.copy(ROOT / "configs" / "quickstart.yaml", tmp_path)
    edited = follow((ROOT / "docs" / "recipes" / f"{name}.md").read_text(), tmp_path)
    assert 1 <= len(edited) <= MAX_EDITED_FILES
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", RECIPES[name], str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
