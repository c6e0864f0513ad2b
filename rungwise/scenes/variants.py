"""Variants of a master: contents are scarce, so a master is cropped, mirrored, reversed, sped up, graded, enlarged.

The change is made to the MASTER, before any encode: the variant is the reference that its encodes are labeled
against. What is changed is drawn from a generator seeded by the variant's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rungwise.media.ffmpeg import FfmpegError, run_ffmpeg

VARIANTS_VERSION = 2  # raise it whenever the same name could give another video
LEAST_LINES, LEAST_COLUMNS = 200, 256  # VMAF v1 needs 160 and 216
ENLARGED_SHARE, LEAST_FACTOR, MOST_FACTOR, MOST_LINES = 0.25, 1.3, 2.5, 1080


@dataclass(frozen=True)
class Variant:
    """One change of a master: ffmpeg's filters, and the kinds of change in them, such as "crop mirror"."""

    filters: str
    kinds: str


def draw_variant(seed: int, *, width: int, height: int, available: int, num_frames: int) -> Variant:
    """Draw what a variant changes, for a master of `available` frames of which `num_frames` are kept.

    Every variant is a crop; each other change comes with a share of them, so that what it brings can be measured.
    """
    rng = np.random.default_rng(seed)
    fast = bool(rng.random() < 0.3) and available >= 2 * num_frames
    needed = num_frames * (2 if fast else 1)
    start = int(rng.integers(max(0, available - needed) + 1))
    filters = [f"trim=start_frame={start}:end_frame={start + needed}", "setpts=PTS-STARTPTS"]
    kinds = ["crop"]
    if fast:
        filters += [r"select=not(mod(n\,2))", "setpts=0.5*PTS"]
        kinds.append("fast")
    share = rng.uniform(0.6, 0.9)
    w = min(width, max(LEAST_COLUMNS, int(width * share))) // 2 * 2
    h = min(height, max(LEAST_LINES, int(height * share))) // 2 * 2
    x, y = (int(rng.integers((full - part) // 2 + 1)) * 2 for full, part in ((width, w), (height, h)))
    filters.append(f"crop={w}:{h}:{x}:{y}")
    if rng.random() < 0.5:
        filters.append("hflip")
        kinds.append("mirror")
    if rng.random() < 0.3:
        filters.append("reverse")
        kinds.append("reverse")
    if rng.random() < 0.5:
        contrast, brightness = rng.uniform(0.75, 1.2), rng.uniform(-0.06, 0.06)
        saturation, gamma = rng.uniform(0.4, 1.5), rng.uniform(0.75, 1.3)
        filters.append(f"eq={contrast:.3f}:{brightness:.3f}:{saturation:.3f}:{gamma:.3f}")
        kinds.append("grade")
    if rng.random() < 0.15:
        filters.append(f"gblur=sigma={rng.uniform(0.35, 0.7):.3f}")
        kinds.append("blur")
    if rng.random() < 0.2:
        filters.append(f"noise=alls={int(rng.integers(2, 7))}:allf=t:all_seed={int(rng.integers(1, 1 << 20))}")
        kinds.append("grain")
    if rng.random() < ENLARGED_SHARE:
        # Soft where it is meant to be, as much footage of many lines is. Before grain, which has the video's pixels.
        factor = min(rng.uniform(LEAST_FACTOR, MOST_FACTOR), MOST_LINES / h)
        wide, high = round(w * factor / 2) * 2, round(h * factor / 2) * 2
        larger = f"scale={wide}:{high}:flags=lanczos+accurate_rnd+bitexact"
        filters.insert(next(i for i, name in enumerate(filters) if name.startswith("crop=")) + 1, larger)
        kinds.append("enlarged")
    return Variant(",".join(filters), " ".join(kinds))


def write_variant(source: Path, destination: Path, variant: Variant, *, num_frames: int) -> None:
    """Write a variant of `source` without loss: FFV1 in Matroska, same kind of samples, color tags and rate.

    FfmpegError, with the source's name, if ffmpeg fails.
    """
    command = ["-y", "-threads", "1", "-i", str(source.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += ["-filter_threads", "1", "-vf", variant.filters, "-frames:v", str(num_frames)]
    command += ["-fps_mode", "passthrough", "-c:v", "ffv1", "-level", "3", "-threads", "1", "-bitexact"]
    try:
        run_ffmpeg([*command, str(destination.absolute())], writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{source}: could not be varied by {variant.filters}", error.words) from error
