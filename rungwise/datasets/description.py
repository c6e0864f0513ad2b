"""What a description of a rated data set says: where the labels lie, what their columns mean, who the content is.

Templates such as "Video/{name}.mp4" are filled from a row's cells. `parse` reads a cell by a regular expression whose
named groups become cells too; a row that it does not fit has an unknown content. Numbers are a column, or a column
and the factor to our unit (kbps, pixels, seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

OWN_HEIGHT = 0  # in-the-wild video is judged at its own size, so its score holds at its own height
Number = str | tuple[str, float]


@dataclass(frozen=True)
class Join:
    """A file beside a label file with more columns on the same videos; optional. `key` is a column of both."""

    paths: tuple[str, ...]  # the first that is there, relative to the label file's folder
    key: str
    prefix: str = ""


@dataclass(frozen=True)
class LabelFile:
    """One label file, the cells that all of its rows share, and what to join."""

    path: str
    cells: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way in which the labels of a data set are laid out."""

    files: tuple[LabelFile, ...]
    video: str  # the expected path under ROOT, with "/"; found by its tail, whatever its ending
    numbers: Mapping[str, Number]  # column of ours -> theirs; must hold "score"
    texts: Mapping[str, str] = field(default_factory=dict)  # column of ours -> template (codec, split, ...)
    parse: tuple[str, str] = ("", "")
    clip: str = ""  # [the video without its ending]
    content: str = "{clip}"
    group: str = "{content}"
    derive: Callable[[pd.DataFrame, Path], pd.DataFrame] | None = None  # after `parse`; the folder of the labels
    header: tuple[str, ...] = ()  # column names of a file without a header line
    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Description:
    """A data set as its makers release it. `encodes` counts the rated videos of the label files described."""

    title: str
    url: str
    license: str
    encodes: int
    scale: tuple[str, float, float]  # what a score is, the lowest and the highest that its scale allows
    layouts: tuple[Layout, ...]
    polarity: str = "higher_is_better"
    display_height: int = OWN_HEIGHT
    about: str = ""


def plain(*paths: str) -> tuple[LabelFile, ...]:
    """Label files that need no more than their paths."""
    return tuple(LabelFile(path) for path in paths)
