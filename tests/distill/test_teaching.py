"""The teacher's stages: every kind from labels to a verified cache, kept frozen layers, and audits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from distill.cache_audit import verify_cache
from distill.checkpoint import load_checkpoint
from distill.pipeline import Outcome, run
from distill.teaching import pretrained
from rungwise.artifact import read_facts, sha256_file
from rungwise.cli import app
from rungwise.config import load_config
from teacher.shard_files import read_index

ROOT = Path(__file__).parents[2]
if TYPE_CHECKING:
    from tests.distill.conftest import TeacherRuns

KINDS = ("efficientnet_lite0", "internvideo2", "q_clip", "clipvqa", "conviqt")


def history(outcome: Outcome) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((outcome.artifacts["teach"].path / "history.json").read_text())
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_from_labels_to_a_verified_cache(
    kind: str, cached: dict[str, Outcome], teachers_benchmark: Any
) -> None:
    outcome = cached[kind]
    cache = outcome.artifacts["cache"]
    rows, tolerance = verify_cache(cache.path, sample=4, seed=1, tolerance=None, device="cpu")
    assert len(rows) == 4
    assert tolerance == 1e-3
    assert max(value for row in rows for name, value in row.items() if name != "clip") < tolerance
    facts, index = read_facts(cache), read_index(cache)
    layer = f"layer.{teachers_benchmark.LAYERS[kind]}"
    assert set(facts["fields"]) == {"scores", "levels", "features", layer}
    assert facts["fields"]["scores"] == {"dtype": "float32", "shape": ["clips", 2]}
    assert facts["fields"][layer]["dtype"] == "float16"
    assert len(index) == facts["clips"] == 30
    total = sum(path.stat().st_size for path in cache.path.glob("shard-*"))
    assert total == pytest.approx(facts["bytes_per_clip"] * 30, abs=4 * 600)  # headers
    model, contract, settings = load_checkpoint(outcome.artifacts["teach"].path / "teacher.safetensors")
    assert contract.model == kind
    assert kind != "conviqt" or (
        settings["contrast_dim"] == 0 and not any("proj" in n for n, _ in model.named_parameters())
    )
    shard = load_file(cache.path / "shard-00000.safetensors")
    torch.testing.assert_close(shard["levels"].sum(-1), torch.ones(8, 2))
    assert all(len(entry.video_sha256) == 64 for entry in index.values())


@pytest.mark.slow
def test_frozen_layers_kept_once_train_the_same_teacher_and_fill_its_cache(
    small: TeacherRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for number, keep in enumerate((False, True)):
        execution = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": keep}
        path = small.config("internvideo2", tune="last_block", layers=(), execution=execution)
        runs = small.fresh_runs(f"keep{number}")
        outcomes.append(run(load_config(path), runs, until="teach"))
    plain, kept = outcomes
    assert plain.artifacts["teach"].id == kept.artifacts["teach"].id  # how it was run is no part of what it is
    for left, right in zip(history(plain), history(kept), strict=True):
        assert left == pytest.approx(right, rel=1e-4, abs=1e-4)
    weights = [load_file(outcome.artifacts["teach"].path / "teacher.safetensors") for outcome in outcomes]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-4, msg=key)
    with monkeypatch.context() as nothing_is_decoded:
        nothing_is_decoded.setattr("distill.teaching.read_needed_pixels", None)
        cache = run(load_config(path), runs, until="cache").artifacts["cache"]
    rows, tolerance = verify_cache(cache.path, sample=4, seed=1, tolerance=None, device="cpu")
    assert max(value for row in rows for name, value in row.items() if name != "clip") < tolerance


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (
            "internvideo2",
            {"tune": "internvqa", "execution": {"keep_frozen": True}},
            "internvideo2 so tuned has no frozen",
        ),
        ("conviqt", {"execution": {"gradient_checkpointing": True}}, "conviqt can't recompute its blocks"),
        ("internvideo2", {"checkpoint": "/absent/file.pt"}, "/absent/file.pt: no such file, nor a hub id"),
        ("q_clip", {"clip": "/absent"}, "/absent"),
    ],
)
def test_what_a_teacher_cannot_do_is_one_line(
    small: TeacherRuns, kind: str, changes: dict[str, Any], words: str
) -> None:
    execution = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False}
    changes = changes | {"execution": execution | changes.get("execution", {})}
    with pytest.raises(ValueError, match=words) as error:
        run(load_config(small.config(kind, **changes)), small.fresh_runs(f"cannot-{small.num_configs}"), until="teach")
    assert len(str(error.value).splitlines()) == 1


def test_an_unknown_layer_is_named_with_some_that_there_are(small: TeacherRuns) -> None:
    with pytest.raises(ValueError, match=r"no module 'backbone\.block'; it has backbone, backbone\.patch_embed"):
        run(load_config(small.config("internvideo2", layers=("backbone.block",))), small.runs, until="cache")


def test_configs_that_contradict_themselves_are_refused(small: TeacherRuns) -> None:
    keep = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True}
    for kind, changes, training, words in (
        ("internvideo2", {"execution": keep}, {"augment": {"sample_frames": 4, "sample_grid": 2}}, "augment to null"),
        ("conviqt", {}, {"losses": small.bench.LOSSES | {"label": 1.0}}, "trains by contrast alone"),
        ("q_clip", {"num_levels": 6}, {}, r"teacher\.num_levels: Input should be 5"),
        ("internvideo2", {"frozen_stages": 2}, {}, r"teacher\.frozen_stages: Extra inputs"),
    ):
        with pytest.raises(ValueError, match=words):
            load_config(small.config(kind, training=training, **changes))


def test_a_teacher_is_known_by_the_bytes_it_starts_from_not_by_where_they_lie(
    small: TeacherRuns, tmp_path: Path
) -> None:
    def identity(clip: Path) -> dict[str, str | None]:
        return pretrained(load_config(small.config("q_clip", clip=str(clip))).teacher)

    shutil.copytree(small.clip, tmp_path / "moved")
    assert identity(tmp_path / "moved") == identity(small.clip)
    assert identity(small.clip)["vision_checkpoint"] is None
    assert identity(Path("openai/clip-vit-base-patch16"))["clip"] == "openai/clip-vit-base-patch16"
    weights = tmp_path / "moved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert identity(tmp_path / "moved") != identity(small.clip)
    other = load_config(small.config("internvideo2", checkpoint=str(weights))).teacher
    assert pretrained(other) == {"checkpoint": sha256_file(weights)}


def test_bf16_is_another_teacher_near_the_first(small: TeacherRuns, cached: dict[str, Outcome]) -> None:
    outcome = run(load_config(small.config("internvideo2", precision="bf16")), small.runs, until="cache")
    assert outcome.artifacts["teach"].id != cached["internvideo2"].artifacts["teach"].id
    for left, right in zip(history(outcome), history(cached["internvideo2"]), strict=True):
        assert left["label"] == pytest.approx(right["label"], rel=0.1)
    # The cache was made in batches; this runs clips one by one.
    rows, tolerance = verify_cache(outcome.artifacts["cache"].path, sample=8, seed=1, tolerance=None, device="cpu")
    assert max(value for row in rows for name, value in row.items() if name != "clip") < tolerance == 3e-2
    assert read_facts(outcome.artifacts["cache"])["fp32_products"] == "ieee"
    rows, tolerance = verify_cache(outcome.artifacts["cache"].path, sample=3, seed=0, tolerance=None, device="cpu")
    assert tolerance == 3e-2
    assert max(value for row in rows for name, value in row.items() if name != "clip") < tolerance


# Audits


@pytest.fixture
def copied(cached: dict[str, Outcome], tmp_path: Path, small: TeacherRuns) -> Path:
    """A runs folder of its own with the InternVideo2 cache, its teacher and its ladder."""
    for stage in ("ladder", "teach", "cache"):
        artifact = cached["internvideo2"].artifacts[stage]
        shutil.copytree(artifact.path, tmp_path / stage / artifact.id)
    return tmp_path


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_the_verb_audits_a_cache_or_all_of_a_runs_folder(copied: Path) -> None:
    (cache,) = (copied / "cache").iterdir()
    for place in (cache, copied):
        done = invoke("cache", "verify", str(place), "--sample", "3", "--json")
        assert done.exit_code == 0, done.exception
        facts = json.loads(done.stdout)
        assert (facts["clips"], facts["off"], len(facts["rows"])) == (3, 0, 3)
    assert "3 of 3 clips agree" in invoke("cache", "verify", str(cache), "--sample", "3").stdout
    strict = invoke("cache", "verify", str(cache), "--sample", "3", "--tolerance", "0")
    assert strict.exit_code == 1
    assert isinstance(invoke("cache", "verify", str(copied / "absent")).exception, ValueError)


def reseal(artifact: Path) -> None:
    """Write a manifest that fits the folder's present files, as someone who rewrote them would have."""
    from rungwise.artifact import hash_files, sha256_json

    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"] = hash_files(artifact)
    manifest["content_sha256"] = sha256_json(manifest["files"])
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def test_targets_that_the_teacher_never_gave_fail_the_audit(copied: Path) -> None:
    (cache,) = (copied / "cache").iterdir()
    for shard in sorted(cache.glob("shard-*")):
        tensors = load_file(shard)
        tensors["scores"] += 0.5
        save_file(tensors, shard)
    rewritten = invoke("cache", "verify", str(cache))
    assert rewritten.exit_code == 1
    assert "manifest" in rewritten.stderr
    reseal(cache)
    done = invoke("cache", "verify", str(cache), "--json")
    assert done.exit_code == 1
    facts = json.loads(done.stdout)
    assert facts["off"] == 30
    assert facts["scores"] > 1e-3 > facts["features"]


def test_another_teacher_or_another_clip_is_named(copied: Path) -> None:
    (cache,), (teacher,), (ladder,) = ((copied / stage).iterdir() for stage in ("cache", "teach", "ladder"))
    manifest = (cache / "manifest.json").read_text()
    changed = json.loads(manifest)
    for part, name in (("inputs", "teacher"), ("params", "preprocessing"), ("inputs", "dataset")):
        other = changed | {part: changed[part] | {name: "0" * 64}}
        (cache / "manifest.json").write_text(json.dumps(other))
        with pytest.raises(ValueError, match=f"built from other settings: {part}.{name}: cached '000"):
            verify_cache(cache, sample=2, seed=0, tolerance=None, device="cpu")
    (cache / "manifest.json").write_text(manifest)
    clip = sorted((ladder / "encodes").glob("*.mp4"))[0]
    clip.write_bytes(clip.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=rf"{clip.name}: content: not the bytes that the teacher was given"):
        verify_cache(cache, sample=30, seed=0, tolerance=None, device="cpu")
    (teacher / "teacher.safetensors").unlink()
    with pytest.raises(ValueError, match="its teacher is not at"):
        verify_cache(cache, sample=2, seed=0, tolerance=None, device="cpu")


def test_a_cache_folder_of_another_teacher_is_never_taken_for_ours(small: TeacherRuns, copied: Path) -> None:
    (cache,) = (copied / "cache").iterdir()
    manifest = json.loads((cache / "manifest.json").read_text())
    (cache / "manifest.json").write_text(json.dumps(manifest | {"inputs": manifest["inputs"] | {"teacher": "abc"}}))
    for stage in ("masters", "views"):
        shutil.copytree(small.runs / stage, copied / stage)
    path = small.config("internvideo2", layers=(small.bench.LAYERS["internvideo2"],))
    with pytest.raises(ValueError, match=r"built from other settings: inputs\.teacher: cached 'abc', expected '"):
        run(load_config(path), copied, until="cache")


def test_golden_reruns_checkpoints_of_ours(cached: dict[str, Outcome], tmp_path: Path) -> None:
    path = cached["internvideo2"].artifacts["teach"].path / "teacher.safetensors"
    done = invoke("golden", str(path), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["output"] == "score"
    spoilt = tmp_path / "spoilt.safetensors"
    content = bytearray(path.read_bytes())
    content[-40:] = bytes(np.full(10, 0.7, np.float32).tobytes())
    spoilt.write_bytes(content)
    done = invoke("golden", str(spoilt))
    assert (done.exit_code, done.stdout[:4]) == (1, "FAIL")
