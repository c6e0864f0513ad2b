"""The product uses the field's words in American spelling: names, docstrings, help texts, errors and documents."""

from __future__ import annotations

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
    r"licence": "license",
    r"\bcentre": "center",
    r"\b(?:fib|lit|met)res?\b": "fiber, liter, meter",
    r"(?:ana|cata|dia)logue": "analog, catalog, dialog",
    r"judgement": "judgment",
    r"\b(?:amongst|towards|whilst)\b": "among, toward, while",
    r"\b(?:burnt|learnt|spelt|spilt)\b": "burned, learned, spelled, spilled",
    r"\bprogrammes?\b|\b(?:def|off)ence": "program, defense, offense",
    r"what the stream says": "bitstream features",
    r"\blines tall\b": "vertical resolution, height",
    r"photographs? under a camera": "synthetic pan/zoom clips from stills",
}


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
