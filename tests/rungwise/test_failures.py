"""A bad file never ends a batch, and `main` distinguishes user errors from bugs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rungwise import cli, failures
from rungwise.cli import app
from rungwise.config import load_config
from rungwise.failures import ToolError
from rungwise.media.video import probe
from rungwise.score.scorer import Scorer

runner = CliRunner()


@pytest.fixture
def batch(odd_files: Path, tmp_path: Path) -> list[str]:
    """A good file between two without a decoder, and a truncated transport stream."""
    good = (odd_files / "plain.mp4").read_bytes()
    transport = (odd_files / "late.ts").read_bytes()
    files = {"a.mp4": good.replace(b"avc1", b"BRAW"), "b.mp4": good, "c.mp4": good.replace(b"avc1", b"BRAW"),
             "d.ts": transport[: len(transport) // 2]}  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in files]


@pytest.fixture
def broken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in scoring and probing files named b.mp4."""

    def fails(real: object) -> object:
        def call(*arguments: object, **options: object) -> object:
            if any(Path(str(value)).name == "b.mp4" for value in arguments):
                raise KeyError("window 7")
            return real(*arguments, **options)  # type: ignore[operator]

        return call

    monkeypatch.setattr(Scorer, "score", fails(Scorer.score))
    monkeypatch.setattr("rungwise.media.video.probe", fails(probe))


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_stream_without_a_decoder_is_an_error(model: Path, batch: list[str], jobs: str) -> None:
    done = runner.invoke(app, ["score", "-m", str(model), "--json", "--jobs", jobs, *batch])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert [Path(line["path"]).name for line in lines] == ["a.mp4", "b.mp4", "c.mp4", "d.ts"]
    assert ["score" in line for line in lines] == [False, True, False, True]
    assert "BRAW" in lines[0]["error"]


def test_an_unexpected_error_is_one_line_that_asks_for_a_report(
    model: Path, batch: list[str], broken_for: None
) -> None:
    done = runner.invoke(app, ["score", "-m", str(model), "--json", *batch])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert "score" in lines[3]
    for part in ("b.mp4", "KeyError", "window 7", "report"):
        assert part in lines[1]["error"]
    assert "\n" not in lines[1]["error"]


def test_probe_continues_after_a_broken_file(batch: list[str], broken_for: None) -> None:
    done = runner.invoke(app, ["probe", *batch])
    assert done.exit_code == 1
    assert "d.ts" in done.stdout
    assert "BRAW" in done.stderr
    assert "KeyError" in done.stderr
    as_json = runner.invoke(app, ["probe", "--json", *batch])
    assert ["error" in json.loads(line) for line in as_json.stdout.splitlines()] == [True, True, True, False]


def test_a_ladder_check_skips_broken_rungs(model: Path, batch: list[str], odd_files: Path) -> None:
    folder = Path(batch[0]).parent
    (folder / "d.ts").write_bytes((odd_files / "plain.mp4").read_bytes())
    done = runner.invoke(app, ["ladder", "check", str(folder), "-m", str(model), "--views", "1"])
    assert done.exit_code == 1
    assert "a.mp4" in done.stderr
    assert "BRAW" in done.stderr
    assert "2 rungs" in done.stdout


def test_a_dataset_check_reports_a_bug_and_checks_the_others(batch: list[str], broken_for: None) -> None:
    table = Path(batch[0]).with_name("table.csv")
    names = [Path(path).name for path in batch]
    rows = [f"{name},{name},c,c,50,mos,higher_is_better,0,100" for name in names]
    head = "clip,path,content,group,score,score_kind,score_polarity,score_min,score_max"
    table.write_text("\n".join([head, *rows]) + "\n")
    done = runner.invoke(app, ["dataset", "check", str(table), "--json"])
    problems = json.loads(done.stdout)["problems"]
    assert done.exit_code == 1
    assert "KeyError" in problems["b.mp4"][0]
    assert "BRAW" in problems["a.mp4"][0]


@pytest.mark.parametrize(
    ("error", "is_bug"),
    [
        (RuntimeError("mat1 and mat2 shapes"), True),
        (OSError("could not get source code"), True),  # torch raises it without errno
        (ZeroDivisionError("float division"), True),
        (ValueError("x.mp4: no such file"), False),
        (FileNotFoundError(2, "No such file"), False),
        (ToolError("ffmpeg failed"), False),
    ],
)
def test_main_distinguishes_bugs_from_user_errors(
    error: Exception, is_bug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(sys, "argv", ["rungwise", "score"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    stderr = capsys.readouterr().err
    assert stopped.value.code == 1
    assert stderr.count("\n") == 1
    assert ("report" in stderr and type(error).__name__ in stderr) == is_bug


def test_debug_prints_the_traceback_at_any_position(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(failures._show, "tracebacks", False)
    monkeypatch.setattr(sys, "argv", ["rungwise", "probe", str(tmp_path / "none.mp4"), "--debug"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    stderr = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "Traceback" in stderr
    assert "no such file" in stderr


def test_the_deepspeed_launcher_may_add_a_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rungwise", "--local_rank=1", "--version"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("rungwise ")


def test_a_loop_of_links_among_the_inputs_is_one_bad_file(model: Path, batch: list[str], tmp_path: Path) -> None:
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    done = runner.invoke(app, ["score", "-m", str(model), "--json", str(loop), batch[1]])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert "loop.mp4" in lines[0]["error"]
    assert "score" in lines[1]


def test_a_result_that_can_not_be_written_keeps_all_scores(model: Path, batch: list[str], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where a folder should be")
    done = runner.invoke(
        app, ["score", "-m", str(model), "--json", "--timeline", "1", "--out", str(taken), batch[1], batch[3]]
    )
    assert done.exit_code == 1
    assert ["score" in json.loads(line) for line in done.stdout.splitlines()] == [True, True]
    assert "b.mp4" in done.stderr
    assert "d.ts" in done.stderr


def test_files_are_scored_with_stdin_closed(
    model: Path, batch: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "argv", ["rungwise", "score", "-m", str(model), "--json", "-", batch[1]])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert stopped.value.code == 1
    assert "stdin" in lines[0]["error"]
    assert "score" in lines[1]


def test_names_that_are_not_utf8_do_not_end_a_batch(model: Path, batch: list[str], tmp_path: Path) -> None:
    odd = tmp_path / "rungs" / "x\udcff.mp4"
    odd.parent.mkdir()
    try:
        odd.write_bytes(Path(batch[1]).read_bytes())
    except OSError:
        pytest.skip("this file system accepts UTF-8 names only")
    odd.with_name("y.mp4").write_bytes(Path(batch[1]).read_bytes())
    command = [sys.executable, "-m", "rungwise", "score", "-m", str(model), str(odd), str(odd.with_name("y.mp4"))]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert b"y.mp4" in done.stdout
    out = tmp_path / "out"
    checked = ["ladder", "check", str(odd.parent), "-m", str(model), "--views", "1", "--out", str(out)]
    assert runner.invoke(app, checked).exit_code == 0
    assert len(json.loads((out / "check.json").read_text())["rungs"]) == 2


def test_an_error_without_a_file_name_gets_the_name_of_the_input() -> None:
    assert failures.failure("d/x.mp4", ValueError("d/x.mp4: broken")) == "d/x.mp4: broken"
    assert failures.failure("d/x.mp4", OSError(20, "Not a directory", "cache")).startswith("d/x.mp4: ")
    library = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert "UnicodeDecodeError" in failures.failure("d/x.mp4", library)


def test_a_config_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"run\.yaml"):
        load_config(config)


def test_a_cache_that_can_not_be_verified_does_not_stop_the_others(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name in ("a", "b"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "manifest.json").write_text("{}")
    done = runner.invoke(app, ["cache", "verify", str(tmp_path), "--json"])
    assert done.exit_code == 1
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, True]
