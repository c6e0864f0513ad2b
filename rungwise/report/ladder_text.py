"""A ladder check as text, JSON and CSV, and the sentences that text and page share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from rungwise.ladder.advice import Addition, Recommendation, Saving
from rungwise.ladder.compare import MetricReport, Report
from rungwise.ladder.rungs import KINDS, Finding, Kind, Metric, Rung, Verdict, format_kbps

INTERVAL_NOTE = (
    "intervals hold for each score by itself, over contents; rungs of one title share most of that error, so their "
    "differences are more certain"
)


def to_json(report: Report) -> str:
    """The report itself."""
    return report.model_dump_json(indent=2) + "\n"


def to_csv(report: Report) -> str:
    """One row per rung; the second metric's columns begin with truth_."""
    out = io.StringIO()
    columns = ["quality", "low", "high", "on_hull", "below_hull", "wasted_percent", "flags", "doubts", "keep"]
    writer = csv.writer(out, lineterminator="\n")
    head = ["name", "codec", "width", "height", "bitrate_kbps", "declared_kbps"]
    writer.writerow([*head, *columns, *(f"truth_{name}" for name in columns if len(report.metrics) > 1)])
    for i, rung in enumerate(report.rungs):
        cells: list[object] = [getattr(rung, name) for name in head]
        for metric in report.metrics:
            verdict = metric.check.verdicts[i]
            cells += [getattr(verdict, name) for name in columns[:-3]]
            cells += [" ".join(verdict.flags), " ".join(verdict.doubts)]
            cells.append(any(i in advice.keep for advice in metric.recommendations))
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def verdict_line(report: Report, metric: MetricReport) -> str:
    """Such as "2 of 15 rungs need attention, 1 is uncertain"."""
    flagged, total = metric.check.num_flagged, len(report.rungs)
    doubtful = sum(bool(verdict.doubts) for verdict in metric.check.verdicts)
    uncertain = f"{doubtful} {'is' if doubtful == 1 else 'are'} uncertain"
    if not flagged:
        return f"{uncertain}, the other {total - doubtful} are sound" if doubtful else f"all {total} rungs are sound"
    line = f"{flagged} of {total} rungs {'needs' if flagged == 1 else 'need'} attention"
    return f"{line}, {uncertain}" if doubtful else line


def display_text(report: Report) -> str:
    """At which height quality holds, or nothing."""
    return f", evaluated at {report.display_height}p" if report.display_height else ""


def count_faults(metric: MetricReport) -> dict[Kind, int]:
    """Rungs with each kind of fault that occurs."""
    kinds = [finding.kind for finding in metric.check.findings if finding.certain for _ in finding.rungs]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def fault_text(flags: Sequence[Kind]) -> str:
    """A rung's first fault; one that is out of order is below the hull anyway."""
    return KINDS[flags[0]] if flags else ""


def verdict_text(verdict: Verdict) -> str:
    """A rung's first fault or, with a question mark, doubt."""
    return fault_text(verdict.flags) or f"{fault_text(verdict.doubts)}?" * bool(verdict.doubts)


def finding_title(finding: Finding) -> str:
    """Such as "too close", or with a question mark what is uncertain."""
    return KINDS[finding.kind] + "?" * (not finding.certain)


def score_text(metric: MetricReport, finding: Finding) -> str:
    """The scores of a finding's rungs, such as "scores 64.0 (54 to 74)", or a range if there are several."""
    verdicts = [metric.check.verdicts[row] for row in finding.rungs]
    lowest, highest = (pick(verdict.quality for verdict in verdicts) for pick in (min, max))
    if len(verdicts) > 1:
        return f"scores {lowest:.1f} to {highest:.1f}"
    low, high = verdicts[0].low, verdicts[0].high
    return f"scores {lowest:.1f}" + ("" if low is None or high is None else f" ({low:.0f} to {high:.0f})")


def saving_text(saving: Saving) -> str:
    """BD-rate in words."""
    if saving.bd_rate_percent is None:
        return f"no BD-rate: {saving.reason}"
    return f"{saving.bd_rate_percent:+.1f} %"


def rung_text(rung: Rung) -> str:
    """Such as "360p 812 kbps"."""
    return f"{rung.height}p {format_kbps(rung.bitrate_kbps)} kbps"


def addition_text(rungs: Sequence[Rung], addition: Addition) -> str:
    """What to encode, and between which rungs."""
    between = " and ".join(rung_text(rungs[row]) for row in (addition.lower, addition.upper))
    kbps = format_kbps(addition.bitrate_kbps)
    text = f"{addition.height}p at about {kbps} kbps (between {between}), expected quality {addition.quality:.0f}"
    return text if addition.replaced is None else f"{text}, in place of {rung_text(rungs[addition.replaced])}"


def settings_lines(report: Report) -> list[str]:
    """Step and tolerance with their sources, once for all metrics that share them."""
    names: dict[str, list[str]] = {}
    for metric in report.metrics:
        for line in _settings(metric.check.metric):
            names.setdefault(line, []).append(metric.name)
    return [f"{', '.join(metrics)}: {line}" for line, metrics in names.items()]


def _settings(metric: Metric) -> tuple[str, str]:
    step, noise = (source.replace("--", "set by --") for source in (metric.step_source, metric.noise_source))
    return (
        f"step {metric.step:g} points (one just-noticeable difference): {step}",
        f"tolerance {metric.noise:.2g} points (below the hull, out of order, less than a step): {noise}",
    )


def to_text(report: Report) -> str:
    """For a terminal: the verdict first, then each codec, then how the results were obtained."""
    first = report.metrics[0]
    codecs = len(first.check.codecs)
    display = display_text(report)
    lines = [f"{report.source}: {len(report.rungs)} rungs, {codecs} codec{'s' * (codecs > 1)}{display}"]
    for metric in report.metrics:
        lines += ["", f"{metric.name}: {verdict_line(report, metric)}", *_findings(metric)]
    for i in range(codecs):
        lines += ["", *_codec(report, i)]
    for metric in report.metrics:
        if metric.savings:
            lines += ["", f"BD-rate by {metric.name}, sound rungs only"]
            lines += [f"  {s.codec:6} vs {s.anchor:6} {saving_text(s)}" for s in metric.savings]
    if report.agreement is not None:
        lines += ["", *agreement_lines(report)]
    lines += ["", f"recommendation: {report.objective}", *settings_lines(report)]
    if any(verdict.low is not None for verdict in first.check.verdicts):
        lines.append(INTERVAL_NOTE)
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"left out: {name}: {reason}" for name, reason in report.failures.items()]
    return "\n".join(lines) + "\n"


def _findings(metric: MetricReport) -> Iterator[str]:
    for finding in metric.check.findings:
        yield f"{finding.number:4}  {finding_title(finding):15}  {finding.text}"
        yield f"{'':23}{score_text(metric, finding)}: {finding.action}"


def _codec(report: Report, place: int) -> Iterator[str]:
    first, rungs = report.metrics[0], report.rungs
    codec, verdicts = first.check.codecs[place], first.check.verdicts
    floor, ceiling = verdicts[codec.floor].quality, verdicts[codec.ceiling].quality
    yield f"{codec.codec}: quality from {floor:.1f} to {ceiling:.1f}"
    yield from _table(report, place)
    yield from (f"  {line}" for line in crossover_lines(report, place))
    for gap in codec.gaps:
        between = " and ".join(rung_text(rungs[row]) for row in (gap.lower, gap.upper))
        mark = "" if gap.certain else "?"
        yield f"  gap{mark} of {gap.points:.1f} points ({gap.steps:.1f} steps) between {between}"
    yield from (f"  {line}" for line in advice_lines(rungs, first.recommendations[place]))


def _table(report: Report, place: int) -> Iterator[str]:
    """The rungs of one codec with their quality and fault by each metric."""
    first, names = report.metrics[0], [short_name(metric.check.metric)[:9] for metric in report.metrics]
    faults = [f"by {name}" for name in names] if len(names) > 1 else [""]
    head = "".join(f"{name:>10}" for name in names)
    yield f"{'kbps':>8}{'height':>8}{head}{'hull':>8}  {''.join(f'{fault:16}' for fault in faults)}rung"
    keep = first.recommendations[place].keep
    for row in first.check.codecs[place].rungs:
        rung, verdicts = report.rungs[row], [metric.check.verdicts[row] for metric in report.metrics]
        words = [verdict_text(verdict) for verdict in verdicts]
        words[0] = words[0] or ("keep" if row in keep else "")
        hull = "on" if verdicts[0].on_hull else f"-{verdicts[0].below_hull:.1f}"
        numbers = "".join(f"{verdict.quality:>10.1f}" for verdict in verdicts)
        size = f"{format_kbps(rung.bitrate_kbps):>8}{f'{rung.height}p':>8}"
        yield f"{size}{numbers}{hull:>8}  {''.join(f'{word:16}' for word in words)}{rung.name}".rstrip()


def short_name(metric: Metric) -> str:
    """For the head of a narrow column."""
    return {"model": "model", "vmaf": "VMAF"}.get(metric.source, metric.name.removeprefix("column "))


def crossover_lines(report: Report, place: int) -> Iterator[str]:
    """Crossovers of one codec by the first metric, and by the truth where they differ."""
    first, *others = (metric.check.codecs[place].crossovers for metric in report.metrics)
    for number, crossover in enumerate(first):
        yield crossover.text
        for metric, crossovers in zip(report.metrics[1:], others, strict=True):
            if crossovers[number].text != crossover.text:
                yield f"by {short_name(metric.check.metric)}: {crossovers[number].text}"


def advice_lines(rungs: Sequence[Rung], advice: Recommendation) -> Iterator[str]:
    """What to do with one codec's rungs."""
    if advice.keep:
        names = ", ".join(f"{rungs[row].height}p {format_kbps(rungs[row].bitrate_kbps)}" for row in advice.keep)
        largest = "" if advice.largest_gap is None else f"; largest gap {advice.largest_gap:.1f} points"
        yield f"keep {len(advice.keep)}: {names} kbps{largest}"
    for addition in advice.add:
        yield f"add {addition_text(rungs, addition)}"
    if advice.note:
        yield advice.note


def agreement_lines(report: Report) -> Iterator[str]:
    """How well the first metric agrees with the truth."""
    agreement, (first, truth) = report.agreement, report.metrics
    assert agreement is not None
    yield f"{first.name} vs {truth.name}, {len(report.rungs)} rungs"
    srcc, baseline = ("-" if v is None else f"{v:.3f}" for v in (agreement.srcc, agreement.srcc_log_bitrate))
    yield f"  SRCC {srcc} (log-bitrate baseline: {baseline})"
    yield f"  mean difference {agreement.offset:+.1f} points, standard deviation {agreement.scatter:.1f}"
    yield (
        f"  within tolerance of the hull: {agreement.hull_both} by both, {agreement.hull_first_only} only by "
        f"{first.name}, {agreement.hull_truth_only} only by {truth.name}"
    )
    differing = [fault for fault in agreement.faults if not fault.agrees]
    yield f"  faults: {len(agreement.faults) - len(differing)} the same by both, {len(differing)} different"
    for fault in differing:
        by_first, by_truth = (fault_text(flags) or "sound" for flags in (fault.by_first, fault.by_truth))
        yield f"    {report.rungs[fault.rung].name}: {by_first} by {first.name}, {by_truth} by {truth.name}"
