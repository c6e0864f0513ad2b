"""Variants of masters (data augmentation): cropped, mirrored, reversed, sped up, color-graded or enlarged.

The change is applied to the master before any encode, so the variant is the reference of its encodes. The random
generator is seeded by the variant's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rungwise.media.ffmpeg import FfmpegError, run_ffmpeg

VARIANTS_VERSION = 2  # increment it if any name can give another video
MIN_HEIGHT, MIN_WIDTH = 200, 256  # VMAF v1 needs 160 and 216
ENLARGED_FRACTION, MIN_ENLARGEMENT, MAX_ENLARGEMENT, MAX_ENLARGED_HEIGHT = 0.25, 1.3, 2.5, 1080


@dataclass(frozen=True)
class Variant:
    """The changes to a master: ffmpeg's filters, and the kinds of changes, such as "crop mirror"."""

    filters: str
    kinds: str


def draw_variant(seed: int, *, width: int, height: int, available: int, num_frames: int) -> Variant:
    """A random variant with `num_frames` of the `available` frames of a master.

    Every variant is cropped. Each other change applies to some variants only, so that its effect can be measured.
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
    fraction = rng.uniform(0.6, 0.9)
    w = min(width, max(MIN_WIDTH, int(width * fraction))) // 2 * 2
    h = min(height, max(MIN_HEIGHT, int(height * fraction))) // 2 * 2
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
    if rng.random() < ENLARGED_FRACTION:
        # Much high-resolution footage is soft. The filter precedes grain, so that grain is not enlarged.
        factor = min(rng.uniform(MIN_ENLARGEMENT, MAX_ENLARGEMENT), MAX_ENLARGED_HEIGHT / h)
        new_width, new_height = round(w * factor / 2) * 2, round(h * factor / 2) * 2
        scale = f"scale={new_width}:{new_height}:flags=lanczos+accurate_rnd+bitexact"
        filters.insert(next(i for i, name in enumerate(filters) if name.startswith("crop=")) + 1, scale)
        kinds.append("enlarged")
    return Variant(",".join(filters), " ".join(kinds))


def write_variant(source: Path, destination: Path, variant: Variant, *, num_frames: int) -> None:
    """Write a variant of `source` to lossless FFV1 in Matroska, with the same pixel format, color tags and rate.

    Raises:
        FfmpegError: ffmpeg fails; the message names the source.
    """
    command = ["-y", "-threads", "1", "-i", str(source.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += ["-filter_threads", "1", "-vf", variant.filters, "-frames:v", str(num_frames)]
    command += ["-fps_mode", "passthrough", "-c:v", "ffv1", "-level", "3", "-threads", "1", "-bitexact"]
    try:
        run_ffmpeg([*command, str(destination.absolute())], writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{source}: could not be filtered by {variant.filters}", error.stderr) from error
