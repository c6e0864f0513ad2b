"""Which encodes VMAF can compare with a reference; the others are left out before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rungwise.ladder.encodes import Encode
from rungwise.ladder.pairing import Crop, PictureFormat, check_pair, read_format, read_reference

FPS_TOLERANCE = 0.002  # relative; 24 and 23.976 differ by 0.001, as containers' clocks do


def comparable_encodes(
    encodes: Sequence[Encode], reference: Path, crop: Crop | None, failures: dict[str, str], notes: list[str]
) -> list[Encode]:
    """The encodes whose size and tags fit the reference, in order.

    `failures` gets the reasons of the others, by name; `notes` gets the conversions. An unreadable encode stays here
    and fails where it is scored.

    Raises:
        ValueError: the reference can't be read or is smaller than `crop`, or no encode can be compared with it.
    """
    master = read_reference(reference).cropped(crop)
    comparable, formats = list[Encode](), dict[str, PictureFormat]()
    for encode in encodes:
        try:
            picture = read_format(encode.path) if encode.path is not None else None
        except Exception:  # it fails again, and is reported, where it is scored
            picture = None
        try:
            if picture is not None:
                check_pair(picture, master)
                formats[encode.rung.name] = picture
        except ValueError as error:
            failures[encode.rung.name] = str(error)
            continue
        comparable.append(encode)
    if not comparable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise ValueError(f"no encode can be compared with {reference}: {reasons}")
    notes += _conversions(master, formats)
    return comparable


def _conversions(master: PictureFormat, formats: dict[str, PictureFormat]) -> list[str]:
    named = {"the reference": master} | formats
    full = [name for name, picture in named.items() if picture.full_range and not picture.is_rgb]
    interlaced = [name for name, picture in named.items() if picture.interlaced]
    notes = [f"for VMAF, full range is converted to limited range: {', '.join(full)}"] if full else []
    notes += [f"for VMAF, interlaced frames are deinterlaced: {', '.join(interlaced)}"] if interlaced else []
    for name, picture in formats.items():
        if picture.fps and master.fps and abs(picture.fps / master.fps - 1) > FPS_TOLERANCE:
            notes.append(
                f"{name} has {picture.fps:.6g} frames per second and the reference {master.fps:.6g}: VMAF compares "
                "frames by number, so its scores are meaningless unless frames show the same moments"
            )
    return notes
