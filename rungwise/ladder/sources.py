"""Masters: videos of a folder, variants of them, synthetic pan/zoom clips from stills, and the built-in scenes.

Generated masters are artifacts of the stage `masters`. Videos of a folder that are used in full length are read in
place.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from rungwise.artifact import StageKey, run_stage, sha256_file, write_json
from rungwise.config import Sources
from rungwise.ladder.encode import cut_master
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.media.packets import timestamps_seconds
from rungwise.media.suffixes import VIDEO_SUFFIXES
from rungwise.media.video import probe
from rungwise.progress import run_jobs, track, warn
from rungwise.ranks import cores
from rungwise.scenes import FAMILIES, MASTERS_VERSION, SCENES, find_scene, write_master, write_pan_zoom_clip
from rungwise.scenes.camera import PICTURE_SUFFIXES, picture_size
from rungwise.scenes.variants import VARIANTS_VERSION, Variant, draw_variant, write_variant

FORMAT_KEYS = ("width", "height", "num_frames", "fps")


@dataclass(frozen=True)
class Master:
    """One source video. Contents of one `group` share footage and stay in one split.

    `origin` is "master", "photograph", "builtin", "unlabelled", or the changes made to a master, such as
    "crop mirror".
    """

    content: str
    group: str
    path: Path
    sha256: str
    origin: str = "master"


def make_masters(sources: Sources, runs: Path, *, held_out: Collection[str] = ()) -> list[Master]:
    """The masters of a run. Contents in `held_out`, and others of their groups, get no variants.

    Raises:
        ValueError: an unknown scene, a folder without videos, or a group with an unknown content.
    """
    paths, origins = {}, {}
    if sources.folder is not None:
        paths = {path.stem: path for path in _files(sources.folder, VIDEO_SUFFIXES, "sources.folder")}
        if sources.num_frames is not None:
            paths = _cut(paths, sources.num_frames, runs)
        origins = dict.fromkeys(paths, "master")
    for origin, make in (("builtin", _builtin), ("photograph", _photographs)):
        new_paths = make(sources, runs)
        clash = sorted(new_paths.keys() & paths.keys())
        if clash:
            raise ValueError(f"sources: two masters are named {clash[0]!r}; names must be unique")
        paths |= new_paths
        origins |= dict.fromkeys(new_paths, origin)
    base_names = {name: name.rpartition("~")[0] if origins[name] == "photograph" else name for name in paths}
    groups = _groups(sources, base_names)
    masters = [Master(name, groups[name], path, sha256_file(path), origins[name]) for name, path in paths.items()]
    if not sources.variants:
        return masters
    held_out_groups = {groups[content] for content in held_out if content in groups}
    varied = [master for master in masters if master.origin == "master" and master.group not in held_out_groups]
    return masters + _variants(sources, varied, runs)


def _builtin(sources: Sources, runs: Path) -> dict[str, Path]:
    """Rendered scenes by name: those of `builtin`, and the numbers of `more_scenes` per family."""
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
    video_format = sources.model_dump(include=set(FORMAT_KEYS))
    key = StageKey("masters", MASTERS_VERSION, {"scenes": names, **video_format}, {"ffmpeg": ffmpeg_version()})
    jobs = {name: partial(write_master, name, **video_format) for name in names}
    return _rendered(key, jobs, runs)


def _photographs(sources: Sources, runs: Path) -> dict[str, Path]:
    """Pan/zoom clips from stills, NAME~1, NAME~2, ...; a still smaller than a clip is skipped with a warning."""
    if sources.photographs is None:
        return {}
    assert sources.shots is not None
    stills = _files(sources.photographs, PICTURE_SUFFIXES, "sources.photographs")
    timing = sources.model_dump(include={"num_frames", "fps"})
    inputs = {still.stem: sha256_file(still) for still in stills} | {"ffmpeg": ffmpeg_version()}
    key = StageKey("masters", MASTERS_VERSION, {"shots": sources.shots, **timing}, inputs)
    jobs: dict[str, Callable[..., None]] = {}
    for still in stills:
        still_width, still_height = picture_size(still)
        for number, (width, height) in enumerate(sources.shots):
            name = f"{still.stem}~{number + 1}"
            if still_width < width or still_height < height:
                warn(f"masters: no {name}: the still is {still_width}x{still_height}, the clip {width}x{height}")
                continue
            jobs[name] = partial(write_pan_zoom_clip, still, seed=seed_of(name), width=width, height=height, **timing)
    if not jobs:
        raise ValueError(
            f"sources.photographs: every still of {sources.photographs} is smaller than all sizes in sources.shots"
        )
    return _rendered(key, jobs, runs)


def _rendered(key: StageKey, jobs: Mapping[str, Callable[..., None]], runs: Path) -> dict[str, Path]:
    """Paths by name of videos that are rendered in Python; each job is called with the `path` to write."""

    def build(folder: Path) -> None:
        paths = {name: folder / f"{name}.mkv" for name in jobs}
        missing = {name: partial(jobs[name], path=path) for name, path in paths.items() if not path.is_file()}
        # Spawn, because a forked worker would outlive an interrupted run and keep the artifact's lock.
        with ProcessPoolExecutor(cores(), mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
            for _, error in run_jobs(pool, missing, "masters"):
                if error is not None:
                    raise error

    artifact = run_stage(runs, key, build)
    return {name: artifact.path / f"{name}.mkv" for name in jobs}


def _end_with_parent() -> None:
    """End this worker when the run is killed: it would wait for jobs for ever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _cut(paths: dict[str, Path], num_frames: int, runs: Path) -> dict[str, Path]:
    """Lossless copies of the first frames, by name."""
    inputs = {name: sha256_file(path) for name, path in paths.items()} | {"ffmpeg": ffmpeg_version()}
    key = StageKey("masters", MASTERS_VERSION, {"num_frames": num_frames}, inputs)

    def build(folder: Path) -> None:
        for name, path in track(paths.items(), "masters", total=len(paths)):
            cut_master(path, folder / f"{name}.mkv", num_frames=num_frames)

    artifact = run_stage(runs, key, build)
    return {name: artifact.path / f"{name}.mkv" for name in paths}


def _variants(sources: Sources, masters: list[Master], runs: Path) -> list[Master]:
    """Variants NAME~1, NAME~2, ... of each master, from its full length."""
    assert sources.folder is not None
    assert sources.num_frames is not None
    originals = {path.stem: path for path in _files(sources.folder, VIDEO_SUFFIXES, "sources.folder")}
    variants: dict[str, tuple[Master, Variant]] = {}
    for master in masters:
        video = probe(originals[master.content])
        num_available = len(timestamps_seconds(originals[master.content]))
        for number in range(sources.variants):
            name = f"{master.content}~{number + 1}"
            variant = draw_variant(
                seed_of(name),
                width=video.width,
                height=video.height,
                available=num_available,
                num_frames=sources.num_frames,
            )
            variants[name] = (master, variant)
    key = StageKey(
        "masters",
        VARIANTS_VERSION,
        {
            "variants": {name: variant.filters for name, (_, variant) in variants.items()},
            "num_frames": sources.num_frames,
        },
        {master.content: sha256_file(originals[master.content]) for master in masters} | {"ffmpeg": ffmpeg_version()},
    )

    def build(folder: Path) -> None:
        jobs = {}
        for name, (master, variant) in variants.items():
            if not (folder / f"{name}.json").is_file():
                jobs[name] = partial(
                    _write_variant, originals[master.content], folder / f"{name}.mkv", variant, sources
                )
        with ThreadPoolExecutor(cores()) as pool:
            for _, error in run_jobs(pool, jobs, "variants"):
                if error is not None:
                    raise error

    folder = run_stage(runs, key, build).path
    paths = {name: folder / f"{name}.mkv" for name in variants}
    return [
        Master(name, master.group, paths[name], sha256_file(paths[name]), variant.kinds)
        for name, (master, variant) in variants.items()
    ]


def _write_variant(source: Path, path: Path, variant: Variant, sources: Sources) -> None:
    assert sources.num_frames is not None
    write_variant(source, path, variant, num_frames=sources.num_frames)
    write_json(path.with_suffix(".json"), {"filters": variant.filters})  # marks the variant as finished


def seed_of(name: str) -> int:
    """The random seed of a content, which depends on its name only."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)


def _files(folder: Path, suffixes: tuple[str, ...], key: str) -> list[Path]:
    """Files with one of the suffixes, sorted; ValueError names the config `key`."""
    if not folder.is_dir():
        raise ValueError(f"{key}: {folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not paths:
        kind = "video" if suffixes is VIDEO_SUFFIXES else "picture"
        raise ValueError(f"{key}: {folder} has no {kind} ({', '.join(suffixes)})")
    stems = [path.stem for path in paths]
    duplicates = {stem for stem in stems if stems.count(stem) > 1}
    if duplicates:
        raise ValueError(f"{key}: two files are named {sorted(duplicates)[0]!r}; names must be unique")
    return paths


def find_unlabelled(sources: Sources, masters: list[Master]) -> list[Master]:
    """The videos of `sources.unlabelled`, each with its own content and group.

    Raises:
        ValueError: the folder does not exist or has no video, or a video has the name of a master.
    """
    if sources.unlabelled is None:
        return []
    paths = _files(sources.unlabelled, VIDEO_SUFFIXES, "sources.unlabelled")
    clash = sorted({path.stem for path in paths} & {master.content for master in masters})
    if clash:
        raise ValueError(f"sources.unlabelled: {clash[0]!r} is also the name of a master; names must be unique")
    return [Master(path.stem, path.stem, path, sha256_file(path), "unlabelled") for path in paths]


def _groups(sources: Sources, base_names: dict[str, str]) -> dict[str, str]:
    """Groups by content: those of `sources.groups`, else the content's base name, which clips of a still share."""
    groups = dict(base_names)
    grouped: set[str] = set()
    for group, members in sources.groups.items():
        for member in members:
            contents = [content for content, base_name in base_names.items() if member in (content, base_name)]
            if not contents:
                raise ValueError(f"sources.groups.{group}: no content {member!r} among the {len(base_names)} masters")
            if member in grouped:
                raise ValueError(f"sources.groups.{group}: {member!r} is in two groups")
            grouped.add(member)
            groups |= dict.fromkeys(contents, group)
    return groups
