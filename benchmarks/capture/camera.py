"""Camera clips as masters, and the photographs that pan/zoom clips are made of."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rungwise.media.ffmpeg import FfmpegError, run_ffmpeg

NUM_FRAMES = 48
TONE_MAP = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,"
BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"


@dataclass(frozen=True)
class Clip:
    """The height at which a clip is a master, in pixels; its frame rate, rounded; whether it is HDR."""

    height: int
    fps: int
    hdr: bool = False


CLIPS = {
    "roof_overcast": Clip(720, 30),
    "roof_hdr10": Clip(720, 30, hdr=True),
    "roof_clouds_10bit": Clip(720, 30, hdr=True),
    "face_selfie": Clip(720, 30),
    "face_glasses": Clip(540, 30),
    "pegboard_4k60": Clip(1080, 60),
    "desk_8k": Clip(1080, 24),
    "graffiti_1080p60": Clip(720, 60),
    "mech_keyboard": Clip(720, 24),
}
GROUPS = {"roof": ["hd_roof_clouds_10bit", "hd_roof_hdr10", "hd_roof_overcast"]}  # one place
NO_PHOTOGRAPHS = frozenset({"budgie_rich-port", "budgie_valley-midnight", "budgie_waves-midnight"})  # flat drawings


def prepare_clips(folder: Path, masters: Path) -> list[str]:
    """hd_NAME.mp4 of each clip: upright, scaled to its height, SDR, 8-bit 4:2:0, lossless. Those that failed."""
    masters.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, clip in CLIPS.items():
        source, path = folder / f"{name}.mp4", masters / f"hd_{name}.mp4"
        partial = masters.parent / f"{name}.partial.mp4"
        if path.is_file():
            continue
        # Autorotation comes first, so the height is that of the upright picture. Phones' frames come at odd times.
        scale = f"scale=-2:{clip.height}:flags=bicubic+accurate_rnd:out_color_matrix=bt709:out_range=tv,format=yuv420p"
        filters = (TONE_MAP if clip.hdr else "") + f"{scale},{BT709},setsar=1,settb=1/{clip.fps},setpts=N"
        command = ["-i", str(source), "-map", "0:V:0", "-vf", filters, "-frames:v", str(NUM_FRAMES)]
        timing = ["-fps_mode", "passthrough", "-enc_time_base", f"1:{clip.fps}"]
        try:
            run_ffmpeg([*command, *timing, "-c:v", "libx264", "-qp", "0", "-preset", "medium", "-y", str(partial)])
        except FfmpegError as error:
            failed.append(path.stem)
            print(f"{path.stem}: failed: {error}", file=sys.stderr, flush=True)
            continue
        partial.rename(path)
    return failed


def prepare_photographs(folder: Path, out: Path) -> None:
    """Copy the photographs, without drawings."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.jpg")):
        if path.stem not in NO_PHOTOGRAPHS and not (out / path.name).is_file():
            shutil.copy(path, out / path.name)
