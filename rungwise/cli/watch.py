"""`rungwise watch`."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rungwise.cli.options import OUTPUT, AllowNetwork, Json, Quiet
from rungwise.cli.score import GATES, SCORING, Hdr, Model, PixelOnly, ScoreDevice, Threads

if TYPE_CHECKING:
    from rungwise.media.live import Stop

LIVE = "Live"
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE", help="- for a stream on stdin, a growing file, a live .m3u8 or .mpd, also at a URL"
    ),
]
DisplayHeight = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="PIXELS",
        help="height at which the videos are shown",
        show_default="1080 for several rungs, else the video's own",
        rich_help_panel=SCORING,
    ),
]
WindowLength = Annotated[
    float, typer.Option("--window", min=0.5, metavar="SECONDS", help="length of a window", rich_help_panel=SCORING)
]
Last = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="windows whose worst is printed, and that pass a gate again", rich_help_panel=OUTPUT
    ),
]
Gate = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="say where a window's score is worse, and exit 1", rich_help_panel=GATES),
]
WebhookUrl = Annotated[
    str | None,
    typer.Option(
        "--webhook",
        metavar="URL",
        help="POST JSON when a source fails --gate, and when it passes again",
        rich_help_panel=GATES,
    ),
]
PrometheusAddress = Annotated[
    str | None,
    typer.Option(
        "--prometheus",
        metavar="[HOST]:PORT",
        help="serve metrics for Prometheus, such as :9100",
        rich_help_panel=OUTPUT,
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="end a source that sends nothing new", rich_help_panel=LIVE)
]
MaxLag = Annotated[
    float,
    typer.Option(min=0.5, metavar="SECONDS", help="skip video where a source is read so late", rich_help_panel=LIVE),
]


def watch(
    sources: Sources,
    model: Model = None,
    display_height: DisplayHeight = None,
    hdr: Hdr = "refuse",
    pixel_only: PixelOnly = False,
    window: WindowLength = 4.0,
    last: Last = 15,
    gate: Gate = None,
    webhook: WebhookUrl = None,
    timeout: Timeout = 60.0,
    max_lag: MaxLag = 30.0,
    threads: Threads = 1,
    device: ScoreDevice = "cpu",
    prometheus: PrometheusAddress = None,
    allow_network: AllowNetwork = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score live video as it comes: each window as soon as it is complete."""
    if webhook is not None and gate is None:
        raise typer.BadParameter("goes with --gate", param_hint="--webhook")
    from rungwise.cli.watch_exports import Prometheus, Webhook, parse_address
    from rungwise.cli.watch_output import WatchWriter
    from rungwise.media.live import Stop
    from rungwise.media.live_playlist import Limits
    from rungwise.media.remote import Network
    from rungwise.score.scorer import Scorer
    from rungwise.score.watch import WatchOptions
    from rungwise.score.watch import watch as watch_sources
    from rungwise.score.watch_board import Board
    from rungwise.score.watch_sources import find_sources

    address = None if prometheus is None else parse_address(prometheus)
    scorer, stop = Scorer(model, threads=threads, device=device), Stop()
    _stop_on_signals(stop)
    pipe = None if sys.stdin is None else sys.stdin.buffer
    rungs = find_sources(sources, pipe, Limits(timeout, max_lag), stop, Network(allow_network or (), tries=2))
    height = 1080 if display_height is None and len(rungs) > 1 else display_height
    options = WatchOptions(height, hdr, pixel_only, window, max_lag)
    declared_kbps = {name: rung.declared_kbps for name, rung in rungs.items()}
    board = Board(declared_kbps, last, gate, scorer.contract.scale.polarity)
    exports: list[Prometheus | Webhook] = []
    if address is not None:
        exports.append(Prometheus(address, list(rungs)))
    if webhook is not None:
        exports.append(Webhook(webhook))
    writer = WatchWriter(as_json=as_json)
    for event in watch_sources(scorer, {name: rung.make for name, rung in rungs.items()}, options, stop):
        for item in (event, *board.add(event)):
            writer.write(item)
            for export in exports:
                export.add(item)
    for export in exports:
        export.close()
    if writer.num_problems or board.num_failures:
        raise typer.Exit(1)


def _stop_on_signals(stop: Stop) -> None:
    """The first Ctrl-C or SIGTERM ends the sources, the second the program."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
