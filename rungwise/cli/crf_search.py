"""`rungwise crf-search`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rungwise.cli.options import (
    Json,
    Quiet,
    TrialCache,
    TrialJobs,
    TrialSamples,
    check_encoder,
    display_height_option,
    parse_heights,
    parse_numbers,
    trial_cache,
)

if TYPE_CHECKING:
    from rungwise.ladder.crf_search import SearchReport

SEARCH = "Search"
Master = Annotated[Path, typer.Argument(metavar="MASTER", help="the video to encode")]
Codec = Annotated[
    str, typer.Option(metavar="CODEC", help="h264, hevc, av1, vp9, vvc, vp8 or mpeg4", rich_help_panel=SEARCH)
]
Preset = Annotated[
    str, typer.Option(metavar="PRESET", help="of the encoder", show_default="the codec's", rich_help_panel=SEARCH)
]
Target = Annotated[
    str,
    typer.Option("--target", metavar="SCORE,...", help="least VMAF v1; several share encodes", rich_help_panel=SEARCH),
]
Height = Annotated[
    str | None,
    typer.Option(
        "--height",
        metavar="PIXELS,...",
        help="heights to encode at",
        show_default="the master's",
        rich_help_panel=SEARCH,
    ),
]
Bitrate = Annotated[bool, typer.Option("--bitrate", help="search for a bitrate, not a CRF", rich_help_panel=SEARCH)]
NoReference = Annotated[
    bool,
    typer.Option(
        "--no-reference",
        help="the model alone decides, for a source that is no trustworthy reference",
        rich_help_panel=SEARCH,
    ),
]
DisplayHeight = Annotated[int | None, display_height_option("the master's", SEARCH)]
Tolerance = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="POINTS",
        help="a score so little above the target will do; doubled by each VMAF run after the second",
        rich_help_panel=SEARCH,
    ),
]


def crf_search(
    master: Master,
    codec: Codec = "h264",
    preset: Preset = "",
    targets: Target = "93",
    heights: Height = None,
    bitrate: Bitrate = False,
    no_reference: NoReference = False,
    display_height: DisplayHeight = None,
    tolerance: Tolerance = 0.5,
    samples: TrialSamples = None,
    jobs: TrialJobs = None,
    cache: TrialCache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the cheapest CRF or bitrate whose VMAF v1 reaches a target, with few trial encodes."""
    check_encoder(codec, preset, "--codec, --preset")
    from rungwise.ladder.crf_search import SearchRequest
    from rungwise.ladder.crf_search import crf_search as search

    report = search(
        SearchRequest(
            master,
            cache or trial_cache(),
            codec=codec,
            preset=preset,
            targets=parse_numbers(targets, "--target", 100),
            heights=parse_heights(heights, "--height"),
            bitrate=bitrate,
            reference=not no_reference,
            display_height=display_height,
            num_samples=samples,
            tolerance=tolerance,
            jobs=jobs or os.cpu_count() or 1,
        )
    )
    print(report.model_dump_json(indent=2) if as_json else _text(report))
    if not _warn(report):
        raise typer.Exit(1)


def _text(report: SearchReport) -> str:
    """A table with one row per target and height, the commands, and what was run."""
    from rungwise.ladder.trials import counts_text

    part = "all" if report.sampled_seconds >= report.duration_seconds else f"{report.sampled_seconds:.0f} s of samples"
    metric = "VMAF v1" if report.reference else "the model alone, no VMAF"
    encoder = f"{report.codec} preset {report.preset}"
    lines = [
        f"{report.master}: {report.duration_seconds:.1f} s ({part}), {encoder}, by {metric}, "
        f"evaluated at {report.display_height}p",
        "",
        f"{'target':>7}{'height':>8}{'setting':>10}{'score':>8}{'kbps':>8}{'MB':>9}{'seconds':>9}",
    ]
    for choice in report.choices:
        setting = f"crf {choice.crf}" if choice.crf is not None else f"{choice.bitrate_kbps}k"
        lines.append(
            f"{choice.target:>7g}{f'{choice.height}p':>8}{setting:>10}{choice.score:>8.1f}"
            f"{choice.measured_kbps:>8.0f}{choice.predicted_bytes / 1e6:>9.2f}{choice.predicted_seconds:>9.1f}"
            f"{'' if choice.reached else '  target not met'}"
        )
    lines += ["", *dict.fromkeys(choice.command for choice in report.choices if choice.reached)]
    return "\n".join([*lines, "", counts_text(report.runs, report.seconds)])


def _warn(report: SearchReport) -> bool:
    """One line to stderr for each target that can't be met; whether all are."""
    from rungwise.progress import warn

    if not report.reference:
        warn("no reference: scores are predictions of the model, known to +/- 10 points; VMAF did not confirm them")
    missed = [choice for choice in report.choices if not choice.reached]
    for choice in missed:
        best = f"crf {choice.crf}" if choice.crf is not None else f"{choice.bitrate_kbps} kbps"
        warn(f"target {choice.target:g} can't be met at {choice.height}p: {best} reaches {choice.score:.1f}")
    return not missed
