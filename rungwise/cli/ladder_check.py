"""`rungwise ladder check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rungwise.cli.options import OUTPUT, AllowNetwork, Csv, Json, Quiet, check_format, display_height_option

if TYPE_CHECKING:
    from rungwise.ladder.check import CheckRequest
    from rungwise.ladder.compare import Gate, Report
    from rungwise.ladder.pairing import Crop

QUALITY, ADVICE = "Quality", "Check and advice"
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="one title's encodes: a folder, a .parquet or .csv table, a .m3u8 or .mpd, also at a URL"
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE",
        help="score the rungs with this .onnx file",
        show_default="the packaged model",
        rich_help_panel=QUALITY,
    ),
]
Quality = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="instead of a model: a table's column, such as an old VMAF", rich_help_panel=QUALITY
    ),
]
LowerIsBetter = Annotated[
    bool, typer.Option("--lower-is-better", help="lower is better in --quality COLUMN", rich_help_panel=QUALITY)
]
Truth = Annotated[
    str | None,
    typer.Option(
        metavar="vmaf|COLUMN",
        help="check by a second metric too: VMAF v1 against --reference, or a column",
        rich_help_panel=QUALITY,
    ),
]
Reference = Annotated[
    Path | None, typer.Option(metavar="FILE", help="the master, for --truth vmaf", rich_help_panel=QUALITY)
]
CropText = Annotated[
    str | None,
    typer.Option(
        metavar="W:H[:X:Y]",
        help="compare with this part of --reference, as ffmpeg's filter crop; centered without X:Y",
        show_default="all of it",
        rich_help_panel=QUALITY,
    ),
]
DisplayHeight = Annotated[int | None, display_height_option("the top rung's", QUALITY)]
Views = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="patches that the model scores, the same in all rungs", rich_help_panel=QUALITY
    ),
]
PixelOnly = Annotated[
    bool, typer.Option("--pixel-only", help="the model ignores bitstream features", rich_help_panel=QUALITY)
]
Content = Annotated[str | None, typer.Option(metavar="NAME", help="which title of a table", rich_help_panel=ADVICE)]
Step = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="POINTS",
        help="one just-noticeable difference; 6 is a rule of thumb for VMAF v0, noticed by 75 % of viewers "
        "(J. Ozer, streaminglearningcenter.com)",
        show_default="6 on a VMAF scale, none on others",
        rich_help_panel=ADVICE,
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="POINTS",
        help="differences that may be noise; a rung is below the hull or out of order only by more",
        show_default="2 on a VMAF scale, else step / 3",
        rich_help_panel=ADVICE,
    ),
]
Rungs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="rungs to recommend",
        show_default="as many as stay a step apart",
        rich_help_panel=ADVICE,
    ),
]
Cap = Annotated[
    float | None, typer.Option(min=0, metavar="KBPS", help="recommend no rung above it", rich_help_panel=ADVICE)
]
Anchor = Annotated[
    str | None,
    typer.Option(
        metavar="CODEC",
        help="codec that others are compared with",
        show_default="every pair",
        rich_help_panel=ADVICE,
    ),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="GATE,...",
        help="exit 1 if the first metric finds any: off-hull, unordered, close, gap>N, floor<N, ceiling<N, N in points",
        rich_help_panel=ADVICE,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="folder for check.html, .json, .csv, .txt, and for scores that the next run reuses",
        rich_help_panel=OUTPUT,
    ),
]


def check(
    source: Source,
    model: Model = None,
    quality: Quality = None,
    lower_is_better: LowerIsBetter = False,
    truth: Truth = None,
    reference: Reference = None,
    crop: CropText = None,
    display_height: DisplayHeight = None,
    views: Views = 8,
    pixel_only: PixelOnly = False,
    content: Content = None,
    step: Step = None,
    tolerance: Tolerance = None,
    rungs: Rungs = None,
    cap: Cap = None,
    anchor: Anchor = None,
    fail_on: FailOn = None,
    out: Out = None,
    allow_network: AllowNetwork = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Check one title's ladder: rungs below the hull, out of order or too close, crossovers and gaps."""
    check_format(as_json, as_csv)
    from rungwise.ladder.check import CheckRequest, check_source
    from rungwise.media.remote import Network, is_url

    gates = _gates(fail_on)
    options = CheckRequest(
        source=source if is_url(source) else Path(source),
        model=_model(model, quality, truth),
        quality=quality,
        lower_is_better=lower_is_better,
        truth=truth,
        reference=reference,
        crop=_crop(crop, truth, reference),
        display_height=display_height,
        content=content,
        step=step,
        tolerance=tolerance,
        count=rungs,
        cap_kbps=cap,
        anchor=anchor,
        views=views,
        pixel_only=pixel_only,
        out=out,
        network=Network(allow_network or ()),
    )
    _check_reference(options)
    report = check_source(options)
    _print(report, out, as_json, as_csv)
    if _warn(report, gates):
        raise typer.Exit(1)


def _gates(text: str | None) -> tuple[Gate, ...]:
    from rungwise.ladder.compare import parse_gates

    try:
        return parse_gates(text) if text is not None else ()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from error


def _model(model: Path | None, quality: str | None, truth: str | None) -> Path | None:
    """The model that scores the rungs; None where a table's column or VMAF takes its place."""
    from rungwise.score.scorer import SHIPPED_MODEL

    if model is not None and quality is not None:
        raise typer.BadParameter("give one of --model and --quality; the other may be the --truth")
    return SHIPPED_MODEL if model is None and quality is None and truth is None else model


def _crop(text: str | None, truth: str | None, reference: Path | None) -> Crop | None:
    from rungwise.ladder.check import TRUTH_VMAF
    from rungwise.ladder.pairing import Crop

    if text is None:
        return None
    if truth != TRUTH_VMAF or reference is None:
        raise typer.BadParameter("it crops the reference: give --truth vmaf and --reference", param_hint="--crop")
    try:
        return Crop.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--crop") from error


def _check_reference(options: CheckRequest) -> None:
    from rungwise.ladder.check import TRUTH_VMAF
    from rungwise.tables import TABLE_SUFFIXES

    is_table = Path(options.source).suffix.lower() in TABLE_SUFFIXES
    if options.truth == TRUTH_VMAF and options.reference is None and not is_table:
        raise typer.BadParameter("--truth vmaf compares with the master: give --reference")


def _print(report: Report, out: Path | None, as_json: bool, as_csv: bool) -> None:
    """The report to stdout and, with `out`, to files whose paths are printed under the text."""
    from rungwise.report.ladder_page import write_outputs
    from rungwise.report.ladder_text import to_csv, to_json, to_text

    written = [] if out is None else write_outputs(report, out)
    print((to_json if as_json else to_csv if as_csv else to_text)(report), end="")
    if written and not (as_json or as_csv):
        print("\n".join(str(path) for path in written))


def _warn(report: Report, gates: tuple[Gate, ...]) -> bool:
    """One line to stderr for each rung left out and each gate failed; whether there is any."""
    from rungwise.ladder.compare import failed_gates
    from rungwise.progress import warn

    failed = failed_gates(gates, report)
    for name, reason in report.failures.items():
        warn(f"left out: {name}: {reason.splitlines()[0]}")
    for line in failed:
        warn(f"--fail-on {line}")
    return bool(report.failures or failed)
