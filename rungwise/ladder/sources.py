"""Masters: the videos of a folder, variants of them, photographs under a synthetic camera, and the built-in scenes.

What has to be made is made in artifacts of the stage `masters`; a folder's videos that are used whole are read where
they lie.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rungwise.artifact import StageKey, run_stage, sha256_file, write_json
from rungwise.config import Sources
from rungwise.ladder.encode import cut_master
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.media.packets import timestamps_seconds
from rungwise.media.suffixes import VIDEO_SUFFIXES
from rungwise.media.video import probe
from rungwise.progress import run_jobs, track, warn
from rungwise.scenes import FAMILIES, MASTERS_VERSION, SCENES, find_scene, write_master, write_photograph
from rungwise.scenes.camera import PICTURE_SUFFIXES, picture_size
from rungwise.scenes.variants import VARIANTS_VERSION, Variant, draw_variant, write_variant

SIZE = ("width", "height", "num_frames", "fps")


@dataclass(frozen=True)
class Master:
    """One source scene. Contents of one `group` share footage and stay in one split.

    `origin` says how it came to be: "master", "photograph", "builtin", or what was done to a master, such as
    "crop mirror".
    """

    content: str
    group: str
    path: Path
    sha256: str
    origin: str = "master"


def make_masters(sources: Sources, runs: Path, *, held_out: Collection[str] = ()) -> list[Master]:
    """The masters of a run. Of the contents of `held_out`, and of their groups, no variants are made.

    Raises:
        ValueError: unknown scene names, a folder without videos, or a group of contents that aren't there.
    """
    paths, origins = {}, {}
    if sources.folder is not None:
        paths = {path.stem: path for path in _files(sources.folder, VIDEO_SUFFIXES, "sources.folder")}
        if sources.num_frames is not None:
            paths = _cut(paths, sources.num_frames, runs)
        origins = dict.fromkeys(paths, "master")
    for origin, make in (("builtin", _builtin), ("photograph", _photographs)):
        made = make(sources, runs)
        clash = sorted(made.keys() & paths.keys())
        if clash:
            raise ValueError(f"sources: two masters are called {clash[0]!r}; a content needs one name")
        paths |= made
        origins |= dict.fromkeys(made, origin)
    groups = _groups(
        sources, list(paths), {c: c.rpartition("~")[0] if origins[c] == "photograph" else c for c in paths}
    )
    masters = [Master(name, groups[name], path, sha256_file(path), origins[name]) for name, path in paths.items()]
    if not sources.variants:
        return masters
    apart = {groups[content] for content in held_out if content in groups}
    return masters + _variants(sources, [m for m in masters if m.origin == "master" and m.group not in apart], runs)


def _builtin(sources: Sources, runs: Path) -> dict[str, Path]:
    """Rendered scenes by name: those asked for, and so many more of each family."""
    names = sorted(SCENES) if sources.builtin == "all" else list(sources.builtin or ())
    for name in names:
        try:
            find_scene(name)
        except ValueError as error:
            raise ValueError(f"sources.builtin: {error}") from error
    for family, count in sources.more_scenes.items():
        if family not in FAMILIES:
            raise ValueError(f"sources.more_scenes: no family {family!r}; the families are {', '.join(FAMILIES)}")
        names += [f"{family}_{number}" for number in range(1, count + 1) if f"{family}_{number}" not in names]
    if not names:
        return {}
    size = sources.model_dump(include=set(SIZE))
    key = StageKey("masters", MASTERS_VERSION, {"scenes": names, **size}, {"ffmpeg": ffmpeg_version()})
    jobs = {name: partial(write_master, name, **size) for name in names}
    return _rendered(key, jobs, runs)


def _photographs(sources: Sources, runs: Path) -> dict[str, Path]:
    """Shots of a folder's pictures: NAME~1, NAME~2, ... by its name. One too small for a shot goes without."""
    if sources.photographs is None:
        return {}
    assert sources.shots is not None
    pictures = _files(sources.photographs, PICTURE_SUFFIXES, "sources.photographs")
    moving = sources.model_dump(include={"num_frames", "fps"})
    inputs = {picture.stem: sha256_file(picture) for picture in pictures} | {"ffmpeg": ffmpeg_version()}
    key = StageKey("masters", MASTERS_VERSION, {"shots": sources.shots, **moving}, inputs)
    jobs: dict[str, Callable[..., None]] = {}
    for picture in pictures:
        across, down = picture_size(picture)
        for number, (width, height) in enumerate(sources.shots):
            name = f"{picture.stem}~{number + 1}"
            if across < width or down < height:
                warn(f"masters: no {name}: the picture is {across}x{down}, the shot {width}x{height}")
                continue
            jobs[name] = partial(write_photograph, picture, seed=seed_of(name), width=width, height=height, **moving)
    if not jobs:
        raise ValueError(f"sources.photographs: no picture of {sources.photographs} is as large as one of the shots")
    return _rendered(key, jobs, runs)


def _rendered(key: StageKey, jobs: Mapping[str, Callable[..., None]], runs: Path) -> dict[str, Path]:
    """Videos that Python draws, by name; each job takes the `path` to write."""

    def build(folder: Path) -> None:
        paths = {name: folder / f"{name}.mkv" for name in jobs}
        missing = {name: partial(jobs[name], path=path) for name, path in paths.items() if not path.is_file()}
        # Spawned, not forked: a forked worker would outlive a killed run and hold the artifact's lock with it.
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            for _, error in run_jobs(pool, missing, "masters"):
                if error is not None:
                    raise error

    artifact = run_stage(runs, key, build)
    return {name: artifact.path / f"{name}.mkv" for name in jobs}


def _cut(paths: dict[str, Path], num_frames: int, runs: Path) -> dict[str, Path]:
    """Lossless copies of the first frames."""
    inputs = {name: sha256_file(path) for name, path in paths.items()} | {"ffmpeg": ffmpeg_version()}
    key = StageKey("masters", MASTERS_VERSION, {"num_frames": num_frames}, inputs)

    def build(folder: Path) -> None:
        for name, path in track(paths.items(), "masters", total=len(paths)):
            cut_master(path, folder / f"{name}.mkv", num_frames=num_frames)

    artifact = run_stage(runs, key, build)
    return {name: artifact.path / f"{name}.mkv" for name in paths}


def _variants(sources: Sources, masters: list[Master], runs: Path) -> list[Master]:
    """NAME~1, NAME~2, ... of each master, from the whole of its file."""
    assert sources.folder is not None
    assert sources.num_frames is not None
    originals = {path.stem: path for path in _files(sources.folder, VIDEO_SUFFIXES, "sources.folder")}
    drawn: dict[str, tuple[Master, Variant]] = {}
    for master in masters:
        seen, available = probe(originals[master.content]), len(timestamps_seconds(originals[master.content]))
        for number in range(sources.variants):
            name = f"{master.content}~{number + 1}"
            drawn[name] = (
                master,
                draw_variant(
                    seed_of(name),
                    width=seen.width,
                    height=seen.height,
                    available=available,
                    num_frames=sources.num_frames,
                ),
            )
    key = StageKey(
        "masters",
        VARIANTS_VERSION,
        {"variants": {name: variant.filters for name, (_, variant) in drawn.items()}, "num_frames": sources.num_frames},
        {master.content: sha256_file(originals[master.content]) for master in masters} | {"ffmpeg": ffmpeg_version()},
    )

    def build(folder: Path) -> None:
        jobs = {}
        for name, (master, variant) in drawn.items():
            if not (folder / f"{name}.json").is_file():
                jobs[name] = partial(
                    _write_variant, originals[master.content], folder / f"{name}.mkv", variant, sources
                )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _, error in run_jobs(pool, jobs, "variants"):
                if error is not None:
                    raise error

    folder = run_stage(runs, key, build).path
    made = {name: folder / f"{name}.mkv" for name in drawn}
    return [
        Master(name, master.group, made[name], sha256_file(made[name]), variant.kinds)
        for name, (master, variant) in drawn.items()
    ]


def _write_variant(source: Path, path: Path, variant: Variant, sources: Sources) -> None:
    assert sources.num_frames is not None
    write_variant(source, path, variant, num_frames=sources.num_frames)
    write_json(path.with_suffix(".json"), {"filters": variant.filters})  # written last: this one is finished


def seed_of(name: str) -> int:
    """What is drawn for a content is drawn from this, so that it is the same ever after."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)


def _files(folder: Path, suffixes: tuple[str, ...], key: str) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{key}: {folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not paths:
        kind = "video" if suffixes is VIDEO_SUFFIXES else "picture"
        raise ValueError(f"{key}: {folder} holds no {kind} ({', '.join(suffixes)})")
    doubles = {path.stem for path in paths if [other.stem for other in paths].count(path.stem) > 1}
    if doubles:
        raise ValueError(f"{key}: two files are called {sorted(doubles)[0]!r}; a content needs one name")
    return paths


def find_unlabelled(sources: Sources, masters: list[Master]) -> list[Master]:
    """The videos of `sources.unlabelled`: each a content and a group of its own.

    Raises:
        ValueError: no such folder, no video in it, or one is called like a master.
    """
    if sources.unlabelled is None:
        return []
    paths = _files(sources.unlabelled, VIDEO_SUFFIXES, "sources.unlabelled")
    clash = sorted({path.stem for path in paths} & {master.content for master in masters})
    if clash:
        raise ValueError(f"sources.unlabelled: {clash[0]!r} is a master's name too; a content needs one name")
    return [Master(path.stem, path.stem, path, sha256_file(path), "unlabelled") for path in paths]


def _groups(sources: Sources, contents: list[str], own: dict[str, str]) -> dict[str, str]:
    """Content -> group, as `sources.groups` has it, else its `own`. Shots of a picture go by the picture's name."""
    groups = dict(own)
    placed: set[str] = set()
    for group, members in sources.groups.items():
        for member in members:
            meant = [content for content in contents if member in (content, own[content])]
            if not meant:
                raise ValueError(f"sources.groups.{group}: no content {member!r} among the {len(contents)} masters")
            if member in placed:
                raise ValueError(f"sources.groups.{group}: {member!r} is in two groups")
            placed.add(member)
            groups |= dict.fromkeys(meant, group)
    return groups
