"""Masters become a bitrate ladder: every rung encoded, labeled against its master, and listed in one table.

Masters come from rungwise/ladder/sources.py. Each encode
leaves a JSON beside it when it is finished, so a killed run takes up at the next encode, and one that fails is
reported with ffmpeg's own words and does not lose the others.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
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
from rungwise.ladder.label import LABEL_VERSION, label
from rungwise.ladder.pairing import PAIRING_VERSION, read_format
from rungwise.ladder.sources import Master, seed_of
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.media.video import probe
from rungwise.progress import note, run_jobs, warn

if TYPE_CHECKING:
    import pandas as pd

LADDER_VERSION = 1


@dataclass(frozen=True)
class Rung:
    """One encode of a master; with `first` given, an encode of that encode, as a re-upload is."""

    spec: EncodeSpec
    first: EncodeSpec | None = None


@dataclass(frozen=True)
class Shard:
    """Share `number` (from 1) of `count` of a ladder's clips."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from "2/8". ValueError for anything else."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"--shard: {text!r} is no share; give one such as 2/8, the second of eight")
        return cls(int(number), int(count))


def ladder_rungs(entries_of: Sequence[Rungs], master_height: int) -> list[list[Rung]]:
    """Every rung of one master, by entry, without doubles; heights above the master's are left out.

    Raises:
        ValueError: an unknown codec or preset, or a CRF outside the codec's range.
    """
    seen: set[Rung] = set()
    entries = []
    for rungs in entries_of:
        heights = [height for height in rungs.heights if height <= master_height]
        heights += [int(master_height * scale / 2 + 1e-9) * 2 for scale in rungs.scales]
        first = None
        if rungs.first_crf is not None:
            first = EncodeSpec("h264", int(master_height / 2) * 2, crf=rungs.first_crf)
        rates: list[dict[str, Any]] = [{"crf": crf} for crf in rungs.crf]
        rates += [{"bitrate_kbps": bitrate_kbps} for bitrate_kbps in rungs.bitrate_kbps]
        entry = []
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
            if rung not in seen:
                seen.add(rung)
                entry.append(rung)
        entries.append(entry)
    return entries


def chosen_rungs(config: Ladder, master: Master, master_height: int) -> list[Rung]:
    """The rungs that one master gets: all, or a sample of them, and samples of those beside; the same ever after."""
    entries = ladder_rungs(config.rungs, master_height)
    if config.sample is None:
        chosen = [rung for entry in entries for rung in entry]
    else:
        chosen = _drawn(entries, config.sample, master, seed_of(master.content))
    for number, beside in enumerate(config.beside):
        seed = seed_of(f"{master.content} beside" + f" {number}" * (number > 0))
        more = _drawn(ladder_rungs(beside.rungs, master_height), beside.sample, master, seed)
        chosen = chosen + [rung for rung in more if rung not in chosen]
    return chosen


def _drawn(entries: list[list[Rung]], sample: RungSample, master: Master, seed: int) -> list[Rung]:
    """Entries take turns, in an order drawn anew for each master, so that few rungs still are of all kinds."""
    count = sample.masters if master.origin == "master" else sample.others
    rng = np.random.default_rng(seed)
    hands = [[entry[index] for index in rng.permutation(len(entry))] for entry in entries]
    order = rng.permutation(len(hands))
    rounds = itertools.zip_longest(*(hands[index] for index in order))
    return [rung for rung in itertools.chain.from_iterable(rounds) if rung is not None][:count]


def make_ladder(
    config: Ladder,
    masters: list[Master],
    runs: Path,
    *,
    unlabelled: Sequence[Master] = (),
    workers: int | None = None,
    shard: Shard | None = None,
) -> Artifact:
    """Encode and label every rung of every master, `workers` at a time; copy the `unlabelled` videos beside them.

    The artifact holds `encodes/`, `table.parquet`, and `failures.json`: clip -> why it is not in the table. With
    `shard` only that share of the clips is made, into an artifact of the stage `ladder-shard`; the whole ladder takes
    over what its finished shards hold, so a farm's work is merged by copying their folders into one `runs`.

    Raises:
        ValueError: a rung that no encoder takes, or every encode failed.
    """
    # A wrong rung is the config's fault: say so before any work.
    ladder_rungs((*config.rungs, *(rungs for beside in config.beside for rungs in beside.rungs)), 2160)
    whole = StageKey(
        "ladder",
        LADDER_VERSION,
        config.model_dump(mode="json") | {"label_version": LABEL_VERSION},
        {master.content: _identity(master) for master in masters}
        | {f"unlabelled {video.content}": video.sha256 for video in unlabelled}
        | {"ffmpeg": ffmpeg_version()},
    )

    key = whole
    if shard is not None:
        key = StageKey("ladder-shard", LADDER_VERSION, {"shard": f"{shard.number}/{shard.count}"}, {"ladder": whole.id})

    def build(folder: Path) -> None:
        encodes = folder / "encodes"
        encodes.mkdir(exist_ok=True)
        if shard is None:
            _take_shards(runs, whole, encodes)
        jobs: dict[str, Callable[[], None]] = {}
        for master in masters:
            for rung in chosen_rungs(config, master, probe(master.path).height):
                clip = clip_name(master.content, rung)
                jobs[clip] = partial(_encode_and_label, master, rung, encodes, config)
        for video in unlabelled:
            jobs[video.content] = partial(_take_unlabelled, video, encodes, config)
        if shard is not None:
            jobs = {clip: jobs[clip] for clip in sorted(jobs)[shard.number - 1 :: shard.count]}
        jobs = {clip: job for clip, job in jobs.items() if not (encodes / f"{clip}.json").is_file()}
        failures = {}
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            for clip, error in run_jobs(pool, jobs, "ladder"):
                if error is None:
                    continue
                of_machine = isinstance(error, OSError | MemoryError) and not isinstance(error, av.error.FFmpegError)
                if not isinstance(error, Exception) or of_machine:
                    raise error  # not the clip's fault: what is made is kept, run again to go on
                failures[clip] = failure("", error)
                note(f"ladder: {clip} failed: {failures[clip]}")
        rows = [json.loads(path.read_text())["row"] for path in sorted(encodes.glob("*.json"))]
        if not rows:
            raise ValueError(f"ladder: all {len(failures)} encodes failed; the last: {list(failures.values())[-1]}")
        import pandas as pd

        write_json(folder / "failures.json", failures)
        write_table(folder / "table.parquet", pd.DataFrame(rows).astype({"score": float, "score_std": float}))

    return run_stage(runs, key, build)


def _take_shards(runs: Path, ladder: StageKey, encodes: Path) -> None:
    """Copy what finished shards of this ladder hold; each file is checked against its shard's manifest."""
    taken = 0
    for manifest in sorted((runs / "ladder-shard").glob("*/manifest.json")):
        shard = open_artifact(manifest.parent)
        if shard.key.inputs["ladder"] != ladder.id:
            warn(f"ladder: {manifest.parent} is a shard of another ladder, left alone")
            continue
        verify_files(shard)
        # A clip's JSON says that it is finished, so it comes after its video.
        for path in sorted((shard.path / "encodes").iterdir(), key=lambda path: path.suffix == ".json"):
            if not (encodes / path.name).is_file():
                shutil.copyfile(path, encodes / f"{path.name}.partial")
                os.replace(encodes / f"{path.name}.partial", encodes / path.name)
                taken += path.suffix == ".json"
    if taken:
        note(f"ladder: {taken} clips taken over from shards")


def _identity(master: Master) -> str:
    """What decides a master's encodes and labels; how it is converted is part of it only where it is."""
    picture = read_format(master.path)
    converted = picture.interlaced or picture.full_range
    return (
        master.sha256
        + (f" of {master.group}" if master.group != master.content else "")
        + (f" pairing {PAIRING_VERSION}" if converted else "")
    )


def clip_name(content: str, rung: Rung) -> str:
    """The encode's unique name, such as "night_city_a-h264-216p-crf32-veryfast"."""
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
    """Clips that could not be encoded or labeled, and why."""
    failures: dict[str, str] = json.loads((ladder.path / "failures.json").read_text())
    return failures


def _encode_and_label(master: Master, rung: Rung, encodes: Path, config: Ladder) -> None:
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


def _take_unlabelled(video: Master, encodes: Path, config: Ladder) -> None:
    height = probe(video.path).height  # of what can't be read nothing is kept
    path = encodes / f"{video.content}{video.path.suffix.lower()}"
    shutil.copyfile(video.path, path)
    row = _row(video, None, path, config, height)
    write_json(encodes / f"{video.content}.json", {"row": row | {"score": None}})


def _row(master: Master, rung: Rung | None, path: Path, config: Ladder, display_height: int) -> dict[str, Any]:
    """A table's row, but for the score; without `rung` nobody knows how the video was made."""
    seen = probe(path)
    return {
        "clip": path.stem,
        "path": f"encodes/{path.name}",
        "content": master.content,
        "group": master.group,
        "origin": master.origin,
        "codec": rung.spec.codec if rung else seen.codec,
        "preset": f"{rung.spec.preset} {rung.spec.tune}".strip() if rung else "",
        "rate_control": _rate_control(rung.spec) if rung else "",
        "scaler": rung.spec.scaler if rung else "",
        "bit_depth": rung.spec.bit_depth if rung else None,
        "first_crf": rung.first.crf if rung and rung.first else None,
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


def read_ladder(ladder: Artifact) -> pd.DataFrame:
    """The ladder's table with `path` made absolute."""
    from rungwise.dataset_table import read_table

    table = read_table(ladder.path / "table.parquet")
    table["path"] = [str(ladder.path / path) for path in table["path"]]
    return table
