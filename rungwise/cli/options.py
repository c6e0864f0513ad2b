"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

OUTPUT = "Output"  # the heading of options that say what is printed and written


def _set_quiet(quiet: bool) -> bool:
    from rungwise.progress import set_quiet

    set_quiet(quiet)
    return quiet


def check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="the run's YAML, such as configs/quickstart.yaml")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="folder of artifacts")]
SourcesOption = Annotated[
    Path | None,
    typer.Option("--sources", metavar="DIR", help="folder of your own masters", show_default="sources in CONFIG"),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text", rich_help_panel=OUTPUT)]
Csv = Annotated[bool, typer.Option("--csv", help="print CSV instead of text", rich_help_panel=OUTPUT)]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="no progress on stderr; errors stay", callback=_set_quiet, rich_help_panel=OUTPUT
    ),
]
