"""Encode one rung of a bitrate ladder from a master with ffmpeg, reproducibly.

All options that affect the output are pinned, including the number of threads, which changes the output of x264,
x265, SVT-AV1 and VVenC. The same master, spec and ffmpeg build on the same CPU type give the same bytes.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from rungwise.ladder.pairing import DEINTERLACER
from rungwise.media.ffmpeg import FfmpegError, ffmpeg_version, probe, run_ffmpeg

GOP_SECONDS = 2.0  # longest key frame interval, a common segment length in adaptive streaming
SCALERS = ("bicubic", "bilinear", "lanczos", "area")
DEFAULT_SCALER = "bicubic"
BITS = 8
SCALING = "flags={scaler}+accurate_rnd+bitexact:sws_dither=bayer"  # dither affects masters with more than 8 bits only


@dataclass(frozen=True)
class Codec:
    """One encoder and its ffmpeg options.

    Attributes:
        encoder: ffmpeg's name of the encoder.
        suffix: of the container file.
        pixel_format: ffmpeg's name, used unless `bit_depth` is 10.
        presets: from fast to slow.
        default_preset: one of `presets`.
        preset_option: ffmpeg's option for a preset.
        crf_range: inclusive; lower is better quality. For VVenC it is a constant QP, for MPEG-4 a quantizer scale.
        quality: ffmpeg arguments with "{crf}".
        pinned: ffmpeg arguments with "{gop}", in frames.
        tunes: allowed values of -tune.
    """

    encoder: str
    suffix: str
    pixel_format: str
    presets: tuple[str, ...]
    default_preset: str
    preset_option: str
    crf_range: tuple[int, int]
    quality: str
    pinned: str
    tunes: tuple[str, ...] = ()


X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip

CODECS: dict[str, Codec] = {
    "h264": Codec(
        encoder="libx264",
        suffix=".mp4",
        pixel_format="yuv420p",
        presets=X26X_PRESETS,
        default_preset="veryfast",
        preset_option="-preset",
        crf_range=(1, 51),  # 0 is lossless, in a profile that few decoders have
        quality="-crf {crf}",
        pinned="-threads 1 -g {gop} -keyint_min {gop} -sc_threshold 0 -x264-params open-gop=0:sliced-threads=0",
        tunes=("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"),
    ),
    "hevc": Codec(
        encoder="libx265",
        suffix=".mp4",
        pixel_format="yuv420p",
        presets=X26X_PRESETS,
        default_preset="fast",
        preset_option="-preset",
        crf_range=(0, 51),
        quality="-crf {crf}",
        pinned="-threads 1 -tag:v hvc1 -x265-params pools=none:frame-threads=1:wpp=0"
        ":keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:info=0:log-level=error",
        tunes=("animation", "grain", "psnr", "ssim", "fastdecode", "zerolatency"),
    ),
    "av1": Codec(
        encoder="libsvtav1",
        suffix=".mp4",
        pixel_format="yuv420p",
        presets=tuple(str(preset) for preset in range(13, -1, -1)),
        default_preset="8",
        preset_option="-preset",
        crf_range=(1, 63),  # ffmpeg treats a CRF of 0 as unset
        quality="-crf {crf}",
        pinned="-g {gop} -svtav1-params lp=1:scd=0:tune=1",
    ),
    "vp9": Codec(
        encoder="libvpx-vp9",
        suffix=".webm",
        pixel_format="yuv420p",
        presets=("5", "4", "3", "2", "1", "0"),  # with -deadline good, higher values give the same output as 5
        default_preset="5",
        preset_option="-cpu-used",
        crf_range=(0, 63),
        quality="-crf {crf} -b:v 0",  # without -b:v 0, libvpx also limits the bitrate to a default
        pinned="-threads 1 -deadline good -row-mt 0 -tile-columns 0 -tile-rows 0 -frame-parallel 0 "
        "-lag-in-frames 25 -auto-alt-ref 1 -drop-threshold 0 -g {gop} -keyint_min {gop}",
    ),
    "vvc": Codec(
        encoder="libvvenc",
        suffix=".mp4",  # ffmpeg's Matroska muxer drops the leading frames of a VVC stream
        pixel_format="yuv420p10le",  # the only format that VVenC takes
        presets=("faster", "fast", "medium", "slow", "slower"),
        default_preset="faster",
        preset_option="-preset",
        crf_range=(0, 63),
        quality="-qp {crf}",
        # threads=0 runs VVenC without a thread pool; with a pool of one it occasionally writes no frames
        pinned="-threads 1 -vvenc-params threads=0 -qpa 1 -g {gop}",
    ),
    "vp8": Codec(
        encoder="libvpx",
        suffix=".webm",
        pixel_format="yuv420p",
        presets=("5", "4", "3", "2", "1", "0"),
        default_preset="4",
        preset_option="-cpu-used",
        crf_range=(4, 63),
        quality="-crf {crf} -b:v 100M",  # libvpx limits VP8 to a bitrate besides the CRF; this one is never reached
        pinned="-threads 1 -deadline good -lag-in-frames 16 -auto-alt-ref 1 -drop-threshold 0 "
        "-g {gop} -keyint_min {gop}",
    ),
    "mpeg4": Codec(
        encoder="mpeg4",
        suffix=".mp4",
        pixel_format="yuv420p",
        presets=("simple", "bits", "rd"),
        default_preset="simple",
        preset_option="-mbd",
        crf_range=(1, 31),
        quality="-q:v {crf}",
        pinned="-threads 1 -g {gop}",
    ),
}


class EncodeError(FfmpegError):
    """An encode failed. `spec` is the requested rung, `words` the message of ffmpeg."""

    def __init__(self, spec: "EncodeSpec", words: str) -> None:
        super().__init__(f"could not encode {spec}", words)
        self.spec = spec


@dataclass(frozen=True)
class EncodeSpec:
    """One rung: codec, height, rate and encoder settings.

    Attributes:
        codec: a key of `CODECS`.
        height: in pixels, even; the width follows the aspect ratio of the master, rounded to even.
        crf: in the `crf_range` of the codec. Exactly one of `crf` and `bitrate_kbps` must be given.
        bitrate_kbps: 1-pass average bitrate.
        preset: "" selects the default of the codec.
        scaler: one of `SCALERS`, used to downscale the master.
        bit_depth: 8 or 10; VVC is always 10.
        tune: one of the `tunes` of the codec, or "".

    Raises:
        ValueError: a value is outside these rules.
    """

    codec: str
    height: int
    crf: int | None = None
    bitrate_kbps: int | None = None
    preset: str = ""
    scaler: str = DEFAULT_SCALER
    bit_depth: int = BITS
    tune: str = ""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec is {self.codec!r}; it must be one of {', '.join(CODECS)}")
        codec = CODECS[self.codec]
        if self.height < 2 or self.height % 2:
            raise ValueError(f"height is {self.height}; it must be even and at least 2 (4:2:0 video)")
        if (self.crf is None) == (self.bitrate_kbps is None):
            raise ValueError(f"crf is {self.crf} and bitrate_kbps is {self.bitrate_kbps}; exactly one must be given")
        low, high = codec.crf_range
        if self.crf is not None and not low <= self.crf <= high:
            raise ValueError(f"crf is {self.crf}; for {self.codec} it must be from {low} to {high}")
        if self.bitrate_kbps is not None and self.bitrate_kbps < 1:
            raise ValueError(f"bitrate_kbps is {self.bitrate_kbps}; it must be at least 1")
        if self.scaler not in SCALERS:
            raise ValueError(f"scaler is {self.scaler!r}; it must be one of {', '.join(SCALERS)}")
        if self.bit_depth not in (8, 10):
            raise ValueError(f"bit_depth is {self.bit_depth}; it must be 8 or 10")
        if not self.preset:
            object.__setattr__(self, "preset", codec.default_preset)
        if self.preset not in codec.presets:
            raise ValueError(
                f"preset is {self.preset!r}; for {self.codec} it must be one of {', '.join(codec.presets)}"
            )
        if self.tune and self.tune not in codec.tunes:
            known = f"one of {', '.join(codec.tunes)}" if codec.tunes else "left out"
            raise ValueError(f"tune is {self.tune!r}; for {self.codec} it must be {known}")


@functools.cache
def _encoders() -> frozenset[str]:
    lines = run_ffmpeg(["-encoders"]).decode().splitlines()
    return frozenset(line.split()[1] for line in lines if line.startswith(" V") and len(line.split()) > 1)


def available_codecs() -> list[str]:
    """The keys of `CODECS` whose encoder is built into the current ffmpeg."""
    return [name for name, codec in CODECS.items() if codec.encoder in _encoders()]


def _num_packets(video: Path) -> int:
    """Number of coded frames in a file written by `encode`, without decoding."""
    text = run_ffmpeg(["-i", str(video.absolute()), "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "-"])
    return sum(not line.startswith(b"#") for line in text.splitlines())


def cut_master(source: Path, destination: Path, *, num_frames: int) -> None:
    """Copy the first frames losslessly to FFV1 in Matroska, with the same samples, color tags and timestamps.

    Raises:
        FfmpegError: ffmpeg fails; the message names the source.
    """
    command = ["-y", "-threads", "1", "-i", str(source.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += ["-frames:v", str(num_frames), "-fps_mode", "passthrough"]
    command += ["-c:v", "ffv1", "-level", "3", "-threads", "1"]
    try:
        run_ffmpeg([*command, "-bitexact", str(destination.absolute())], writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{source}: could not be cut to {num_frames} frames", error.stderr) from error


def encoder_arguments(spec: EncodeSpec, fps: float) -> list[str]:
    """ffmpeg's output arguments for `spec` and a master with `fps`, except for -map and the file."""
    codec = CODECS[spec.codec]
    pixel_format = "yuv420p10le" if spec.bit_depth == 10 else codec.pixel_format
    rate = codec.quality.format(crf=spec.crf) if spec.crf is not None else f"-b:v {spec.bitrate_kbps}k"
    return [
        "-vf", f"{DEINTERLACER},scale=-2:{spec.height}:{SCALING.format(scaler=spec.scaler)},format={pixel_format}",
        "-fps_mode", "passthrough",
        "-c:v", codec.encoder,
        codec.preset_option, spec.preset,
        *(("-tune", spec.tune) if spec.tune else ()),
        *rate.split(),
        *codec.pinned.format(gop=max(1, round(GOP_SECONDS * fps))).split(),
        "-bitexact",
    ]  # fmt: skip


def encode(source: Path, destination: Path, spec: EncodeSpec) -> list[str]:
    """Encode the first video stream of `source` (any file that ffmpeg reads) to `destination`, without audio.

    Timestamps, frame rate, frame count and color tags are those of the master. Samples are not converted between
    ranges or color matrices. Interlaced frames are deinterlaced. `destination` is written completely or not at all.

    Returns:
        The ffmpeg command, with "{source}" and "{destination}" in place of the paths.

    Raises:
        ValueError: ffmpeg lacks the encoder, the suffix does not match the codec, or the rung is taller than the
            master.
        EncodeError: ffmpeg fails, or the file has fewer frames than the master.
    """
    codec = CODECS[spec.codec]
    if spec.codec not in available_codecs():
        raise ValueError(
            f"codec is {spec.codec!r} but ffmpeg {ffmpeg_version()} has no {codec.encoder}; "
            f"it has {', '.join(available_codecs())} (set IMAGEIO_FFMPEG_EXE to use another ffmpeg)"
        )
    if destination.suffix != codec.suffix:
        raise ValueError(f"destination is {str(destination)!r}; for {spec.codec} it must end in {codec.suffix}")
    if destination.exists() and source.exists() and destination.samefile(source):
        raise ValueError(f"destination is {str(destination)!r}; it must differ from the source")
    # The process id avoids a clash with an ffmpeg that outlives an interrupted run.
    partial = destination.with_name(f"{destination.stem}.{os.getpid()}.partial{codec.suffix}")
    try:
        master = probe(source)
        if spec.height > master.height:
            raise ValueError(f"height is {spec.height}; it must not exceed the master's, {master.height}")
        command = [
            "-y", "-threads", "1", "-i", "{source}",
            "-map", "0:V:0", "-map_metadata", "-1", "-map_chapters", "-1", "-filter_threads", "1",
            *encoder_arguments(spec, float(master.fps)),
            "{destination}",
        ]  # fmt: skip
        paths = {"{source}": str(source.absolute()), "{destination}": str(partial.absolute())}
        filled = [paths.get(argument, argument) for argument in command]
        log = run_ffmpeg([*filled[:-1], "-stats_enc_pre", "pipe:1", filled[-1]], writes=partial)
        num_given, num_written = len(log.splitlines()), _num_packets(partial)
        if num_given != num_written:
            raise FfmpegError("frames were lost", f"no error, but the file has {num_written} of {num_given} frames")
        os.replace(partial, destination)
    except FfmpegError as error:
        raise EncodeError(spec, error.stderr) from error
    finally:
        partial.unlink(missing_ok=True)
    return ["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", *command]
