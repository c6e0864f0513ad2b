"""README and docs/: generated blocks are current, links lead somewhere, commands exist, the README is short."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import generate
import pytest
import result_tables
import typer.main
from markdown.extensions.toc import slugify, unique

from rungwise.cli import app
from rungwise.config import RunConfig

ROOT = Path(__file__).parents[2]
PAGES = [*generate.pages(), *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PROGRAMS = ("rungwise", "make", "python")
MAX_README_WORDS = 900


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", generate.pages(), ids=names)
def test_generated_blocks_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate.generated(text) == text, "run make docs-data"


def test_every_block_is_used_and_closed() -> None:
    texts = [page.read_text(encoding="utf-8") for page in generate.pages()]
    used = [block[2] for text in texts for block in generate.BLOCK.finditer(text)]
    assert set(used) == set(generate.BLOCKS)
    assert len(used) == sum(text.count("<!-- generated: ") for text in texts)


def test_a_changed_figure_changes_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    results = result_tables.read("accuracy.json")
    for result in results["predictors"]:
        result["srcc"]["value"] = 0.123
    monkeypatch.setattr(result_tables, "read", lambda name: results)
    assert generate.generated(page) != page


def test_the_readmes_accuracy_comes_from_the_committed_scores() -> None:
    scores = ROOT / "benchmarks" / "results" / "accuracy.csv"
    command = ["metrics", str(scores), "--pred", "psnr,ssim,pixel_only,hybrid,previous,vmaf_v0", "--json"]
    printed = subprocess.run([sys.executable, "-m", "rungwise", *command], capture_output=True, text=True, check=True)
    repeated = json.loads(printed.stdout)["predictors"]
    for one, committed in zip(repeated, result_tables.read("accuracy.json")["predictors"], strict=True):
        for figure in ("srcc", "rmse", "within_content_srcc"):
            for part in ("value", "low", "high"):
                assert one[figure][part] == pytest.approx(committed[figure][part], abs=1e-6), one["predictor"]


def test_every_key_of_a_config_has_a_meaning() -> None:
    schema = RunConfig.model_json_schema()
    for name, section in (("RunConfig", schema), *schema["$defs"].items()):
        for key, value in section["properties"].items():
            assert value.get("description"), f"{name}.{key} has no docstring"


def test_the_readme_is_short() -> None:
    text = FENCE.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(text.split()) <= MAX_README_WORDS


def anchors(page: Path) -> set[str]:
    """Ids of a page's headings."""
    text, ids = FENCE.sub("", page.read_text(encoding="utf-8")), set[str]()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        unique(slugify(re.sub(r"[`*]", "", heading), "-"), ids)
    return ids


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "recipes"], ids=names)
def test_files_that_are_named_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`((?:rungwise|teacher|student|distill|configs|benchmarks|docs|tests)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of each `rungwise`, `make` and `python` command in a page's code blocks and code spans."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`((?:rungwise|make|python) [^`]+)`", FENCE.sub("", text))
    blocks = [block[0] for block in FENCE.finditer(text) if not block[0].lstrip().startswith("```python")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in [*spans, *lines]:
        for command in re.split(r"[|&>]+ ", re.sub(r"^\s*\$ ", "", line).split(" #")[0]):
            try:
                words = shlex.split(command)
            except ValueError:  # an apostrophe in a program's output
                continue
            places = [place for place, word in enumerate(words) if word in PROGRAMS or word == ".venv/bin/rungwise"]
            launched = [place for place in places if words[place].endswith("rungwise")]  # `torchrun -m rungwise teach`
            start = launched[0] if launched else 0
            if start in places and len(words) > start + 1:
                yield [Path(words[start]).name, *words[start + 1 :]]


def check_rungwise(words: list[str]) -> None:
    """The verb exists, and each option is one of its own."""
    command: Any = typer.main.get_command(app)
    rest = [word for word in words if word != "--debug"]
    while hasattr(command, "commands") and rest and rest[0] != "--help":
        assert rest[0] in command.commands, f"rungwise {' '.join(words)}: no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in options, f"rungwise {' '.join(words)}: no option {word}"


def check_python(words: list[str]) -> None:
    """The script or module exists and knows each option."""
    if words[0] == "-m":
        assert words[1] in ("venv", "rungwise")
        return
    script = ROOT / words[0]
    assert script.is_file(), f"python {' '.join(words)}"
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in script.read_text(encoding="utf-8"), f"{words[0]} {word}"


def output(line: list[str]) -> bool:
    """Whether it is a line that the program prints, such as an error."""
    return line[1].endswith(":") or (line[0] == "rungwise" and line[1] == "COMMAND")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=names)
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for program, *words in (line for line in command_lines(page) if not output(line)):
        if program == "rungwise":
            check_rungwise(words)
        elif program == "python":
            check_python(words)
        else:
            assert words[0] in targets, f"make {words[0]}"


def test_a_wrong_command_is_an_error() -> None:
    for words in (["scores", "a.mp4"], ["score", "--hight", "720"], ["ladder", "check", "--crops", "1:1"]):
        with pytest.raises(AssertionError):
            check_rungwise(words)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    built = subprocess.run([*command, "--site-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "index.html").is_file()
