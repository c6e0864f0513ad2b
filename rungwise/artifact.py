"""Pipeline stages and their artifacts.

A stage is a function (params, inputs) -> folder `runs/<stage>/<id>/`. The id is the hash of everything that can change
the result: stage, stage version, params, and the content hashes of the inputs. Device, number of workers and paths are
not hashed. A stage works in `<id>.partial/`, where a run after a kill resumes. The manifest is written last, then the
folder is renamed: a folder without a manifest is not an artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rungwise.ranks import cores, ranks

POLL_SECONDS = 0.2  # interval of checks of a shared folder
ALIVE_SECONDS = 10.0  # rank 0 gives a sign of life so often
DEAD_SECONDS = 600.0  # after so long without one the others give up
LOCK = ".lock"
SCRATCH = "scratch"  # subfolder removed before the manifest is written, such as for training checkpoints


def canonical_json(value: object) -> str:
    """JSON text with sorted keys, no spaces and no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_json(value: object) -> str:
    """Hex sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: to a temporary file, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@dataclass(frozen=True)
class StageKey:
    """Everything that can change a stage's result. `inputs` maps a role to a content hash."""

    stage: str
    version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the manifest."""
        return {
            "stage": self.stage,
            "version": self.version,
            "params": json.loads(canonical_json(self.params)),
            "inputs": dict(self.inputs),
        }

    @property
    def id(self) -> str:
        """16 hex digits of the key's hash."""
        return sha256_json(self.as_dict())[:16]


@dataclass(frozen=True)
class Artifact:
    """A finished stage: its folder, its key, and the hash of all its files. `hit`: it existed already."""

    path: Path
    key: StageKey
    content_sha256: str
    seconds: float
    hit: bool

    @property
    def id(self) -> str:
        """The folder's name: the key's id."""
        return self.path.name


def open_artifact(path: Path, *, expect: StageKey | None = None) -> Artifact:
    """Read a finished stage's manifest.

    Raises:
        ValueError: there is no manifest, or its key differs from `expect`; the message names each field, such as
            "params.num_frames: cached 8, expected 16".
    """
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        raise ValueError(f"{path}: no manifest.json: not a finished artifact; rerun its stage")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    key = StageKey(**{name: manifest[name] for name in ("stage", "version", "params", "inputs")})
    if expect is not None:
        differences = list(mismatches(key.as_dict(), expect.as_dict()))
        if differences:
            raise ValueError(f"{path}: built from other settings: " + "; ".join(differences))
    return Artifact(path, key, manifest["content_sha256"], manifest["seconds"], hit=True)


def mismatches(cached: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Fields in which two nested mappings differ, such as "a.b: cached 8, expected 16"."""
    for name in sorted(cached.keys() | expected.keys()):
        actual, target = cached.get(name), expected.get(name)
        if isinstance(actual, Mapping) and isinstance(target, Mapping):
            yield from mismatches(actual, target, f"{prefix}{name}.")
        elif actual != target:
            yield f"{prefix}{name}: cached {actual!r}, expected {target!r}"


def verify_files(artifact: Artifact, names: Sequence[str] | None = None) -> None:
    """Verify the hash of every file, or of those of relative paths `names`.

    Raises:
        ValueError: a file is missing, new or changed; the first one is named.
    """
    recorded = json.loads((artifact.path / "manifest.json").read_text(encoding="utf-8"))["files"]
    expected = recorded if names is None else {name: recorded.get(name) for name in names}
    present = _files(artifact.path) if names is None else [name for name in names if (artifact.path / name).is_file()]
    for name in present:
        if expected.get(name) != sha256_file(artifact.path / name):
            raise ValueError(
                f"{artifact.path / name}: bytes differ from the manifest; delete {artifact.path} and rerun"
            )
    missing = sorted(expected.keys() - set(present))
    if missing:
        raise ValueError(f"{artifact.path}: {missing[0]} is missing; delete the folder and rerun")


def hash_files(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file in a folder, except its manifest and lock."""
    names = _files(folder)
    with ThreadPoolExecutor(cores()) as pool:
        return dict(zip(names, pool.map(sha256_file, [folder / name for name in names]), strict=True))


def _files(folder: Path) -> list[str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in paths if path not in (folder / "manifest.json", folder / LOCK)]


@contextmanager
def _locked(partial: Path, final: Path) -> Iterator[bool]:
    """Hold a stage folder's lock; false if another process, for which this one waits, finished the artifact."""
    from filelock import FileLock, Timeout

    from rungwise.progress import note

    lock, waits = FileLock(partial / LOCK), False
    while not (final / "manifest.json").is_file():
        partial.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not waits:
                note(f"{partial}: another process is building this artifact; waiting for it")
            waits = True
            time.sleep(POLL_SECONDS)
    try:
        is_finished = (final / "manifest.json").is_file()
        if is_finished and lock.is_locked:  # by the other, after the loop looked
            shutil.rmtree(partial, ignore_errors=True)
        yield not is_finished
    finally:
        lock.release()


def run_stage(
    runs: Path, key: StageKey, build: Callable[[Path], Mapping[str, Any] | None], *, shared: bool = False
) -> Artifact:
    """Return the artifact of `key`; build it if it does not exist.

    Args:
        runs: root folder of all artifacts.
        key: identity of the artifact.
        build: fills the folder and may return values for the manifest. After a kill it is called again on the same
            partial folder and must resume. Files in its `scratch/` subfolder are removed at the end.
        shared: with several processes (rungwise/ranks.py), all call `build` on the same folder and rank 0 finishes it;
            otherwise rank 0 builds and the others wait.
    """
    final = runs / key.stage / key.id
    if (final / "manifest.json").is_file():
        return open_artifact(final, expect=key)
    partial = final.with_name(f"{key.id}.partial")
    if ranks().rank > 0:
        return _wait_for_rank_0(final, partial, key, build if shared else None)
    with _locked(partial, final) as is_ours, _signs_of_life(_alive(final)):
        if not is_ours:
            return open_artifact(final, expect=key)
        (partial / SCRATCH).mkdir(exist_ok=True)
        write_json(partial / "key.json", key.as_dict())
        started = time.monotonic()
        facts = build(partial)
        shutil.rmtree(partial / SCRATCH, ignore_errors=True)
        for leftover in partial.rglob("*.partial*"):
            leftover.unlink(missing_ok=True)
        (partial / "key.json").unlink()
        files = hash_files(partial)
        seconds = round(time.monotonic() - started, 3)
        manifest = key.as_dict() | {"files": files, "content_sha256": sha256_json(files), "seconds": seconds}
        write_json(partial / "manifest.json", manifest | {"facts": dict(facts or {})})
        os.replace(partial, final)
        (final / LOCK).unlink()
    return Artifact(final, key, manifest["content_sha256"], seconds, hit=False)


def _alive(final: Path) -> Path:
    return final.with_name(f"{final.name}.alive")


@contextmanager
def _signs_of_life(path: Path) -> Iterator[None]:
    """Touch a file again and again, if other processes wait for this one."""
    if ranks().world == 1:
        yield
        return
    done = threading.Event()

    def touch() -> None:
        path.touch()
        while not done.wait(ALIVE_SECONDS):
            path.touch()

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)


def _wait_for_rank_0(final: Path, partial: Path, key: StageKey, build: Callable[[Path], object] | None) -> Artifact:
    """Wait for rank 0 to finish an artifact; take part in the work if `build` is given.

    Raises:
        ValueError: rank 0 has given no sign of life for `DEAD_SECONDS`.
    """
    alive, last_sign, since = _alive(final), 0, time.monotonic()
    while not (final / "manifest.json").is_file():
        if build is not None and (partial / "key.json").is_file():
            build(partial)
            build, since = None, time.monotonic()
        time.sleep(POLL_SECONDS)
        # Compared with itself: hosts' clocks differ.
        sign = alive.stat().st_mtime_ns if alive.exists() else 0
        if sign != last_sign:
            last_sign, since = sign, time.monotonic()
        if time.monotonic() - since > DEAD_SECONDS:
            raise ValueError(
                f"{final}: rank 0, which finishes it, gave no sign of life for {DEAD_SECONDS:.0f} s; "
                "see its log, stop the other processes and start again"
            )
    return open_artifact(final, expect=key)


def read_facts(artifact: Artifact) -> dict[str, Any]:
    """Values that the stage's `build` returned for the manifest."""
    facts: dict[str, Any] = json.loads((artifact.path / "manifest.json").read_text(encoding="utf-8"))["facts"]
    return facts
