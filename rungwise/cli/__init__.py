"""The verbs. stdout carries results, stderr progress; exit 0 ok, 1 an input or a gate failed, 2 usage.

Every import that costs time is made inside its verb, so that `rungwise --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from rungwise.cli import dataset, stages
from rungwise.cli.cache_verify import verify
from rungwise.cli.crf_search import crf_search
from rungwise.cli.distill import distill
from rungwise.cli.export import export
from rungwise.cli.golden import golden
from rungwise.cli.help import Verb, VerbGroup
from rungwise.cli.ladder_check import check
from rungwise.cli.ladder_make import make
from rungwise.cli.ladder_propose import propose
from rungwise.cli.masters import masters
from rungwise.cli.metrics import metrics
from rungwise.cli.probe import probe
from rungwise.cli.quickstart import quickstart
from rungwise.cli.score import score
from rungwise.cli.student import info
from rungwise.cli.teacher import convert
from rungwise.cli.watch import watch

app = typer.Typer(
    cls=VerbGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
    epilog="rungwise score clip.mp4\nrungwise ladder check encodes/ --out check\nrungwise quickstart",
)


def _print_version(version: bool) -> None:
    if version:
        import rungwise

        print(f"rungwise {rungwise.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="print tracebacks of errors; may stand after the verb")
    ] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,  # launchers add it
) -> None:
    """Predict the quality of compressed video without its reference, check bitrate ladders, train the models."""


USE, JUDGE, TRAIN = "Use", "Judge", "Train"
GROUPS = {
    "ladder": (JUDGE, "Check one title's ladder, propose one, or make a ladder to train on."),
    "dataset": (JUDGE, "Import rated data sets as tables, check tables, recover scores from single ratings."),
    "cache": (TRAIN, "Make and verify the cache of the teacher's targets and features."),
    "teacher": (TRAIN, "Convert teacher checkpoints."),
    "student": (TRAIN, "Inspect student models."),
}
# Heading, verb, function, examples.
VERBS: tuple[tuple[str, str, Callable[..., None], tuple[str, ...]], ...] = (
    (USE, "score", score, ("clip.mp4", "'encodes/**/*.mp4' --timeline 4 --worst 3 --out timelines", "*.mp4 --csv")),
    (USE, "watch", watch, (
        "live/master.m3u8 --gate 70 --prometheus :9100", "- --json < out.ts", "recording.ts --window 2",
    )),
    (USE, "probe", probe, ("clip.mp4 --json",)),
    (USE, "crf-search", crf_search, (
        "master.mp4 --codec av1 --preset 8 --target 93", "master.mp4 --target 80,93 --height 540,1080 --json",
    )),
    (JUDGE, "ladder check", check, ("encodes/ --out check", "encodes/ --fail-on 'off-hull,gap>12'")),
    (USE, "ladder propose", propose, ("master.mp4 --codecs h264:medium,av1:8 --rungs 6 --cap 8000",)),
    (JUDGE, "metrics", metrics, (
        "scores.csv --truth mos --pred vmaf,lpips --lower-is-better lpips",
        "dataset.parquet --model student.onnx --out report",
    )),
    (JUDGE, "dataset list", dataset.list_, ("--json",)),
    (JUDGE, "dataset import", dataset.import_, ("konvid_1k /data/KoNViD_1k --out konvid.parquet",)),
    (JUDGE, "dataset check", dataset.check, ("konvid.parquet",)),
    (JUDGE, "dataset aggregate", dataset.aggregate, ("konvid.parquet ratings.csv --out recovered.parquet",)),
    (TRAIN, "quickstart", quickstart, ("configs/quickstart.yaml",)),
    (TRAIN, "masters", masters, ("masters/ fog_a water_17 --height 720 --sheet",)),
    (TRAIN, "ladder make", make, (
        "configs/quickstart.yaml", "configs/quickstart.yaml --shard auto", "configs/quickstart.yaml --ray auto",
    )),
    (TRAIN, "teach", stages.teach, ("configs/quickstart.yaml --device cuda",)),
    (TRAIN, "cache make", stages.make_cache, ("configs/quickstart.yaml --device cuda",)),
    (TRAIN, "cache verify", verify, ("runs --sample 32",)),
    (TRAIN, "distill", distill, (
        "configs/quickstart.yaml", "configs/quickstart.yaml --tune styleprompt --start student.safetensors",
    )),
    (TRAIN, "export", export, ("configs/quickstart.yaml", "--web page", "--web page --model student.int8.onnx")),
    (TRAIN, "evaluate", stages.evaluate, ("configs/quickstart.yaml --json",)),
    (TRAIN, "golden", golden, ("student.onnx student.safetensors",)),
    (TRAIN, "teacher convert", convert, ("OpenGVLab/InternVideo2-Stage1-1B-224p-f8 internvideo2.safetensors",)),
    (TRAIN, "student info", info, ("configs/quickstart.yaml",)),
)  # fmt: skip


def _add_verbs() -> None:
    groups = {"": app}
    for name, (heading, text) in GROUPS.items():
        first_examples = [
            f"rungwise {verb} {examples[0]}" for _, verb, _, examples in VERBS if verb.startswith(name + " ")
        ]
        groups[name] = typer.Typer(
            cls=VerbGroup, no_args_is_help=True, rich_markup_mode=None, epilog="\n".join(first_examples)
        )
        app.add_typer(groups[name], name=name, help=text, rich_help_panel=heading)
    for heading, verb, function, examples in VERBS:
        group, _, name = verb.rpartition(" ")
        epilog = "\n".join(f"rungwise {verb} {example}" for example in examples)
        groups[group].command(name, cls=Verb, epilog=epilog, rich_help_panel=None if group else heading)(function)


_add_verbs()


def main() -> None:
    """Entry point: one clear line for a user's error and for ours, a traceback only under --debug."""
    from rungwise.failures import failure, show_tracebacks

    if "--debug" in sys.argv[1:]:
        show_tracebacks()
    # The deepspeed launcher adds --local_rank=N before the verb; its environment says the same (rungwise/ranks.py).
    arguments = [word for word in sys.argv[1:] if word != "--debug" and not word.startswith("--local_rank=")]
    words = [word for word in arguments if not word.startswith("-")]
    verb = " ".join(words[: 2 if words[:1] and words[0] in GROUPS else 1])
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal can't show
    try:
        app(arguments)
    except ImportError as error:
        reason = failure("", error)
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("rungwise"):
            reason = f"this verb needs more than the scorer ({error}): pip install 'rungwise[ladder]'"
        print(f"rungwise {verb}: {reason}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        print(f"rungwise {verb}: {failure('', error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("rungwise: stopped; what is finished is kept, run again to go on", file=sys.stderr)
        sys.exit(130)
