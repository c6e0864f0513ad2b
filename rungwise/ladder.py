"""Masters become a bitrate ladder: every rung encoded, labelled against its master, and listed in one table.

Two stages: `masters` (built-in scenes only; a user's folder is read where it lies) and `ladder`. Each encode
leaves a JSON beside it when it is finished, so a killed run takes up at the next encode, and one that fails is
reported with ffmpeg's own words and does not lose the others.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.artefact import Artefact, StageKey, run_stage, sha256_file, write_json
from rungwise.config import Ladder, Sources
from rungwise.encode import CODECS, EncodeSpec, FfmpegError, cut_master, encode, ffmpeg_version
from rungwise.label import LABEL_VERSION, label
from rungwise.masters import MASTERS_VERSION, SCENES, write_master
from rungwise.progress import note, track
from rungwise.table import write_table
from rungwise.video import probe

if TYPE_CHECKING:
    import pandas as pd

LADDER_VERSION = 1
VIDEO_SUFFIXES = (".mkv", ".mp4", ".mov", ".webm", ".y4m", ".avi", ".m4v", ".ts")


@dataclass(frozen=True)
class Master:
    """One source scene. Contents of one `group` share footage and stay in one split."""

    content: str
    group: str
    path: Path
    sha256: str


def make_masters(sources: Sources, runs: Path) -> list[Master]:
    """The masters of a run: built-in scenes rendered into an artefact, or the videos of a folder.

    Raises:
        ValueError: unknown scene names, a folder without videos, or a group of contents that aren't there.
    """
    if sources.folder is not None:
        paths = _videos(sources.folder, "sources.folder")
        groups = _groups(sources, [path.stem for path in paths])
        if sources.num_frames is not None:
            paths = _cut_masters(paths, sources.num_frames, runs)
        return [Master(path.stem, groups[path.stem], path, sha256_file(path)) for path in paths]
    names = sorted(SCENES) if sources.builtin == "all" else list(sources.builtin or ())
    unknown = [name for name in names if name not in SCENES]
    if unknown:
        raise ValueError(f"sources.builtin: no scene {unknown[0]!r}; the scenes are {', '.join(SCENES)}")
    size = sources.model_dump(include={"width", "height", "num_frames", "fps"})
    key = StageKey("masters", MASTERS_VERSION, {"scenes": names, **size}, {"ffmpeg": ffmpeg_version()})

    def build(folder: Path) -> None:
        missing = [name for name in names if not (folder / f"{name}.mkv").is_file()]
        # Spawned, not forked: a forked worker would outlive a killed run and hold the artefact's lock with it.
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            jobs = {name: partial(write_master, name, folder / f"{name}.mkv", **size) for name in missing}
            for _, error in _run_jobs(pool, jobs, "masters"):
                if error is not None:
                    raise error

    artefact = run_stage(runs, key, build)
    rendered = {name: artefact.path / f"{name}.mkv" for name in names}
    groups = _groups(sources, names)
    return [Master(name, groups[name], path, sha256_file(path)) for name, path in rendered.items()]


def _videos(folder: Path, key: str) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{key}: {folder} is not a folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise ValueError(f"{key}: {folder} holds no video ({', '.join(VIDEO_SUFFIXES)})")
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
    paths = _videos(sources.unlabelled, "sources.unlabelled")
    clash = sorted({path.stem for path in paths} & {master.content for master in masters})
    if clash:
        raise ValueError(f"sources.unlabelled: {clash[0]!r} is a master's name too; a content needs one name")
    return [Master(path.stem, path.stem, path, sha256_file(path)) for path in paths]


def _cut_masters(paths: list[Path], num_frames: int, runs: Path) -> list[Path]:
    """Lossless copies of the first frames."""
    inputs = {path.stem: sha256_file(path) for path in paths} | {"ffmpeg": ffmpeg_version()}
    key = StageKey("masters", MASTERS_VERSION, {"num_frames": num_frames}, inputs)

    def build(folder: Path) -> None:
        for path in track(paths, "masters", total=len(paths)):
            cut_master(path, folder / f"{path.stem}.mkv", num_frames=num_frames)

    artefact = run_stage(runs, key, build)
    return [artefact.path / f"{path.stem}.mkv" for path in paths]


def _groups(sources: Sources, contents: list[str]) -> dict[str, str]:
    """Content -> group, as `sources.groups` has it."""
    groups = {content: content for content in contents}
    placed: set[str] = set()
    for group, members in sources.groups.items():
        for content in members:
            if content not in groups:
                raise ValueError(f"sources.groups.{group}: no content {content!r} among the {len(contents)} masters")
            if content in placed:
                raise ValueError(f"sources.groups.{group}: {content!r} is in two groups")
            placed.add(content)
            groups[content] = group
    return groups


def ladder_specs(config: Ladder, master_height: int) -> list[EncodeSpec]:
    """Every rung of one master, without doubles; heights above the master's are left out.

    Raises:
        ValueError: an unknown codec or preset, or a CRF outside the codec's range.
    """
    specs: dict[EncodeSpec, None] = {}
    for rungs in config.rungs:
        heights = [height for height in rungs.heights if height <= master_height]
        heights += [int(master_height * scale / 2 + 1e-9) * 2 for scale in rungs.scales]
        for height in heights:
            for crf in rungs.crf:
                specs[EncodeSpec(rungs.codec, height, crf=crf, preset=rungs.preset)] = None
            for bitrate_kbps in rungs.bitrate_kbps:
                specs[EncodeSpec(rungs.codec, height, bitrate_kbps=bitrate_kbps, preset=rungs.preset)] = None
    return list(specs)


def make_ladder(
    config: Ladder,
    masters: list[Master],
    runs: Path,
    *,
    unlabelled: Sequence[Master] = (),
    workers: int | None = None,
) -> Artefact:
    """Encode and label every rung of every master, `workers` at a time; copy the `unlabelled` videos beside them.

    The artefact holds `encodes/`, `table.parquet`, and `failures.json`: clip -> why it is not in the table.

    Raises:
        ValueError: a rung that no encoder takes, or every encode failed.
    """
    ladder_specs(config, 2160)  # a wrong rung is the config's fault: say so before any work
    key = StageKey(
        "ladder",
        LADDER_VERSION,
        config.model_dump(mode="json") | {"label_version": LABEL_VERSION},
        {master.content: _identity(master) for master in masters}
        | {f"unlabelled {video.content}": video.sha256 for video in unlabelled}
        | {"ffmpeg": ffmpeg_version()},
    )

    def build(folder: Path) -> None:
        encodes = folder / "encodes"
        encodes.mkdir(exist_ok=True)
        jobs = {}
        for master in masters:
            for spec in ladder_specs(config, probe(master.path).height):
                clip = clip_name(master.content, spec)
                if not (encodes / f"{clip}.json").is_file():
                    jobs[clip] = partial(_encode_and_label, master, spec, encodes, config)
        for video in unlabelled:
            if not (encodes / f"{video.content}.json").is_file():
                jobs[video.content] = partial(_take_unlabelled, video, encodes, config)
        failures = {}
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            for clip, error in _run_jobs(pool, jobs, "ladder"):
                if isinstance(error, (FfmpegError, ValueError)):
                    failures[clip] = str(error)
                    note(f"ladder: {clip} failed: {error}")
                elif error is not None:
                    raise error
        rows = [json.loads(path.read_text())["row"] for path in sorted(encodes.glob("*.json"))]
        if not rows:
            raise ValueError(f"ladder: all {len(failures)} encodes failed; the last: {list(failures.values())[-1]}")
        import pandas as pd

        write_json(folder / "failures.json", failures)
        write_table(folder / "table.parquet", pd.DataFrame(rows).astype({"score": float, "score_std": float}))

    return run_stage(runs, key, build)


def _identity(master: Master) -> str:
    alone = master.group == master.content
    return master.sha256 if alone else f"{master.sha256} of {master.group}"


def clip_name(content: str, spec: EncodeSpec) -> str:
    """The encode's unique name, such as "night_city_a-h264-216p-crf32-veryfast"."""
    rate = f"crf{spec.crf}" if spec.crf is not None else f"{spec.bitrate_kbps}k"
    return f"{content}-{spec.codec}-{spec.height}p-{rate}-{spec.preset}"


def read_failures(ladder: Artefact) -> dict[str, str]:
    """Clips that could not be encoded or labelled, and why."""
    failures: dict[str, str] = json.loads((ladder.path / "failures.json").read_text())
    return failures


def _encode_and_label(master: Master, spec: EncodeSpec, encodes: Path, config: Ladder) -> None:
    clip = clip_name(master.content, spec)
    path = encodes / f"{clip}{CODECS[spec.codec].suffix}"
    command = encode(master.path, path, spec)
    labels = label(master.path, path, models=(config.label, *config.extra_labels))
    row = _row(master, spec, path, config, labels.display_height)
    score = labels.metrics[config.label]
    row |= {"score": score.mean, "score_harmonic_mean": score.harmonic_mean, "score_min_frame": score.min}
    for metric, pooled in labels.metrics.items():
        if metric != config.label:
            row |= {f"{metric}_{name}": value for name, value in asdict(pooled).items()}
    write_json(encodes / f"{clip}.json", {"row": row, "command": command, "ffmpeg": ffmpeg_version()})


def _take_unlabelled(video: Master, encodes: Path, config: Ladder) -> None:
    height = probe(video.path).height  # of what can't be read nothing is kept
    path = encodes / f"{video.content}{video.path.suffix.lower()}"
    shutil.copyfile(video.path, path)
    row = _row(video, None, path, config, height)
    write_json(encodes / f"{video.content}.json", {"row": row | {"score": None}})


def _row(master: Master, spec: EncodeSpec | None, path: Path, config: Ladder, display_height: int) -> dict[str, Any]:
    """A table's row, but for the score; without `spec` nobody knows how the video was made."""
    seen = probe(path)
    return {
        "clip": path.stem,
        "path": f"encodes/{path.name}",
        "content": master.content,
        "group": master.group,
        "codec": spec.codec if spec else seen.codec,
        "preset": spec.preset if spec else "",
        "rate_control": _rate_control(spec) if spec else "",
        "width": seen.width,
        "height": seen.height,
        "fps": seen.fps,
        "duration_seconds": seen.duration_seconds,
        "bitrate_kbps": seen.bitrate_kbps,
        "display_height": display_height,
        "score_std": None,
        "score_kind": config.label,
        "score_polarity": "higher_is_better",
        "score_min": 0.0,
        "score_max": 100.0,
        "split": "",
        "video_sha256": sha256_file(path),
    }


def _rate_control(spec: EncodeSpec) -> str:
    return f"crf={spec.crf}" if spec.crf is not None else f"bitrate={spec.bitrate_kbps}k"


def _run_jobs(pool: Executor, jobs: dict[str, Any], description: str) -> Iterator[tuple[str, BaseException | None]]:
    """Run named jobs; yield each name with its error, or None, as they finish. Ctrl-C drops those not begun."""
    futures = {pool.submit(job): name for name, job in jobs.items()}
    try:
        for future in track(as_completed(futures), description, total=len(futures)):
            yield futures[future], future.exception()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ladder(ladder: Artefact) -> pd.DataFrame:
    """The ladder's table with `path` made absolute."""
    from rungwise.table import read_table

    table = read_table(ladder.path / "table.parquet")
    table["path"] = [str(ladder.path / path) for path in table["path"]]
    return table
