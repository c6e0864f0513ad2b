"""`rungwise crf-search` beside bisection by VMAF alone: trials, CPU seconds, distance to the target.

    python benchmarks/crf_search.py --masters MASTER ... --work DIR --out benchmarks/results/crf_search.json

Every encode, rough trial and VMAF is measured once and appended to DIR/measurements.jsonl with its CPU seconds, so a
run that was stopped continues. A method's seconds are the sum over what it used. Two methods search for the cheapest
CRF of each codec:

- search: as `rungwise crf-search`, with rough trials of a part first; their seconds include cutting the part;
- bisection: linear interpolation between the ends of a bracket, as ab-av1 does.

VMAF is libvmaf's alone for both, without PSNR and SSIM.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rungwise.artifact import sha256_file, write_json
from rungwise.ladder.encode import CODECS, EncodeSpec
from rungwise.ladder.search import Curve, Score, crf_axis, find_place
from rungwise.ladder.trials import Trials, with_rate
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.progress import note

TOLERANCE = 0.5  # the verb's default
METHODS = ("search", "bisection")


@dataclass
class Measurements:
    """Values and CPU seconds by master, encode and kind, in a file that only grows."""

    path: Path
    known: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Measurements:
        """What earlier runs measured."""
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        rows = [json.loads(line) for line in lines]
        return cls(path, {row["key"]: (row["value"], row["cpu_seconds"]) for row in rows})

    def get(self, key: str, measure: Callable[[], float]) -> tuple[float, float]:
        """Value and CPU seconds, measured unless known."""
        if key not in self.known:
            started = _cpu_seconds()
            value = measure()
            self.known[key] = value, _cpu_seconds() - started
            row = {"key": key, "value": value, "cpu_seconds": self.known[key][1]}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return self.known[key]


def _cpu_seconds() -> float:
    """Of this process and of the ffmpeg processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class Run:
    """One search: what it measured, and what that cost."""

    measurements: Measurements
    trials: Trials
    spec: EncodeSpec
    master_key: str
    places: dict[str, set[int]] = field(default_factory=lambda: {"encode": set(), "rough": set(), "vmaf": set()})
    cpu_seconds: float = 0.0

    def key(self, crf: int, kind: str) -> str:
        """What a measurement is stored under."""
        return f"{self.master_key} {ffmpeg_version()} {with_rate(self.spec, 'crf', crf)} {kind}"

    def vmaf(self, crf: int, place: int) -> float:
        """VMAF of a trial encode."""
        spec = with_rate(self.spec, "crf", crf)
        self._measure("encode", crf, place, lambda: float(self.trials.encoding(spec).num_bytes))
        if self.key(crf, "vmaf") not in self.measurements.known:
            self.trials.prepare(spec)  # an encode made again is not part of VMAF's seconds
        return self._measure("vmaf", crf, place, lambda: self.trials.vmaf(spec))

    def rough(self, crf: int, place: int) -> float:
        """VMAF of a rough trial; the first one of a search pays for cutting the part."""
        trials = self.trials.rough_trials
        assert trials is not None
        cut = f"{self.master_key} {ffmpeg_version()} part"
        self.measurements.get(cut, lambda: float(len(trials.samples)))
        if self.key(crf, "rough") not in self.measurements.known:
            assert trials.samples  # cut now if an earlier run measured the cut
        if not self.places["rough"]:
            self.cpu_seconds += self.measurements.known[cut][1]
        return self._measure("rough", crf, place, lambda: trials.vmaf(with_rate(self.spec, "crf", crf)))

    def _measure(self, kind: str, crf: int, place: int, measure: Callable[[], float]) -> float:
        value, cpu_seconds = self.measurements.get(self.key(crf, kind), measure)
        if place not in self.places[kind]:
            self.places[kind].add(place)
            self.cpu_seconds += cpu_seconds
        return value


def bisect_place(count: int, target: float, measure: Score) -> int | None:
    """The cheapest of `count` places that reaches `target`, by VMAF alone; None if none does.

    It begins in the middle, goes to an end while no bracket is known, then to where the line through the bracket's ends
    meets the target. It stops at neighboring places, or within a tolerance of 0.1 points that doubles with each run.
    """
    measured: dict[int, float] = {}
    place, runs = (count - 1) // 2, 0
    while True:
        measured[place] = measure(place)
        tolerance, runs = 0.1 * 2**runs, runs + 1
        reached = max((i for i, score in measured.items() if score >= target), default=-1)
        missed = min((i for i in measured if i > reached), default=count)
        near = place == reached and measured[place] <= target + tolerance
        if near or missed - reached <= 1:
            return reached if reached >= 0 else None
        if reached < 0 or missed == count:
            place = 0 if reached < 0 else count - 1
            continue
        slope = (measured[missed] - measured[reached]) / (missed - reached)
        place = min(max(round(reached + (target - measured[reached]) / slope), reached + 1), missed - 1)


def search_row(method: str, run: Run, target: float) -> dict[str, Any]:
    """One search by one method."""
    axis = crf_axis(run.spec.codec, CODECS[run.spec.codec].crf_range)

    def rough(place: int) -> float:
        return run.rough(axis.values[place], place)

    def vmaf(place: int) -> float:
        return run.vmaf(axis.values[place], place)

    if method == "bisection":
        place = bisect_place(len(axis.values), target, vmaf)
    else:
        place = find_place(Curve(axis), target, TOLERANCE, rough if run.trials.rough_trials else None, vmaf)
    return {
        "method": method,
        "master": run.trials.master.name,
        "codec": run.spec.codec,
        "target": target,
        "crf": None if place is None else axis.values[place],
        "distance": None if place is None else vmaf(place) - target,
        "bytes": None if place is None else run.measurements.known[run.key(axis.values[place], "encode")][0],
        "rough_trials": len(run.places["rough"]),
        "vmaf_runs": len(run.places["vmaf"]),
        "cpu_seconds": run.cpu_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masters", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--codec", default="h264,hevc,av1")
    parser.add_argument("--target", default="93,85")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    measurements, rows = Measurements.read(arguments.work / "measurements.jsonl"), list[dict[str, Any]]()
    for master in arguments.masters:
        with tempfile.TemporaryDirectory() as scratch:
            trials = Trials(master, Path(scratch), Path(scratch) / "cache")
            note(master.name)
            for codec in arguments.codec.split(","):
                spec = EncodeSpec(codec, trials.info.height // 2 * 2, bitrate_kbps=1)
                for target in map(float, arguments.target.split(",")):
                    for method in METHODS:
                        run = Run(measurements, trials, spec, sha256_file(master))
                        rows.append(search_row(method, run, target))
                        note(json.dumps(rows[-1]))
    table = pd.DataFrame(rows)
    least = table.groupby(["master", "codec", "target"])["bytes"].transform("min")
    table["percent_larger"] = 100 * (table["bytes"] / least - 1)
    columns = ["rough_trials", "vmaf_runs", "cpu_seconds", "distance", "percent_larger"]
    means = table.groupby("method", sort=False)[columns].mean()
    print(means.round(2).to_string())
    if arguments.out is not None:
        write_json(arguments.out, {"ffmpeg": ffmpeg_version(), "searches": rows, "means": means.T.to_dict()})


if __name__ == "__main__":
    main()
