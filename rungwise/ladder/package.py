"""Package renditions of one master for players: segments of fragmented MP4, and an HLS and a DASH manifest of them.

ffmpeg cuts segments at key frames, which all renditions have at the same times, and writes both manifests. They are
completed: names, peak bitrates, and no clock time.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import m3u8

from rungwise.ladder.encode import GOP_SECONDS
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.video import probe

HLS, DASH = "master.m3u8", "manifest.mpd"
PACKAGED_CODECS = ("h264", "hevc", "av1", "vp9")  # that players take in fragmented MP4
MPD_NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        ValueError: `folder` is a file, or not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder}: not an empty folder; renditions are written to a new one")


def package(videos: Mapping[str, Path], codecs: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Write `folder`, at once, with renditions, HLS and DASH.

    Args:
        videos: encodes of one master by the name of their rendition, those of a codec together.
        codecs: of each.
        folder: new, or empty.

    Returns:
        The HLS and the DASH manifest.

    Raises:
        ValueError: a codec is not one of PACKAGED_CODECS, or `folder` is not empty.
        FfmpegError: ffmpeg fails.
    """
    check_folder(folder)
    check_codecs(codecs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    infos = [probe(path) for path in videos.values()]
    fps, tallest = infos[0].fps, max(infos, key=lambda info: info.height)
    aspect = tallest.width * Fraction(tallest.sample_aspect_ratio).limit_denominator(1000) / tallest.height
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        partial = Path(scratch) / folder.name
        partial.mkdir(mode=0o755)
        for number in range(len(videos)):
            (partial / str(number)).mkdir()
        run_ffmpeg(_arguments(videos, codecs, max(1, round(GOP_SECONDS * fps)) / fps, aspect), cwd=partial)
        _rename(partial, list(videos))
        _complete_hls(partial, fps)
        _complete_dash(partial / DASH, list(videos))
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    return folder / HLS, folder / DASH


def check_codecs(codecs: Sequence[str]) -> None:
    """Raise ValueError for a codec that players don't take in fragmented MP4."""
    for codec in codecs:
        if codec not in PACKAGED_CODECS:
            raise ValueError(f"{codec} can't be packaged for players; {', '.join(PACKAGED_CODECS)} can")


def _arguments(
    videos: Mapping[str, Path], codecs: Sequence[str], segment_seconds: float, aspect: Fraction
) -> list[str]:
    """ffmpeg's, with one adaptation set a codec.

    All renditions are shown at `aspect`: widths are rounded to even ones, and DASH wants one aspect ratio a set.
    """
    inputs = [argument for path in videos.values() for argument in ("-i", str(path.absolute()))]
    maps = [argument for i in range(len(videos)) for argument in ("-map", f"{i}:v:0")]
    # The codec's string in the manifests is read from parameter sets, which this filter makes readable.
    hevc = [i for i, codec in enumerate(codecs) if codec == "hevc"]
    tags = [word for i in hevc for word in (f"-tag:v:{i}", "hvc1", f"-bsf:v:{i}", "hevc_mp4toannexb")]
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(codecs), key=lambda pair: pair[1])]
    sets = [f"id={number},streams={','.join(map(str, group))}" for number, group in enumerate(groups)]
    # Rounded down to a microsecond: a key frame a little too early would end up inside a segment.
    seconds = f"{int(segment_seconds * 1e6) / 1e6:.6f}"
    return [
        "-y", *inputs, *maps, "-c", "copy", "-aspect", f"{aspect.numerator}:{aspect.denominator}", *tags,
        "-map_metadata", "-1", "-bitexact",
        "-f", "dash", "-dash_segment_type", "mp4", "-seg_duration", seconds,
        "-init_seg_name", "$RepresentationID$/init.mp4", "-media_seg_name", "$RepresentationID$/$Number%05d$.m4s",
        "-adaptation_sets", " ".join(sets), "-hls_playlist", "1", "-hls_master_name", HLS, DASH,
    ]  # fmt: skip


def _rename(folder: Path, names: Sequence[str]) -> None:
    """Renditions and their playlists by name; ffmpeg numbers them."""
    multivariant = (folder / HLS).read_text(encoding="utf-8")
    (folder / HLS).write_text(
        re.sub(r"^media_(\d+)(?=\.m3u8$)", lambda match: names[int(match[1])], multivariant, flags=re.MULTILINE),
        encoding="utf-8",
    )
    for number, name in enumerate(names):
        (folder / str(number)).rename(folder / name)
        playlist = folder / f"media_{number}.m3u8"
        text = re.sub(rf'(^|"){number}/', rf"\g<1>{name}/", playlist.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (folder / f"{name}.m3u8").write_text(text, encoding="utf-8")
        playlist.unlink()


def _complete_hls(folder: Path, fps: float) -> None:
    """Peak and average bitrates and the frame rate in the multivariant playlist; no dates in the others."""
    multivariant = m3u8.loads((folder / HLS).read_text(encoding="utf-8"))
    multivariant.is_independent_segments = True
    for variant in multivariant.playlists:
        path = folder / variant.uri
        playlist = m3u8.loads(path.read_text(encoding="utf-8"))
        sizes = [(folder / segment.uri).stat().st_size * 8 for segment in playlist.segments]
        seconds = [float(segment.duration) for segment in playlist.segments]
        peak = max(bits / length for bits, length in zip(sizes, seconds, strict=True))
        variant.stream_info.bandwidth = round(peak)
        variant.stream_info.average_bandwidth = round(sum(sizes) / sum(seconds))
        variant.stream_info.frame_rate = round(fps, 3)
        for segment in playlist.segments:
            segment.program_date_time = None
        playlist.playlist_type = "VOD"
        path.write_text(playlist.dumps(), encoding="utf-8")
    (folder / HLS).write_text(multivariant.dumps(), encoding="utf-8")


def _complete_dash(path: Path, names: Sequence[str]) -> None:
    """Renditions by name; no promise that one's header will do for another, and no unknown language.

    The base URL is for ffmpeg alone, which would not find the segments of a manifest given as FOLDER/manifest.mpd.
    """
    ElementTree.register_namespace("", MPD_NAMESPACE)
    manifest = ElementTree.parse(path)
    for group in manifest.iter(f"{{{MPD_NAMESPACE}}}AdaptationSet"):
        group.attrib.pop("bitstreamSwitching", None)
        group.attrib.pop("lang", None)
    for rendition in manifest.iter(f"{{{MPD_NAMESPACE}}}Representation"):
        rendition.set("id", names[int(rendition.attrib["id"])])
    base = ElementTree.Element(f"{{{MPD_NAMESPACE}}}BaseURL")
    base.text, base.tail = "./", "\n\t"
    manifest.getroot().insert(1, base)  # the schema has it after ProgramInformation
    manifest.write(path, encoding="utf-8", xml_declaration=True)
