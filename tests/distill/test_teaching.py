"""The teacher's stages: every kind from labels to a verified cache, kept frozen layers, audits, and many processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from distill.checkpoint import load_checkpoint
from distill.pipeline import Outcome, run
from distill.teaching import pretrained, verify_cache
from rungwise.artifact import read_facts, sha256_file
from rungwise.cli import app
from rungwise.config import load_config
from teacher.cache import read_index

ROOT = Path(__file__).parents[2]
SOURCES = {
    "builtin": ["street_a", "fog_b", "screen_a", "water_a", "film_c", "night_city_a"],
    "width": 192,
    "height": 108,
    "num_frames": 6,
    "fps": 6.0,
}
LADDER = {
    "label": "vmaf_v0.6.1",
    "extra_labels": [],
    "rungs": [
        {"codec": "h264", "preset": "ultrafast", "scales": [1.0, 0.5], "crf": [25, 45]},
        {"codec": "hevc", "preset": "ultrafast", "scales": [1.0], "crf": [35]},
    ],
}
VIEWS = {"per_clip": 2, "recipe": {"num_frames": 4, "frame_choice": "uniform", "grid": 2, "patch_px": 28}}
KINDS = ("efficientnet_lite0", "internvideo2", "q_clip", "clipvqa", "conviqt")


class Small:
    """Configs of tiny runs that share one ladder."""

    def __init__(self, folder: Path, bench: Any) -> None:
        self.folder, self.bench, self.runs = folder, bench, folder / "runs"
        self.clip = bench.write_tiny_clip(folder / "clip", patch_px=14)
        quickstart = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text())
        changes = {"sources": SOURCES, "ladder": LADDER, "splits": {"validation": 1, "test": 2, "seed": 0}}
        self.base = quickstart | changes
        self.made = 0

    def config(self, model: str, *, layers: tuple[str, ...] = (), training: Any = None, **changes: Any) -> Path:
        values = self.bench.run_config(self.base, model, self.clip, epochs=2, **changes)
        values["views"] = VIEWS
        values["cache"]["layers"] = list(layers)
        values["teacher"]["training"] |= {"contents_per_batch": 3, "clips_per_content": 5, "augment": None} | (
            training or {}
        )
        self.made += 1
        path = self.folder / f"{model}-{self.made}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    def fresh_runs(self, name: str) -> Path:
        """A runs folder with the ladder and the views made, and nothing after them."""
        runs = self.folder / name
        for stage in ("masters", "ladder", "views"):
            shutil.copytree(self.runs / stage, runs / stage)
        return runs


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, teachers_benchmark: Any) -> Small:
    made = Small(tmp_path_factory.mktemp("teaching"), teachers_benchmark)
    run(load_config(made.config("internvideo2")), made.runs, until="views")
    return made


@pytest.fixture(scope="module")
def cached(small: Small, teachers_benchmark: Any) -> dict[str, Outcome]:
    """Every kind of teacher, taught and cached."""
    return {
        kind: run(load_config(small.config(kind, layers=(teachers_benchmark.LAYERS[kind],))), small.runs, until="cache")
        for kind in KINDS
    }


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


def test_frozen_layers_kept_once_train_the_same_teacher_and_fill_its_cache(
    small: Small, monkeypatch: pytest.MonkeyPatch
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
        nothing_is_decoded.setattr("distill.teaching.read_views", None)
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
def test_what_a_teacher_cannot_do_is_one_line(small: Small, kind: str, changes: dict[str, Any], words: str) -> None:
    execution = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False}
    changes = changes | {"execution": execution | changes.get("execution", {})}
    with pytest.raises(ValueError, match=words) as error:
        run(load_config(small.config(kind, **changes)), small.fresh_runs(f"cannot-{small.made}"), until="teach")
    assert len(str(error.value).splitlines()) == 1


def test_an_unknown_layer_is_named_with_some_that_there_are(small: Small) -> None:
    with pytest.raises(ValueError, match=r"no module 'backbone\.block'; it has backbone, backbone\.patch_embed"):
        run(load_config(small.config("internvideo2", layers=("backbone.block",))), small.runs, until="cache")


def test_configs_that_contradict_themselves_are_refused(small: Small) -> None:
    keep = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": True}
    for kind, changes, training, words in (
        ("internvideo2", {"execution": keep}, {"augment": {"sample_frames": 4, "sample_grid": 2}}, "augment to null"),
        ("conviqt", {}, {"losses": small.bench.LOSSES | {"label": 1.0}}, "learns by contrast alone"),
        ("q_clip", {"num_levels": 6}, {}, r"teacher\.num_levels: Input should be 5"),
        ("internvideo2", {"frozen_stages": 2}, {}, r"teacher\.frozen_stages: Extra inputs"),
    ):
        with pytest.raises(ValueError, match=words):
            load_config(small.config(kind, training=training, **changes))


def test_a_teacher_is_known_by_the_bytes_it_starts_from_not_by_where_they_lie(small: Small, tmp_path: Path) -> None:
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


def test_bf16_is_another_teacher_near_the_first(small: Small, cached: dict[str, Outcome]) -> None:
    outcome = run(load_config(small.config("internvideo2", precision="bf16")), small.runs, until="cache")
    assert outcome.artifacts["teach"].id != cached["internvideo2"].artifacts["teach"].id
    for left, right in zip(history(outcome), history(cached["internvideo2"]), strict=True):
        assert left["label"] == pytest.approx(right["label"], rel=0.1)
    rows, tolerance = verify_cache(outcome.artifacts["cache"].path, sample=3, seed=0, tolerance=None, device="cpu")
    assert tolerance == 3e-2
    assert max(value for row in rows for name, value in row.items() if name != "clip") < tolerance


# Audits


@pytest.fixture
def copied(cached: dict[str, Outcome], tmp_path: Path, small: Small) -> Path:
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
    with pytest.raises(ValueError, match=rf"{clip.name}: content: not the bytes that the teacher saw"):
        verify_cache(cache, sample=30, seed=0, tolerance=None, device="cpu")
    (teacher / "teacher.safetensors").unlink()
    with pytest.raises(ValueError, match="its teacher is not at"):
        verify_cache(cache, sample=2, seed=0, tolerance=None, device="cpu")


def test_a_cache_folder_of_another_teacher_is_never_taken_for_ours(small: Small, copied: Path) -> None:
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


# Many processes


def launch(count: int, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """`rungwise` in `count` processes under torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(threads)}
    command = [*launcher, "-m", "rungwise", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=ROOT, timeout=600)


def shards(runs: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (runs / "cache").glob("*/*") if path.name != "manifest.json"}


@pytest.mark.distributed
def test_two_and_three_processes_leave_the_same_cache_as_one(small: Small, cached: dict[str, Outcome]) -> None:
    path = small.config("internvideo2", layers=(small.bench.LAYERS["internvideo2"],))
    for count in (2, 3):
        runs = small.fresh_runs(f"many{count}")
        shutil.copytree(small.runs / "teach", runs / "teach")
        done = launch(count, "cache", "make", str(path), "--runs", str(runs), threads=count)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1  # the first process speaks for all
        alone = cached["internvideo2"].artifacts["cache"]
        assert shards(runs) == {file.name: file.read_bytes() for file in alone.path.iterdir() if file.suffix != ".json"}


@pytest.mark.distributed
def test_several_processes_without_deepspeed_are_told_what_to_set(small: Small) -> None:
    done = launch(2, "teach", str(small.config("internvideo2")), "--runs", str(small.fresh_runs("none")))
    assert done.returncode != 0
    assert "2 processes train one model by DeepSpeed only: set execution.zero_stage" in done.stderr


@pytest.mark.distributed
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds a part of itself: needs a C++ compiler")
def test_deepspeed_in_two_processes_takes_the_same_losses_as_plain_pytorch_in_one(small: Small) -> None:
    pytest.importorskip("deepspeed", reason="pip install -e '.[multi]'")
    plain = run(
        load_config(small.config("internvideo2", training={"epochs": 3})), small.fresh_runs("plain"), until="teach"
    )
    assert "gradient_norm" in history(plain)[0]  # AdamW forgives a gradient of another length; this does not
    for stage in (0, 1, 2, 3):
        execution = {"zero_stage": stage, "gradient_checkpointing": stage == 2, "keep_frozen": False}
        path = small.config("internvideo2", training={"epochs": 3}, execution=execution)
        runs = small.fresh_runs(f"zero{stage}")
        done = launch(2, *(("cache", "make") if stage == 3 else ("teach",)), str(path), "--runs", str(runs), "--json")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1, done.stdout
        (rows,) = (json.loads(file.read_text()) for file in (runs / "teach").glob("*/history.json"))
        for left, right in zip(history(plain), rows, strict=True):
            assert left == pytest.approx(right, rel=1e-4, abs=1e-4)
    # ZeRO-3's cache is that of one process with the same weights, but for rounding: gathered weights lie elsewhere in
    # memory, and a product's order of sums depends on that.
    sharded = {name: load_file(next((runs / "cache").glob(f"*/{name}"))) for name in shards(runs) if "shard" in name}
    shutil.rmtree(runs / "cache")
    run(load_config(small.config("internvideo2", training={"epochs": 3})), runs, until="cache")
    assert len(sharded) == 4
    for name, tensors in sharded.items():
        alone = load_file(next((runs / "cache").glob(f"*/{name}")))
        for field, value in tensors.items():
            torch.testing.assert_close(value, alone[field], rtol=1e-3, atol=1e-4, msg=f"{name} {field}")


@pytest.mark.distributed
@pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed builds a part of itself: needs a C++ compiler")
def test_a_killed_deepspeed_run_goes_on_to_the_same_losses(small: Small) -> None:
    pytest.importorskip("deepspeed", reason="pip install -e '.[multi]'")
    execution = {"zero_stage": 2, "gradient_checkpointing": False, "keep_frozen": False}
    path = small.config("internvideo2", training={"epochs": 3}, execution=execution)
    runs = {name: small.fresh_runs(name) for name in ("whole", "killed")}
    dies = (
        "import os\nfrom distill.training_state import TrainingState\n"
        "real = TrainingState.save\n"
        "def save(state, row):\n"
        "    real(state, row)\n"
        "    len(state.history) == 2 and os._exit(9)\n"
        "TrainingState.save = save\n"
        "from rungwise.cli import main\n"
        "main()\n"
    )
    script = small.folder / "dies.py"
    script.write_text(dies)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    arguments = ["teach", str(path), "--runs", str(runs["killed"])]
    command = [sys.executable, str(script), *arguments]
    killed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert killed.returncode == 9, killed.stderr
    for name, folder in runs.items():
        command = [sys.executable, "-m", "rungwise", "teach", str(path), "--runs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
        assert done.returncode == 0, (name, done.stderr)
    histories = [json.loads(next((folder / "teach").glob("*/history.json")).read_text()) for folder in runs.values()]
    assert histories[0] == histories[1]
    whole, resumed = (load_file(next((folder / "teach").glob("*/teacher.safetensors"))) for folder in runs.values())
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
