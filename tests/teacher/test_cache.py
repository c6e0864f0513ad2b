"""The soft-target cache: resume by shard, same bytes from many processes, replayed views, mismatches by name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from rungwise.artifact import SCRATCH, Artifact, StageKey, run_stage
from rungwise.score.views import View
from teacher.cache import Clock, judge_stream, open_cache, read_cache, write_cache
from teacher.shard_files import write_index

CLIPS = [f"clip{number}" for number in range(5)]
PIXELS: NDArray[np.uint8] = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 1, 2, 2, 1)
TABLE = pd.DataFrame({"clip": CLIPS, "path": [f"encodes/{clip}.mp4" for clip in CLIPS], "video_sha256": CLIPS})
VIEWS = {
    clip: [
        View(
            display_width=64,
            display_height=36,
            frame_indices=(0,),
            timestamps_seconds=(0.0,),
            patch_px=8,
            corners_yx=((number, 0),),
            seed=f"{clip}{number}",
        )
        for number in range(2)
    ]
    for clip in CLIPS
}
INPUTS = {"teacher": "aaa", "preprocessing": "bbb", "dataset": "ccc"}


def judge(pixels: Tensor) -> dict[str, Tensor]:
    scores = pixels.float().reshape(len(pixels), 2, -1).mean(-1)
    return {
        "scores": scores,
        "levels": scores[..., None].repeat(1, 1, 3),
        "features": scores[..., None].half(),
        "layer.head": scores[..., None].half(),
    }


def read(row: int) -> NDArray[np.uint8]:
    return np.asarray(PIXELS[row])


def build(
    runs: Path, judge: Any = judge, *, clips_per_shard: int = 2, clips_per_batch: int = 2, **options: Any
) -> Artifact:
    key = StageKey("cache", 1, {}, INPUTS)

    def fill(folder: Path) -> None:
        write_cache(folder, 5, read, judge, clips_per_shard=clips_per_shard, clips_per_batch=clips_per_batch, **options)
        write_index(folder, TABLE, VIEWS, clips_per_shard=clips_per_shard)

    return run_stage(runs, key, fill)


@pytest.mark.parametrize("clips_per_batch", [1, 2, 7])
def test_targets_come_back_in_the_order_asked(tmp_path: Path, clips_per_batch: int) -> None:
    cache = build(tmp_path, clips_per_batch=clips_per_batch)
    assert sorted(path.name for path in cache.path.glob("shard*")) == [f"shard-0000{n}.safetensors" for n in range(3)]
    targets = read_cache(cache, ["clip3", "clip0"], VIEWS)
    np.testing.assert_array_equal(targets["scores"], judge(torch.from_numpy(PIXELS))["scores"][[3, 0]])
    assert targets["levels"].shape == (2, 2, 3)
    assert targets["layer.head"].shape == (2, 2, 1)
    assert targets["features"].dtype == np.float32


def test_a_killed_cache_goes_on_at_the_next_shard_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    calls = []

    def dies_in_the_second_shard(pixels: Tensor) -> dict[str, Tensor]:
        clip = int(pixels[0, 0, 0, 0, 0, 0]) // 8
        calls.append(clip)
        if calls.count(2) == 1 and clip == 2:
            raise KeyboardInterrupt
        return judge(pixels)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "killed", dies_in_the_second_shard)
    (partial,) = (tmp_path / "killed" / "cache").glob("*.partial")
    assert (partial / "shard-00000.safetensors").is_file()
    (partial / "shard-00001.safetensors.0.partial").write_bytes(b"half")
    resumed = build(tmp_path / "killed", dies_in_the_second_shard)
    assert (calls.count(0), calls.count(2)) == (1, 2)  # the first shard once, the second twice
    assert resumed.content_sha256 == build(tmp_path / "whole").content_sha256


def test_answers_come_in_order_from_judges_of_one_thread_each() -> None:
    threads = []

    def uneven(pixels: Tensor) -> dict[str, Tensor]:
        threads.append((threading.get_ident(), torch.get_num_threads()))
        time.sleep(0.05 if int(pixels[0, 0, 0, 0, 0, 0]) == 0 else 0.001)
        return judge(pixels)

    before = torch.get_num_threads()
    clock, batches = Clock(), iter([[row] for row in range(5)] * 4)
    done = list(judge_stream(batches, read, uneven, device="cpu", workers=2, clock=clock, judges=2))
    want = [judge(torch.from_numpy(PIXELS[row : row + 1]))["scores"] for row in range(5)] * 4
    assert all(torch.equal(fields["scores"], scores) for fields, scores in zip(done, want, strict=True))
    assert {count for _, count in threads} == {1}
    assert len({thread for thread, _ in threads}) == 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("kept", [0, 7, -9])
def test_a_shard_cut_short_by_a_crash_is_made_anew(tmp_path: Path, kept: int) -> None:
    whole = build(tmp_path / "whole")
    folder = tmp_path / "cut"
    (folder / SCRATCH).mkdir(parents=True)
    for name, content in shard_bytes(whole.path).items():
        (folder / name).write_bytes(content[:kept] if name == "shard-00001.safetensors" else content)
    calls: list[int] = []

    def counted(pixels: Tensor) -> dict[str, Tensor]:
        calls.append(len(pixels))
        return judge(pixels)

    write_cache(folder, 5, read, counted, clips_per_shard=2, clips_per_batch=2)
    assert calls == [2]
    assert shard_bytes(folder) == shard_bytes(whole.path)


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*.safetensors")}


def test_many_workers_on_one_folder_share_the_shards_and_leave_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / SCRATCH).mkdir()
    judged: list[int] = []

    def slow(pixels: Tensor) -> dict[str, Tensor]:
        judged.append(int(pixels[0, 0, 0, 0, 0, 0]))
        time.sleep(0.05)
        return judge(pixels)

    workers = [
        threading.Thread(
            target=write_cache, args=(tmp_path, 5, read, slow), kwargs={"clips_per_shard": 1, "clips_per_batch": 1}
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(judged) == [0, 8, 16, 24, 32]  # every clip once, whoever did it
    alone = tmp_path / "alone"
    (alone / SCRATCH).mkdir(parents=True)
    write_cache(alone, 5, read, judge, clips_per_shard=1, clips_per_batch=1)
    assert shard_bytes(tmp_path) == shard_bytes(alone)


def test_a_shard_of_a_dead_process_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / SCRATCH).mkdir()
    held = FileLock(tmp_path / SCRATCH / "1.lock")
    held.acquire()
    worker = threading.Thread(
        target=write_cache, args=(tmp_path, 5, read, judge), kwargs={"clips_per_shard": 2, "clips_per_batch": 2}
    )
    worker.start()
    deadline = time.monotonic() + 20
    while len(shard_bytes(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(shard_bytes(tmp_path)) == {"shard-00000.safetensors", "shard-00002.safetensors"}  # the other's is left
    held.release()  # as the system does when a process dies
    worker.join(timeout=20)
    assert len(shard_bytes(tmp_path)) == 3


def test_lockstep_turns_give_the_same_bytes_with_as_many_batches_each(tmp_path: Path) -> None:
    counts = []
    turns_by_rank: list[list[int | None]] = [[0, 2], [1, None]]
    for rank, turns in enumerate(turns_by_rank):
        calls: list[int] = []

        def counted(pixels: Tensor, calls: list[int] = calls) -> dict[str, Tensor]:
            calls.append(1)
            return judge(pixels)

        folder = tmp_path / "lockstep"
        (folder / SCRATCH).mkdir(parents=True, exist_ok=True)
        if rank == 0:  # alone it would wait for the other's shard
            (folder / "shard-00001.safetensors").write_bytes(save({}))
        else:
            (folder / "shard-00001.safetensors").unlink()
        write_cache(folder, 5, read, counted, clips_per_shard=2, clips_per_batch=1, turns=turns)
        counts.append(len(calls))
    assert counts == [4, 4]
    alone = tmp_path / "alone"
    (alone / SCRATCH).mkdir(parents=True)
    write_cache(alone, 5, read, judge, clips_per_shard=2, clips_per_batch=1)
    assert shard_bytes(tmp_path / "lockstep") == shard_bytes(alone)


def test_few_batches_wait_in_memory_however_many_there_are() -> None:
    decoded: list[int] = []
    judged: list[int] = []
    most = [0]

    def counted_read(row: int) -> NDArray[np.uint8]:
        decoded.append(row)
        most[0] = max(most[0], len(decoded) - len(judged))
        return read(0)

    def counted_judge(pixels: Tensor) -> dict[str, Tensor]:
        time.sleep(0.002)
        judged.extend(range(len(pixels)))
        return judge(pixels)

    batches = iter([[row, row + 1] for row in range(0, 60, 2)])
    clock = Clock()
    done = list(judge_stream(batches, counted_read, counted_judge, device="cpu", workers=2, clock=clock, ahead=3))
    assert len(done) == 30
    assert clock.clips == 60
    assert most[0] <= (3 + 1) * 2
    assert set(clock.seconds) == {"decode", "copy", "compute"}
    assert clock.seconds["compute"] > 0.05


def test_a_decode_error_stops_the_cache_and_names_itself(tmp_path: Path) -> None:
    def broken(row: int) -> NDArray[np.uint8]:
        raise ValueError(f"clip {row}: not a video")

    (tmp_path / SCRATCH).mkdir()
    with pytest.raises(ValueError, match="clip 0: not a video"):
        write_cache(tmp_path, 5, broken, judge, clips_per_shard=2, clips_per_batch=2)
    assert not shard_bytes(tmp_path)


def test_values_that_fp16_cannot_hold_are_refused(tmp_path: Path) -> None:
    def large(pixels: Tensor) -> dict[str, Tensor]:
        return judge(pixels) | {"features": (torch.ones(len(pixels), 2, 1) * 1e6).half()}

    with pytest.raises(
        ValueError, match=r"features holds values that are not finite in torch.float16; set .* bfloat16"
    ):
        build(tmp_path, large)


def test_another_view_is_named(tmp_path: Path) -> None:
    cache = build(tmp_path)
    other = VIEWS | {"clip3": [VIEWS["clip3"][0], VIEWS["clip3"][1].model_copy(update={"display_height": 72})]}
    with pytest.raises(ValueError, match=r"clip 'clip3', view 1: display_height: cached 36, expected 72"):
        read_cache(cache, CLIPS, other)


def test_a_clip_the_teacher_never_saw_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 clips are not in this cache, the first 'new'"):
        read_cache(build(tmp_path), ["clip0", "new"], VIEWS)


@pytest.mark.parametrize("name", INPUTS)
def test_a_cache_of_something_else_is_named(tmp_path: Path, name: str) -> None:
    cache = build(tmp_path)
    assert open_cache(cache.path, expect=INPUTS).content_sha256 == cache.content_sha256
    with pytest.raises(
        ValueError, match=f"a cache of something else: {name}: cached '{INPUTS[name]}', expected 'other'"
    ):
        open_cache(cache.path, expect=INPUTS | {name: "other"})


def test_half_a_shard_is_one_line(tmp_path: Path) -> None:
    cache = build(tmp_path)
    shard = cache.path / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"shard-00001.safetensors: not a whole shard"):
        np.asarray(read_cache(cache, CLIPS, VIEWS)["scores"])


def test_another_process_waits_for_the_first_or_lends_a_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = StageKey("cache", 1, {}, INPUTS)
    monkeypatch.setattr("rungwise.artifact.ranks", lambda: teacher_ranks(os.getpid(), threading.get_ident()))
    first = threading.get_ident()

    def teacher_ranks(_pid: int, thread: int) -> Any:
        from rungwise.ranks import Ranks

        return Ranks(0, 2, 0) if thread == first else Ranks(1, 2, 1)

    hands: list[bool] = []
    artifacts: list[Artifact] = []

    def follow(shared: bool) -> None:
        artifacts.append(run_stage(tmp_path, key, lambda _: hands.append(shared), shared=shared))

    followers = [threading.Thread(target=follow, args=(shared,)) for shared in (True, False)]
    for follower in followers:
        follower.start()

    def fill(folder: Path) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while not hands and time.monotonic() < deadline:
            time.sleep(0.01)
        (folder / "made.txt").write_text("by the first")
        return {"clips": 5}

    made = run_stage(tmp_path, key, fill, shared=True)
    for follower in followers:
        follower.join(timeout=20)
    assert hands == [True]  # the shared one helped, the other only waited
    assert [artifact.content_sha256 for artifact in artifacts] == [made.content_sha256] * 2
