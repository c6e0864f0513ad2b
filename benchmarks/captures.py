"""Capture HD masters without loss: rendered programs, WebGL scenes, pages; prepare camera clips and photographs.

    python benchmarks/captures.py --out FOLDER --npm FOLDER [--clips FOLDER] [--photographs FOLDER] [--only 'game_*']

It needs cc, Xvfb, xdotool, Chromium, Playwright and the Debian packages that `--list` names; `npm install three d3
topojson-client world-atlas` in the folder of --npm. What is there already is not made again. FOLDER/masters and
FOLDER/photographs are what `sources` of benchmarks/default.yaml names; FOLDER/groups.yaml is for `sources.groups`;
FOLDER/captures.json has license, luma and motion of each. Exit status 1: a capture failed; the others are there.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from capture.camera import GROUPS as CLIP_GROUPS
from capture.camera import prepare_clips, prepare_photographs
from capture.pages import Page, page_frames
from capture.rendered import compile_clock, rendered_frames
from capture.table import CAPTURES, NUM_FRAMES, Capture
from numpy.typing import NDArray

from rungwise.artifact import write_json
from rungwise.scenes import write_frames

TIMEOUT_SECONDS = 150
MIN_LUMA_RANGE = 40  # of 255, between the percentiles 1 and 99
MIN_MOTION = 0.1  # mean absolute difference of luma between frames, of 255
MIN_MOVING = 0.5  # fraction of the frames that differ from the frame before


class Measured:
    """Luma and motion of frames that pass through it."""

    def __init__(self) -> None:
        self.low, self.high, self.motion = 255.0, 0.0, list[float]()
        self.last: NDArray[np.float32] | None = None

    def watch(self, frames: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            luma = frame.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
            low, high = np.percentile(luma, (1, 99))
            self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
            if self.last is not None:
                self.motion.append(float(np.abs(luma - self.last).mean()))
            self.last = luma
            yield frame

    def figures(self) -> dict[str, float]:
        moving = float(np.mean(np.array(self.motion) > 0))
        return {"luma_low": self.low, "luma_high": self.high, "motion": float(np.mean(self.motion)), "moving": moving}

    def check(self) -> None:
        """Raises ValueError: the frames are flat or stand still."""
        figures = self.figures()
        if self.high - self.low < MIN_LUMA_RANGE:
            raise ValueError(f"flat: luma is between {self.low:.0f} and {self.high:.0f}")
        if figures["motion"] < MIN_MOTION or figures["moving"] < MIN_MOVING:
            raise ValueError(f"still: motion {figures['motion']:.2f}, {figures['moving']:.0%} of the frames move")


def capture_one(capture: Capture, path: Path, clock: Path, modules: Path | None) -> dict[str, Any]:
    """Write one master; its figures and where it is from.

    Raises:
        ValueError: the program or page fails, or its frames are flat or still.
    """
    video: dict[str, Any] = {"width": capture.width, "height": capture.height, "fps": capture.fps}
    limits: dict[str, Any] = {"num_frames": NUM_FRAMES, "timeout_seconds": TIMEOUT_SECONDS}
    if isinstance(capture.source, Page):
        frames = page_frames(capture.source, modules, **video, **limits)
    else:
        frames = rendered_frames(capture.source, clock, **video, **limits)
    measured = Measured()
    with tempfile.TemporaryDirectory(dir=path.parents[1]) as folder:
        new = Path(folder) / path.name
        write_frames(measured.watch(frames), new, capture.width, capture.height, capture.fps)
        measured.check()
        new.rename(path)
    origin = {"group": capture.group, "package": capture.package, "license": capture.license}
    return origin | video | {key: round(value, 2) for key, value in measured.figures().items()}


def read_record(path: Path) -> dict[str, Any]:
    """What captures.json has, by name; nothing if there is none yet."""
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return figures


def capture_all(names: list[str], out: Path, modules: Path | None) -> list[str]:
    """Make what is missing; the names of those that failed."""
    masters, record = out / "masters", out / "captures.json"
    masters.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        clock = compile_clock(Path(folder))
        for name in names:
            path = masters / f"{name}.mkv"
            if path.is_file() and name in read_record(record):
                continue
            try:
                measured = capture_one(CAPTURES[name], path, clock, modules)
            except Exception as error:  # any of many programs may fail in its own way; the others go on
                failed.append(name)
                print(f"{name}: failed: {error}", file=sys.stderr, flush=True)
                continue
            write_json(record, read_record(record) | {name: measured})  # another process may have written meanwhile
            luma, motion = (measured[key] for key in ("luma_high", "motion"))
            print(f"{name}: luma to {luma:.0f}, motion {motion:.1f}", file=sys.stderr, flush=True)
    return failed


def write_groups(masters: Path, path: Path) -> None:
    """Groups of more than one master, as `sources.groups` of a config has them."""
    names = sorted(file.stem for file in masters.iterdir())
    clip_groups = {name: group for group, clips in CLIP_GROUPS.items() for name in clips}
    groups: dict[str, list[str]] = {}
    for name in names:
        group = CAPTURES[name].group if name in CAPTURES else clip_groups.get(name, name)
        groups.setdefault(group, []).append(name)
    several = {group: members for group, members in groups.items() if len(members) > 1}
    path.write_text(yaml.safe_dump({"groups": several}, default_flow_style=None, width=200), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder to fill")
    parser.add_argument(
        "--npm", type=Path, help="folder in which npm installed three, d3, topojson-client, world-atlas"
    )
    parser.add_argument("--clips", type=Path, help="folder of camera clips")
    parser.add_argument("--photographs", type=Path, help="folder of photographs")
    parser.add_argument("--only", nargs="+", default=["*"], help="names or patterns of captures")
    parser.add_argument("--list", action="store_true", help="print the table of captures and end")
    arguments = parser.parse_args()
    if arguments.list:
        for name, capture in CAPTURES.items():
            print(f"{name}\t{capture.group}\t{capture.package}\t{capture.license}")
        return
    if arguments.out is None:
        parser.error("give --out")
    names = [name for name in CAPTURES if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)]
    modules = arguments.npm / "node_modules" if arguments.npm else None
    failed = capture_all(names, arguments.out, modules)
    if arguments.clips:
        failed += prepare_clips(arguments.clips, arguments.out / "masters")
    if arguments.photographs:
        prepare_photographs(arguments.photographs, arguments.out / "photographs")
    masters = arguments.out / "masters"
    write_groups(masters, arguments.out / "groups.yaml")
    print(f"{len(list(masters.iterdir()))} masters in {masters}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
