"""Findings: faults of one codec's rungs that have the same cause, as one entry each. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rungwise.ladder.rungs import Finding, Kind, Rung, describe, format_kbps, size_text


@dataclass(frozen=True)
class Fault:
    """One rung's fault.

    Attributes:
        row: the rung.
        other: the rung that it is compared with; None for the hull.
        points: by which the rung is worse, or by which it is better if it is too close.
        percent: bitrate: less than the rung's where it is worse, more than the other's where it is too close.
        better_height: of the hull at the rung's bitrate, if it has another height.
        certain: whether it is beyond the metric's tolerance.
    """

    kind: Kind
    row: int
    other: int | None
    points: float
    percent: float
    better_height: int | None = None
    certain: bool = True


def group_faults(rungs: Sequence[Rung], faults: Iterable[Fault]) -> list[Finding]:
    """Findings of one codec, by the bitrate of their first rung.

    Rungs belong together if they are compared with the same rung. Those below the hull do if they have the same height
    and no other rung of that height lies between them.
    """
    by_rate = sorted(faults, key=lambda fault: rungs[fault.row].bitrate_kbps)
    below_hull = {fault.row for fault in by_rate if fault.kind == "off-hull"}
    groups: dict[tuple[object, ...], list[Fault]] = {}
    for fault in by_rate:
        rung = rungs[fault.row]
        cheaper = [
            row
            for row, other in enumerate(rungs)
            if (other.codec, other.height) == (rung.codec, rung.height)
            and other.bitrate_kbps < rung.bitrate_kbps
            and row not in below_hull
        ]
        key = (rung.height, len(cheaper)) if fault.other is None else (fault.other,)
        groups.setdefault((fault.kind, *key), []).append(fault)
    return [_finding(rungs, group) for group in groups.values()]


def _finding(rungs: Sequence[Rung], group: Sequence[Fault]) -> Finding:
    first = group[0]
    sentence, action = {"unordered": _unordered, "off-hull": _below_hull, "close": _close}[first.kind](rungs, group)
    if not first.certain:
        action = f"uncertain, as the score may be wrong by this much; measure by --truth vmaf before you {action}"
    return Finding(
        number=0,
        kind=first.kind,
        certain=first.certain,
        rungs=tuple(fault.row for fault in group),
        other=first.other,
        points=max(fault.points for fault in group),
        text=f"{_describe([rungs[fault.row] for fault in group])}: {sentence}.",
        action=action,
    )


def _unordered(rungs: Sequence[Rung], group: Sequence[Fault]) -> tuple[str, str]:
    better = group[0].other
    assert better is not None
    least = min(fault.percent for fault in group)
    saving = f"with {_range(group, 'percent', 0)} % less bitrate" if least >= 0.5 else "at the same bitrate"
    if least < 0.5 and len(group) > 1:
        saving = "at the same bitrate or less"
    action = "drop it" if len(group) == 1 else "drop them"
    return f"{size_text(rungs[better])} scores {_range(group, 'points', 1)} points higher {saving}", action


def _below_hull(rungs: Sequence[Rung], group: Sequence[Fault]) -> tuple[str, str]:
    quality = "this quality" if len(group) == 1 else "these qualities"
    sentence = (
        f"{_range(group, 'points', 1)} points below the convex hull, which reaches {quality} with "
        f"{_range(group, 'percent', 0)} % less bitrate"
    )
    pronoun = "it" if len(group) == 1 else "them"
    heights = {fault.better_height for fault in group} - {None}
    if heights:
        return sentence, f"encode {pronoun} at {' or '.join(f'{height}p' for height in sorted(heights, key=str))}"
    return sentence, f"drop {pronoun}, or compare the encoder's settings with those of the other rungs"


def _close(rungs: Sequence[Rung], group: Sequence[Fault]) -> tuple[str, str]:
    last = group[0].other
    assert last is not None
    more = f"for {_range(group, 'percent', 0)} % more bitrate"
    if len(group) == 1:
        return f"{group[0].points:+.1f} points over {size_text(rungs[last])}, {more}", "keep one of the two"
    gain = f"at most {max(fault.points for fault in group):+.1f} points over {size_text(rungs[last])}"
    return f"{gain}, {more}", f"keep one of these {len(group) + 1}"


def _describe(rungs: Sequence[Rung]) -> str:
    """Such as "h264 720p at 2070 and 4138 kbps"; rungs of one codec."""
    if len(rungs) == 1:
        return describe(rungs[0])
    sizes: dict[int, list[str]] = {}
    for rung in rungs:
        sizes.setdefault(rung.height, []).append(format_kbps(rung.bitrate_kbps))
    parts = [f"{height}p at {_enumeration(rates)}" for height, rates in sizes.items()]
    return f"{rungs[0].codec} {', '.join(parts)} kbps"


def _enumeration(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _range(group: Sequence[Fault], name: str, decimals: int) -> str:
    """Such as "2.1 to 5.0", or one number if both ends round to it."""
    values = [getattr(fault, name) for fault in group]
    low, high = f"{min(values):.{decimals}f}", f"{max(values):.{decimals}f}"
    return low if low == high else f"{low} to {high}"
