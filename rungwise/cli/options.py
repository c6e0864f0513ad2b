"""Options that several verbs share."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

OUTPUT = "Output"  # the heading of options that say what is printed and written


def _set_quiet(quiet: bool) -> bool:
    from rungwise.progress import set_quiet

    set_quiet(quiet)
    return quiet


def check_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise typer.BadParameter("give one of --json and --csv")


def parse_numbers(text: str, option: str, maximum: float) -> tuple[float, ...]:
    """Comma-separated numbers above 0."""
    numbers = []
    for word in text.split(","):
        try:
            number = float(word)
        except ValueError:
            number = -1.0
        if not 0 < number <= maximum:
            message = f"{word.strip()!r} is not a number above 0 and up to {maximum:g}"
            raise typer.BadParameter(message, param_hint=option)
        numbers.append(number)
    return tuple(numbers)


def check_encoder(codec: str, preset: str, option: str) -> None:
    """A codec and its preset; an empty preset is the codec's default."""
    from rungwise.ladder.encode import EncodeSpec

    try:
        EncodeSpec(codec, 2, preset=preset, bitrate_kbps=1)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def parse_heights(text: str | None, option: str) -> tuple[int, ...]:
    """Comma-separated heights in pixels; none where the option is not given."""
    return tuple(int(number) for number in parse_numbers(text, option, 8192)) if text else ()


def cache_folder(name: str) -> Path:
    """A folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rungwise" / name


def trial_cache() -> Path:
    """The folder of trial encodes' results where none is given."""
    return cache_folder("trials")


def display_height_option(default: str, panel: str) -> Any:
    """`--display-height`, one wording for all verbs; `default` is whose height it is where it is not given."""
    return typer.Option(
        "--display-height",
        min=2,
        metavar="PIXELS",
        help="height at which videos are shown and evaluated",
        show_default=default,
        rich_help_panel=panel,
    )


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="the run's YAML, such as configs/quickstart.yaml")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="folder of artifacts")]
SourcesOption = Annotated[
    Path | None,
    typer.Option("--sources", metavar="DIR", help="folder of your own masters", show_default="sources in CONFIG"),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="a Ray cluster that does the work, such as auto or 10.0.0.1:6379; all its nodes see the same folders",
    ),
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
AllowNetwork = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-network",
        metavar="HOST",
        help="a host that links of playlists and redirects may lead to, or that has a private address; may be repeated",
        show_default="the host of each URL given, if its address is public",
        rich_help_panel="Network",
    ),
]
TRIALS = "Trial encodes"
TrialSamples = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=1,
        metavar="N",
        help="parts of 8 seconds that stand for the master",
        show_default="3 to 12; all of a short master",
        rich_help_panel=TRIALS,
    ),
]
TrialJobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="samples at a time", show_default="one a CPU", rich_help_panel=TRIALS
    ),
]
TrialCache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="folder of results that the next run reuses, by content and settings",
        show_default="~/.cache/rungwise/trials",
        rich_help_panel=TRIALS,
    ),
]
