"""Make one rung of a bitrate ladder from a master, with ffmpeg, the same bytes every time.

Every option that decides the bytes is pinned, threads included: a different thread count changes what x264,
x265, SVT-AV1 and VVenC write. The same master, spec and ffmpeg build on the same kind of CPU give the same
file.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from rungwise.ladder.pairing import DEINTERLACER
from rungwise.media.ffmpeg import FfmpegError, ffmpeg_version, probe, run_ffmpeg

GOP_SECONDS = 2.0  # a key frame at least this often: a usual segment length in adaptive streaming
SCALERS = ("bicubic", "bilinear", "lanczos", "area")
DEFAULT_SCALER = "bicubic"
BITS = 8
SCALING = "flags={scaler}+accurate_rnd+bitexact:sws_dither=bayer"  # dither only acts on masters of over 8 bits


@dataclass(frozen=True)
class Codec:
    """One encoder as ffmpeg runs it.

    ``pinned`` and ``quality`` are ffmpeg arguments with ``{gop}`` (frames) and ``{crf}`` to fill in;
    ``presets`` run from fast to slow; ``tunes`` are what the encoder can be tuned for; ``crf_range`` is
    inclusive, lower is better quality (VVenC's is a constant QP, MPEG-4's a quantizer's scale).
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
        crf_range=(0, 51),
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
        crf_range=(1, 63),  # ffmpeg reads a CRF of 0 as "not given"
        quality="-crf {crf}",
        pinned="-g {gop} -svtav1-params lp=1:scd=0:tune=1",
    ),
    "vp9": Codec(
        encoder="libvpx-vp9",
        suffix=".webm",
        pixel_format="yuv420p",
        presets=("5", "4", "3", "2", "1", "0"),  # with -deadline good a higher one writes the bytes of 5
        default_preset="5",
        preset_option="-cpu-used",
        crf_range=(0, 63),
        quality="-crf {crf} -b:v 0",  # without -b:v 0 libvpx reads the CRF as a floor under a default bitrate
        pinned="-threads 1 -deadline good -row-mt 0 -tile-columns 0 -tile-rows 0 -frame-parallel 0 "
        "-lag-in-frames 25 -auto-alt-ref 1 -drop-threshold 0 -g {gop} -keyint_min {gop}",
    ),
    "vvc": Codec(
        encoder="libvvenc",
        suffix=".mp4",  # ffmpeg's Matroska muxer loses the leading frames of a VVC stream
        pixel_format="yuv420p10le",  # the only one VVenC takes
        presets=("faster", "fast", "medium", "slow", "slower"),
        default_preset="faster",
        preset_option="-preset",
        crf_range=(0, 63),
        quality="-qp {crf}",
        # threads=0 is VVenC without a pool; with a pool of one thread it now and then writes no frame at all
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
        quality="-crf {crf} -b:v 100M",  # libvpx holds VP8 to a bitrate beside the CRF; this one is never reached
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
    """An encode failed. ``spec`` is what was asked for, ``words`` what ffmpeg said."""

    def __init__(self, spec: "EncodeSpec", words: str) -> None:
        super().__init__(f"could not encode {spec}", words)
        self.spec = spec


@dataclass(frozen=True)
class EncodeSpec:
    """One rung: codec, height and rate.

    ``codec`` is a key of ``CODECS``. ``height`` is the rung's, in pixels, even; the width follows the
    master's aspect, rounded to even. Exactly one of ``crf`` (in the codec's ``crf_range``) and
    ``bitrate_kbps`` (1 pass average, kilobits of 1000 per second) is given. An empty ``preset`` becomes the
    codec's default; an empty ``tune`` is none. `scaler` (of ``SCALERS``) brings the master down to the rung's
    height; ``bit_depth`` is 8 or 10 (VVC is always 10). A value outside these rules is a ValueError.
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
    """The keys of ``CODECS`` whose encoder is in the ffmpeg in use."""
    return [name for name, codec in CODECS.items() if codec.encoder in _encoders()]


def _packets(video: Path) -> int:
    """Coded frames in a file that ``encode`` wrote, counted without decoding."""
    text = run_ffmpeg(["-i", str(video.absolute()), "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "-"])
    return sum(not line.startswith(b"#") for line in text.splitlines())


def cut_master(source: Path, destination: Path, *, num_frames: int) -> None:
    """Copy the first frames without loss: FFV1 in Matroska, same samples, color tags and timestamps.

    FfmpegError, with the source's name, if ffmpeg fails.
    """
    command = ["-y", "-threads", "1", "-i", str(source.absolute()), "-map", "0:V:0", "-map_metadata", "-1"]
    command += [
        "-frames:v",
        str(num_frames),
        "-fps_mode",
        "passthrough",
        "-c:v",
        "ffv1",
        "-level",
        "3",
        "-threads",
        "1",
    ]
    try:
        run_ffmpeg([*command, "-bitexact", str(destination.absolute())], writes=destination)
    except FfmpegError as error:
        raise FfmpegError(f"{source}: could not be cut to {num_frames} frames", error.words) from error


def encoder_arguments(spec: EncodeSpec, fps: float) -> list[str]:
    """ffmpeg's output arguments for ``spec`` and a master of ``fps`` frames per second, but map and file."""
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
    """Encode the first video stream of ``source`` (any file ffmpeg reads) to ``destination``; no audio.

    Every frame keeps its timestamp, so the rate and the number of frames are the master's; color tags are
    carried over, samples are never converted between ranges or matrices. Interlaced frames are deinterlaced.
    ``destination`` appears whole or not at all.

    Returns the ffmpeg command, for a manifest, with ``{source}`` and ``{destination}`` for the paths.

    ValueError if the codec is not in this ffmpeg, the suffix is not the codec's, or the rung is taller
    than the master; EncodeError if ffmpeg fails, or writes fewer frames than it was given.
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
        raise ValueError(f"destination is {str(destination)!r}; it must not be the source itself")
    # The process id keeps apart an ffmpeg that outlives a killed run and the one that does its work again.
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
        given, written = len(log.splitlines()), _packets(partial)
        if given != written:
            raise FfmpegError("frames were lost", f"no error, but the file has {written} of {given} frames")
        os.replace(partial, destination)
    except FfmpegError as error:
        raise EncodeError(spec, error.words) from error
    finally:
        partial.unlink(missing_ok=True)
    return ["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", *command]
