"""Bitstream data of a stream's frames as its packets come; memory does not grow with their number."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from av.codec.context import CodecContext

from rungwise.bitstream.coded_size import CodedSize
from rungwise.bitstream.qp import BLOCK_QP_CODECS, QstepReader
from rungwise.media.limits import DECODER_OPTIONS

# A decoder may export a frame's QP some packets later: 16 reference frames with as many B frames between them at most.
MAX_DELAY_PACKETS = 272


@dataclass
class CodedFrame:
    """Bitstream data of one frame.

    Attributes:
        num_bytes: coded bytes.
        is_intra: whether it is a key frame.
        log2_qstep: log2 of the quantizer step size; NaN if unknown.
        coded_pixels, decoded_pixels: they differ only with super-resolution; 1 if unknown.
        is_settled: whether the QP and pixels are final.
    """

    num_bytes: int
    is_intra: bool
    log2_qstep: float = math.nan
    coded_pixels: float = 1.0
    decoded_pixels: float = 1.0
    is_settled: bool = False


class CodedFrameReader:
    """Makes the `CodedFrame` of each packet of a stream, in coded order.

    The values equal those of `read_packets` with a `QstepReader` to the bit. Per-block QP is read with a decoder of its
    own, so that packets can also be decoded for their pixels.

    Args:
        stream: the stream.
        read_qsteps: also read QP and coded size.
    """

    def __init__(self, stream: Any, *, read_qsteps: bool) -> None:
        self.reader = QstepReader(stream, _own_decoder(stream)) if read_qsteps else None
        self.open: deque[CodedFrame] = deque()  # not settled
        self.num_settled = 0
        self.size: CodedSize | None = None  # last known

    def add_packet(self, packet: Any) -> CodedFrame:
        """Read the next packet, which is consumed: its data and timestamps are lost."""
        coded = CodedFrame(packet.size, packet.is_keyframe, is_settled=self.reader is None)
        if self.reader is not None:
            self.reader.add_packet(packet)
            self.open.append(coded)
            while self.open and self._settles():
                self._settle_next()
        return coded

    def finish(self) -> None:
        """Settle the remaining frames after the last packet."""
        if self.reader is not None:
            self.reader.log2_qsteps()
        while self.open:
            self._settle_next()

    def _settles(self) -> bool:
        """Whether the QP of the first open frame is final: a frame after it was decoded, and B frames are not."""
        assert self.reader is not None
        is_past = self.reader.last_decoded >= self.num_settled
        return self.reader.decoder is None or is_past or len(self.open) > MAX_DELAY_PACKETS

    def _settle_next(self) -> None:
        assert self.reader is not None
        coded, size = self.open.popleft(), self.reader.sizes.pop(self.num_settled)
        coded.log2_qstep = self.reader.qsteps.pop(self.num_settled)
        if size.width and size.height:
            self.size = size
        elif self.size is None:
            self.size = next((later for later in self.reader.sizes.values() if later.width and later.height), None)
        width, height, coded_width = self.size or CodedSize(1, 1, 1)
        coded.coded_pixels, coded.decoded_pixels = float(coded_width * height), float(width * height)
        coded.is_settled = True
        self.num_settled += 1


def _own_decoder(stream: Any) -> Any:
    """A second decoder for a stream, if its codec has per-block QP."""
    context = stream.codec_context
    if context.codec.canonical_name not in BLOCK_QP_CODECS:
        return None
    decoder: Any = CodecContext.create(context.codec.name, "r")
    decoder.extradata, decoder.codec_tag = context.extradata, context.codec_tag
    decoder.width, decoder.height = context.width, context.height
    decoder.options = DECODER_OPTIONS
    return decoder
