"""`rungwise export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Device, Json, Quiet, Runs, SourcesOption, cache_folder
from rungwise.cli.stages import run_until

WEB = "Web page"


def export(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="the run's YAML, such as configs/quickstart.yaml")
    ] = None,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    web: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="write a static page that scores videos in the browser, instead of a run's student; needs the network "
            "once, for two npm packages",
            rich_help_panel=WEB,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE",
            help="exported .onnx file that the page runs",
            show_default="the packaged model",
            rich_help_panel=WEB,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the student as fp32, fp16 and int8 ONNX files, each checked against its gates; or a page (--web)."""
    if (config is None) == (web is None):
        raise typer.BadParameter("give a run's CONFIG, or --web DIR", param_hint="CONFIG")
    if web is None:
        if model is not None:
            raise typer.BadParameter("goes with --web", param_hint="--model")
        assert config is not None
        run_until("export", config, runs, sources, device, as_json=as_json)
        return
    from rungwise.progress import note
    from rungwise.report.web_page import write_web_page

    write_web_page(web, model, cache_folder("npm"))
    print(json.dumps({"path": str(web)}) if as_json else web)
    note(f"serve it: python3 -m http.server --directory {web}")
