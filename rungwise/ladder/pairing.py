"""Check that an encode and its reference can be compared, and convert both to the same format with ffmpeg filters.

A full-reference metric compares samples at the same position of the same frame. Both videos are therefore
deinterlaced where flagged, converted to limited range and one color matrix, and scaled to one size. Videos that
cannot be aligned (different aspect ratios, HDR against SDR) are rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from av.video.format import VideoFormat

from rungwise.media.color import COLOR_SPACES, CONVERTIBLE, hdr_name
from rungwise.media.container import decode_all, open_video, refuse_fields, track_of, video_stream
from rungwise.media.limits import stated_aspect

# Increment it if the comparison of any pair changes because of its scan type, range or color matrix.
PAIRING_VERSION = 1
DEINTERLACER = "bwdif=mode=send_frame:deint=interlaced"  # frames that are not flagged are unchanged
SCALER = "flags=bicubic+accurate_rnd+bitexact:sws_dither=none"  # dither would count as noise of the encode
# In samples. Rounding to even sizes shifts a scaled encode by less than this, unlike padding (1082 for 1080).
SIZE_TOLERANCE = 2
# Two conventions of the same SD format: 720 or 704 samples per line (16:11 and 64:45).
SAMPLE_ASPECT_TOLERANCE = 0.03
# swscale's names of the matrices it converts between, by H.273 MatrixCoefficients. BT.2020 is excluded because it also
# has other primaries, which a change of matrix does not convert.
CONVERTIBLE_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m"}
UNSPECIFIED_MATRICES = (0, 2, 3)  # 0 is RGB, which an encode can inherit from its master's tag


@dataclass(frozen=True)
class Crop:
    """A crop in samples after rotation, as in ffmpeg's filter `crop`; centered without `x` and `y`."""

    width: int
    height: int
    x: int | None = None
    y: int | None = None

    @classmethod
    def parse(cls, text: str) -> Crop:
        """The crop written as "W:H:X:Y" or "W:H".

        Raises:
            ValueError: any other text, or a width or height that is odd or 0.
        """
        numbers = text.removeprefix("crop=").split(":")  # the output format of cropdetect
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
    """Format of the first frame of the video stream that players show.

    Attributes:
        width: in samples after rotation.
        height: in samples after rotation.
        sample_aspect: width of a displayed sample over its height; None if unspecified.
        bit_depth: bits per sample.
        full_range: whether luma is full range.
        is_rgb: whether the pixel format is RGB.
        matrix: H.273 MatrixCoefficients.
        hdr: name of the HDR transfer function, "" for SDR.
        interlaced: whether the frame is flagged as interlaced.
        fps: average frame rate, None if unknown.
        stream_index: number of the stream in the file.
        container_crop: whether the container requests a crop, which ffmpeg applies and scoring ignores.
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
        """The format after `crop`.

        Raises:
            ValueError: the crop exceeds the picture.
        """
        if crop is None:
            return self
        if (crop.x or 0) + crop.width > self.width or (crop.y or 0) + crop.height > self.height:
            raise ValueError(f"crop {crop} exceeds the reference's picture of {self.width}x{self.height}")
        return replace(self, width=crop.width, height=crop.height)


def read_format(path: Path) -> PictureFormat:
    """The format of a video, from its first decoded frame.

    Raises:
        ValueError: the file is not a video, or no frame can be decoded.
    """
    with open_video(path, threads=1) as container:
        stream = video_stream(container)
        track = track_of(container, stream, path)
        for frame in decode_all(container, path):
            refuse_fields(frame, stream.codec_context.codec.canonical_name, path)
            is_rotated = frame.rotation % 180 != 0
            aspect = stated_aspect(stream)
            untagged = raw_format(frame.format.name, frame.width, frame.height)
            return replace(
                untagged,
                width=frame.height if is_rotated else frame.width,
                height=frame.width if is_rotated else frame.height,
                sample_aspect=1 / aspect if aspect and is_rotated else aspect,
                full_range=untagged.full_range or int(frame.color_range) == 2,
                # VP8 always signals BT.601, as its syntax has no other value (RFC 6386, section 9.2).
                matrix=2 if stream.codec_context.codec.canonical_name == "vp8" else int(frame.colorspace),
                hdr=hdr_name(int(frame.color_trc), track.dolby_vision_profile if track else None),
                interlaced=bool(frame.interlaced_frame),
                fps=float(stream.average_rate) if stream.average_rate else None,
                stream_index=stream.index,
                container_crop=track is not None and bool(track.crop),
            )
    raise ValueError(f"{path}: no frame can be decoded")


def read_reference(path: Path) -> PictureFormat:
    """The format of a reference: `read_format` after the container's crop, which encoders apply too.

    Raises:
        ValueError: the file is not a video, or no frame can be decoded.
        FfmpegError: ffmpeg cannot decode it.
    """
    uncropped = read_format(path)
    if not uncropped.container_crop:
        return uncropped
    from rungwise.media.ffmpeg import probe

    cropped = probe(path)
    return replace(uncropped, width=cropped.width, height=cropped.height)


def raw_format(pix_fmt: str, width: int, height: int) -> PictureFormat:
    """The format of untagged video in ffmpeg's pixel format `pix_fmt`.

    Raises:
        ValueError: ffmpeg has no such pixel format.
    """
    pixel_format = VideoFormat(pix_fmt)
    return PictureFormat(
        width=width,
        height=height,
        sample_aspect=None,
        bit_depth=max(component.bits for component in pixel_format.components),
        full_range=pix_fmt.startswith("yuvj"),
        is_rgb=pixel_format.is_rgb,
        matrix=2,
        hdr="",
        interlaced=False,
        fps=None,
    )


def check_pair(distorted: PictureFormat, reference: PictureFormat) -> None:
    """Reject an encode that cannot be aligned with its reference; `reference` is the format after cropping.

    Raises:
        ValueError: the aspect ratios differ, only one is HDR, or the color matrices cannot be converted.
    """
    if not _same_aspect(distorted, reference):
        raise ValueError(
            f"its size {distorted} is not a scaled {reference} of the reference: the aspect ratio is "
            f"{_display_aspect(distorted):.3f}, not {_display_aspect(reference):.3f}, so the pictures do not align; "
            f"{_remedy(distorted, reference)}"
        )
    if distorted.hdr != reference.hdr:
        raise ValueError(
            f"it is tagged {distorted.hdr or 'SDR'} and the reference {reference.hdr or 'SDR'}: compare it with a "
            "reference of the same transfer function"
        )
    names = [_matrix_name(video) for video in (distorted, reference)]
    are_tagged = all(names) or not {distorted.matrix, reference.matrix} <= CONVERTIBLE
    if are_tagged and names[0] != names[1] and not set(names) <= set(CONVERTIBLE_MATRICES.values()):
        tags = [name or "unspecified" for name in names]
        raise ValueError(
            f"its color matrix is tagged {tags[0]} and the reference's {tags[1]}: first convert the reference to the "
            "encode's color space"
        )


def shared_matrix(distorted: PictureFormat, reference: PictureFormat) -> str:
    """swscale's name of the color matrix for both: the reference's, else the encode's; "" if neither is tagged."""
    names = [_matrix_name(video) for video in (reference, distorted)]
    return next((name for name in names if name in CONVERTIBLE_MATRICES.values()), "")


def filters(video: PictureFormat, size: tuple[int, int], pix_fmt: str, matrix: str, crop: Crop | None = None) -> str:
    """ffmpeg's filters that convert `video` for the comparison; timestamps become frame indices.

    Frames are deinterlaced, cropped, scaled to `size` (width, height), and converted to limited range, to the color
    `matrix` of `shared_matrix`, and to `pix_fmt`, yuv420p or yuv420p10le. An untagged video is assumed to have the
    shared matrix.
    """
    scale = f"scale={size[0]}:{size[1]}:{SCALER}"
    if video.is_rgb:
        scale += ":out_range=limited"
    elif video.full_range:  # can be tagged in the container only, so it is passed explicitly
        scale += ":in_range=full:out_range=limited"
    own_matrix = _matrix_name(video)
    if video.is_rgb and matrix:
        scale += f":out_color_matrix={matrix}"
    elif own_matrix and matrix and own_matrix != matrix:
        # swscale converts through RGB with the bit depth of its output; 8 bits would add rounding noise.
        scale += f":in_color_matrix={own_matrix}:out_color_matrix={matrix},format=yuv420p10le,scale={SCALER}"
    chain = [DEINTERLACER, "settb=1/25", "setpts=N", *([f"crop={crop}"] if crop else []), scale, f"format={pix_fmt}"]
    return ",".join(chain)


def _matrix_name(video: PictureFormat) -> str:
    """Name of the tagged matrix, swscale's if it converts it; "" if untagged."""
    if video.is_rgb or video.matrix in UNSPECIFIED_MATRICES:
        return ""
    name = CONVERTIBLE_MATRICES.get(video.matrix) or COLOR_SPACES.get(video.matrix)
    return name or f"H.273 matrix {video.matrix}"


def _same_aspect(distorted: PictureFormat, reference: PictureFormat) -> bool:
    """Whether the encode shows the same picture as the reference, up to scaling."""
    ratio = (distorted.sample_aspect or Fraction(1)) / (reference.sample_aspect or Fraction(1))
    if _is_scaled(distorted, reference, ratio):
        return True
    unspecified = distorted.sample_aspect is None or reference.sample_aspect is None
    return (unspecified or abs(ratio - 1) < SAMPLE_ASPECT_TOLERANCE) and _is_scaled(distorted, reference, Fraction(1))


def _is_scaled(distorted: PictureFormat, reference: PictureFormat, sample_aspect_ratio: Fraction) -> bool:
    """Whether the encode's size is the reference's, scaled and rounded to even.

    `sample_aspect_ratio` is the sample aspect of the encode over that of the reference.
    """
    aspect = Fraction(reference.width, reference.height) / sample_aspect_ratio
    columns, rows = distorted.width - distorted.height * aspect, distorted.height - distorted.width / aspect
    return min(abs(columns), abs(rows)) < SIZE_TOLERANCE


def _display_aspect(video: PictureFormat) -> float:
    return float(video.width * (video.sample_aspect or 1) / video.height)


def _remedy(distorted: PictureFormat, reference: PictureFormat) -> str:
    """How to align an encode of another aspect ratio, including the crop if it can be a part of the reference."""
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
        f"if it shows a part of the reference, crop the reference (--crop {width}:{height}, or W:H:X:Y if off-center); "
        "if it is squeezed, set its sample aspect ratio"
    )
