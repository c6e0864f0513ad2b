"""Artifacts: cache hits, resuming after a kill, mismatched keys, changed files."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from rungwise import artifact
from rungwise.artifact import SCRATCH, Artifact, StageKey, open_artifact, run_stage, verify_files

KEY = StageKey("cache", 1, {"num_frames": 8, "losses": {"rank": 1.0}}, {"teacher": "aa"})


def write_answer(folder: Path) -> None:
    (folder / "answer.txt").write_text("42")


def test_the_id_depends_on_everything_that_changes_the_result() -> None:
    other_keys = [
        StageKey("teach", 1, KEY.params, KEY.inputs),
        StageKey("cache", 2, KEY.params, KEY.inputs),
        StageKey("cache", 1, {"num_frames": 16, "losses": {"rank": 1.0}}, KEY.inputs),
        StageKey("cache", 1, KEY.params, {"teacher": "bb"}),
    ]
    assert len({KEY.id, *(key.id for key in other_keys)}) == 5
    assert StageKey("cache", 1, {"losses": {"rank": 1.0}, "num_frames": 8}, {"teacher": "aa"}).id == KEY.id


def test_a_second_run_is_a_hit_and_equal_files_have_equal_hashes(tmp_path: Path) -> None:
    first = run_stage(tmp_path, KEY, write_answer)
    second = run_stage(tmp_path, KEY, lambda folder: pytest.fail("built twice"))
    assert (first.hit, second.hit) == (False, True)
    assert second.content_sha256 == first.content_sha256
    elsewhere = run_stage(tmp_path / "other", KEY, write_answer)
    assert elsewhere.content_sha256 == first.content_sha256


def test_a_killed_build_leaves_no_artifact_and_resumes(tmp_path: Path) -> None:
    def killed(folder: Path) -> None:
        (folder / SCRATCH / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, KEY, killed)
    assert not (tmp_path / "cache" / KEY.id).exists()

    def resumed(folder: Path) -> None:
        assert (folder / SCRATCH / "checkpoint").read_text() == "epoch 3"
        (folder / "half.partial").write_text("incomplete")
        write_answer(folder)

    artifact = run_stage(tmp_path, KEY, resumed)
    assert sorted(path.name for path in artifact.path.iterdir()) == ["answer.txt", "manifest.json"]


def test_a_mismatch_names_the_field(tmp_path: Path) -> None:
    artifact = run_stage(tmp_path, KEY, write_answer)
    expected = StageKey("cache", 1, {"num_frames": 16, "losses": {"rank": 0.5}}, {"teacher": "aa"})
    with pytest.raises(ValueError, match=r"num_frames: cached 8, expected 16") as error:
        open_artifact(artifact.path, expect=expected)
    assert "params.losses.rank: cached 1.0, expected 0.5" in str(error.value)


def test_changed_and_missing_files_are_errors(tmp_path: Path) -> None:
    artifact = run_stage(tmp_path, KEY, write_answer)
    verify_files(artifact)
    (artifact.path / "answer.txt").write_text("43")
    with pytest.raises(ValueError, match=r"answer\.txt: bytes differ"):
        verify_files(artifact)
    (artifact.path / "answer.txt").unlink()
    with pytest.raises(ValueError, match=r"answer\.txt is missing"):
        verify_files(artifact)


def test_a_folder_without_a_manifest_is_not_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        open_artifact(tmp_path)


@pytest.mark.parametrize("first_finishes", [True, False])
def test_a_second_process_waits_for_the_first_and_takes_over_if_it_dies(first_finishes: bool, tmp_path: Path) -> None:
    builders: list[str] = []
    waits: list[Artifact] = []

    def second_build(folder: Path) -> None:
        builders.append("second")
        write_answer(folder)

    second = threading.Thread(target=lambda: waits.append(run_stage(tmp_path, KEY, second_build)))

    def first_build(folder: Path) -> None:
        builders.append("first")
        second.start()
        time.sleep(0.3)
        if not first_finishes:
            raise KeyboardInterrupt
        write_answer(folder)

    with contextlib.nullcontext() if first_finishes else pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, KEY, first_build)
    second.join()
    assert builders == ["first"] + ["second"] * (not first_finishes)
    assert [artifact.hit for artifact in waits] == [first_finishes]
    assert [path.name for path in (tmp_path / KEY.stage).iterdir()] == [KEY.id]
    verify_files(waits[0])


def test_others_give_up_on_a_first_process_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    for name, seconds in {"POLL_SECONDS": 0.01, "ALIVE_SECONDS": 0.02, "DEAD_SECONDS": 0.3}.items():
        monkeypatch.setattr(artifact, name, seconds)
    with pytest.raises(ValueError, match="rank 0, which finishes it, gave no sign of life"):
        run_stage(tmp_path, KEY, lambda folder: None)
    waits: list[Artifact] = []
    follower = threading.Thread(target=lambda: waits.append(run_stage(tmp_path, KEY, lambda folder: None)))
    follower.start()
    time.sleep(0.1)
    monkeypatch.setenv("RANK", "0")
    run_stage(tmp_path, KEY, lambda folder: time.sleep(1.0))  # slower than the others' patience, but alive
    follower.join()
    assert [waited.id for waited in waits] == [KEY.id]
    assert [path.name for path in (tmp_path / KEY.stage).iterdir()] == [KEY.id]
