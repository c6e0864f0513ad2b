"""Canonical codec names for the names used in tables, encoders and containers."""

from __future__ import annotations

import re

CODEC_ALIASES = {
    "h264": "h264 avc avc1 avc3 x264 libx264 openh264 libopenh264 mpeg4avc mpeg4part10 h264avc avch264 h264nvenc",
    "hevc": "h265 hevc hvc1 hev1 dvh1 dvhe x265 libx265 hevch265 h265hevc hevcnvenc",
    "av1": "av1 av01 libaom libaomav1 svtav1 libsvtav1 rav1e librav1e aom aomav1 dav1 av1nvenc",
    "vp9": "vp9 vp09 libvpxvp9",
    "vp8": "vp8 vp08 libvpx libvpxvp8",
    "vvc": "h266 vvc vvc1 vvi1 vvenc libvvenc vvch266 h266vvc",
    "mpeg2video": "mpeg2 mpeg2video h262 mp2v",
}
_CODEC_BY_ALIAS = {alias: codec for codec, aliases in CODEC_ALIASES.items() for alias in aliases.split()}


def codec_name(name: str) -> str:
    """Canonical codec name: H.264, avc1.64001f and x264 give h264. Unknown names are returned stripped."""
    text = name.strip()
    compact = re.sub(r"[^a-z0-9]", "", text.lower())
    first = re.sub(r"[^a-z0-9]", "", text.lower().split(".")[0])  # RFC 6381: avc1.64001f
    return _CODEC_BY_ALIAS.get(compact) or _CODEC_BY_ALIAS.get(first) or text
