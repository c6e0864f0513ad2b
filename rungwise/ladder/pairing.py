"""What an encode and its reference must share to be compared, and the ffmpeg filters that bring them to it.

A full-reference metric compares samples at the same place of the same frame. So both videos are deinterlaced where
they are flagged, converted to limited range and one color matrix, and scaled to one size. What no scaling aligns
(another aspect ratio, HDR against SDR) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from av.video.format import VideoFormat

from rungwise.media.color import COLOR_SPACES, CONVERTIBLE, hdr_name
from rungwise.media.container import decode_all, open_video, refuse_fields, track_of, video_stream
from rungwise.media.limits import stated_aspect

# Raise it whenever the same pair could be compared otherwise because of its scan type, range or color matrix.
PAIRING_VERSION = 1
DEINTERLACER = "bwdif=mode=send_frame:deint=interlaced"  # frames that are not flagged pass untouched
SCALER = "flags=bicubic+accurate_rnd+bitexact:sws_dither=none"  # dither is noise that the encode did not make
# Encoders need even sizes, so a scaled encode is off by less than this, in samples. Padding is not: 1082 for 1080.
SIZE_TOLERANCE = 2
# Two conventions of the same SD format: 720 or 704 samples across the picture (16:11 and 64:45).
SAMPLE_ASPECT_TOLERANCE = 0.03
# swscale's names of the matrices it converts between, by H.273 MatrixCoefficients. BT.2020 comes with other primaries,
# which a change of matrix does not convert.
CONVERTIBLE_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m"}
UNSPECIFIED_MATRICES = (0, 2, 3)  # 0 is RGB, which an encode's tag may inherit


@dataclass(frozen=True)
class Crop:
    """A part of the picture, in samples after rotation, as ffmpeg's filter `crop`; centered without `x` and `y`."""

    width: int
    height: int
    x: int | None = None
    y: int | None = None

    @classmethod
    def parse(cls, text: str) -> Crop:
        """A crop from "W:H:X:Y" or "W:H".

        Raises:
            ValueError: anything else, or a width or height that is odd or 0.
        """
        numbers = text.removeprefix("crop=").split(":")  # as cropdetect prints it
        if len(numbers) not in (2, 4) or not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ValueError(f"crop is {text!r}; it must be W:H:X:Y or W:H in pixels, such as 1920:800:0:140")
        crop = cls(*(int(number) for number in numbers))
        if any(size < 2 or size % 2 for size in (crop.width, crop.height)):
            raise ValueError(f"crop is {text!r}; its width and height must be even and at least 2")
        return crop

    def __str__(self) -> str:
        numbers = [self.width, self.height] + ([] if self.x is None or self.y is None else [self.x, self.y])
        return ":".join(str(number) for number in numbers)


@dataclass(frozen=True)
class PictureFormat:
    """A video's first frame, of the stream that players show: number `stream_index` of the file.

    `width` and `height` are in samples after rotation. `sample_aspect` is the width of a sample over its height, as
    shown; None if unspecified. `matrix` is H.273's MatrixCoefficients, `hdr` the name of an HDR transfer, "" for SDR.
    `container_crop` says that the container asks to crop, which scoring does not follow but ffmpeg does.
    """

    width: int
    height: int
    sample_aspect: Fraction | None
    bit_depth: int
    full_range: bool
    is_rgb: bool
    matrix: int
    hdr: str
    interlaced: bool
    fps: float | None
    stream_index: int = 0
    container_crop: bool = False

    def __str__(self) -> str:
        if self.sample_aspect is None or self.sample_aspect == 1:
            return f"{self.width}x{self.height}"
        return f"{self.width}x{self.height} (sample aspect ratio {self.sample_aspect})"

    def cropped(self, crop: Crop | None) -> PictureFormat:
        """The format after `crop`. ValueError if that reaches beyond the picture."""
        if crop is None:
            return self
        if (crop.x or 0) + crop.width > self.width or (crop.y or 0) + crop.height > self.height:
            raise ValueError(f"crop {crop} reaches beyond the reference's picture of {self.width}x{self.height}")
        return replace(self, width=crop.width, height=crop.height)


def read_format(path: Path) -> PictureFormat:
    """Decode a video's first frame and describe it.

    Raises:
        ValueError: not a video, or no frame can be decoded.
    """
    with open_video(path, threads=1) as container:
        stream = video_stream(container)
        track = track_of(container, stream, path)
        for frame in decode_all(container, path):
            refuse_fields(frame, stream.codec_context.codec.canonical_name, path)
            turned = frame.rotation % 180 != 0
            aspect = stated_aspect(stream)
            plain = raw_format(frame.format.name, frame.width, frame.height)
            return replace(
                plain,
                width=frame.height if turned else frame.width,
                height=frame.width if turned else frame.height,
                sample_aspect=1 / aspect if aspect and turned else aspect,
                full_range=plain.full_range or int(frame.color_range) == 2,
                # A VP8 stream states BT.601 whatever was encoded: it can state nothing else (RFC 6386, section 9.2).
                matrix=2 if stream.codec_context.codec.canonical_name == "vp8" else int(frame.colorspace),
                hdr=hdr_name(int(frame.color_trc), track.dolby_vision_profile if track else None),
                interlaced=bool(frame.interlaced_frame),
                fps=float(stream.average_rate) if stream.average_rate else None,
                stream_index=stream.index,
                container_crop=track is not None and bool(track.crop),
            )
    raise ValueError(f"{path}: no frame can be decoded")


def read_reference(path: Path) -> PictureFormat:
    """`read_format`, but a crop that the container asks for is followed: encoders got what it leaves.

    Raises:
        ValueError: not a video, or no frame can be decoded.
        FfmpegError: ffmpeg can't decode it.
    """
    picture = read_format(path)
    if not picture.container_crop:
        return picture
    from rungwise.media.ffmpeg import probe

    left = probe(path)
    return replace(picture, width=left.width, height=left.height)


def raw_format(pix_fmt: str, width: int, height: int) -> PictureFormat:
    """The format of untagged video in ffmpeg's pixel format `pix_fmt`. ValueError if there is no such pixel format."""
    known = VideoFormat(pix_fmt)
    return PictureFormat(
        width=width,
        height=height,
        sample_aspect=None,
        bit_depth=max(component.bits for component in known.components),
        full_range=pix_fmt.startswith("yuvj"),
        is_rgb=known.is_rgb,
        matrix=2,
        hdr="",
        interlaced=False,
        fps=None,
    )


def check_pair(distorted: PictureFormat, reference: PictureFormat) -> None:
    """Refuse an encode whose pictures can't be brought to those of its reference, which is cropped already.

    Raises:
        ValueError: another aspect ratio, one HDR and the other not, or color matrices that can't be converted.
    """
    if not _same_shape(distorted, reference):
        raise ValueError(
            f"its {distorted} is not the reference's {reference} scaled: the aspect ratio is "
            f"{_display_aspect(distorted):.3f}, not {_display_aspect(reference):.3f}, so their pictures don't align; "
            f"{_remedy(distorted, reference)}"
        )
    if distorted.hdr != reference.hdr:
        raise ValueError(
            f"it is {distorted.hdr or 'SDR'} and the reference is {reference.hdr or 'SDR'}, by their tags: compare it "
            "with a reference of its own transfer"
        )
    names = [_matrix_name(video) for video in (distorted, reference)]
    is_stated = all(names) or not {distorted.matrix, reference.matrix} <= CONVERTIBLE
    if is_stated and names[0] != names[1] and not set(names) <= set(CONVERTIBLE_MATRICES.values()):
        known = [name or "unspecified" for name in names]
        raise ValueError(
            f"its color matrix is {known[0]} and the reference's {known[1]}, by their tags: convert the reference to "
            "the encode's colors first"
        )


def shared_matrix(distorted: PictureFormat, reference: PictureFormat) -> str:
    """swscale's name of the color matrix for both, the reference's where it has one; "" if neither says its own."""
    names = [_matrix_name(video) for video in (reference, distorted)]
    return next((name for name in names if name in CONVERTIBLE_MATRICES.values()), "")


def filters(video: PictureFormat, size: tuple[int, int], pix_fmt: str, matrix: str, crop: Crop | None = None) -> str:
    """ffmpeg's filters that turn `video` into the pictures to compare, each frame's timestamp its index.

    They are deinterlaced, cropped, of `size` (width, height), in limited range, in the color `matrix` of
    `shared_matrix` and in `pix_fmt`, yuv420p or yuv420p10le. Video that does not say its matrix has the shared one.
    """
    scale = f"scale={size[0]}:{size[1]}:{SCALER}"
    if video.is_rgb:
        scale += ":out_range=limited"
    elif video.full_range:  # which the container alone may state
        scale += ":in_range=full:out_range=limited"
    own = _matrix_name(video)
    if video.is_rgb and matrix:
        scale += f":out_color_matrix={matrix}"
    elif own and matrix and own != matrix:
        # swscale converts through RGB of as many bits as it writes; 8 would add noise of its own.
        scale += f":in_color_matrix={own}:out_color_matrix={matrix},format=yuv420p10le,scale={SCALER}"
    chain = [DEINTERLACER, "settb=1/25", "setpts=N", *([f"crop={crop}"] if crop else []), scale, f"format={pix_fmt}"]
    return ",".join(chain)


def _matrix_name(video: PictureFormat) -> str:
    """swscale's name of the matrix that the video's tag states, another name where it does not convert it, or ""."""
    if video.is_rgb or video.matrix in UNSPECIFIED_MATRICES:
        return ""
    known = CONVERTIBLE_MATRICES.get(video.matrix) or COLOR_SPACES.get(video.matrix)
    return known or f"H.273 matrix {video.matrix}"


def _same_shape(distorted: PictureFormat, reference: PictureFormat) -> bool:
    ratio = (distorted.sample_aspect or Fraction(1)) / (reference.sample_aspect or Fraction(1))
    if _is_scaled(distorted, reference, ratio):
        return True
    unspecified = distorted.sample_aspect is None or reference.sample_aspect is None
    return (unspecified or abs(ratio - 1) < SAMPLE_ASPECT_TOLERANCE) and _is_scaled(distorted, reference, Fraction(1))


def _is_scaled(distorted: PictureFormat, reference: PictureFormat, sample_aspect_ratio: Fraction) -> bool:
    """Whether the encode's size is the reference's scaled, rounded to even; the ratio is theirs of sample aspects."""
    aspect = Fraction(reference.width, reference.height) / sample_aspect_ratio
    columns, rows = distorted.width - distorted.height * aspect, distorted.height - distorted.width / aspect
    return min(abs(columns), abs(rows)) < SIZE_TOLERANCE


def _display_aspect(video: PictureFormat) -> float:
    return float(video.width * (video.sample_aspect or 1) / video.height)


def _remedy(distorted: PictureFormat, reference: PictureFormat) -> str:
    """What to do about an encode of another shape: where it may show a part of the reference, which part."""
    if distorted.width >= reference.width and distorted.height >= reference.height:
        return "if it is padded, crop the encode; if it is stretched, set its sample aspect ratio"
    aspect = Fraction(distorted.width, distorted.height)
    aspect *= (distorted.sample_aspect or Fraction(1)) / (reference.sample_aspect or Fraction(1))
    width, height = reference.width, reference.height
    if aspect > Fraction(width, height):
        height = 2 * round(width / aspect / 2)
    else:
        width = 2 * round(height * aspect / 2)
    return (
        f"if it shows a part of the reference, crop the reference (--crop {width}:{height}, or W:H:X:Y off the "
        "center); if it is squeezed, set its sample aspect ratio"
    )
