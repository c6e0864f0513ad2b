"""Every verb's help: headings, examples that parse, options that all verbs share."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import rungwise
from rungwise.cli import VERBS, app, main

NAMES = [name for _, name, _, _ in VERBS]


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, groups too."""
    yield name, command
    for part, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {part}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_fits_the_terminal(name: str, columns: str) -> None:
    done = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": columns, "TERMINAL_WIDTH": columns})
    assert done.exit_code == 0
    text, heading, examples = done.stdout.partition("\nExample")
    assert heading
    assert "  rungwise " in examples
    assert max(map(len, text.splitlines())) <= int(columns)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_parse(name: str) -> None:
    for line in COMMANDS[name].epilog.splitlines():
        words = shlex.split(line)[1:]
        verb = " ".join(words[:2]) if " ".join(words[:2]) in NAMES else words[0]
        assert verb in NAMES
        assert verb.startswith(name)
        COMMANDS[verb].make_context(verb, words[len(verb.split()) :])  # raises a usage error


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_can_be_quiet(name: str) -> None:
    assert "--quiet" in {option for param in COMMANDS[name].params for option in param.opts}


def test_verbs_stand_under_three_headings() -> None:
    lines = CliRunner().invoke(app, ["--help"]).stdout.splitlines()
    assert [line for line in lines if line in ("Use:", "Judge:", "Train:", "Commands:")] == ["Use:", "Judge:", "Train:"]
    assert "--install-completion" in "".join(lines)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"rungwise {rungwise.__version__}\n"


@pytest.mark.parametrize("group", ["ladder", "cache"])
def test_a_config_without_its_verb_is_answered_with_the_verb(group: str) -> None:
    done = CliRunner().invoke(app, [group, "configs/quickstart.yaml", "--runs", "runs"])
    assert done.exit_code == 2
    assert f"{group} make configs/quickstart.yaml" in done.stderr


def test_quiet_leaves_results_and_errors(tmp_path: Path) -> None:
    def run(*options: str) -> Any:
        arguments = ["masters", str(tmp_path), "fog_a", "--height", "64", "--frames", "1", *options]
        return CliRunner().invoke(app, arguments)

    loud, quiet = run(), run("--quiet")
    assert loud.exit_code == quiet.exit_code == 0
    assert loud.stdout == quiet.stdout == f"{tmp_path / 'fog_a.mkv'}\n"
    assert loud.stderr
    assert not quiet.stderr
    (tmp_path / "bad.mp4").write_text("no video")
    for verb in ("probe", "score"):
        done = CliRunner().invoke(app, [verb, "-q", str(tmp_path / "bad.mp4")])
        assert done.exit_code == 1
        assert "bad.mp4" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    program = (
        f"import sys; sys.argv = ['rungwise', '--show-completion', '{shell}']; from rungwise.cli import main; main()"
    )
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert "_RUNGWISE_COMPLETE" in done.stdout


def test_a_verb_that_is_left_out_or_mistaken_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("score\n1\n")
    for arguments, hint in (
        (["ladder", str(tmp_path)], f"ladder check {tmp_path}"),
        (["ladder", "run.yaml"], "ladder make run.yaml"),
        (["evaluate", str(tmp_path / "scores.csv")], "rungwise metrics"),
    ):
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "500"})
        assert done.exit_code == 2
        assert hint in done.stderr


@pytest.mark.parametrize("verb", ["ladder check", "score"])
def test_an_error_names_the_whole_verb(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rungwise", *verb.split(), "missing.csv"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith(f"rungwise {verb}: missing.csv: ")
