"""`rungwise teacher convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rungwise.cli.options import Json, Quiet
from rungwise.cli.pipeline import training_packages


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="file, or hub id OWNER/NAME or OWNER/NAME/FILE")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".safetensors file to write; a folder for PE-Core")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert an official InternVideo2 or PE-Core checkpoint to safetensors, with a card of what it holds."""
    with training_packages():
        from teacher.convert import convert as convert_checkpoint

    facts = convert_checkpoint(source, out)
    print(json.dumps(facts) if as_json else "\n".join(f"{name:12}{value}" for name, value in facts.items()))
