"""Bitstream data of frames from an encoder's own statistics, for frames that come as y4m.

A CSV has the columns pts, bytes, qp and type (I or K for key frames), one row a frame in any order; qp is the QP of
H.264, HEVC and VVC and the quantizer index (0 to 255) of VP9 and AV1. Logs of encoders are read by name:

    x264    the statistics file of --pass 1 or 3
    x265    --csv with --csv-log-level 1
    svtav1  --stat-file of SvtAv1EncApp, or ffmpeg's -vstats_file; the former does not mark key frames after the first

A log has the mean QP of a frame's blocks; models are trained on per-block QP or, where a reader has none, on that of
the frame header. Scores from logs thus differ from the bitstream's by a point or two.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rungwise.bitstream.coded_frames import CodedFrame
from rungwise.bitstream.qp import CODECS, av1_log2_qstep, log2_qstep_of_qp

INDEX_CODECS = ("vp9", "av1")  # their quantizer is an index
MAX_REPEAT_BYTES = 8  # of a packet that only shows an earlier frame, which has no quantizer
Row = tuple[int, CodedFrame]  # place in presentation order, frame
X264_LINE = re.compile(r"in:(\d+) .*?type:(\w) .*?aq:([\d.]+) tex:(\d+) mv:(\d+) misc:(\d+)")
SVT_LINE = re.compile(r"Picture Number:\s*(\d+).*?QP:\s*(\d+).*?(\d+) bytes")
VSTATS_LINE = re.compile(r"frame=\s*(\d+) q=\s*([\d.]+) f_size=\s*(\d+).*type= (\w)")


@dataclass(frozen=True)
class EncoderStats:
    """Bitstream data of every frame of a video, in presentation order."""

    codec: str
    frames: tuple[CodedFrame, ...]


def coded_frame(codec: str, num_bytes: int, qp: float, *, is_intra: bool) -> CodedFrame:
    """A frame's data from its coded bytes and its QP (VP9 and AV1: quantizer index, 0 to 255)."""
    log2_qstep = av1_log2_qstep(qp) if codec in INDEX_CODECS else log2_qstep_of_qp(qp)
    if codec in INDEX_CODECS and num_bytes <= MAX_REPEAT_BYTES:
        log2_qstep = math.nan
    return CodedFrame(num_bytes, is_intra, log2_qstep, is_settled=True)


def read_encoder_stats(source: str) -> EncoderStats:
    """Read NAME:FILE, where NAME is a codec (for a CSV) or an encoder.

    Raises:
        ValueError: an unknown name, no such file, or a file without statistics.
    """
    name, _, file = source.partition(":")
    if name not in READERS or not file:
        raise ValueError(f"--bitstream-stats {source}: give NAME:FILE, with NAME one of {', '.join(READERS)}")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    codec, read = READERS[name]
    try:
        rows = sorted(
            read(path.read_text(encoding="utf-8", errors="replace").splitlines(), codec), key=lambda row: row[0]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not statistics of {name} ({error})") from error
    if not rows:
        raise ValueError(f"{path}: has no statistics of {name}")
    return EncoderStats(codec, tuple(frame for _, frame in rows))


def _csv_rows(lines: Sequence[str], codec: str) -> Iterator[Row]:
    for row in csv.DictReader(lines):
        is_intra = row["type"].strip().upper()[:1] in ("I", "K")
        yield int(row["pts"]), coded_frame(codec, int(row["bytes"]), float(row["qp"]), is_intra=is_intra)


def _x264_rows(lines: Sequence[str], codec: str) -> Iterator[Row]:
    for match in filter(None, map(X264_LINE.match, lines)):
        bits = sum(int(match[group]) for group in (4, 5, 6))
        yield int(match[1]), coded_frame(codec, bits // 8, float(match[3]), is_intra=match[2] == "I")


def _x265_rows(lines: Sequence[str], codec: str) -> Iterator[Row]:
    for row in csv.DictReader(lines, skipinitialspace=True):
        values = {str(key).strip(): value for key, value in row.items()}
        if not (values["POC"] or "").strip().isdigit():  # the summary after the frames
            return
        is_intra = values["Type"].startswith(("I-", "i-"))
        yield int(values["POC"]), coded_frame(codec, int(values["Bits"]) // 8, float(values["QP"]), is_intra=is_intra)


def _svtav1_rows(lines: Sequence[str], codec: str) -> Iterator[Row]:
    for line in lines:
        if match := VSTATS_LINE.search(line):  # temporal units come in presentation order
            number, qp, size, is_intra = int(match[1]), float(match[2]), int(match[3]), match[4] == "I"
        elif match := SVT_LINE.search(line):
            number, qp, size, is_intra = int(match[1]), float(match[2]), int(match[3]), int(match[1]) == 0
        else:
            continue
        yield number, coded_frame(codec, size, _svt_index(qp), is_intra=is_intra)


def _svt_index(qp: float) -> float:
    """Quantizer index of SVT-AV1's QP, 0 to 63."""
    return 4 * qp if qp < 62 else 249 + 6 * (qp - 62)


READERS: dict[str, tuple[str, Callable[[Sequence[str], str], Iterator[Row]]]] = {
    **{codec: (codec, _csv_rows) for codec in CODECS},
    "x264": ("h264", _x264_rows),
    "x265": ("hevc", _x265_rows),
    "svtav1": ("av1", _svtav1_rows),
}
