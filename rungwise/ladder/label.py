"""Full-reference labels of an encode against its master: VMAF, PSNR and SSIM by libvmaf inside ffmpeg.

Frames are paired by index, not by timestamp. Both videos are deinterlaced where flagged, and converted to limited
range and one color matrix according to their tags (rungwise/ladder/pairing.py).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

# Increment it if any pair of progressive, limited-range files can get a different label. PAIRING_VERSION covers others.
LABEL_VERSION = 1
DEFAULT_MODELS = ("vmaf_v1.0.16_3d0h",)
MIN_CHROMA_PX = 320  # short side in pixels below which libvmaf's chroma part of VMAF v1 is 0
_SCORES_FILE, _COUNT_FILES = "scores.json", ("distorted.txt", "reference.txt")


@dataclass(frozen=True)
class Pooled:
    """One metric pooled over frames by libvmaf. `harmonic_mean` is the harmonic mean of 1 + x, minus 1."""

    mean: float
    harmonic_mean: float
    min: float


@dataclass(frozen=True)
class Labels:
    """The labels of one encode.

    Attributes:
        metrics: VMAF models by full name (0 to 100; the 4K 3H model goes to 110), "psnr" of luma in dB (identical
            frames get libvmaf's maximum, 60 at 8 bit and 72 at 10), and "ssim", libvmaf's float_ssim of luma (up to 1).
        num_frames: frames compared.
        display_height: height in pixels at which the videos were compared.
    """

    metrics: dict[str, Pooled]
    num_frames: int
    display_height: int


@dataclass(frozen=True)
class RawVideo:
    """Format of a headerless `.yuv` file: size in pixels, ffmpeg's pixel format, frames per second."""

    width: int
    height: int
    pix_fmt: str
    fps: float = 25.0


@dataclass(frozen=True)
class _Comparison:
    """Two videos and the picture format in which they are compared."""

    distorted: Path
    reference: Path
    distorted_format: PictureFormat
    reference_format: PictureFormat  # after `crop`
    crop: Crop | None
    width: int
    height: int

    @property
    def streams(self) -> tuple[str, str]:
        """ffmpeg's specifiers of the two video streams."""
        return f"0:{self.distorted_format.stream_index}", f"1:{self.reference_format.stream_index}"


def label(
    reference: Path,
    distorted: Path,
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    display_height: int | None = None,
    num_threads: int = 1,
    raw: RawVideo | None = None,
    crop: Crop | None = None,
    psnr_ssim: bool = True,
) -> Labels:
    """Compare `distorted` with `reference` in one pass.

    Both are compared at `display_height`, in 8-bit 4:2:0, or 10-bit if the reference has more than 8 bits. A video of
    another size is scaled by `pairing.SCALER`.

    Args:
        reference: any file that ffmpeg reads.
        distorted: any file that ffmpeg reads.
        models: libvmaf's built-in models, such as vmaf_v1.0.16_3d0h (1080p at 3 screen heights) or vmaf_v0.6.1.
        display_height: in pixels; the default is the height of the reference. The width follows its aspect ratio.
        num_threads: affects the running time only.
        raw: format of whichever video is a `.yuv` file.
        crop: part of the reference that the encode shows.
        psnr_ssim: False leaves PSNR and SSIM out, which take longer than VMAF v1.

    Raises:
        ValueError: the numbers of frames differ, a model is not built in or needs larger pictures, or another
            argument is invalid.
        FfmpegError: ffmpeg cannot read one of the videos.
    """
    _check_arguments(models, display_height, num_threads)
    comparison = _comparison(reference, distorted, display_height, raw, crop)
    command = _command(comparison, models, num_threads, raw, psnr_ssim=psnr_ssim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # also ffmpeg's working folder, because full paths inside filters need escaping
        try:
            run_ffmpeg(command, cwd=folder, writes=folder / _SCORES_FILE)
        except FfmpegError as error:
            raise _explained(error, models, comparison) from error
        num_distorted, num_reference = (len((folder / log).read_text().splitlines()) for log in _COUNT_FILES)
        if num_distorted != num_reference:
            raise ValueError(
                f"{str(distorted)!r} has {num_distorted} frames and {str(reference)!r} has {num_reference}; frames are "
                f"paired by index, so the counts must be equal{_field_hint(num_distorted, num_reference)}"
            )
        pooled = json.loads((folder / _SCORES_FILE).read_text())["pooled_metrics"]
    return Labels(_metrics(pooled, models, psnr_ssim=psnr_ssim), num_distorted, comparison.height)


def _check_arguments(models: Sequence[str], display_height: int | None, num_threads: int) -> None:
    """Raise ValueError for arguments that no video can be labeled with."""
    are_models = all(re.fullmatch(r"vmaf_[\w.]+", model) for model in models)
    if not models or not are_models or len(set(models)) < len(models):
        raise ValueError(
            f"models is {list(models)}; it must name one or more different libvmaf models, "
            "such as vmaf_v1.0.16_3d0h or vmaf_v0.6.1"
        )
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; it must be at least 1")
    if display_height is not None and display_height < 2:
        raise ValueError(f"display_height is {display_height}; it must be at least 2")


def _comparison(
    reference: Path, distorted: Path, display_height: int | None, raw: RawVideo | None, crop: Crop | None
) -> _Comparison:
    """Read both formats and set the size of the comparison; ValueError if the videos cannot be compared."""
    formats = []
    for path, read in ((distorted, read_format), (reference, read_reference)):
        if path.suffix.lower() != ".yuv":
            formats.append(read(path))
        elif raw is not None:
            formats.append(raw_format(raw.pix_fmt, raw.width, raw.height))
        else:
            raise ValueError(f"{str(path)!r} is headerless video; pass raw=RawVideo(width, height, pix_fmt, fps)")
    distorted_format, reference_format = formats[0], formats[1].cropped(crop)
    check_pair(distorted_format, reference_format)
    width, height = reference_format.width, reference_format.height
    if display_height is not None and display_height != height:
        width, height = 2 * round(width * display_height / height / 2), display_height
    return _Comparison(distorted, reference, distorted_format, reference_format, crop, width, height)


def _command(
    comparison: _Comparison, models: Sequence[str], num_threads: int, raw: RawVideo | None, *, psnr_ssim: bool
) -> list[str]:
    """ffmpeg's arguments: libvmaf writes `_SCORES_FILE`, and each decoder one line per frame to `_COUNT_FILES`."""
    command = ["-filter_complex_threads", "1"]
    # The encode is compared without the container's crop, as it is scored.
    uncropped = ["-apply_cropping", "codec"] if comparison.distorted_format.container_crop else []
    for path, cropping in ((comparison.distorted, uncropped), (comparison.reference, [])):
        input_format = _raw_arguments(raw) if raw is not None and path.suffix.lower() == ".yuv" else []
        command += ["-threads", str(num_threads), *input_format, *cropping, "-i", str(path.absolute())]
    command += ["-filter_complex", _filter_graph(comparison, models, num_threads, psnr_ssim=psnr_ssim)]
    command += ["-map", "[scored]", "-fps_mode", "passthrough", "-f", "null", "-"]
    for stream, log in zip(comparison.streams, _COUNT_FILES, strict=True):
        command += ["-map", stream, "-vf", "settb=1/25,setpts=N", "-fps_mode", "passthrough"]
        command += ["-stats_enc_pre", log, "-f", "null", "-"]
    return command


def _raw_arguments(raw: RawVideo) -> list[str]:
    size = f"{raw.width}x{raw.height}"
    return ["-f", "rawvideo", "-video_size", size, "-pixel_format", raw.pix_fmt, "-framerate", str(raw.fps)]


def _filter_graph(comparison: _Comparison, models: Sequence[str], num_threads: int, *, psnr_ssim: bool) -> str:
    """The filter graph that converts both videos and ends in libvmaf's output [scored]."""
    distorted, reference = comparison.distorted_format, comparison.reference_format
    size, pix_fmt = (comparison.width, comparison.height), "yuv420p" if reference.bit_depth <= 8 else "yuv420p10le"
    matrix = shared_matrix(distorted, reference)
    # Tags are set to the same values after the conversion, or ffmpeg would convert one video to the other's tags.
    tags = "setparams=range=limited:colorspace=bt709:color_primaries=bt709:color_trc=bt709,setsar=1"
    distorted_stream, reference_stream = comparison.streams
    distorted_filters = f"[{distorted_stream}]{filters(distorted, size, pix_fmt, matrix)},{tags}"
    reference_filters = f"[{reference_stream}]{filters(reference, size, pix_fmt, matrix, comparison.crop)},{tags}"
    model_list = "|".join(rf"version={model}\:name={model}" for model in models)
    features = ":feature='name=psnr|name=float_ssim'" if psnr_ssim else ""
    libvmaf = (
        f"libvmaf=model='{model_list}'{features}:n_threads={num_threads}"
        f":shortest=1:log_fmt=json:log_path={_SCORES_FILE}"
    )
    return f"{distorted_filters}[d];{reference_filters}[r];[d][r]{libvmaf}[scored]"


def _explained(error: FfmpegError, models: Sequence[str], comparison: _Comparison) -> Exception:
    """A ValueError for a missing model or a too small picture, else the error itself."""
    if "could not load libvmaf model" in error.stderr:
        return ValueError(
            f"models is {list(models)}; ffmpeg {ffmpeg_version()} does not have all of them built in; "
            "use others, such as vmaf_v0.6.1, or an ffmpeg with a newer libvmaf "
            f"(a newer imageio-ffmpeg, or IMAGEIO_FFMPEG_EXE); ffmpeg reported:\n{error.stderr}"
        )
    if re.search(r"image too small|no feature '", error.stderr):
        return ValueError(
            f"the comparison size is {comparison.width}x{comparison.height}, too small for one of {', '.join(models)} "
            "(VMAF v1 needs a short side of 160 for 3h, about 270 for 5h, and a long side of 216); "
            f"raise display_height or use vmaf_v0.6.1; ffmpeg reported:\n{error.stderr}"
        )
    return error


def _field_hint(num_distorted: int, num_reference: int) -> str:
    if num_distorted == 2 * num_reference:
        return "; a deinterlaced encode must have one frame per frame of the reference, not one per field"
    return ""


def _metrics(pooled: dict[str, Any], models: Sequence[str], *, psnr_ssim: bool) -> dict[str, Pooled]:
    """libvmaf's pooled metrics by our names."""
    names = {model: model for model in models} | ({"psnr": "psnr_y", "ssim": "float_ssim"} if psnr_ssim else {})
    # libvmaf rounds scores to 6 decimals, but not harmonic means.
    return {
        key: Pooled(*(round(pooled[name][pool], 6) for pool in ("mean", "harmonic_mean", "min")))
        for key, name in names.items()
    }
