"""The product uses the field's words in American spelling: names, docstrings, help texts, errors and documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("rungwise", "teacher", "student", "distill", "benchmarks", "docs", "configs")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".css", ".js", ".svg", ".jinja"}
GENERATED = {"licenses.md"}  # package names and license texts of others

# Names in files that users have, and names of libav's and of codec standards.
EXEMPT = re.compile(r"\blicence\b|\bcentre\b|quantiser_scale(_code)?|colour_primaries")

AVOIDED = {  # regular expression, without case -> what to write instead
    r"(?:general|initial|maxim|minim|normal|optim|organ|quant|random|recogn|serial|special)is[ei]": "-ize, -izing",
    r"(?:categor|character|emphas|equal|local|standard|summar|token|util|vector|visual)is[ei]": "-ize, -izing",
    r"(?:behavi|col|fav|flav|hon|lab|neighb)our": "-or",
    r"\bgrey": "gray",
    r"artefact": "artifact",
    r"\b(?:label|level|model|signal|travel|cancel)l(?:ed|ing)\b": "labeled, modeling: one l",
    r"licence": "license",
    r"\bcentre": "center",
    r"\b(?:fib|lit|met)res?\b": "fiber, liter, meter",
    r"(?:ana|cata|dia)logue": "analog, catalog, dialog",
    r"judgement": "judgment",
    r"\b(?:amongst|towards|whilst)\b": "among, toward, while",
    r"\b(?:burnt|learnt|spelt|spilt)\b": "burned, learned, spelled, spilled",
    r"\bprogrammes?\b|\b(?:def|off)ence": "program, defense, offense",
    r"\bstream[_ ](?:facts|terms)\b|what the stream says": "bitstream features",
    r"steps of blocks|blocks' steps": "per-block QP, quantizer step size (qstep)",
    r"\bcoded streams?\b": "bitstream",
    r"encoders set otherwise": "other presets and tunes",
    r"\bencodes? of (?:an )?encodes?\b": "re-encode",
    r"\bpictures? alone\b|\bby (?:its|the|their) pictures\b": "pixel-only",
    r"\bforetell|\bforetold": "predict",
    r"\banew\b": "again, retrained",
    r"never taught|untaught": "unseen codecs",
    r"pairs across codecs|sizes in order": "cross-codec, cross-resolution pairwise accuracy",
    r"what both students share": "shared stem, output heads",
    r"\blend(?:s|ing)? a hand\b": "taking part",
    r"\blines tall\b": "vertical resolution, height",
    r"photographs? under a camera": "synthetic pan/zoom clips from stills",
}


# For whatever a function returns; a name is a noun of the thing.
VAGUE_NAMES = {"found", "judged", "kept", "said", "seen", "told", "wanted"}


def product_files() -> Iterator[Path]:
    """The product's text, without measured results."""
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.name not in GENERATED and "results" not in path.parts:
                yield path


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """Place and text of every line, without the exempt names."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", EXEMPT.sub("", line))
        for path in product_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    ]


@pytest.mark.parametrize("pattern", AVOIDED)
def test_the_product_says_it_in_the_fields_words(pattern: str, lines: list[tuple[str, str]]) -> None:
    avoided = re.compile(pattern, re.IGNORECASE)
    places = [f"{place}: {match[0]}" for place, text in lines if (match := avoided.search(text))]
    assert not places, f"write {AVOIDED[pattern]} instead: {places}"


def assigned_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, argument, function, class and attribute that a file defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def test_names_are_nouns_of_the_thing() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in product_files()
        if path.suffix == ".py"
        for line, name in assigned_names(path)
        if name.strip("_").lower() in VAGUE_NAMES
    ]
    assert not places
