"""`rungwise score`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from rungwise.cli.options import OUTPUT, AllowNetwork, Csv, Json, Quiet, check_format, display_height_option
from rungwise.cli.score_output import Gates, Output, Writer, print_window, write_results

SCORING, GATES, SPEED = "Scoring", "Gates", "Speed"
Videos = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VIDEO",
        help="files, folders, 'patterns/**/*.mp4', .m3u8 or .mpd, http(s) and s3 URLs, - for a stream on stdin",
    ),
]
ListFile = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FILE", help="a text file of inputs, one a line; - is stdin", rich_help_panel=SCORING
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE",
        help="exported .onnx file",
        show_default="the packaged model",
        rich_help_panel=SCORING,
    ),
]
DisplayHeight = Annotated[int | None, display_height_option("each video's own", SCORING)]
Hdr = Annotated[
    Literal["refuse", "tonemap"],
    typer.Option(help="PQ and HLG: refuse, or tone-map for an SDR screen", rich_help_panel=SCORING),
]
BitstreamStats = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:FILE",
        help="an encoder's statistics for y4m on stdin: x264, x265 or svtav1 and its log, or a codec such as h264 and "
        "a CSV of pts, bytes, qp, type",
        rich_help_panel=SCORING,
    ),
]
PixelOnly = Annotated[bool, typer.Option("--pixel-only", help="ignore the bitstream features", rich_help_panel=SCORING)]
Timeline = Annotated[
    float | None,
    typer.Option(min=0.1, metavar="SECONDS", help="score windows of this length too", rich_help_panel=SCORING),
]
Windows = Annotated[
    bool,
    typer.Option(
        "--windows",
        help="NDJSON: each window (of --timeline, if given) as soon as it is scored, then the video",
        rich_help_panel=OUTPUT,
    ),
]
Worst = Annotated[int, typer.Option(min=0, metavar="N", help="print the N worst windows", rich_help_panel=OUTPUT)]
FailUnder = Annotated[
    float | None, typer.Option(metavar="SCORE", help="exit 1 if a video's score is worse", rich_help_panel=GATES)
]
FailUnderWorst = Annotated[
    float | None, typer.Option(metavar="SCORE", help="exit 1 if any window's score is worse", rich_help_panel=GATES)
]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="videos at a time", rich_help_panel=SPEED)]
Threads = Annotated[
    int, typer.Option(min=1, metavar="N", help="threads of decoder and model, for each job", rich_help_panel=SPEED)
]
ScoreDevice = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, tensorrt, openvino, coreml, directml, ...",
        rich_help_panel=SPEED,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="folder of results that are reused, by content, model and options", rich_help_panel=SPEED
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="folder for timelines (.csv, .json, .svg) and the frames of the worst windows (.png)",
        rich_help_panel=OUTPUT,
    ),
]
VmafJson = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="write libvmaf's JSON: a .json file, or a folder of them", rich_help_panel=OUTPUT
    ),
]


def score(
    videos: Videos = None,
    listed: ListFile = None,
    model: Model = None,
    display_height: DisplayHeight = None,
    hdr: Hdr = "refuse",
    pixel_only: PixelOnly = False,
    bitstream_stats: BitstreamStats = None,
    timeline: Timeline = None,
    fail_under: FailUnder = None,
    fail_under_worst: FailUnderWorst = None,
    jobs: Jobs = 1,
    threads: Threads = 1,
    device: ScoreDevice = "cpu",
    cache: Cache = None,
    worst: Worst = 0,
    out: Out = None,
    vmaf_json: VmafJson = None,
    windows: Windows = False,
    allow_network: AllowNetwork = None,
    as_json: Json = False,
    as_csv: Csv = False,
    quiet: Quiet = False,
) -> None:
    """Score videos: one line each, as they are done."""
    check_format(as_json, as_csv)
    if bitstream_stats is not None and "-" not in (videos or ()):
        raise typer.BadParameter("goes with y4m on stdin (-)", param_hint="--bitstream-stats")
    if windows and (as_csv or cache is not None):
        raise typer.BadParameter("goes with neither --csv nor --cache", param_hint="--windows")
    if not videos and listed is None:
        raise typer.BadParameter("name a video, or give --from FILE", param_hint="VIDEO")
    if listed == "-" and "-" in (videos or ()):
        raise typer.BadParameter("stdin holds either a list (--from -) or a video (-)")
    from rungwise.bitstream.encoder_stats import read_encoder_stats
    from rungwise.media.remote import Network
    from rungwise.score.batch import Live, Options, score_all
    from rungwise.score.inputs import find_inputs
    from rungwise.score.scorer import Scorer

    find_cuts = timeline is not None and (out is not None or as_json)
    options = Options(display_height, hdr, timeline, find_cuts=find_cuts, pixel_only=pixel_only)
    scorer = Scorer(model, threads=threads, device=device)
    network = Network(allow_network or ())
    inputs = find_inputs(_arguments(videos or [], listed), network)
    pipe = None if sys.stdin is None else sys.stdin.buffer  # None: closed
    needs_windows = worst > 0 or any(option is not None for option in (out, vmaf_json, fail_under_worst))
    stats = None if bitstream_stats is None else read_encoder_stats(bitstream_stats)
    live = Live(print_window if windows else None, needs_windows or not windows, stats)
    results = score_all(scorer, inputs, options, pipe=pipe, jobs=jobs, cache=cache, live=live, network=network)
    writer = Writer(scorer, Output(out, vmaf_json, worst, hdr == "tonemap", as_json or windows, as_csv))
    if not write_results(results, writer, Gates(fail_under, fail_under_worst), display_height):
        raise typer.Exit(1)


def _arguments(videos: list[str], listed: str | None) -> Iterator[str]:
    """Inputs of the command line, then of a list: one a line, blank lines and those that begin with # left out."""
    yield from videos
    if listed == "-":
        yield from _listed(sys.stdin)
    elif listed is not None:
        from rungwise.tables import read_text

        yield from _listed(read_text(Path(listed)).splitlines())


def _listed(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip("\r\n").removeprefix("\ufeff")
        text = text if os.path.exists(text) else text.strip()
        if text and (not text.startswith("#") or os.path.exists(text)):
            yield text
