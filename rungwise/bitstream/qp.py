"""How coarsely each coded frame was quantized: the knob that an encoder turns for quality.

libav's `trace_headers` bitstream filter prints every field of the headers of H.264, HEVC, VVC, VP9, AV1, VP8 and
MPEG-2, and nothing is decoded. Frames say a QP, a quantizer's index or its scale; all are put on one scale, log2 of
the step in code values of 8 bits: H.264, HEVC and VVC double the step every 6 QP (H.264 8.5.8, HEVC 8.6.3), VP9 and
AV1 look it up (AV1 7.12.2, for alternating current, in eighths), VP8 too (RFC 6386 14.1, in halves), and MPEG-2's is
its slices' scale (7.4.2.2, by the flat matrix of predicted blocks). Two codecs' first bytes are read here: Theora's
index (7.1) and Motion JPEG's table (ITU-T T.81 B.2.4.1).

Inside a frame an encoder moves the step from block to block, by texture and by how long a block is looked back at: a
still scene's key frame may be an octave finer than its header says. libav's decoders of H.264, MPEG-1, 2 and 4 and
their kin tell each block's. I and P frames are decoded for it, without their loop filter; in B frames, at which little
looks back, blocks hardly differ.
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
CODECS = ("h264", "hevc", "vvc", "vp9", "av1")  # those that a model tells from one another
OLDER = ("vp8", "mpeg2video")  # whose headers say it too
BLOCKS = (  # whose decoders tell it of every block
    "h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3"
)  # fmt: skip
DECODING = {"export_side_data": "venc_params", "skip_frame": "bidir", "skip_loop_filter": "all"}
FIELD = re.compile(r"\d+ +(\w+)(?:\[\d+\])* +[01]* = (-?\d+)")
START_FIELDS = {"pic_init_qp_minus26", "init_qp_minus26", "pps_init_qp_minus26"}
DELTA_FIELDS = {"slice_qp_delta", "sh_qp_delta", "ph_qp_delta"}
# The table of steps in eighths: index + 7 up to 95, then by these knots, within a twentieth of an octave between them.
INDICES = (95, 120, 150, 180, 210, 235, 255)
STEPS = (102, 152, 255, 440, 771, 1243, 1828)
VP8_INDICES = (0, 54, 83, 102, 117, 127)  # of VP8's table, within a hundredth of an octave between knots
VP8_STEPS = (4, 58, 116, 173, 234, 284)
THEORA_INDICES = (0, 2, 5, 10, 17, 30, 36, 44, 53, 57, 60, 63)  # of its usual scale, within a tenth of an octave
THEORA_SCALES = (500, 400, 310, 210, 145, 75, 57, 40, 25, 19, 15, 10)  # in hundredths of a matrix
THEORA_MATRIX = 20  # about its least steps, where pictures have most to lose
SCALE_CODES, SCALES = (0, 8, 16, 24, 31), (0, 8, 24, 56, 112)  # MPEG-2's other scale is straight between these

_lock = threading.Lock()  # libav has one log, with one level, a process


def av1_log2_qstep(index: float) -> float:
    """log2 of the step that a VP9 or AV1 quantizer index of 0 to 255 stands for."""
    return math.log2(index + 7) - 3 if index <= INDICES[0] else float(np.interp(index, INDICES, np.log2(STEPS))) - 3


def vp8_log2_qstep(index: float) -> float:
    """log2 of the step that a VP8 quantizer index of 0 to 127 stands for."""
    return math.log2(float(np.interp(index, VP8_INDICES, VP8_STEPS))) - 1


def mpeg2_log2_qstep(code: int, *, linear: bool) -> float:
    """log2 of the step of an MPEG-2 quantizer_scale_code of 1 to 31, by its linear or its other scale (table 7-6)."""
    return math.log2(2 * code if linear else float(np.interp(code, SCALE_CODES, SCALES)))


def theora_log2_qstep(data: bytes) -> float:
    """log2 of the step of a Theora frame; NaN of other packets. Matrices are taken for the usual ones."""
    if not data or data[0] & 0x80:
        return math.nan
    return float(np.interp(data[0] & 63, THEORA_INDICES, np.log2(THEORA_SCALES))) + math.log2(THEORA_MATRIX / 100)


def jpeg_log2_qstep(data: bytes) -> float:
    """log2 of the mean step of luma's nine lowest frequencies above its mean, in a JPEG's first table; NaN if none."""
    at = data.find(b"\xff\xdb")
    lowest = data[at + 6 : at + 15]
    if at < 0 or len(lowest) < 9 or data[at + 4] or not all(lowest):  # not 8 bits deep, or not luma's
        return math.nan
    return math.log2(sum(lowest) / len(lowest))


PACKETS: dict[str, Callable[[bytes], float]] = {"theora": theora_log2_qstep, "mjpeg": jpeg_log2_qstep}


def log2_qstep_of_qp(qp: Number) -> Number:
    """log2 of the step that a QP of H.264, HEVC or VVC stands for, whatever the bit depth."""
    return (qp - 4) / 6


class QstepReader:
    """Takes the packets of one stream in coded order, then says the step of what each holds."""

    def __init__(self, stream: Any) -> None:
        self.parameter_set = -1  # the one that fields speak of
        self.start_qps: dict[int, float] = {}
        self.linear = True  # MPEG-2's scale, as the last picture said
        self.found: list[float] = []
        self.sizes: list[CodedSize] = []
        self.size_reader = SizeReader()
        self.filter: Any = None
        self.decoder: Any = None
        codec = stream.codec_context.codec.canonical_name
        self.is_jpeg = codec == "mjpeg"
        self.of_packet = PACKETS.get(codec)
        if codec in CODECS + OLDER:
            with _fields() as fields, suppress(av.error.FFmpegError):  # a set-up that can't be read
                self.filter = BitStreamFilterContext("trace_headers", stream)
            self._steps(fields)
            self.size_reader.take(fields)
        if codec in BLOCKS:
            self.decoder = stream.codec_context
            self.decoder.options = self.decoder.options | DECODING
            self.decoder.thread_type = "NONE"  # a frame that another thread still works on would tell half its blocks

    def take(self, packet: Any) -> None:
        """The next packet; its data and times are gone afterwards."""
        number = len(self.found)
        self.found.append(math.nan if self.of_packet is None else self.of_packet(bytes(packet)))
        self.sizes.append(jpeg_size(bytes(packet)) if self.is_jpeg else CodedSize())
        if self.decoder is not None:
            packet.pts = packet.dts = number  # by which its frame is known
            self._decode(packet)
        if self.filter is not None:
            with _fields() as fields, suppress(av.error.FFmpegError):  # of a damaged header the decoder says more
                self.filter.filter(packet)
            if self.decoder is None:
                self.sizes[number] = self.size_reader.take(fields)
            steps = [step for step in self._steps(fields) if not math.isnan(step)]
            if steps and math.isnan(self.found[number]):
                self.found[number] = sum(steps) / len(steps)

    def log2_qsteps(self) -> list[float]:
        """One for each packet: of its blocks where they are told, else the mean of its slices' or frames' headers;
        NaN of one that says nothing or only shows a frame."""
        if self.decoder is not None:
            self._decode(None)
        return self.found

    def pixels(self) -> NDArray[np.float64]:
        """(N, 2): each packet's pixels as coded and as decoded."""
        return frame_pixels(self.sizes)

    def _decode(self, packet: Any) -> None:
        with suppress(av.error.FFmpegError):  # its header may still say something
            for frame in self.decoder.decode(packet):
                if frame.pts is None:
                    continue
                step = block_log2_qstep(frame)
                if not math.isnan(step):
                    self.found[frame.pts] = step
                self.sizes[frame.pts] = CodedSize(frame.width, frame.height, frame.width)

    def _steps(self, fields: list[tuple[str, int]]) -> list[float]:
        steps = []
        for name, value in fields:
            if name.endswith("pic_parameter_set_id"):
                self.parameter_set = value
            elif name in START_FIELDS:
                self.start_qps[self.parameter_set] = 26.0 + value
            elif name in DELTA_FIELDS:
                steps.append(log2_qstep_of_qp(self.start_qps.get(self.parameter_set, math.nan) + value))
            elif name == "base_q_idx":
                steps.append(av1_log2_qstep(value))
            elif name == "base_qindex":
                steps.append(vp8_log2_qstep(value))
            elif name == "q_scale_type":
                self.linear = value == 0
            elif name == "quantiser_scale_code" and value:
                steps.append(mpeg2_log2_qstep(value, linear=self.linear))
        return steps


def block_log2_qstep(frame: Any) -> float:
    """log2 of the root mean square of a decoded frame's blocks' steps, as errors add up by their squares; NaN if its
    decoder told none."""
    # A frame and its side data hold each other until Python sweeps: a large frame would wait, a small copy of it may.
    told = frame.reformat(width=16, height=16, format="gray", interpolation="POINT").side_data.get("VIDEO_ENC_PARAMS")
    if told is None or not told.nb_blocks:
        return math.nan
    numbers = told.nb_blocks * told.block_size // 4
    of_blocks = np.frombuffer(told, np.int32, numbers, told.blocks_offset).reshape(told.nb_blocks, -1)
    qps = told.qp + of_blocks[:, 4].astype(np.float64)  # x, y, width, height, and what is added to the frame's
    deeper = 6 * (frame.format.components[0].bits - 8)  # libav counts H.264's from the finest of its depth
    squares = qps**2 if told.codec_type == VideoEncParamsType.MPEG2 else 4 ** log2_qstep_of_qp(qps - deeper)
    return float(np.log2(squares.mean()) / 2) if squares.any() else math.nan


@contextmanager
def _fields() -> Iterator[list[tuple[str, int]]]:
    """(name, value) of what is traced meanwhile; filled when the context ends."""
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
            found = FIELD.match(text)
            if found:
                fields.append((found[1], int(found[2])))
