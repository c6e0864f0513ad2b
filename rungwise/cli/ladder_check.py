"""`rungwise ladder check`: the verb's options, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Json


def check(
    source: Annotated[
        Path, typer.Argument(help="one title's encodes: a folder, a .parquet or .csv table, a local .m3u8 or .mpd")
    ],
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="exported .onnx file that scores them [the shipped one]")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="instead of a model: a table's column, such as an old VMAF")
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="lower is better in --quality COLUMN: turn its sign")
    ] = False,
    truth: Annotated[
        str | None,
        typer.Option(metavar="vmaf|COLUMN", help="judge by this as well: VMAF v1 against --reference, or a column"),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="the master, for --truth vmaf")] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="W:H[:X:Y]",
            help="compare with this part of --reference, as ffmpeg's filter crop [all of it; centered without X:Y]",
        ),
    ] = None,
    display_height: Annotated[
        int | None, typer.Option("--display-height", min=2, help="lines at which all are shown [the top rung's]")
    ] = None,
    content: Annotated[str | None, typer.Option(help="which title of a table")] = None,
    step: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="one just-noticeable step, in points [6 on a VMAF scale: a rule of thumb for VMAF v0, what 75 % of "
            "viewers notice (J. Ozer, streaminglearningcenter.com); other scales have none]",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="points that may be noise: off the hull means by more [2 on VMAF, else step / 3]"),
    ] = None,
    rungs: Annotated[int | None, typer.Option(min=1, help="rungs to recommend [as many as stay a step apart]")] = None,
    cap: Annotated[float | None, typer.Option(min=0, metavar="KBPS", help="recommend no rung above it")] = None,
    views: Annotated[int, typer.Option(min=1, help="places that the model looks at, the same in all rungs")] = 8,
    anchor: Annotated[str | None, typer.Option(help="codec that others are compared with [every pair]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for check.html, .json, .csv, .txt, and scores to go on from if killed")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of text, one row a rung")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="GATES",
            help="exit 1 if the first metric finds any: off-hull, unordered, close, gap>N, floor<N, ceiling<N "
            "(N in points), comma-separated",
        ),
    ] = None,
) -> None:
    """Judge one title's ladder: hull, crossovers, rungs off it, out of order or too close, and what to change."""
    from rungwise.ladder.check import TRUTH_VMAF, Wanted, check_source
    from rungwise.ladder.compare import failed_gates, parse_gates
    from rungwise.ladder.pairing import Crop
    from rungwise.progress import note
    from rungwise.report.ladder_page import write_outputs
    from rungwise.report.ladder_text import to_csv, to_json, to_text
    from rungwise.score.scorer import SHIPPED_MODEL
    from rungwise.tables import TABLE_SUFFIXES

    try:
        gates = parse_gates(fail_on) if fail_on is not None else ()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from error
    if model is not None and quality is not None:
        raise typer.BadParameter("give one of --model and --quality; the other may be the --truth")
    if model is None and quality is None and truth is None:
        model = SHIPPED_MODEL
    if truth == TRUTH_VMAF and reference is None and source.suffix.lower() not in TABLE_SUFFIXES:
        raise typer.BadParameter("--truth vmaf compares with the master: give --reference")
    if crop is not None and (truth != TRUTH_VMAF or reference is None):
        raise typer.BadParameter("it crops the reference: give --truth vmaf and --reference", param_hint="--crop")
    try:
        part = Crop.parse(crop) if crop is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--crop") from error
    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")
    report = check_source(
        Wanted(
            source=source,
            model=model,
            quality=quality,
            lower_is_better=lower_is_better,
            truth=truth,
            reference=reference,
            crop=part,
            display_height=display_height,
            content=content,
            step=step,
            tolerance=tolerance,
            count=rungs,
            cap_kbps=cap,
            anchor=anchor,
            views=views,
            out=out,
        )
    )
    if as_json or as_csv or out is None:
        print((to_json if as_json else to_csv if as_csv else to_text)(report), end="")
    if out is not None:
        written = write_outputs(report, out)
        if not (as_json or as_csv):
            print(to_text(report), end="")
            print("\n".join(str(path) for path in written))
    for name, reason in report.failures.items():
        note(f"left out: {name}: {reason.splitlines()[0]}")
    failed = failed_gates(gates, report)
    for line in failed:
        note(f"--fail-on {line}")
    if report.failures or failed:
        raise typer.Exit(1)
