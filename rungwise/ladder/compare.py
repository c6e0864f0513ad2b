"""All results of a check, the agreement of two metrics, and the gates of a build server. Reads no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rungwise.ladder.advice import Recommendation, Saving
from rungwise.ladder.rungs import KINDS, Frozen, Kind, LadderCheck, Rung

GATES = "off-hull, unordered, close, gap>N, floor<N, ceiling<N"


class FaultPair(Frozen):
    """One rung's faults by the first metric and by the truth."""

    rung: int
    by_first: tuple[Kind, ...]
    by_truth: tuple[Kind, ...]

    @property
    def agrees(self) -> bool:
        """Whether both find the same."""
        return self.by_first == self.by_truth


class Agreement(Frozen):
    """How well the first metric agrees with the truth; log-bitrate is the trivial baseline.

    `offset` is the mean of first minus truth, `scatter` the standard deviation of that difference. `hull_*` count the
    rungs within the tolerance of their codec's hull.
    """

    srcc: float | None
    srcc_log_bitrate: float | None
    offset: float
    scatter: float
    hull_both: int
    hull_first_only: int
    hull_truth_only: int
    faults: tuple[FaultPair, ...]


class MetricReport(Frozen):
    """All results of one metric on a ladder."""

    check: LadderCheck
    recommendations: tuple[Recommendation, ...]
    savings: tuple[Saving, ...]

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.check.metric.name


class Report(Frozen):
    """The result of `ladder check`, as in check.json and in the page. A rung is its row in `rungs` everywhere.

    The first of `metrics` decides verdict and gates; the second, where asked for, is the truth. `failures` maps a file
    to the reason why it is not among the rungs.
    """

    rungwise: str
    source: str
    display_height: int | None
    rungs: tuple[Rung, ...]
    metrics: tuple[MetricReport, ...]
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
            FaultPair(rung=i, by_first=a.flags, by_truth=b.flags) for i, (a, b) in pairs if a.flags or b.flags
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
            raise ValueError(f"{word!r} is not a gate; the choices are {GATES} (N in points), comma-separated")
        gates.append(Gate.model_validate({"word": word, "kind": match[1] or match[2] or match[4], "limit": limit}))
    return tuple(gates)


def failed_gates(gates: Sequence[Gate], report: Report) -> list[str]:
    """One line for each violation of a gate, by the report's first metric."""
    check, rungs = report.metrics[0].check, report.rungs
    quality = [verdict.quality for verdict in check.verdicts]
    lines = []
    for gate in gates:
        if gate.kind in KINDS:
            for finding in check.findings:
                rows = [row for row in finding.rungs if gate.kind in check.verdicts[row].flags]
                if rows:
                    lines.append(f"{gate.word}: {', '.join(rungs[row].name for row in rows)}: {finding.text}")
            continue
        assert gate.limit is not None
        for codec in check.codecs:
            if gate.kind == "gap":
                lines += [
                    f"{gate.word}: {rungs[pair.lower].name} to {rungs[pair.upper].name}: {pair.points:.1f} points"
                    for pair in codec.neighbors
                    if pair.points > gate.limit
                ]
                continue
            row = codec.floor if gate.kind == "floor" else codec.ceiling
            if quality[row] < gate.limit:
                lines.append(f"{gate.word}: {codec.codec}: the {gate.kind} is {rungs[row].name} at {quality[row]:.1f}")
    return lines
