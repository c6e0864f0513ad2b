"""Options that many verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="the run's YAML, such as configs/quickstart.yaml")]
Runs = Annotated[Path, typer.Option("--runs", help="folder of artifacts")]
SourcesOption = Annotated[Path | None, typer.Option("--sources", help="folder of your own masters")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda")]
