"""Encodes and references are converted to one format, or rejected if they cannot be aligned."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from rungwise.config import Ladder
from rungwise.ladder.encode import CODECS, EncodeSpec, encode
from rungwise.ladder.label import label
from rungwise.ladder.make import make_ladder, read_failures, read_ladder
from rungwise.ladder.pairing import Crop, PictureFormat, check_pair, filters, raw_format, read_format, shared_matrix
from rungwise.ladder.sources import Master
from rungwise.media.ffmpeg import run_ffmpeg

VMAF = "vmaf_v0.6.1"
BT709 = "setparams=range=limited:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
TO_FULL = "scale=in_range=limited:out_range=full,format={},setparams=range=full"
X264 = ["-c:v", "libx264", "-threads", "1", "-crf", "30", "-preset", "veryfast"]
FFV1 = ["-c:v", "ffv1"]
FULL = ["-color_range", "pc"]

Convert = Callable[..., Path]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Runs ffmpeg with (source, filters, output arguments) and returns a new file."""
    folder = tmp_path_factory.mktemp("pairs")

    def converted(
        source: Path, chain: str, output: list[str], suffix: str = ".mkv", first: tuple[str, ...] = ()
    ) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}{suffix}"
        run_ffmpeg([*first, "-i", str(source), *(["-vf", chain] if chain else []), *output, str(path)])
        return path

    return converted


@pytest.fixture(scope="module")
def reference(master: Path, convert: Convert) -> Path:
    """The master, tagged BT.709 and limited range."""
    return convert(master, BT709, FFV1)


@pytest.fixture(scope="module")
def coded(reference: Path, convert: Convert) -> Path:
    """A limited-range encode of the reference."""
    return convert(reference, "format=yuv420p", X264, ".mp4")


def vmaf(reference: Path, distorted: Path, crop: Crop | None = None) -> float:
    return label(reference, distorted, models=[VMAF], crop=crop).metrics[VMAF].mean


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p"])
def test_full_range_reference(pix_fmt: str, reference: Path, coded: Path, convert: Convert) -> None:
    full = convert(reference, TO_FULL.format(pix_fmt), [*FFV1, *FULL])
    assert read_format(full).full_range
    assert vmaf(full, coded) == pytest.approx(vmaf(reference, coded), abs=0.3)


def test_full_range_motion_jpeg_reference(reference: Path, coded: Path, convert: Convert) -> None:
    to_601 = TO_FULL.format("yuvj420p").replace("scale=", "scale=out_color_matrix=bt601:")  # as in JFIF
    jpeg = convert(reference, to_601, ["-c:v", "mjpeg", "-q:v", "1"], ".mov")
    assert vmaf(jpeg, coded) == pytest.approx(vmaf(reference, coded), abs=1)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_full_range_encode(pix_fmt: str, reference: Path, convert: Convert) -> None:
    full = convert(reference, TO_FULL.format("yuv420p"), [*FFV1, *FULL])
    coded = convert(reference, TO_FULL.format(pix_fmt), [*X264, *FULL], ".mp4")
    limited = convert(coded, f"scale=out_range=limited,format={pix_fmt}", FFV1)
    assert read_format(coded).full_range
    assert vmaf(reference, coded) == pytest.approx(vmaf(reference, limited), abs=0.6)
    assert vmaf(full, coded) == pytest.approx(vmaf(reference, coded), abs=0.3)


@pytest.fixture(scope="module", params=["tff", "bff"])
def interlaced(request: pytest.FixtureRequest, master: Path, convert: Convert) -> tuple[str, Path, Path]:
    """A field order, an interlaced master with it (half the frame rate), and the deinterlaced master."""
    weave = {"tff": "interleave_top", "bff": "interleave_bottom"}[request.param]
    flagged = convert(master, f"tinterlace={weave},setfield={request.param}", FFV1)
    assert read_format(flagged).interlaced
    return request.param, flagged, convert(flagged, "bwdif=mode=send_frame", FFV1)


def test_interlaced_reference(interlaced: tuple[str, Path, Path], convert: Convert) -> None:
    order, flagged, progressive = interlaced
    coded = convert(progressive, "format=yuv420p", X264, ".mp4")
    assert vmaf(flagged, coded) == vmaf(progressive, coded)
    fields = ["-flags", "+ilme+ildct", "-x264-params", f"{order}=1"]
    interlaced_encode = convert(flagged, "format=yuv420p", [*X264, *fields], ".mp4")
    deinterlaced = convert(interlaced_encode, "bwdif=mode=send_frame", FFV1)
    assert vmaf(flagged, interlaced_encode) == vmaf(progressive, deinterlaced)


def test_field_rate_encode_raises_with_both_counts(interlaced: tuple[str, Path, Path], convert: Convert) -> None:
    _, flagged, _ = interlaced
    coded = convert(flagged, "bwdif=mode=send_field,format=yuv420p", X264, ".mp4")
    with pytest.raises(ValueError, match=r"12 frames .* 6; .*per field"):
        vmaf(flagged, coded)


def test_only_flagged_frames_are_deinterlaced(
    interlaced: tuple[str, Path, Path], master: Path, convert: Convert, tmp_path: Path
) -> None:
    order, flagged, progressive = interlaced
    pieces = [convert(master, f"select=lt(n\\,6),{BT709},setfield=prog", FFV1)]
    pieces += [convert(path, f"{BT709},setpts=PTS,setfield={flag}", FFV1) for path, flag in ((flagged, order),)]
    control = [pieces[0], convert(progressive, BT709, FFV1)]
    files = []
    for name, parts in (("mixed", pieces), ("control", control)):
        listing = tmp_path / f"{name}.txt"
        listing.write_text("".join(f"file '{part}'\n" for part in parts))
        files.append(tmp_path / f"{name}.mkv")
        run_ffmpeg(["-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy", str(files[-1])])
    coded = convert(files[1], "format=yuv420p", X264, ".mp4")
    mixed, control_score = (label(path, coded, models=[VMAF]) for path in files)
    assert mixed.num_frames == 12
    assert mixed == control_score


def test_color_matrices_are_converted(reference: Path, convert: Convert) -> None:
    vivid = convert(reference, "hue=s=3", FFV1)  # saturated colors, for which luma depends on the matrix
    coded = convert(vivid, "format=yuv420p", X264, ".mp4")
    to_601 = "format=yuv444p10le,scale=in_color_matrix=bt709:out_color_matrix=bt601,setparams=colorspace=smpte170m"
    other = convert(vivid, to_601, FFV1)
    wrongly_tagged = convert(other, "setparams=colorspace=bt709", FFV1)
    same, converted, mistagged = (
        label(path, coded, models=[VMAF]).metrics["psnr"].mean for path in (vivid, other, wrongly_tagged)
    )
    assert converted == pytest.approx(same, abs=0.3)
    assert mistagged < same - 0.6


def test_rgb_reference_uses_the_matrix_of_the_encode(reference: Path, coded: Path, convert: Convert) -> None:
    rgb = convert(reference, "scale=in_color_matrix=bt709:flags=accurate_rnd+full_chroma_int,format=gbrp", FFV1)
    assert vmaf(rgb, coded) == pytest.approx(vmaf(reference, coded), abs=1)


def test_matrix_of_vp8_is_ignored(reference: Path, convert: Convert) -> None:
    vp8 = convert(reference, "format=yuv420p", ["-c:v", "libvpx", "-b:v", "1M", "-threads", "1"], ".webm")
    assert shared_matrix(read_format(vp8), read_format(reference)) == "bt709"
    assert "color_matrix" not in filters(read_format(vp8), (192, 108), "yuv420p", "bt709")


SDR = replace(raw_format("yuv420p", 1920, 1080), matrix=1)


def shape(width: int, height: int, sample_aspect: Fraction | None = None) -> PictureFormat:
    return replace(SDR, width=width, height=height, sample_aspect=sample_aspect)


SQUARE = Fraction(1)


@pytest.mark.parametrize(
    ("distorted", "reference"),
    [
        *((shape(w, h), SDR) for w, h in ((1280, 720), (854, 480), (852, 480), (640, 360), (426, 240), (424, 240))),
        *((shape(w, h), SDR) for w, h in ((256, 144), (416, 234), (400, 224), (3840, 2160), (96, 54))),
        (shape(1440, 1080, Fraction(4, 3)), SDR),
        (SDR, shape(1440, 1080, Fraction(4, 3))),
        (shape(848, 480, Fraction(160, 159)), SDR),
        (shape(1024, 576, SQUARE), shape(720, 576, Fraction(64, 45))),
        (shape(720, 576, Fraction(16, 11)), shape(720, 576, Fraction(64, 45))),
        (shape(720, 576), shape(720, 576, Fraction(64, 45))),  # the sample aspect ratio of the encode is unspecified
        (shape(1080, 1920), shape(2160, 3840)),
        (shape(320, 180), shape(319, 179)),
        (shape(640, 268), shape(1920, 804)),
    ],
)
def test_scaled_sizes_are_accepted(distorted: PictureFormat, reference: PictureFormat) -> None:
    check_pair(distorted, reference)


@pytest.mark.parametrize(
    ("distorted", "reference", "sizes"),
    [
        (shape(1920, 1082), SDR, r"1920x1082 .*1920x1080"),
        (shape(1920, 1088), SDR, r"1920x1088 .*1920x1080"),
        (SDR, shape(1920, 1088), r"1920x1080 .*1920x1088"),
        (shape(640, 362), shape(640, 360), r"640x362 .*640x360"),
        (shape(1082, 1920), shape(1080, 1920), r"1082x1920 .*1080x1920"),
        (shape(1936, 1080), SDR, r"1936x1080 .*1920x1080"),
        (shape(1280, 544), SDR, r"1280x544 .*1920x1080.*--crop 1920:816"),
        (shape(1080, 1920), SDR, r"1080x1920 .*1920x1080"),
        (shape(1440, 1080), SDR, r"1440x1080 .*1920x1080.*--crop 1440:1080"),
        (shape(720, 576, SQUARE), shape(720, 576, Fraction(64, 45)), r"720x576 .*720x576 .*64/45"),
    ],
)
def test_other_aspect_ratios_raise_with_both_sizes(
    distorted: PictureFormat, reference: PictureFormat, sizes: str
) -> None:
    with pytest.raises(ValueError, match=sizes):
        check_pair(distorted, reference)


def test_other_transfer_or_gamut_raises() -> None:
    pq, hlg = replace(SDR, hdr="PQ"), replace(SDR, hdr="HLG")
    check_pair(pq, pq)
    for distorted, reference in ((SDR, pq), (pq, SDR), (hlg, pq)):
        with pytest.raises(ValueError, match="PQ"):
            check_pair(distorted, reference)
    wide = replace(SDR, matrix=9)
    check_pair(wide, replace(SDR, matrix=2))
    with pytest.raises(ValueError, match=r"bt709 .*bt2020nc"):
        check_pair(SDR, wide)


def test_rotation_is_applied(reference: Path, coded: Path, convert: Convert) -> None:
    unrotated = convert(reference, "transpose=clock,format=yuv420p", X264, ".mp4")
    rotated = convert(unrotated, "", ["-c", "copy"], ".mp4", ("-display_rotation", "90"))
    assert (read_format(rotated).width, read_format(rotated).height) == (192, 108)
    assert vmaf(reference, rotated) == pytest.approx(vmaf(reference, coded), abs=5)
    with pytest.raises(ValueError, match=r"108x192 .*192x108"):
        vmaf(reference, unrotated)


@pytest.mark.parametrize("text", ["192:72", "192:72:0:18", "crop=192:72:0:18"])
def test_crop_of_the_reference(text: str, reference: Path, convert: Convert) -> None:
    boxed = convert(reference, "crop=192:72,pad=192:108:0:18", FFV1)
    cropped = convert(reference, "crop=192:72", FFV1)
    coded = convert(cropped, "format=yuv420p", X264, ".mp4")
    with pytest.raises(ValueError, match="--crop 192:72"):
        vmaf(boxed, coded)
    assert label(boxed, coded, models=[VMAF], crop=Crop.parse(text)) == label(cropped, coded, models=[VMAF])


@pytest.mark.parametrize("text", ["", "192", "192x72", "192:72:0", "191:72", "192:0", "-192:72", "192:72:0:18:0"])
def test_invalid_crops_raise(text: str) -> None:
    with pytest.raises(ValueError, match=r"W:H|even"):
        Crop.parse(text)


def test_crop_that_exceeds_the_picture_raises(reference: Path, coded: Path) -> None:
    for text in ("194:108", "192:72:0:38"):
        with pytest.raises(ValueError, match=r"exceeds .*192x108"):
            vmaf(reference, coded, Crop.parse(text))


def test_usual_videos_are_only_scaled(reference: Path, coded: Path) -> None:
    chains = [filters(read_format(path), (192, 108), "yuv420p", "bt709") for path in (reference, coded)]
    assert chains[0] == chains[1]
    assert "range" not in chains[0]
    assert "matrix" not in chains[0]
    assert "crop" not in chains[0]


RUNGS = {"codec": "h264", "preset": "ultrafast", "scales": [1.0, 0.5], "crf": [20]}
LADDER = Ladder.model_validate({"label": VMAF, "extra_labels": [], "rungs": [RUNGS]})


def test_ladder_of_an_interlaced_master(interlaced: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, flagged, progressive = interlaced
    masters = [Master(name, name, path, name) for name, path in (("woven", flagged), ("plain", progressive))]
    artifact = make_ladder(LADDER, masters, tmp_path)
    assert read_failures(artifact) == {}
    scores = read_ladder(artifact).set_index("clip")["score"]
    for height in (108, 54):
        assert scores[f"woven-h264-{height}p-crf20-ultrafast"] == scores[f"plain-h264-{height}p-crf20-ultrafast"]
    # Only the key of a converted master includes the pairing version.
    assert "pairing" in artifact.key.inputs["woven"]
    assert artifact.key.inputs["plain"] == "plain"


def test_encodes_of_an_anamorphic_master_are_accepted(reference: Path, convert: Convert, tmp_path: Path) -> None:
    anamorphic = read_format(convert(reference, "setsar=64/45", FFV1))
    source = convert(reference, "scale=190:106,setsar=64/45", FFV1)
    for codec in ("h264", "vp8", "mpeg4"):
        path = tmp_path / f"rung{CODECS[codec].suffix}"
        encode(source, path, EncodeSpec(codec, 50, crf=20))
        check_pair(read_format(path), read_format(source))
    assert anamorphic.sample_aspect == Fraction(64, 45)


def test_displayed_stream_is_compared(reference: Path, coded: Path, tmp_path: Path) -> None:
    path = tmp_path / "cover.mkv"
    cover = ["-f", "lavfi", "-i", "color=c=red:s=64x64:r=1:d=1"]
    coding = ["-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p", "-c:v:1", "copy"]
    run_ffmpeg([*cover, "-i", str(coded), "-map", "0:v", "-map", "1:v", *coding, str(path)])
    assert label(reference, path, models=[VMAF]) == label(reference, coded, models=[VMAF])


def test_container_crop(
    reference: Path, coded: Path, convert: Convert, with_box: Callable[..., Path], tmp_path: Path
) -> None:
    """Scoring ignores a container crop, encoders apply it. The box `clap` (ISO/IEC 14496-12) asks for 160x90."""
    box = struct.pack(">I4s8I", 40, b"clap", 160, 1, 90, 1, 0, 1, 0, 1)
    path = with_box(coded, tmp_path / "clap.mp4", box)
    assert read_format(path).container_crop
    assert label(reference, path, models=[VMAF]) == label(reference, coded, models=[VMAF])
    cropped_encode = convert(path, "format=yuv420p", X264, ".mp4")
    assert read_format(cropped_encode).width == 160
    labels = label(path, cropped_encode, models=[VMAF])
    assert labels.display_height == 90
    assert labels.metrics["psnr"].mean > 30


def test_full_range_tagged_in_the_container_only(reference: Path, convert: Convert) -> None:
    full = convert(reference, TO_FULL.format("yuv420p"), [*FFV1, *FULL])
    no_tags = "setparams=range=limited:colorspace=unknown:color_primaries=unknown:color_trc=unknown,format=yuv420p"
    untagged = convert(full, no_tags, ["-c:v", "libx264", "-threads", "1", "-qp", "0"], ".mp4")
    container_tagged = convert(untagged, "", ["-c", "copy", *FULL])
    assert (read_format(untagged).full_range, read_format(container_tagged).full_range) == (False, True)
    assert vmaf(reference, container_tagged) == vmaf(reference, full)
