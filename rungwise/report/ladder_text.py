"""A check as text, JSON and CSV, and the words that text and page share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from rungwise.ladder.advice import Addition, Recommendation, Saving
from rungwise.ladder.compare import Report, Told
from rungwise.ladder.rungs import KINDS, Kind, Metric, Rung, format_kbps

INTERVAL_NOTE = (
    "intervals are of each score by itself, over contents; most of that error is shared by one title's rungs, so "
    "differences between them are surer than that"
)


def to_json(report: Report) -> str:
    """The report itself."""
    return report.model_dump_json(indent=2) + "\n"


def to_csv(report: Report) -> str:
    """One row a rung; the second metric's columns begin with truth_."""
    out = io.StringIO()
    columns = ["quality", "low", "high", "on_hull", "below_hull", "wasted_percent", "flags", "keep"]
    writer = csv.writer(out, lineterminator="\n")
    head = ["name", "codec", "width", "height", "bitrate_kbps", "declared_kbps"]
    writer.writerow([*head, *columns, *(f"truth_{name}" for name in columns if len(report.told) > 1)])
    kept = [{row for advice in told.recommendations for row in advice.keep} for told in report.told]
    for i, rung in enumerate(report.rungs):
        cells: list[object] = [getattr(rung, name) for name in head]
        for told, keep in zip(report.told, kept, strict=True):
            verdict = told.check.verdicts[i]
            cells += [getattr(verdict, name) for name in columns[:-2]] + [" ".join(verdict.flags), i in keep]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def verdict_line(report: Report, told: Told) -> str:
    """Such as "2 of 15 rungs need attention"."""
    flagged, total = told.check.num_flagged, len(report.rungs)
    if not flagged:
        return f"All {total} rungs are sound"
    return f"{flagged} of {total} rungs {'needs' if flagged == 1 else 'need'} attention"


def count_faults(told: Told) -> dict[Kind, int]:
    """Findings of each kind, the kinds without any left out."""
    kinds = [finding.kind for finding in told.check.findings]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def flags_text(flags: Sequence[Kind]) -> str:
    """What a rung is marked with; out of order says off the hull already."""
    return KINDS[flags[0]] if flags else ""


def saving_text(saving: Saving) -> str:
    """BD-rate in words."""
    if saving.bd_rate_percent is None:
        return f"no BD-rate: {saving.reason}"
    word = "saves" if saving.bd_rate_percent < 0 else "costs"
    return f"{word} {abs(saving.bd_rate_percent):.1f} %"


def added_text(rungs: Sequence[Rung], add: Addition) -> str:
    """What to encode, and between which."""
    between = " and ".join(f"{format_kbps(rungs[row].bitrate_kbps)}" for row in (add.lower, add.upper))
    return f"{add.height}p at about {format_kbps(add.bitrate_kbps)} kbps (between {between}), expect {add.quality:.0f}"


def settings_lines(metric: Metric) -> tuple[str, str]:
    """The step and the tolerance, with where they come from."""
    step = f"{metric.step:g} points is one just-noticeable step" + (
        f": {metric.step_source}" if metric.step_source != "--step" else ", as given"
    )
    tolerance = f"off the hull or out of order means by more than {metric.tolerance:g} points" + (
        f": {metric.tolerance_source}" if metric.tolerance_source != "--tolerance" else ", as given"
    )
    return step, tolerance


def to_text(report: Report) -> str:
    """For a terminal: the verdict first, then each codec, then what the numbers rest on."""
    first = report.told[0]
    codecs = len(first.check.codecs)
    shown = f", shown at {report.display_height} lines" if report.display_height else ""
    lines = [f"{report.source}: {len(report.rungs)} rungs, {codecs} codec{'s' * (codecs > 1)}{shown}"]
    for told in report.told:
        lines += ["", f"{verdict_line(report, told)}, by {told.check.metric.name}", *_findings(told)]
    for i in range(codecs):
        lines += ["", *_codec(report, i)]
    for told in report.told:
        if told.savings:
            lines += ["", f"BD-rate by {told.check.metric.name}, over the sound rungs"]
            lines += [f"  {s.codec:6} against {s.anchor:6} {saving_text(s)}" for s in told.savings]
    if report.agreement is not None:
        lines += ["", *agreement_lines(report)]
    lines += ["", f"recommended: {report.objective}"]
    for told in report.told:
        lines += [f"{told.check.metric.name}: {line}" for line in settings_lines(told.check.metric)]
    if any(verdict.low is not None for verdict in first.check.verdicts):
        lines.append(INTERVAL_NOTE)
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"left out: {name}: {reason}" for name, reason in report.failures.items()]
    return "\n".join(lines) + "\n"


def _findings(told: Told) -> Iterator[str]:
    for finding in told.check.findings:
        yield f"{finding.number:4}  {KINDS[finding.kind]:13} {finding.text}"


def _codec(report: Report, place: int) -> Iterator[str]:
    first, rungs = report.told[0], report.rungs
    codec, verdicts = first.check.codecs[place], first.check.verdicts
    floor, ceiling = verdicts[codec.floor].quality, verdicts[codec.ceiling].quality
    yield f"{codec.codec}: quality from {floor:.1f} to {ceiling:.1f}"
    columns = [("kbps", ">8"), ("height", ">7")]
    columns += [(short_name(told.check.metric)[:9], ">10") for told in report.told]
    head = "".join(f"{name:{width}}" for name, width in columns)
    yield f"{head}{'hull':>8}  {'':16}{'by truth' if len(report.told) > 1 else '':16}rung"
    kept = {row for advice in first.recommendations for row in advice.keep}
    for row in codec.rungs:
        rung, verdict = rungs[row], verdicts[row]
        cells = f"{format_kbps(rung.bitrate_kbps):>8}{f'{rung.height}p':>7}"
        cells += "".join(f"{told.check.verdicts[row].quality:>10.1f}" for told in report.told)
        hull = "on" if verdict.on_hull else f"-{verdict.below_hull:.1f}"
        word = flags_text(verdict.flags) or ("keep" if row in kept else "")
        others = "".join(f"{flags_text(told.check.verdicts[row].flags):16}" for told in report.told[1:]) or " " * 16
        yield f"{cells}{hull:>8}  {word:16}{others}{rung.name}".rstrip()
    yield from (f"  {line}" for line in crossover_lines(report, place))
    for gap in codec.gaps:
        between = " and ".join(
            f"{rungs[i].height}p {format_kbps(rungs[i].bitrate_kbps)}" for i in (gap.lower, gap.upper)
        )
        yield f"  gap of {gap.points:.1f} points, {gap.steps:.1f} steps, between {between}"
    yield from (f"  {line}" for line in advice_lines(rungs, first.recommendations[place]))


def short_name(metric: Metric) -> str:
    """For the head of a narrow column."""
    return {"model": "model", "vmaf": "VMAF"}.get(metric.source, metric.name.removeprefix("column "))


def crossover_lines(report: Report, place: int) -> Iterator[str]:
    """Crossovers of one codec by the first metric, and by the truth where it has others."""
    first, *others = (told.check.codecs[place].crossovers for told in report.told)
    for number, crossover in enumerate(first):
        yield crossover.text
        for told, theirs in zip(report.told[1:], others, strict=True):
            if theirs[number].text != crossover.text:
                yield f"by {short_name(told.check.metric)}: {theirs[number].text}"


def advice_lines(rungs: Sequence[Rung], advice: Recommendation) -> Iterator[str]:
    """What to do with one codec's rungs."""
    if advice.keep:
        kept = ", ".join(f"{rungs[row].height}p {format_kbps(rungs[row].bitrate_kbps)}" for row in advice.keep)
        widest = "" if advice.largest_gap is None else f"; widest gap {advice.largest_gap:.1f} points"
        yield f"keep {len(advice.keep)}: {kept}{widest}"
    for add in advice.add:
        yield f"add {added_text(rungs, add)}"
    if advice.note:
        yield advice.note


def agreement_lines(report: Report) -> Iterator[str]:
    """How far the first metric says what the truth says."""
    agreement, (first, truth) = report.agreement, report.told
    assert agreement is not None
    name, other = first.check.metric.name, truth.check.metric.name
    yield f"{name} against {other}, over {len(report.rungs)} rungs"
    baseline = "-" if agreement.srcc_log_bitrate is None else f"{agreement.srcc_log_bitrate:.3f}"
    srcc = "-" if agreement.srcc is None else f"{agreement.srcc:.3f}"
    yield f"  SRCC {srcc} (log-bitrate, the trivial baseline: {baseline})"
    yield f"  {agreement.offset:+.1f} points on average, {agreement.scatter:.1f} of scatter round that"
    yield (
        f"  on the hull by both {agreement.hull_both}, by {name} alone {agreement.hull_first_only}, "
        f"by {other} alone {agreement.hull_truth_only}"
    )
    same = sum(fault.by_first == fault.by_truth for fault in agreement.faults)
    yield f"  faults: {same} the same by both, {len(agreement.faults) - same} not"
    for fault in agreement.faults:
        if fault.by_first != fault.by_truth:
            words = (flags_text(flags) or "sound" for flags in (fault.by_first, fault.by_truth))
            yield "    {}: {} by {}, {} by {}".format(
                report.rungs[fault.rung].name, *(w for pair in zip(words, (name, other), strict=True) for w in pair)
            )
