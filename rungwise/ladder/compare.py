"""The model's check beside a reference metric's, and the gates of a build server. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rungwise.ladder.advice import Recommendation, Saving
from rungwise.ladder.rungs import KINDS, Frozen, Kind, LadderCheck, Rung

GATES = "off-hull, unordered, close, gap>N, floor<N, ceiling<N"


class SameFault(Frozen):
    """One rung's faults by either metric."""

    rung: int
    by_first: tuple[Kind, ...]
    by_truth: tuple[Kind, ...]


class Agreement(Frozen):
    """How far the first metric says what the truth says; log-bitrate beside it is the trivial baseline.

    `offset` is the mean of first less truth, `scatter` the deviation round it. `hull_*` count rungs within the
    tolerance of their codec's hull.
    """

    srcc: float | None
    srcc_log_bitrate: float | None
    offset: float
    scatter: float
    hull_both: int
    hull_first_only: int
    hull_truth_only: int
    faults: tuple[SameFault, ...]


class Told(Frozen):
    """One metric's whole word on the ladder."""

    check: LadderCheck
    recommendations: tuple[Recommendation, ...]
    savings: tuple[Saving, ...]


class Report(Frozen):
    """What `ladder check` found: check.json, and what the page carries. Rows of `rungs` are rungs everywhere.

    `told` opens with the metric that gates and verdict go by; the truth, where asked for, comes second. `failures`
    maps a file to why it is not among the rungs.
    """

    rungwise: str
    source: str
    display_height: int | None
    rungs: tuple[Rung, ...]
    told: tuple[Told, ...]
    agreement: Agreement | None
    objective: str
    count: int | None
    cap_kbps: float | None
    failures: dict[str, str]
    notes: tuple[str, ...]


def compare(rungs: Sequence[Rung], first: LadderCheck, truth: LadderCheck) -> Agreement:
    """Agreement of two checks of the same rungs."""
    q, t = (np.asarray([verdict.quality for verdict in check.verdicts]) for check in (first, truth))
    sound = [(a.sound, b.sound) for a, b in zip(first.verdicts, truth.verdicts, strict=True)]
    pairs = enumerate(zip(first.verdicts, truth.verdicts, strict=True))
    return Agreement(
        srcc=_srcc(t, q),
        srcc_log_bitrate=_srcc(t, np.log([rung.bitrate_kbps for rung in rungs])),
        offset=float((q - t).mean()),
        scatter=float((q - t).std()),
        hull_both=sum(a and b for a, b in sound),
        hull_first_only=sum(a and not b for a, b in sound),
        hull_truth_only=sum(b and not a for a, b in sound),
        faults=tuple(
            SameFault(rung=i, by_first=a.flags, by_truth=b.flags) for i, (a, b) in pairs if a.flags or b.flags
        ),
    )


def _srcc(truth: np.ndarray[tuple[int], np.dtype[np.float64]], other: object) -> float | None:
    from rungwise.metrics.statistics import srcc

    values = np.asarray(other, np.float64)
    if len(truth) < 3 or np.ptp(truth) == 0 or np.ptp(values) == 0:
        return None
    return float(srcc(truth, values))


class Gate(Frozen):
    """One word of --fail-on."""

    word: str
    kind: Literal["off-hull", "unordered", "close", "gap", "floor", "ceiling"]
    limit: float | None


def parse_gates(text: str) -> tuple[Gate, ...]:
    """Gates from "off-hull,unordered,gap>12".

    Raises:
        ValueError: an unknown word, with the choices.
    """
    gates = []
    for word in (part.strip() for part in text.split(",")):
        match = re.fullmatch(r"(off-hull|unordered|close)|(gap)>([\d.]+)|(floor|ceiling)<([\d.]+)", word)
        number = match and (match[3] or match[5])
        try:
            limit = float(number) if number else None
        except ValueError:
            match = None
        if match is None:
            raise ValueError(f"{word!r} is no gate; the choices are {GATES} (N in points), comma-separated")
        gates.append(Gate.model_validate({"word": word, "kind": match[1] or match[2] or match[4], "limit": limit}))
    return tuple(gates)


def failed_gates(gates: Sequence[Gate], report: Report) -> list[str]:
    """One line for each fault that a gate forbids, by the report's first metric."""
    check, rungs = report.told[0].check, report.rungs
    quality = [verdict.quality for verdict in check.verdicts]
    lines = []
    for gate in gates:
        if gate.kind in KINDS:
            for row, verdict in enumerate(check.verdicts):
                if gate.kind in verdict.flags:
                    told = next(f.text for f in check.findings if f.rungs[0] == row and f.kind in verdict.flags)
                    lines.append(f"{gate.word}: {rungs[row].name}: {told}")
            continue
        assert gate.limit is not None
        for codec in check.codecs:
            if gate.kind == "gap":
                wide = [pair for pair in codec.neighbors if pair.points > gate.limit]
                lines += [
                    f"{gate.word}: {rungs[pair.lower].name} to {rungs[pair.upper].name}: {pair.points:.1f} points"
                    for pair in wide
                ]
                continue
            row = codec.floor if gate.kind == "floor" else codec.ceiling
            if quality[row] < gate.limit:
                lines.append(f"{gate.word}: {codec.codec}'s {gate.kind} is {rungs[row].name} at {quality[row]:.1f}")
    return lines
