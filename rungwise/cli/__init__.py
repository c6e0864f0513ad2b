"""The verbs. stdout carries results, stderr progress; exit 0 ok, 1 an input or a gate failed, 2 usage.

Every import that costs time is made inside its verb, so that `rungwise --help` answers at once.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rungwise.cli.dataset import dataset_app
from rungwise.cli.evaluate import evaluate
from rungwise.cli.ladder_check import check
from rungwise.cli.options import Config, Device, Json, Runs, SourcesOption
from rungwise.cli.pipeline import report_failures, run_pipeline, run_until, training_module
from rungwise.cli.score import score

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A small no-reference model that judges compressed video: make a ladder, teach, distill, export, score.",
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,
) -> None:
    """Options of every verb; `main` reads --debug, wherever it stands, and launchers say --local_rank twice."""


@app.command()
def probe(videos: Annotated[list[Path], typer.Argument(help="video files")], as_json: Json = False) -> None:
    """Print what we see in a file: codec, size, rate, depth, color, rotation, VFR, HDR."""
    from rungwise.failures import failure
    from rungwise.media.video import probe as look
    from rungwise.progress import note

    failed = False
    for path in videos:
        try:
            facts = look(path).model_dump()
        except Exception as error:
            failed = True
            facts = {"path": str(path), "error": failure(str(path), error)}
        if as_json:
            print(json.dumps(facts))
        elif "error" in facts:
            note(f"rungwise probe: {facts['error']}")
        else:
            facts["notes"] = "; ".join(facts["notes"])
            print("\n".join(f"{name:22}{value}" for name, value in facts.items() if value != ""))
    if failed:
        raise typer.Exit(1)


app.command()(score)


@app.command()
def masters(
    out: Annotated[Path, typer.Argument(help="folder to write to")],
    names: Annotated[list[str] | None, typer.Argument(help="scenes: fog_a, fog_17, ... [all with a letter]")] = None,
    height: Annotated[int, typer.Option(min=64, help="lines; 16:9")] = 360,
    frames: Annotated[int, typer.Option(min=1, help="frames a scene")] = 48,
    fps: Annotated[float, typer.Option(min=1, help="frames a second")] = 24.0,
    sheet: Annotated[bool, typer.Option("--sheet", help="write a contact sheet too")] = False,
) -> None:
    """Render the built-in scenes as lossless masters, for use elsewhere."""
    from rungwise.progress import track
    from rungwise.scenes import SCENES, contact_sheet, find_scene, write_master

    chosen = names or sorted(SCENES)
    for name in chosen:
        find_scene(name)  # a wrong name stops the command before anything is drawn
    out.mkdir(parents=True, exist_ok=True)
    width = round(height * 16 / 9 / 2) * 2
    for name in track(chosen, "masters", total=len(chosen)):
        write_master(name, out / f"{name}.mkv", width=width, height=height, num_frames=frames, fps=fps)
        print(out / f"{name}.mkv")
    if sheet:
        contact_sheet(chosen, out / "contact_sheet.png")
        print(out / "contact_sheet.png")


class _ConfigOrVerb(TyperGroup):
    """`cache CONFIG` and `cache verify RUN`: what is no verb goes to "make"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["make", *args]
        return super().parse_args(ctx, args)


LADDER_HELP = "Encode every rung of every master and label it; `ladder check` judges one title's ladder."
ladder_app = typer.Typer(cls=_ConfigOrVerb, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ladder_app, name="ladder", help=LADDER_HELP)
ladder_app.command()(check)


@ladder_app.command(name="make", help="ladder CONFIG: encode and label; `make` may be left out.")
def ladder(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    shard: Annotated[str | None, typer.Option(help="Make one share alone, such as 2/8, for a farm to merge.")] = None,
    as_json: Json = False,
) -> None:
    """Encode every rung of every master and label it against its master."""
    from rungwise.config import load_config
    from rungwise.ladder.make import Shard, make_ladder, read_failures, read_ladder
    from rungwise.ladder.sources import find_unlabelled, make_masters

    settings = load_config(config, sources=sources)
    found = make_masters(settings.sources, runs, held_out=settings.splits.named)
    share = None if shard is None else Shard.parse(shard)
    unlabelled = find_unlabelled(settings.sources, found)
    artifact = make_ladder(settings.ladder, found, runs, unlabelled=unlabelled, shard=share)
    failures, table = read_failures(artifact), read_ladder(artifact)
    facts = {"table": str(artifact.path / "table.parquet"), "encodes": len(table), "failures": failures}
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"{len(table)} encodes of {table['content'].nunique()} contents: {facts['table']}")
    report_failures(failures)


STAGE_VERBS = {
    "teach": "Tune the teacher on the train contents (makes what comes before it).",
    "cache": "Run the teacher over every view once; `cache verify RUN` audits a finished cache.",
    "export": "Write the student as ONNX files, one a precision, each through its gates.",
}


def _stage_verb(stage: str) -> Callable[..., None]:
    def verb(
        config: Config,
        runs: Runs = Path("runs"),
        sources: SourcesOption = None,
        device: Device = "cpu",
        as_json: Json = False,
    ) -> None:
        run_until(stage, config, runs, sources, device, as_json)

    return verb


for _stage, _help in STAGE_VERBS.items():
    if _stage != "cache":
        app.command(name=_stage, help=_help)(_stage_verb(_stage))
app.command()(evaluate)
app.add_typer(dataset_app, name="dataset")


class Tune(StrEnum):
    """What of a student learns."""

    all = "all"
    styleprompt = "styleprompt"


class Pretrain(StrEnum):
    """How a student may be taught before it is distilled."""

    contrast = "contrast"


@app.command()
def distill(
    config: Config,
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    tune: Annotated[Tune | None, typer.Option(help="all, or a trained student's prompts alone [the config's]")] = None,
    start: Annotated[Path | None, typer.Option(help="a student's checkpoint to go on from [the config's]")] = None,
    pretrain: Annotated[
        Pretrain | None, typer.Option(help="make the student's first stage alone; it needs no labels and no teacher")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="folder for TensorBoard's events")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Distill the student from labels and the cache."""
    changes = {"tune": tune and tune.value, "start": start and str(start)}
    changes = {key: value for key, value in changes.items() if value is not None}
    until = "distill" if pretrain is None else "pretrain"
    run_until(until, config, runs, sources, device, as_json, changes, tensorboard)


cache_app = typer.Typer(cls=_ConfigOrVerb, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache_app, name="cache", help=STAGE_VERBS["cache"])
cache_app.command(name="make", help="cache CONFIG: run the teacher over every view once; `make` may be left out.")(
    _stage_verb("cache")
)


@cache_app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="a cache's folder (runs/cache/ID), or a runs folder: all its caches")],
    sample: Annotated[int, typer.Option(min=1, help="clips to re-run")] = 32,
    seed: Annotated[int | None, typer.Option(help="which clips [drawn anew each time, and printed]")] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="allowed share of a field's scale [0.001 in fp32, 0.03 in bf16]")
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Re-run the teacher on random entries of a finished cache; exit 1 if anything is off."""
    import secrets

    from rungwise.failures import failure
    from rungwise.progress import note

    folders = [run] if (run / "manifest.json").is_file() else sorted((run / "cache").glob("*/manifest.json"))
    if not folders:
        raise ValueError(f"{run}: neither a finished cache nor a runs folder with one; make one with `rungwise cache`")
    seed = secrets.randbelow(2**31) if seed is None else seed
    verify_cache = training_module("distill.teaching").verify_cache
    failed = False
    for folder in folders:
        path = folder if folder.is_dir() else folder.parent
        try:
            rows, allowed = verify_cache(path, sample=sample, seed=seed, tolerance=tolerance, device=device)
        except Exception as error:
            failed = True
            reason = failure(str(path), error)
            if as_json:
                print(json.dumps({"cache": str(path), "error": reason}))
            note(f"rungwise cache verify: {reason}")
            continue
        worst = {name: max(row[name] for row in rows) for name in rows[0] if name != "clip"}
        off = sum(max(row[name] for name in worst) > allowed for row in rows)
        failed |= off > 0
        facts = {"cache": str(path), "clips": len(rows), "off": off, "seed": seed, "tolerance": allowed} | worst
        if as_json:
            print(json.dumps(facts | {"rows": rows}))
        else:
            figures = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
            print(
                f"{path}: {len(rows) - off} of {len(rows)} clips agree (seed {seed}, tolerance {allowed:g}); {figures}"
            )
    if failed:
        raise typer.Exit(1)


teacher_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(teacher_app, name="teacher", help="Work on teachers' checkpoints.")


@teacher_app.callback()
def _teacher() -> None:
    """Work on teachers' checkpoints."""


@teacher_app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="file, or hub id OWNER/NAME or OWNER/NAME/FILE")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".safetensors file to write")],
    as_json: Json = False,
) -> None:
    """Read an official InternVideo2 checkpoint safely and write safetensors with a card of what was read."""
    facts = training_module("teacher.convert").convert(source, out)
    print(json.dumps(facts) if as_json else "\n".join(f"{name:12}{value}" for name, value in facts.items()))


student_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(student_app, name="student", help="Look at students.")


@student_app.callback()
def _student() -> None:
    """Look at students."""


@student_app.command()
def info(
    model: Annotated[Path, typer.Argument(help="a run's YAML, or a student's checkpoint (.safetensors)")],
    as_json: Json = False,
) -> None:
    """Print weights and multiply-adds for one video's view, part by part."""
    facts = training_module("distill.golden").student_info(model)
    if as_json:
        print(json.dumps(facts))
        return
    print(f"{facts['model']}, {facts['view']}")
    print(f"{'part':16}{'weights':>12}{'MMACs':>10}{'':>8}")
    for part in (*facts["parts"], facts["total"]):
        share = part["macs"] / facts["total"]["macs"]
        print(f"{part['name']:16}{part['weights']:>12,}{part['macs'] / 1e6:>10.1f}{share:>8.1%}")


@app.command()
def golden(
    files: Annotated[list[Path], typer.Argument(help="golden files, checkpoints of ours, or exports")],
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="allowed absolute deviation [1e-4; a checkpoint's or export's own]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Re-run what files say of themselves: the largest deviation of every output; exit 1 above the tolerance."""
    from rungwise.failures import failure
    from rungwise.progress import note

    failed = False
    for path in files:
        try:
            if path.suffix == ".onnx":
                from rungwise.score.scorer import golden_of_export

                found, allowed = golden_of_export(path)
            else:
                found, allowed = training_module("distill.golden").golden(path)
        except Exception as error:
            failed = True
            reason = failure(str(path), error)
            if as_json:
                print(json.dumps({"file": str(path), "error": reason}))
            note(f"rungwise golden: {reason}")
            continue
        allowed = allowed if tolerance is None else tolerance
        for output, deviation in found.items():
            passed = deviation <= allowed
            failed |= not passed
            facts = {"file": str(path), "output": output, "deviation": deviation, "tolerance": allowed, "ok": passed}
            if as_json:
                # JSON has no infinity, which is what a NaN output deviates by.
                print(json.dumps(facts | ({} if deviation < float("inf") else {"deviation": None})))
            else:
                print(f"{'ok  ' if passed else 'FAIL'}  {output:24} {deviation:.3g}  {path}")
    if failed:
        raise typer.Exit(1)


@app.command()
def quickstart(
    config: Config = Path("configs/quickstart.yaml"),
    runs: Runs = Path("runs"),
    sources: SourcesOption = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """The main job from masters to a scored video; a second run finds everything made."""
    outcome = run_pipeline(config, runs, sources, device, "evaluate")
    evaluation, exported = outcome.artifacts["evaluate"].path, outcome.artifacts["export"].path
    model = exported / "student.onnx"
    if as_json:
        facts = {
            "evaluation": json.loads((evaluation / "evaluation.json").read_text()),
            "report": str(evaluation / "report.html"),
            "model": str(model),
            "seconds": {stage: round(value, 1) for stage, value in outcome.seconds.items()},
            "failures": outcome.failures,
        }
        print(json.dumps(facts))
    else:
        print((evaluation / "table.txt").read_text())
        spent = ", ".join(f"{stage} {value:.0f}" for stage, value in outcome.seconds.items())
        print(f"seconds:  {spent}; total {sum(outcome.seconds.values()):.0f}")
        print(f"report:   {evaluation / 'report.html'}")
        print(f"model:    {model}")
        print(f"score your own file:  {Path(sys.argv[0])} score --model {model} YOUR_VIDEO")
    report_failures(outcome.failures)


def main() -> None:
    """Entry point: one clear line for a user's error and for ours, a traceback only under --debug."""
    from rungwise.failures import failure, show_tracebacks

    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        show_tracebacks()
    verb = next((word for word in arguments if not word.startswith("-")), "")
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
