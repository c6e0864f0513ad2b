"""A proposed ladder as text, and as one HTML page that works offline and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import rungwise
from rungwise.artifact import write_text
from rungwise.ladder.propose import CodecLadder, Proposal
from rungwise.ladder.rungs import format_kbps
from rungwise.ladder.trials import counts_text
from rungwise.metrics.curves import convex_hull
from rungwise.report.ladder_plots import (
    MARGINS,
    curve_keys,
    draw_curves,
    height_colors,
    hull_line,
    plot_sizes,
    rung_mark,
)
from rungwise.report.page import render, sentence
from rungwise.report.svg import SOFT, Drawing, Mark, Plot, key, linear_axis, log_axis

_TRIAL = Mark("circle", SOFT, True, 2.6)


def write_proposal(proposal: Proposal, out: Path) -> None:
    """propose.json, propose.txt and propose.html in `out`, each replaced at once."""
    write_text(out / "propose.json", proposal.model_dump_json(indent=2) + "\n")
    write_text(out / "propose.txt", proposal_text(proposal) + "\n")
    write_text(out / "propose.html", make_page(proposal))


def proposal_text(proposal: Proposal) -> str:
    """A table for each codec, and the commands."""
    part = "all" if proposal.sampled_seconds >= proposal.duration_seconds else f"{proposal.sampled_seconds:.0f} s of it"
    lines = [
        f"{proposal.master}: {proposal.duration_seconds:.1f} s ({part}), by VMAF v1, evaluated at "
        f"{proposal.display_height}p"
    ]
    for ladder in proposal.ladders:
        lines += ["", f"{ladder.codec} preset {ladder.preset}: {len(ladder.rungs)} rungs"]
        lines += [f"{'kbps':>8}{'height':>8}{'crf':>6}{'VMAF':>8}{'rise':>8}"]
        scores = [rung.vmaf for rung in ladder.rungs]
        rises = ["", *(f"{high - low:+.1f}" for low, high in pairwise(scores))]
        lines += [
            f"{rung.bitrate_kbps:>8.0f}{f'{rung.height}p':>8}{rung.crf:>6}{rung.vmaf:>8.1f}{rise:>8}"
            for rung, rise in zip(ladder.rungs, rises, strict=False)
        ]
        lines += [f"  {line}" for line in _shot_lines(ladder)]
        lines += [f"  {line}" for line in (*(each.text for each in ladder.crossovers), ladder.note) if line]
        lines += ["", *(rung.command for rung in ladder.rungs)]
    lines += ["", *(f"encoded: {manifest}" for manifest in proposal.manifests)] if proposal.manifests else []
    return "\n".join([*lines, "", counts_text(proposal.runs, proposal.seconds)])


def _shot_lines(ladder: CodecLadder) -> Iterator[str]:
    """What one CRF a shot saves on each rung."""
    for rung in ladder.rungs:
        if rung.per_shot is not None:
            crfs = " ".join(map(str, rung.per_shot.crfs))
            yield (
                f"{rung.height}p crf {rung.crf} per shot: crf {crfs}; {rung.per_shot.bitrate_kbps:.0f} kbps, VMAF "
                f"{rung.per_shot.vmaf:.1f}, {rung.per_shot.saved_percent:.1f} % less than one CRF for all shots"
            )


def make_page(proposal: Proposal) -> str:
    """The page, self-contained."""
    colors = height_colors(curve.height for ladder in proposal.ladders for curve in ladder.curves)
    crossovers = [each for ladder in proposal.ladders for each in ladder.crossovers]
    columns = min(len(proposal.ladders), 3)
    return render(
        "proposal.html.jinja",
        proposal.model_dump(mode="json"),
        proposal=proposal,
        colors=colors,
        legend=[*curve_keys(colors, crossovers), key("trial encode", _TRIAL)],
        figures=[_plots(ladder, proposal, colors, columns) for ladder in proposal.ladders],
        columns=columns,
        notes=list(_notes(proposal)),
    )


def _plots(ladder: CodecLadder, proposal: Proposal, colors: dict[int, str], columns: int) -> list[Drawing]:
    """VMAF against bitrate, for a phone and for a desk."""
    every = [point for other in proposal.ladders for curve in other.curves for point in curve.points]
    rates, levels = [point.bitrate_kbps for point in every], [point.vmaf for point in every]
    own = [point for curve in ladder.curves for point in curve.points]
    hull = convex_hull([point.bitrate_kbps for point in own], [point.vmaf for point in own])
    band = hull_line([own[row].bitrate_kbps for row in hull], [own[row].vmaf for row in hull])
    curves = {curve.height: [(point.bitrate_kbps, point.vmaf) for point in curve.points] for curve in ladder.curves}
    plots = list[Drawing]()
    for width, height, css, max_ticks in plot_sizes(columns):
        x, y = log_axis("bitrate, kbps (log scale)", rates, max_ticks), linear_axis("", levels)
        name = f"{ladder.codec}: VMAF v1 against bitrate"
        plot = Plot(name, x, y, width=width, height=height, margins=MARGINS, css=css)
        draw_curves(plot, band, curves, colors, ladder.crossovers)
        for curve in ladder.curves:
            for point in curve.points:
                kind = "measured" if point.measured else "estimated"
                hover = f"{curve.height}p crf {point.crf}\n{format_kbps(point.bitrate_kbps)} kbps"
                hover += f"\nVMAF {point.vmaf:.1f}, {kind}"
                plot.mark(_TRIAL, point.bitrate_kbps, point.vmaf, hover=hover, css="trial")
        for rung in ladder.rungs:
            hover = f"rung: {rung.height}p crf {rung.crf}\n{format_kbps(rung.bitrate_kbps)} kbps\nVMAF {rung.vmaf:.1f}"
            mark = rung_mark(colors[rung.height], None)
            plot.mark(mark, rung.bitrate_kbps, rung.vmaf, hover=hover, css="rung")
        plots.append(plot)
    return plots


def _notes(proposal: Proposal) -> Iterator[str]:
    yield (
        "Rungs are measured by VMAF v1 against the master. Other trial encodes have estimates: the model's scores, "
        "shifted through VMAF's."
    )
    yield f"Rungs are at least {proposal.step:g} points apart."
    if proposal.sampled_seconds < proposal.duration_seconds:
        yield (
            f"Bitrates and scores are of {proposal.sampled_seconds:.0f} seconds of samples of a master of "
            f"{proposal.duration_seconds:.0f} seconds."
        )
    if proposal.shots:
        shots = f"{len(proposal.shots)} shots" if len(proposal.shots) > 1 else "a single shot"
        yield f"The master has {shots}, by ffmpeg's scdet."
    for ladder in proposal.ladders:
        yield from (f"{ladder.codec} {line}." for line in _shot_lines(ladder))
    yield sentence(counts_text(proposal.runs, proposal.seconds))
    yield f"Made by rungwise {rungwise.__version__}, ladder propose."
