"""The teacher that sees the master: from labels to a verified cache with patch scores, on four small scenes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from distill.cache_audit import verify_cache
from distill.checkpoint import load_checkpoint
from distill.data import read_data
from distill.pipeline import Outcome, run
from distill.reference import build_parts, open_parts, with_patches
from distill.stage import Inputs
from distill.view_store import read_view_lists
from rungwise.artifact import hash_files, read_facts, sha256_json
from rungwise.config import RunConfig, load_config
from rungwise.ladder.patch_parts import PARTS
from teacher.cache import read_cache
from teacher.full_reference import STANDARD, pooled_parts

TEACHER = {
    "model": "full_reference",
    "num_levels": 5,
    "feature_dim": 16,
    "patches_per_clip": 2,
    "precision": "fp32",
    "execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True},
}
CHANGES = {
    "sources": {"builtin": ["street_a", "fog_b", "screen_a", "water_a"], "width": 480, "height": 270, "num_frames": 3,
                "fps": 6.0},
    "ladder": {
        "label": "vmaf_v1.0.16_3d0h",
        "extra_labels": [],
        "rungs": [{"codec": "h264", "preset": "ultrafast", "scales": [1.0], "crf": [18, 46]}],
    },
    "splits": {"validation": 1, "test": 1, "seed": 0},
    "views": {"per_clip": 2, "recipe": {"num_frames": 2, "frame_choice": "pairs", "grid": 2, "patch_px": 80}},
    "cache": {"clips_per_shard": 8, "clips_per_batch": 4, "feature_dtype": "float16", "layers": ["head.0"]},
}  # fmt: skip


def write_config(folder: Path, **sections: Any) -> Path:
    values = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text()) | CHANGES
    training = values["teacher"]["training"] | {"epochs": 2, "augment": None, "contents_per_batch": 2,
                                                "clips_per_content": 2}  # fmt: skip
    values["teacher"] = TEACHER | {"training": training}
    for name, changes in sections.items():
        values[name] = values[name] | changes
    path = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return load_config(write_config(tmp_path_factory.mktemp("full_reference")))


@pytest.fixture(scope="module")
def made(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    runs = tmp_path_factory.mktemp("full_reference_runs")
    return runs, run(config, runs, until="cache")


def largest_error(cache: Path) -> dict[str, float]:
    rows, tolerance = verify_cache(cache, sample=8, seed=0, tolerance=None, device="cpu")
    assert tolerance == 1e-3
    return {name: max(row[name] for row in rows) for name in rows[0] if name != "clip"}


def test_patch_scores_are_the_parts_own_and_go_through_the_audit(config: RunConfig, made: tuple[Path, Outcome]) -> None:
    _, outcome = made
    cache, parts = outcome.artifacts["cache"], open_parts(outcome.artifacts["parts"])
    assert parts.shape == (8, 2, 1, 4, len(PARTS))
    data = read_data(config, outcome.artifacts["ladder"], outcome.artifacts["views"])
    targets = read_cache(cache, list(data.table["clip"]), read_view_lists(data.views))
    np.testing.assert_array_equal(targets["patch_scores"], parts[..., 0])
    assert read_facts(cache)["fields"]["patch_scores"] == {"dtype": "float32", "shape": ["clips", 2, 1, 4]}
    examples = data.examples("train", targets=targets)
    assert examples.targets["patch_scores"].shape == (4, 2, 1, 4)
    by_clip = dict(zip(data.table["clip"], np.asarray(targets["patch_scores"]).mean((1, 2, 3)), strict=True))
    for content in data.table["content"].unique():
        assert by_clip[f"{content}-h264-270p-crf18-ultrafast"] > by_clip[f"{content}-h264-270p-crf46-ultrafast"] + 5
    errors = largest_error(cache.path)
    assert set(errors) == {"scores", "levels", "features", "patch_scores", "layer.head.0"}
    assert max(errors.values()) < 1e-3


def test_a_second_run_compares_nothing_again(config: RunConfig, made: tuple[Path, Outcome]) -> None:
    runs, first = made
    second = run(config, runs, until="cache")
    assert all(artifact.hit for artifact in second.artifacts.values())
    model, contract, _ = load_checkpoint(first.artifacts["teach"].path / "teacher.safetensors")
    assert contract.model == "full_reference"
    assert contract.golden is not None
    assert len(set(contract.golden.scores)) == 4
    assert not any(name.startswith("standard") for name in model.state_dict())


def test_a_changed_patch_score_or_master_fails_the_audit(made: tuple[Path, Outcome], tmp_path: Path) -> None:
    runs, outcome = made
    for stage in ("masters", "ladder", "teach", "parts", "cache"):
        shutil.copytree(runs / stage, tmp_path / stage)
    cache = tmp_path / "cache" / outcome.artifacts["cache"].id
    (shard,) = cache.glob("shard-*")
    tensors = load_file(shard)
    tensors["patch_scores"][0, 0, 0, 0] -= 1
    save_file(tensors, shard)
    with pytest.raises(ValueError, match="bytes differ from the manifest"):
        verify_cache(cache, sample=8, seed=0, tolerance=None, device="cpu")
    manifest = json.loads((cache / "manifest.json").read_text())
    files = hash_files(cache)
    (cache / "manifest.json").write_text(json.dumps(manifest | {"files": files, "content_sha256": sha256_json(files)}))
    errors = largest_error(cache)
    assert errors["patch_scores"] > 1e-3 > errors["scores"]
    for master in (tmp_path / "masters").rglob("*.mkv"):
        master.write_bytes(master.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"\.mkv: content: not the bytes that the teacher was given; the master was"):
        verify_cache(cache, sample=1, seed=0, tolerance=None, device="cpu")
    shutil.rmtree(tmp_path / "masters")
    with pytest.raises(ValueError, match=r"\.mkv: no such file; the teacher needs the master of"):
        verify_cache(cache, sample=1, seed=0, tolerance=None, device="cpu")


def test_a_killed_comparison_goes_on_at_the_next_clip(
    config: RunConfig, made: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, outcome = made
    for stage in ("masters", "ladder", "views"):
        shutil.copytree(runs / stage, tmp_path / stage)
    calls: list[int] = []

    def compare(encode: Any, master: Any, patch_px: int) -> Any:
        calls.append(len(calls))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return np.full((2, 1, 4, len(PARTS)), 50 + encode.mean(), np.float32)

    monkeypatch.setattr("distill.reference.patch_parts", compare)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, until="parts")
    resumed = run(config, tmp_path, until="parts").artifacts["parts"]
    assert len(calls) == 8 + 1  # every clip once, and again the one that was cut short
    assert resumed.id == outcome.artifacts["parts"].id


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": {"recipe": {"num_frames": 2, "frame_choice": "uniform", "grid": 2, "patch_px": 80}}},
         r"views\.recipe\.frame_choice: full_reference .* set it to pairs"),
        ({"sources": {"unlabelled": "videos"}}, r"sources\.unlabelled: full_reference .* set it to null"),
        ({"teacher": {"execution": {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False}}},
         r"execution\.keep_frozen: full_reference .* set it to true"),
        ({"ladder": {"label": "vmaf_v0.6.1"}}, r"teacher\.patches_per_clip: .* clips by vmaf_v0\.6\.1: set it to 0"),
        ({"teacher": {"feature_dim": 0}}, r"teacher\.feature_dim: "),
    ],
)  # fmt: skip
def test_configs_it_cannot_run_are_refused_by_key(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_config(write_config(tmp_path, **changes))


def test_a_clip_without_a_master_is_one_line(config: RunConfig, made: tuple[Path, Outcome], tmp_path: Path) -> None:
    runs, outcome = made
    artifacts = {"dataset": outcome.artifacts["ladder"], "views": outcome.artifacts["views"]}
    inputs = Inputs(outcome.artifacts["parts"].key, artifacts, runs, masters=())
    with pytest.raises(
        ValueError, match=r"teacher\.model: full_reference .* and 8 clips have none, the first"
    ) as error:
        build_parts(tmp_path, config, inputs)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
def test_a_student_learns_from_it_and_the_table_has_both(made: tuple[Path, Outcome], tmp_path: Path) -> None:
    runs, outcome = made
    size = {"embed_dim": [16, 16, 16], "depths": [1, 1, 1], "state_dim": [4, 4, 4], "feature_dim": 16}
    training = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text())["student"]["training"]
    training |= {"epochs": 1, "validate_every": 1, "contents_per_batch": 2, "clips_per_content": 2, "augment": None}
    path = write_config(
        tmp_path,
        student={"size": size, "training": training},
        export={"precisions": ["fp32"]},
        evaluate={"num_resamples": 20},
    )
    evaluation = run(load_config(path), runs).artifacts["evaluate"]
    table = pd.read_csv(evaluation.path / "predictions.csv")
    data = read_data(load_config(path), outcome.artifacts["ladder"], outcome.artifacts["views"])
    targets = read_cache(outcome.artifacts["cache"], list(table["clip"]), read_view_lists(data.views))
    np.testing.assert_allclose(table["teacher"], targets["scores"][:, 0], atol=1e-3)
    assert table["student"].notna().all()


def test_patches_train_beside_clips_by_their_own_score(config: RunConfig, made: tuple[Path, Outcome]) -> None:
    _, outcome = made
    data, parts = read_data(config, outcome.artifacts["ladder"], outcome.artifacts["views"]), outcome.artifacts["parts"]
    clips = data.examples("train", inputs=open_parts(parts))
    train = with_patches(clips, 3, seed=0)
    assert len(train) == 4 * len(clips) == len(train.scores) == len(train.classes)
    np.testing.assert_array_equal(train.inputs[: len(clips)], clips.inputs)
    for row in range(len(clips), len(train)):
        clip = (row - len(clips)) // 3
        assert (train.contents[row], train.classes[row]) == (clips.contents[clip], clips.classes[clip])
        assert (train.inputs[row, ..., 0] == train.scores[row]).all()
        assert (train.inputs[row, 0, 0, 0] == clips.inputs[clip]).all(-1).any()


def test_parts_of_a_frame_are_pooled_by_its_masters_detail() -> None:
    """One patch is its own frame; a flat patch beside a detailed one counts little."""
    values = {"vmaf": 50, "adm3": 0.85, "adm2": 0.8, "aim": 0.1, "motion3": 3, "cambi": 1, "speed_chroma_uv": 2}
    values |= {f"adm_scale{scale}": 0.8 for scale in range(4)} | {f"adm_den_scale{scale}": 10 for scale in range(4)}
    poor = torch.tensor([float(values[part]) for part in PARTS])
    flat = poor.clone()
    for part in PARTS:
        if "adm_scale" in part or "den" in part:
            flat[PARTS.index(part)] = 1.0
    flat[PARTS.index("aim")] = 0.0
    one, both = (dict(zip(STANDARD, pooled_parts(torch.stack(patches)[None, None])[0, 0].tolist(), strict=True))
                 for patches in ([poor], [poor, flat]))  # fmt: skip
    for part in ("adm3", "aim", "adm_scale0", "adm_scale3"):
        assert one[part] == pytest.approx(values[part], rel=1e-5)
        assert both[part] == pytest.approx(one[part], rel=0.01)
    assert one["motion3"] == pytest.approx(np.log(4))
