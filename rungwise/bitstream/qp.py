"""Quantizer step size (qstep) of each coded frame, from its QP or quantizer index.

libav's `trace_headers` bitstream filter prints the header fields of H.264, HEVC, VVC, VP9, AV1, VP8 and MPEG-2 without
decoding. All are converted to log2 of the qstep in 8-bit code values:

    H.264, HEVC, VVC  QP; the qstep doubles every 6 QP (H.264 8.5.8, HEVC 8.6.3)
    VP9, AV1          base_q_idx, AC table in units of 1/8 (AV1 7.12.2)
    VP8               q index, table in units of 1/2 (RFC 6386 14.1)
    MPEG-2            quantiser_scale_code of the slices (7.4.2.2), with the flat non-intra matrix
    Theora            q index in the first packet byte (Theora 7.1)
    Motion JPEG       first quantization table (ITU-T T.81 B.2.4.1)

Within a frame, encoders vary the QP per block with spatial activity and with how long a block is referenced: blocks of
a still scene's key frame may be 6 QP finer than its header states. For H.264, MPEG-1, 2 and 4 and related codecs, libav
exports per-block QP. I and P frames of these are decoded for it, without the loop filter. B frames are not: they are
rarely referenced, so their blocks hardly differ from the header.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import av
import av.logging
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.sidedata.encparams import VideoEncParamsType
from numpy.typing import NDArray

from rungwise.bitstream.coded_size import CodedSize, SizeReader, frame_pixels, jpeg_size

Number = TypeVar("Number", float, NDArray[np.float64])
CODECS = ("h264", "hevc", "vvc", "vp9", "av1")  # codecs in the one-hot input of a model, in this order
OTHER_HEADER_CODECS = ("vp8", "mpeg2video")  # further codecs whose headers are read
BLOCK_QP_CODECS = (  # codecs whose decoders export per-block QP
    "h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3"
)  # fmt: skip
BLOCK_QP_OPTIONS = {"export_side_data": "venc_params", "skip_frame": "bidir", "skip_loop_filter": "all"}
TRACE_FIELD = re.compile(r"\d+ +(\w+)(?:\[\d+\])* +[01]* = (-?\d+)")
INIT_QP_FIELDS = {"pic_init_qp_minus26", "init_qp_minus26", "pps_init_qp_minus26"}
QP_DELTA_FIELDS = {"slice_qp_delta", "sh_qp_delta", "ph_qp_delta"}
# AV1's AC table in units of 1/8 is index + 7 up to 95; above, log2 is interpolated between these knots (error < 0.05).
AV1_INDICES = (95, 120, 150, 180, 210, 235, 255)
AV1_QSTEPS = (102, 152, 255, 440, 771, 1243, 1828)
VP8_INDICES = (0, 54, 83, 102, 117, 127)  # knots of VP8's table in units of 1/2, log2 error < 0.01
VP8_QSTEPS = (4, 58, 116, 173, 234, 284)
THEORA_INDICES = (0, 2, 5, 10, 17, 30, 36, 44, 53, 57, 60, 63)  # knots of libtheora's AC scale, log2 error < 0.1
THEORA_SCALES = (500, 400, 310, 210, 145, 75, 57, 40, 25, 19, 15, 10)  # in percent of the matrix
THEORA_MATRIX = 20  # near the smallest entries of the base matrix: the low frequencies
# MPEG-2's non-linear quantiser_scale (table 7-6) is linear between these codes.
NONLINEAR_CODES, NONLINEAR_SCALES = (0, 8, 16, 24, 31), (0, 8, 24, 56, 112)

_lock = threading.Lock()  # libav has one log, with one level, per process


def av1_log2_qstep(index: float) -> float:
    """log2 of the qstep of a VP9 or AV1 quantizer index, 0 to 255."""
    if index <= AV1_INDICES[0]:
        return math.log2(index + 7) - 3
    return float(np.interp(index, AV1_INDICES, np.log2(AV1_QSTEPS))) - 3


def vp8_log2_qstep(index: float) -> float:
    """log2 of the qstep of a VP8 quantizer index, 0 to 127."""
    return math.log2(float(np.interp(index, VP8_INDICES, VP8_QSTEPS))) - 1


def mpeg2_log2_qstep(code: int, *, linear: bool) -> float:
    """log2 of the qstep of an MPEG-2 quantiser_scale_code, 1 to 31, on the linear or non-linear scale (table 7-6)."""
    return math.log2(2 * code if linear else float(np.interp(code, NONLINEAR_CODES, NONLINEAR_SCALES)))


def theora_log2_qstep(data: bytes) -> float:
    """log2 of the qstep of a Theora frame, assuming libtheora's matrices; NaN for a packet that is not a frame."""
    if not data or data[0] & 0x80:
        return math.nan
    return float(np.interp(data[0] & 63, THEORA_INDICES, np.log2(THEORA_SCALES))) + math.log2(THEORA_MATRIX / 100)


def jpeg_log2_qstep(data: bytes) -> float:
    """log2 of the mean qstep of the nine lowest luma AC frequencies in a JPEG's first table; NaN if there is none."""
    start = data.find(b"\xff\xdb")
    lowest = data[start + 6 : start + 15]
    if start < 0 or len(lowest) < 9 or data[start + 4] or not all(lowest):  # not 8-bit, or not the luma table
        return math.nan
    return math.log2(sum(lowest) / len(lowest))


PACKET_QSTEPS: dict[str, Callable[[bytes], float]] = {"theora": theora_log2_qstep, "mjpeg": jpeg_log2_qstep}


def log2_qstep_of_qp(qp: Number) -> Number:
    """log2 of the qstep of an H.264, HEVC or VVC QP, at any bit depth."""
    return (qp - 4) / 6


class QstepReader:
    """Reads qstep and coded size from the packets of one stream, in coded order.

    Args:
        stream: the stream.
        decoder: the decoder used for per-block QP; None for the stream's own.
    """

    def __init__(self, stream: Any, decoder: Any = None) -> None:
        self.parameter_set = -1  # the one that the following fields belong to
        self.init_qps: dict[int, float] = {}
        self.linear = True  # MPEG-2's q_scale_type, from the last picture header
        self.num_packets = 0
        self.last_decoded = -1  # number of the packet whose frame was decoded last
        self.qsteps: dict[int, float] = {}  # packet number -> log2
        self.sizes: dict[int, CodedSize] = {}
        self.size_reader = SizeReader()
        self.filter: Any = None
        self.decoder: Any = None
        codec = stream.codec_context.codec.canonical_name
        self.is_jpeg = codec == "mjpeg"
        self.packet_qstep = PACKET_QSTEPS.get(codec)
        if codec in CODECS + OTHER_HEADER_CODECS:
            with _traced_fields() as fields, suppress(av.error.FFmpegError):  # extradata can't be parsed
                self.filter = BitStreamFilterContext("trace_headers", stream)
            self._read_qsteps(fields)
            self.size_reader.read_packet(fields)
        if codec in BLOCK_QP_CODECS:
            self.decoder = decoder or stream.codec_context
            self.decoder.options = self.decoder.options | BLOCK_QP_OPTIONS
            self.decoder.thread_type = "NONE"  # with frame threads, a frame may be exported before all of its blocks

    def add_packet(self, packet: Any) -> None:
        """Read the next packet, which is consumed: its data and timestamps are lost."""
        number = self.num_packets
        self.num_packets += 1
        self.qsteps[number] = math.nan if self.packet_qstep is None else self.packet_qstep(bytes(packet))
        self.sizes[number] = jpeg_size(bytes(packet)) if self.is_jpeg else CodedSize()
        if self.decoder is not None:
            packet.pts = packet.dts = number  # identifies the decoded frame
            self._decode(packet)
        if self.filter is not None:
            with _traced_fields() as fields, suppress(av.error.FFmpegError):  # decoding reports a damaged header
                self.filter.filter(packet)
            if self.decoder is None:
                self.sizes[number] = self.size_reader.read_packet(fields)
            qsteps = [qstep for qstep in self._read_qsteps(fields) if not math.isnan(qstep)]
            if qsteps and math.isnan(self.qsteps[number]):
                self.qsteps[number] = sum(qsteps) / len(qsteps)

    def log2_qsteps(self) -> list[float]:
        """log2 qstep of each packet: from per-block QP if exported, else the mean over its slice or frame headers.

        NaN for a packet without one, such as a packet that only shows an earlier frame.
        """
        if self.decoder is not None:
            self._decode(None)
        return list(self.qsteps.values())

    def pixels(self) -> NDArray[np.float64]:
        """(N, 2): coded pixels and decoded pixels of each packet."""
        return frame_pixels(list(self.sizes.values()))

    def _decode(self, packet: Any) -> None:
        with suppress(av.error.FFmpegError):  # the header may still be readable
            for frame in self.decoder.decode(packet):
                if frame.pts is None or frame.pts not in self.qsteps:
                    continue
                self.last_decoded = max(self.last_decoded, frame.pts)
                qstep = block_log2_qstep(frame)
                if not math.isnan(qstep):
                    self.qsteps[frame.pts] = qstep
                self.sizes[frame.pts] = CodedSize(frame.width, frame.height, frame.width)

    def _read_qsteps(self, fields: list[tuple[str, int]]) -> list[float]:
        qsteps = []
        for name, value in fields:
            if name.endswith("pic_parameter_set_id"):
                self.parameter_set = value
            elif name in INIT_QP_FIELDS:
                self.init_qps[self.parameter_set] = 26.0 + value
            elif name in QP_DELTA_FIELDS:
                qsteps.append(log2_qstep_of_qp(self.init_qps.get(self.parameter_set, math.nan) + value))
            elif name == "base_q_idx":
                qsteps.append(av1_log2_qstep(value))
            elif name == "base_qindex":
                qsteps.append(vp8_log2_qstep(value))
            elif name == "q_scale_type":
                self.linear = value == 0
            elif name == "quantiser_scale_code" and value:
                qsteps.append(mpeg2_log2_qstep(value, linear=self.linear))
        return qsteps


def block_log2_qstep(frame: Any) -> float:
    """log2 of the root mean square qstep over a decoded frame's blocks; NaN if the decoder exported no block QP.

    The root mean square is used because squared errors add up.
    """
    # Frame and side data reference each other until garbage collection: a small copy may wait, a large frame must not.
    small = frame.reformat(width=16, height=16, format="gray", interpolation="POINT")
    params = small.side_data.get("VIDEO_ENC_PARAMS")
    if params is None or not params.nb_blocks:
        return math.nan
    num_values = params.nb_blocks * params.block_size // 4
    blocks = np.frombuffer(params, np.int32, num_values, params.blocks_offset).reshape(params.nb_blocks, -1)
    qps = params.qp + blocks[:, 4].astype(np.float64)  # a block is x, y, width, height, delta_qp
    depth_offset = 6 * (frame.format.components[0].bits - 8)  # libav counts QP from the lowest of the bit depth
    squares = qps**2 if params.codec_type == VideoEncParamsType.MPEG2 else 4 ** log2_qstep_of_qp(qps - depth_offset)
    return float(np.log2(squares.mean()) / 2) if squares.any() else math.nan


@contextmanager
def _traced_fields() -> Iterator[list[tuple[str, int]]]:
    """A list that holds, once the context has ended, (name, value) of every header field traced in it."""
    fields: list[tuple[str, int]] = []
    with _lock:
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.INFO)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture(local=True) as lines:
                yield fields
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
    for _, source, text in lines:
        if source == "trace_headers":
            match = TRACE_FIELD.match(text)
            if match:
                fields.append((match[1], int(match[2])))
