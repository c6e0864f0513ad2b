"""Encodes and scores for benchmarks/ladder_fidelity.py: one pool of rungs for each content, measured once.

    python benchmarks/ladder_encodes.py --masters FOLDER --work DIR

FOLDER holds the test contents of benchmarks/default.yaml. Each is cut to 24 frames (0.8 to 1 s), at no more than 720
lines and 30 frames per second. A pool has 4 codecs at 3 heights and 5 CRFs; H.264 by VBR and capped CRF at the
bitrates of five of them; and for each codec a CRF of a saturated top, a re-encode and a blurred encode. VMAF v1, VMAF
v0 and bitrate stand in DIR/CONTENT/measurements.jsonl, so a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rungwise.artifact import sha256_file
from rungwise.ladder.encode import CODECS, EncodeSpec, cut_master, encode, encoder_arguments
from rungwise.ladder.label import label
from rungwise.ladder.paired_views import choose_places, score_at
from rungwise.media.ffmpeg import probe, run_ffmpeg
from rungwise.media.video import probe as probe_video
from rungwise.progress import note, track
from rungwise.score.scorer import Scorer

# Test contents of benchmarks/default.yaml that move; small and large ones are mixed, as a run may be stopped.
CONTENTS = (
    "city_crossing", "hd_mech_keyboard", "football_juggle", "highway_dashcam", "game_xs_engine_01", "moba_game",
    "raccoon", "hd_desk_8k", "stream_water", "sign_language", "hd_graffiti_1080p60", "screencast_terminal",
)  # fmt: skip
PRESETS = {"h264": "medium", "hevc": "medium", "av1": "8", "vp9": "5"}
CRFS = {
    "h264": (20, 25, 30, 35, 40),
    "hevc": (22, 27, 32, 37, 42),
    "av1": (26, 35, 44, 53, 61),
    "vp9": (28, 36, 44, 52, 60),
}
SATURATED_CRFS = {"h264": 14, "hevc": 16, "av1": 16, "vp9": 16}
FIRST_CRFS = {"h264": 35, "hevc": 37, "av1": 53, "vp9": 52}  # of the first encode of a re-encode
CODEC_PAIRS = (("h264", "av1"), ("hevc", "vp9"))
RATE_CODEC = "h264"
# (height, CRF) by place in the ladder, whose bitrates the rate-controlled encodes have.
RATE_PLACES = ((0, 3), (0, 2), (1, 2), (2, 2), (2, 1))
SCALES = {True: (320 / 720, 480 / 720, 1.0), False: (0.5, 0.75, 1.0)}  # by whether the master is large
BLUR_LINES = 450  # a standard deviation of one pixel at this height
LARGE_LINES, MAX_LINES, MAX_FPS, NUM_FRAMES = 600, 720, 30.5, 24
GRID_SIZE = 15  # 3 heights, 5 CRFs
NUM_VIEWS = 8  # the check's default
VMAF_V1, VMAF_V0 = "vmaf_v1.0.16_3d0h", "vmaf_v0.6.1"


@dataclass(frozen=True)
class RungRecipe:
    """One encode of a pool: its name, the encoder's settings, and what is done besides."""

    name: str
    spec: EncodeSpec
    extra: tuple[str, ...] = ()  # further arguments of the encoder
    blur: bool = False
    first_crf: int | None = None
    role: str = "grid"

    @property
    def file_name(self) -> str:
        """In the content's folder."""
        return self.name + CODECS[self.spec.codec].suffix


@dataclass
class Pool:
    """One content's master and measured encodes."""

    folder: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Pool:
        """What earlier runs measured."""
        path = folder / "measurements.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return cls(folder, {row["name"]: row for row in map(json.loads, lines)})

    @property
    def master(self) -> Path:
        """The cut master."""
        return self.folder / "master.mkv"

    def add(self, recipe: RungRecipe) -> None:
        """Encode and measure a rung, unless known."""
        if recipe.name in self.rows:
            return
        path = self.folder / recipe.file_name
        if not path.is_file():
            make_encode(self.master, path, recipe)
        labels, video = label(self.master, path, models=(VMAF_V1, VMAF_V0), num_threads=2), probe_video(path)
        row = {
            "name": recipe.name, "file": path.name, "role": recipe.role, "codec": recipe.spec.codec,
            "preset": recipe.spec.preset, "width": video.width, "height": video.height, "crf": recipe.spec.crf,
            "bitrate_kbps": video.bitrate_kbps, "vmaf_v1": labels.metrics[VMAF_V1].mean,
            "vmaf_v0": labels.metrics[VMAF_V0].mean,
        }  # fmt: skip
        self.rows[recipe.name] = row
        with (self.folder / "measurements.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def make_master(source: Path, destination: Path) -> None:
    """Cut to NUM_FRAMES; larger and faster masters are scaled to MAX_LINES and halved in frame rate."""
    info = probe(source)
    fps, filters = info.fps, list[str]()
    step = 1
    while fps / step > MAX_FPS:
        step *= 2
    if step > 1:
        filters.append(f"select='not(mod(n,{step}))'")
    if info.height > MAX_LINES and info.width > MAX_LINES:
        filters.append(f"scale=-2:{MAX_LINES}:flags=lanczos+accurate_rnd+bitexact:sws_dither=bayer")
    if not filters:
        cut_master(source, destination, num_frames=NUM_FRAMES)
        return
    command = ["-y", "-threads", "1", "-i", str(source.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += ["-vf", ",".join([*filters, f"setpts=N/({fps / step})/TB"]), "-r", str(fps / step)]
    command += ["-frames:v", str(NUM_FRAMES), "-c:v", "ffv1", "-level", "3", "-threads", "1", "-bitexact"]
    run_ffmpeg([*command, str(destination.absolute())], writes=destination)


def make_encode(master: Path, path: Path, recipe: RungRecipe) -> None:
    """One encode; those of the grid as `ladder make` does it, re-encodes from a first encode."""
    if not (recipe.extra or recipe.blur or recipe.first_crf):
        encode(master, path, recipe.spec)
        return
    source = master
    if recipe.first_crf is not None:
        source = path.with_name(f"{path.stem}-first{path.suffix}")
        first = EncodeSpec(recipe.spec.codec, probe(master).height, crf=recipe.first_crf, preset=recipe.spec.preset)
        encode(master, source, first)
    arguments = encoder_arguments(recipe.spec, float(probe(master).fps))
    if recipe.blur:
        arguments[1] = arguments[1].replace("format=", f"gblur=sigma={recipe.spec.height / BLUR_LINES},format=")
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    run_ffmpeg(["-y", "-threads", "1", "-i", str(source), "-map", "0:V:0", *arguments, *recipe.extra, str(partial)])
    partial.replace(path)


def grid(codec: str, heights: Sequence[int]) -> Iterator[RungRecipe]:
    """Every height and CRF."""
    for height in heights:
        for crf in CRFS[codec]:
            yield RungRecipe(f"{codec}-{height}p-crf{crf}", EncodeSpec(codec, height, crf=crf, preset=PRESETS[codec]))


def fault_encodes(codec: str, height: int) -> Iterator[RungRecipe]:
    """Encodes that a ladder is better off without."""

    def recipe(role: str, crf: int, **others: Any) -> RungRecipe:
        spec = EncodeSpec(codec, height, crf=crf, preset=PRESETS[codec])
        return RungRecipe(f"{codec}-{role}", spec, role=role, **others)

    yield recipe("saturated", SATURATED_CRFS[codec])
    yield recipe("reencode", CRFS[codec][1], first_crf=FIRST_CRFS[codec])
    yield recipe("blurred", CRFS[codec][1], blur=True)


def rate_controlled(pool: Pool, heights: Sequence[int]) -> Iterator[RungRecipe]:
    """H.264 by VBR and capped CRF, at bitrates of the grid."""
    codec, preset = RATE_CODEC, PRESETS[RATE_CODEC]
    for place, crf_place in RATE_PLACES:
        height = heights[place]
        kbps = max(round(pool.rows[f"{codec}-{height}p-crf{CRFS[codec][crf_place]}"]["bitrate_kbps"]), 1)
        vbr = EncodeSpec(codec, height, bitrate_kbps=kbps, preset=preset)
        capped = EncodeSpec(codec, height, crf=CRFS[codec][0], preset=preset)
        limit = ("-maxrate", f"{kbps}k", "-bufsize", f"{2 * kbps}k")
        yield RungRecipe(f"{codec}-vbr-{height}p-{crf_place}", vbr, role="vbr")
        yield RungRecipe(f"{codec}-capped-{height}p-{crf_place}", capped, extra=limit, role="capped")


def open_pool(source: Path, folder: Path) -> tuple[Pool, list[int]]:
    """A content's pool with its master, and the heights of its rungs."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = Pool.read(folder)
    if not pool.master.is_file():
        make_master(source, pool.master)
    lines = probe(pool.master).height
    return pool, [2 * round(lines * scale / 2) for scale in SCALES[lines >= LARGE_LINES]]


def read_table(work: Path, model: Path) -> pd.DataFrame:
    """One row an encode: measurements and the model's scores; only of contents and codecs whose grid is complete."""
    scorer, parts = Scorer(model), list[pd.DataFrame]()
    for content in track(CONTENTS, "scoring", total=len(CONTENTS)):
        pool = Pool.read(work / content)
        if len(pool.rows) >= GRID_SIZE:
            scores = _scores(pool, scorer)
            rows = [row | {"content": content} | scores[row["file"]] for row in pool.rows.values()]
            parts.append(pd.DataFrame(rows))
    table = pd.concat(parts, ignore_index=True)
    grid_size = (table["role"] == "grid").groupby([table["content"], table["codec"]]).transform("sum")
    return table[grid_size == GRID_SIZE].reset_index(drop=True)


def _scores(pool: Pool, scorer: Scorer) -> dict[str, dict[str, float]]:
    """Mean scores of a content's encodes by file, measured unless known."""
    path = pool.folder / f"scores-{sha256_file(scorer.path)[:16]}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = {row.pop("file"): row for row in map(json.loads, lines)}
    height = probe(pool.master).height
    places = choose_places(scorer, pool.master, NUM_VIEWS, height)  # the check's are of the top rung
    with path.open("a", encoding="utf-8") as file:
        for name in (row["file"] for row in pool.rows.values() if row["file"] not in known):
            scores = score_at(scorer, pool.folder / name, places)
            hybrid = [score for score in scores.hybrid if score is not None]
            assert len(hybrid) == NUM_VIEWS, name
            assert scores.log2_bits is not None
            assert scores.log2_qstep is not None
            known[name] = {
                "hybrid": float(np.mean(hybrid)), "pixel_only": float(np.mean(scores.pixel)),
                "log2_bits": scores.log2_bits, "log2_qstep": scores.log2_qstep,
            }  # fmt: skip
            file.write(json.dumps({"file": name} | known[name]) + "\n")
            file.flush()
    return known


def main() -> None:
    """Make and measure all pools: two codecs of every content, then the other two, then the rate-controlled encodes."""
    parser = argparse.ArgumentParser(description="Encodes of the ladder fidelity benchmark")
    parser.add_argument("--masters", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    sources = {path.stem: path for path in sorted(arguments.masters.iterdir())}
    for turn in range(3):
        for place, content in enumerate(CONTENTS):
            pool, heights = open_pool(sources[content], arguments.work / content)
            codecs = CODEC_PAIRS[(place // 2 + turn) % 2] if turn < 2 else ()
            recipes = [
                recipe for codec in codecs for recipe in (*grid(codec, heights), *fault_encodes(codec, heights[-1]))
            ]
            for recipe in recipes or rate_controlled(pool, heights):
                pool.add(recipe)
            note(f"{content}: {len(pool.rows)} encodes")


if __name__ == "__main__":
    main()
