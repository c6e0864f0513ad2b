"""`rungwise ladder propose`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import (
    OUTPUT,
    Json,
    Quiet,
    TrialCache,
    TrialJobs,
    TrialSamples,
    check_encoder,
    display_height_option,
    parse_heights,
    trial_cache,
)

LADDER = "Ladder"


def propose(
    master: Annotated[Path, typer.Argument(metavar="MASTER", help="the video to encode")],
    codecs: Annotated[
        str,
        typer.Option(metavar="CODEC[:PRESET],...", help="such as h264:medium,av1:8", rich_help_panel=LADDER),
    ] = "h264",
    heights: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS,...",
            help="heights to try",
            show_default="the master's, 2/3, 1/2 and 1/3 of it",
            rich_help_panel=LADDER,
        ),
    ] = None,
    rungs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="rungs of each codec", show_default="as many as fit", rich_help_panel=LADDER
        ),
    ] = None,
    cap: Annotated[
        float | None, typer.Option(min=0, metavar="KBPS", help="no rung above it", rich_help_panel=LADDER)
    ] = None,
    floor: Annotated[
        float, typer.Option(min=0, max=100, metavar="SCORE", help="VMAF of the lowest rung", rich_help_panel=LADDER)
    ] = 50.0,
    ceiling: Annotated[
        float, typer.Option(min=0, max=100, metavar="SCORE", help="VMAF of the highest rung", rich_help_panel=LADDER)
    ] = 95.0,
    step: Annotated[
        float, typer.Option(min=0.1, metavar="POINTS", help="least distance of rungs", rich_help_panel=LADDER)
    ] = 6.0,
    display_height: Annotated[int | None, display_height_option("the master's", LADDER)] = None,
    encode: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="encode the rungs, with an HLS and a DASH manifest, to this new folder",
            rich_help_panel=LADDER,
        ),
    ] = None,
    per_shot: Annotated[
        bool,
        typer.Option(
            "--per-shot",
            help="one CRF for each shot of a rung, at the same average VMAF and fewer bits",
            rich_help_panel=LADDER,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder for propose.html, .json and .txt", rich_help_panel=OUTPUT),
    ] = None,
    samples: TrialSamples = None,
    jobs: TrialJobs = None,
    cache: TrialCache = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Propose a ladder: heights and CRFs on the convex hull, a step apart, from few trial encodes."""
    from rungwise.ladder.propose import ProposeRequest
    from rungwise.ladder.propose import propose as propose_ladder

    named = [word.strip().partition(":") for word in codecs.split(",")]
    for codec, _, preset in named:
        check_encoder(codec, preset, "--codecs")
    proposal = propose_ladder(
        ProposeRequest(
            master,
            cache or trial_cache(),
            codecs=tuple((codec, preset) for codec, _, preset in named),
            heights=parse_heights(heights, "--heights"),
            count=rungs,
            cap_kbps=cap,
            floor=floor,
            ceiling=ceiling,
            step=step,
            encode=encode,
            per_shot=per_shot,
            display_height=display_height,
            num_samples=samples,
            jobs=jobs or os.cpu_count() or 1,
        )
    )
    from rungwise.report.proposal_page import proposal_text, write_proposal

    if out is not None:
        write_proposal(proposal, out)
    print(proposal.model_dump_json(indent=2) if as_json else proposal_text(proposal))
    empty = [ladder.codec for ladder in proposal.ladders if not ladder.rungs]
    if empty:
        from rungwise.progress import warn

        warn(f"{', '.join(empty)}: no trial encode is under the cap")
        raise typer.Exit(1)
