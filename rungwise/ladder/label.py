"""Full-reference labels of an encode against its master: VMAF, PSNR and SSIM, by libvmaf inside ffmpeg.

Frames are paired by index, never by timestamp. Both videos are deinterlaced where flagged, and brought to limited
range and one color matrix by their own tags (rungwise/ladder/pairing.py).
"""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rungwise.ladder.pairing import (
    Crop,
    PictureFormat,
    check_pair,
    filters,
    raw_format,
    read_format,
    read_reference,
    shared_matrix,
)
from rungwise.media.ffmpeg import FfmpegError, ffmpeg_version, run_ffmpeg

# Raise it whenever the same pair of progressive files in limited range could get a different label; for others there is
# PAIRING_VERSION.
LABEL_VERSION = 1
DEFAULT_MODELS = ("vmaf_v1.0.16_3d0h",)


@dataclass(frozen=True)
class Pooled:
    """One metric pooled over frames by libvmaf, whose ``harmonic_mean`` is that of (1 + x), less 1."""

    mean: float
    harmonic_mean: float
    min: float


@dataclass(frozen=True)
class Labels:
    """The labels of one encode.

    ``metrics`` holds each VMAF model under its full name (0 to 100; a 4K 3H model goes to 110), ``"psnr"``,
    that of luma in dB (identical frames get libvmaf's cap: 60 at 8 bit, 72 at 10), and ``"ssim"``, libvmaf's
    ``float_ssim`` of luma (up to 1). ``display_height`` is the height in pixels at which the two were
    compared.
    """

    metrics: dict[str, Pooled]
    num_frames: int
    display_height: int


@dataclass(frozen=True)
class RawVideo:
    """What a headerless ``.yuv`` file does not say: pixels, ffmpeg's pixel format name, frames per second."""

    width: int
    height: int
    pix_fmt: str
    fps: float = 25.0


def _input_arguments(path: Path, raw: RawVideo | None) -> list[str]:
    if path.suffix.lower() != ".yuv":
        return []
    if raw is None:
        raise ValueError(f"{str(path)!r} is headerless video; pass raw=RawVideo(width, height, pix_fmt, fps)")
    size = f"{raw.width}x{raw.height}"
    return ["-f", "rawvideo", "-video_size", size, "-pixel_format", raw.pix_fmt, "-framerate", str(raw.fps)]


def _formats(distorted: Path, reference: Path, raw: RawVideo | None) -> tuple[PictureFormat, PictureFormat]:
    stated = raw_format(raw.pix_fmt, raw.width, raw.height) if raw else None
    encoded = stated if stated and distorted.suffix.lower() == ".yuv" else read_format(distorted)
    return encoded, stated if stated and reference.suffix.lower() == ".yuv" else read_reference(reference)


def _count_hint(distorted: int, reference: int) -> str:
    if distorted == 2 * reference:
        return "; a deinterlaced encode must have one frame per frame of the reference, not one per field"
    return ""


def label(
    reference: Path,
    distorted: Path,
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    display_height: int | None = None,
    num_threads: int = 1,
    raw: RawVideo | None = None,
    crop: Crop | None = None,
) -> Labels:
    """Score ``distorted`` against ``reference``, both any file ffmpeg reads, in one pass.

    Both are compared at ``display_height`` pixels (the reference's own by default), the
    width following the reference's aspect, in 8 bit 4:2:0, or 10 bit if the reference has more than 8; a
    video of another size is scaled as ``SCALER`` says. ``models`` are libvmaf's built-in ones, such as
    ``vmaf_v1.0.16_3d0h`` (1080p at 3 screen heights) or ``vmaf_v0.6.1``. ``num_threads`` changes the time
    taken only. ``raw`` describes whichever of the two is a ``.yuv`` file.

    ValueError if the two differ in number of frames, a model is not built in or cannot score pictures so
    small, or another argument is not usable; FfmpegError if ffmpeg cannot read one of them.
    """
    named = all(re.fullmatch(r"vmaf_[\w.]+", model) for model in models)
    if not models or not named or len(set(models)) < len(models):
        raise ValueError(
            f"models is {list(models)}; it must name one or more different libvmaf models, "
            "such as vmaf_v1.0.16_3d0h or vmaf_v0.6.1"
        )
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; it must be at least 1")
    if display_height is not None and display_height < 2:
        raise ValueError(f"display_height is {display_height}; it must be at least 2")

    inputs = {path: _input_arguments(path, raw) for path in (distorted, reference)}
    encoded, shown = _formats(distorted, reference, raw)
    shown = shown.cropped(crop)
    check_pair(encoded, shown)
    width, height = shown.width, shown.height
    if display_height is not None and display_height != height:
        width, height = 2 * round(width * display_height / height / 2), display_height
    pix_fmt, matrix = "yuv420p" if shown.bit_depth <= 8 else "yuv420p10le", shared_matrix(encoded, shown)
    # libvmaf pairs frames by their timestamps. Tags are overwritten after the conversion, as ffmpeg would convert one
    # video until its tags agree with the other's.
    tags = "setparams=range=limited:colorspace=bt709:color_primaries=bt709:color_trc=bt709,setsar=1"
    streams = (f"0:{encoded.stream_index}", f"1:{shown.stream_index}")
    prepare_encode = f"[{streams[0]}]{filters(encoded, (width, height), pix_fmt, matrix)},{tags}"
    prepare_reference = f"[{streams[1]}]{filters(shown, (width, height), pix_fmt, matrix, crop)},{tags}"
    model_list = "|".join(rf"version={model}\:name={model}" for model in models)
    libvmaf = (
        f"libvmaf=model='{model_list}':feature='name=psnr|name=float_ssim':n_threads={num_threads}"
        ":shortest=1:log_fmt=json:log_path=scores.json"
    )
    command = ["-filter_complex_threads", "1"]
    whole = ["-apply_cropping", "codec"] if encoded.container_crop else []  # of the encode, as scoring looks at it
    for path, cropping in ((distorted, whole), (reference, [])):
        command += ["-threads", str(num_threads), *inputs[path], *cropping, "-i", str(path.absolute())]
    command += ["-filter_complex", f"{prepare_encode}[d];{prepare_reference}[r];[d][r]{libvmaf}[scored]"]
    command += ["-map", "[scored]", "-fps_mode", "passthrough", "-f", "null", "-"]
    counts = ("distorted.txt", "reference.txt")  # ffmpeg writes one line per frame decoded
    for index, log in enumerate(counts):
        command += ["-map", streams[index], "-vf", "settb=1/25,setpts=N", "-fps_mode", "passthrough"]
        command += ["-stats_enc_pre", log, "-f", "null", "-"]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # where ffmpeg runs, too: a whole path inside a filter would need escapes
        try:
            run_ffmpeg(command, cwd=folder, writes=folder / "scores.json")
        except FfmpegError as error:
            if "could not load libvmaf model" in error.words:
                raise ValueError(
                    f"models is {list(models)}; ffmpeg {ffmpeg_version()} has not all of them built in; "
                    "use others, such as vmaf_v0.6.1, or an ffmpeg with a newer libvmaf "
                    f"(a newer imageio-ffmpeg, or IMAGEIO_FFMPEG_EXE); ffmpeg said:\n{error.words}"
                ) from error
            if re.search(r"image too small|no feature '", error.words):
                raise ValueError(
                    f"the two are compared at {width}x{height}, too small for one of {', '.join(models)} "
                    "(VMAF v1 needs a short side of 160 for 3h, about 270 for 5h, and a long side of 216); "
                    f"raise display_height, or use vmaf_v0.6.1; ffmpeg said:\n{error.words}"
                ) from error
            raise
        frames = [len((folder / log).read_text().splitlines()) for log in counts]
        if frames[0] != frames[1]:
            raise ValueError(
                f"{str(distorted)!r} has {frames[0]} frames and {str(reference)!r} has {frames[1]}; "
                f"frames are paired by index, so the two must have as many{_count_hint(frames[0], frames[1])}"
            )
        pooled = json.loads((folder / "scores.json").read_text())["pooled_metrics"]

    # libvmaf rounds scores to 6 decimals; its harmonic means show the last bits of a double
    keys = {**{model: model for model in models}, "psnr": "psnr_y", "ssim": "float_ssim"}
    metrics = {
        key: Pooled(*(round(pooled[name][pool], 6) for pool in ("mean", "harmonic_mean", "min")))
        for key, name in keys.items()
    }
    return Labels(metrics, frames[0], height)
