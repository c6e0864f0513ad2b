"""Make a bitrate ladder: encode every rung of every master, label it against its master, and write one table.

Masters come from rungwise/ladder/sources.py. A JSON file is written after each encode, so an interrupted run resumes
with the next encode. A failed encode is reported with ffmpeg's message, and the others go on.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np

from rungwise.artifact import Artifact, StageKey, open_artifact, run_stage, sha256_file, verify_files, write_json
from rungwise.config import Ladder, Rungs, RungSample
from rungwise.dataset_table import write_table
from rungwise.failures import failure
from rungwise.ladder.encode import BITS, CODECS, DEFAULT_SCALER, EncodeSpec, encode
from rungwise.ladder.label import LABEL_VERSION, MIN_CHROMA_PX, label
from rungwise.ladder.pairing import PAIRING_VERSION, read_format
from rungwise.ladder.shards import Shard
from rungwise.ladder.sources import Master, seed_of
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.media.video import probe
from rungwise.progress import note, run_jobs, warn
from rungwise.ranks import cores
from rungwise.ray_pool import RayPool

if TYPE_CHECKING:
    import pandas as pd

LADDER_VERSION = 1


@dataclass(frozen=True)
class Rung:
    """One encode of a master by `spec`. With `first` it is a re-encode: `spec` encodes the output of `first`."""

    spec: EncodeSpec
    first: EncodeSpec | None = None


def ladder_rungs(groups: Sequence[Rungs], master_height: int) -> list[list[Rung]]:
    """The rungs of one master for each of `groups`, without duplicates or heights above the master's.

    Raises:
        ValueError: an unknown codec or preset, or a CRF outside the codec's range.
    """
    unique: set[Rung] = set()
    rung_lists = []
    for rungs in groups:
        heights = [height for height in rungs.heights if height <= master_height]
        heights += [int(master_height * scale / 2 + 1e-9) * 2 for scale in rungs.scales]
        first = None
        if rungs.first_crf is not None:
            first = EncodeSpec("h264", int(master_height / 2) * 2, crf=rungs.first_crf)
        rates: list[dict[str, Any]] = [{"crf": crf} for crf in rungs.crf]
        rates += [{"bitrate_kbps": bitrate_kbps} for bitrate_kbps in rungs.bitrate_kbps]
        rung_list = []
        for height, scaler, rate in itertools.product(heights, rungs.scalers, rates):
            spec = EncodeSpec(
                rungs.codec,
                height,
                preset=rungs.preset,
                tune=rungs.tune,
                scaler=scaler,
                bit_depth=rungs.bit_depth,
                **rate,
            )
            rung = Rung(spec, first)
            if rung not in unique:
                unique.add(rung)
                rung_list.append(rung)
        rung_lists.append(rung_list)
    return rung_lists


def rungs_of_master(config: Ladder, master: Master, master_height: int) -> list[Rung]:
    """The rungs to encode of one master: all of `config.rungs` or a sample, and samples of `config.beside`.

    Samples depend on the content's name only, so they are the same in every run.
    """
    rung_lists = ladder_rungs(config.rungs, master_height)
    if config.sample is None:
        rungs = [rung for rung_list in rung_lists for rung in rung_list]
    else:
        rungs = _sampled_rungs(rung_lists, config.sample, master, seed_of(master.content))
    for number, beside in enumerate(config.beside):
        seed = seed_of(f"{master.content} beside" + f" {number}" * (number > 0))
        extra = _sampled_rungs(ladder_rungs(beside.rungs, master_height), beside.sample, master, seed)
        rungs = rungs + [rung for rung in extra if rung not in rungs]
    return rungs


def _sampled_rungs(rung_lists: list[list[Rung]], sample: RungSample, master: Master, seed: int) -> list[Rung]:
    """A sample that takes one rung of each list in turn, in random order, so that few rungs still cover all lists."""
    count = sample.masters if master.origin == "master" else sample.others
    rng = np.random.default_rng(seed)
    shuffled = [[rungs[index] for index in rng.permutation(len(rungs))] for rungs in rung_lists]
    order = rng.permutation(len(shuffled))
    rounds = itertools.zip_longest(*(shuffled[index] for index in order))
    return [rung for rung in itertools.chain.from_iterable(rounds) if rung is not None][:count]


def make_ladder(
    config: Ladder,
    masters: list[Master],
    runs: Path,
    *,
    unlabelled: Sequence[Master] = (),
    workers: int | None = None,
    shard: Shard | None = None,
    ray: str | None = None,
) -> Artifact:
    """Encode and label every rung of every master, and copy the `unlabelled` videos.

    The artifact holds `encodes/`, `table.parquet`, and `failures.json` with the reason for every failed clip. With
    `shard` only that part of the clips is made, without a table, in an artifact of the stage `ladder-shard`. Clips of
    finished shards in `runs` are reused, also those of a ladder with other rungs or masters: shards of several machines
    are merged by copying them into one folder, or by working in a shared one.

    Args:
        config: rungs and label metrics.
        masters: sources to encode.
        runs: folder of all artifacts.
        unlabelled: videos without a reference, copied as they are.
        workers: parallel encodes; the default is the number of CPU cores.
        shard: the part of the clips to make.
        ray: address of a Ray cluster that encodes and labels; `runs` is absolute and the same on all nodes.

    Raises:
        ValueError: a rung is invalid, or every encode failed.
    """
    # Validate all rungs of the config before any work.
    ladder_rungs((*config.rungs, *(rungs for beside in config.beside for rungs in beside.rungs)), 2160)
    key = ladder_key(config, masters, unlabelled)
    if shard is not None:
        key = shard_key(key, shard)

    def build(folder: Path) -> None:
        encodes = folder / "encodes"
        encodes.mkdir(exist_ok=True)
        jobs = _clip_jobs(config, masters, unlabelled, encodes)
        jobs = {clip: job for clip, job in jobs.items() if shard is None or shard.owns(clip)}
        _copy_shards(runs, key, encodes, jobs.keys())
        missing = {clip: job for clip, job in jobs.items() if not (encodes / f"{clip}.json").is_file()}
        failures = _run_clip_jobs(missing, workers, ray)
        write_json(folder / "failures.json", failures)
        if shard is None:
            _write_ladder_table(folder, config, failures)

    return run_stage(runs, key, build)


def ladder_key(config: Ladder, masters: Sequence[Master], unlabelled: Sequence[Master]) -> StageKey:
    """The identity of a ladder."""
    return StageKey(
        "ladder",
        LADDER_VERSION,
        config.model_dump(mode="json") | {"label_version": LABEL_VERSION},
        {master.content: _identity(master) for master in masters}
        | {f"unlabelled {video.content}": video.sha256 for video in unlabelled}
        | {"ffmpeg": ffmpeg_version()},
    )


def shard_key(ladder: StageKey, shard: Shard) -> StageKey:
    """The identity of a ladder's shard."""
    return replace(ladder, stage="ladder-shard", params={**ladder.params, "shard": str(shard)})


def missing_shards(
    config: Ladder, masters: Sequence[Master], runs: Path, count: int, *, unlabelled: Sequence[Master] = ()
) -> list[int]:
    """Indices, from 0, of the shards that are not finished: the tasks of an array job to run again."""
    key = ladder_key(config, masters, unlabelled)
    ids = [shard_key(key, Shard(number, count)).id for number in range(1, count + 1)]
    return [index for index, id_ in enumerate(ids) if not (runs / "ladder-shard" / id_ / "manifest.json").is_file()]


def _write_ladder_table(folder: Path, config: Ladder, failures: Mapping[str, str]) -> None:
    import pandas as pd

    encodes = folder / "encodes"
    rows = [_read_row(encodes, clip) for clip in _finished(encodes)]
    if not rows:
        raise ValueError(f"ladder: all {len(failures)} encodes failed; the last: {list(failures.values())[-1]}")
    warn_of_small_pictures(config.label, rows)
    write_table(folder / "table.parquet", pd.DataFrame(rows).astype({"score": float, "score_std": float}))


def warn_of_small_pictures(label_model: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Warn of encodes that are labeled at a size at which libvmaf has no chroma part of VMAF v1."""
    sizes = [row["display_height"] * min(1, row["width"] / row["height"]) for row in rows if row["score"] is not None]
    small = sum(size < MIN_CHROMA_PX for size in sizes)
    if label_model.startswith("vmaf_v1") and small:
        warn(
            f"ladder: {small} of {len(sizes)} encodes are shown at a short side below {MIN_CHROMA_PX} pixels, where "
            f"libvmaf leaves the chroma part of {label_model} out; their labels don't compare with "
            "those of larger videos"
        )


def _clip_jobs(
    config: Ladder, masters: Sequence[Master], unlabelled: Sequence[Master], encodes: Path
) -> dict[str, Callable[[], None]]:
    """The job of every clip, by name."""
    jobs: dict[str, Callable[[], None]] = {}
    for master in masters:
        for rung in rungs_of_master(config, master, probe(master.path).height):
            jobs[clip_name(master.content, rung)] = partial(_encode_and_label, master, rung, encodes, config)
    for video in unlabelled:
        jobs[video.content] = partial(_copy_unlabelled, video, encodes, config)
    return jobs


def _run_clip_jobs(jobs: dict[str, Callable[[], None]], workers: int | None, ray: str | None) -> dict[str, str]:
    """Run all jobs, and return the reason for every failed clip."""
    failures = {}
    with ThreadPoolExecutor(workers or cores()) if ray is None else RayPool(ray) as pool:
        for clip, error in run_jobs(pool, jobs, "ladder"):
            if error is None:
                continue
            is_system_error = isinstance(error, OSError | MemoryError) and not isinstance(error, av.error.FFmpegError)
            if not isinstance(error, Exception) or is_system_error:
                raise error  # a full disk, for example, fails all clips; finished ones are kept for the next run
            failures[clip] = failure("", error)
            note(f"ladder: {clip} failed: {failures[clip]}")
    return failures


def _copy_shards(runs: Path, ladder: StageKey, encodes: Path, clips: Set[str]) -> None:
    """Copy those of `clips` that a finished shard holds; each file is checked against its shard's manifest."""
    missing = clips - set(_finished(encodes))
    num_missing = len(missing)
    for manifest in sorted((runs / "ladder-shard").glob("*/manifest.json")):
        if manifest.parent.suffix == ".partial":  # its process is about to rename it
            continue
        shard = open_artifact(manifest.parent)
        if _labels(shard.key) != _labels(ladder):
            warn(f"ladder: ignored {manifest.parent}, a shard of another ladder")
            continue
        names = [clip for clip in _finished(shard.path / "encodes") if clip in missing]
        verify_files(shard, [f"encodes/{clip}.json" for clip in names])
        rows = {clip: _read_row(shard.path / "encodes", clip) for clip in names}
        reused = {clip: Path(row["path"]).name for clip, row in rows.items() if _same_source(shard.key, ladder, row)}
        verify_files(shard, [f"encodes/{video}" for video in reused.values()])
        for clip, video in reused.items():
            for name in (video, f"{clip}.json"):  # the JSON marks a clip as finished
                shutil.copyfile(shard.path / "encodes" / name, encodes / f"{name}.partial")
                os.replace(encodes / f"{name}.partial", encodes / name)
        missing -= reused.keys()
    if len(missing) < num_missing:
        note(f"ladder: {num_missing - len(missing)} clips copied from shards")


def _finished(encodes: Path) -> list[str]:
    return sorted(path.stem for path in encodes.glob("*.json"))


def _read_row(encodes: Path, clip: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((encodes / f"{clip}.json").read_text())["row"]
    return row


def _labels(key: StageKey) -> tuple[Any, ...]:
    """What changes every clip; with its name and its source, it is all that changes one."""
    names = ("label", "extra_labels", "label_version")
    return (key.version, *(key.params.get(name) for name in names), key.inputs.get("ffmpeg"))


def _same_source(shard: StageKey, ladder: StageKey, row: Mapping[str, Any]) -> bool:
    """Whether the clip of this row has the same master, or is the same unlabelled video, in both."""
    name = row["content"] if row["origin"] != "unlabelled" else f"unlabelled {row['content']}"
    return name in ladder.inputs and shard.inputs.get(name) == ladder.inputs[name]


def _identity(master: Master) -> str:
    """All that determines the encodes and labels of a master, for the stage key.

    The pairing version is included only if the master is converted, so that other ladders keep their ids.
    """
    master_format = read_format(master.path)
    is_converted = master_format.interlaced or master_format.full_range
    return (
        master.sha256
        + (f" of {master.group}" if master.group != master.content else "")
        + (f" pairing {PAIRING_VERSION}" if is_converted else "")
    )


def clip_name(content: str, rung: Rung) -> str:
    """The unique name of an encode, such as "night_city_a-h264-216p-crf32-veryfast"."""
    spec = rung.spec
    parts = [
        content,
        spec.codec,
        f"{spec.height}p",
        f"crf{spec.crf}" if spec.crf is not None else f"{spec.bitrate_kbps}k",
    ]
    parts += [spec.preset] + [spec.tune] * bool(spec.tune)
    parts += [spec.scaler] * (spec.scaler != DEFAULT_SCALER) + [f"{spec.bit_depth}bit"] * (spec.bit_depth > BITS)
    parts += [f"after{rung.first.crf}"] if rung.first else []
    return "-".join(parts)


def read_failures(ladder: Artifact) -> dict[str, str]:
    """Clips that could not be encoded or labeled, with the reason."""
    failures: dict[str, str] = json.loads((ladder.path / "failures.json").read_text())
    return failures


def _encode_and_label(master: Master, rung: Rung, encodes: Path, config: Ladder) -> None:
    """Write the encode of a rung, then its JSON with the row of the table."""
    clip = clip_name(master.content, rung)
    path = encodes / f"{clip}{CODECS[rung.spec.codec].suffix}"
    with tempfile.TemporaryDirectory() as folder:
        source = master.path
        if rung.first is not None:
            source = Path(folder) / f"first{CODECS[rung.first.codec].suffix}"
            encode(master.path, source, rung.first)
        command = encode(source, path, rung.spec)
    labels = label(master.path, path, models=(config.label, *config.extra_labels))
    row = _row(master, rung, path, config, labels.display_height)
    score = labels.metrics[config.label]
    row |= {"score": score.mean, "score_harmonic_mean": score.harmonic_mean, "score_min_frame": score.min}
    for metric, pooled in labels.metrics.items():
        if metric != config.label:
            row |= {f"{metric}_{name}": value for name, value in asdict(pooled).items()}
    write_json(encodes / f"{clip}.json", {"row": row, "command": command, "ffmpeg": ffmpeg_version()})


def _copy_unlabelled(video: Master, encodes: Path, config: Ladder) -> None:
    """Copy a video, then write its JSON with a row without a score."""
    height = probe(video.path).height  # raises for an unreadable video, before it is copied
    path = encodes / f"{video.content}{video.path.suffix.lower()}"
    shutil.copyfile(video.path, path)
    row = _row(video, None, path, config, height)
    write_json(encodes / f"{video.content}.json", {"row": row | {"score": None}})


def _row(master: Master, rung: Rung | None, path: Path, config: Ladder, display_height: int) -> dict[str, Any]:
    """The row of a clip without its score; `rung` is None if the encoder settings are unknown."""
    video = probe(path)
    return {
        "clip": path.stem,
        "path": f"encodes/{path.name}",
        "content": master.content,
        "group": master.group,
        "origin": master.origin,
        "codec": rung.spec.codec if rung else video.codec,
        "preset": f"{rung.spec.preset} {rung.spec.tune}".strip() if rung else "",
        "rate_control": _rate_control(rung.spec) if rung else "",
        "scaler": rung.spec.scaler if rung else "",
        "bit_depth": rung.spec.bit_depth if rung else None,
        "first_crf": rung.first.crf if rung and rung.first else None,
        "width": video.width,
        "height": video.height,
        "fps": video.fps,
        "duration_seconds": video.duration_seconds,
        "bitrate_kbps": video.bitrate_kbps,
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


def read_ladder(ladder: Artifact) -> pd.DataFrame:
    """The table of a ladder with absolute paths."""
    from rungwise.dataset_table import read_table

    table = read_table(ladder.path / "table.parquet")
    table["path"] = [str(ladder.path / path) for path in table["path"]]
    return table
