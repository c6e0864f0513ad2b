"""Descriptions of rated data sets: label files, the meaning of their columns, and how contents are identified.

Templates such as "Video/{name}.mp4" are filled from the cells of a row. `parse` matches one cell with a regular
expression whose named groups become cells too; a row that does not match has an unknown content. A number is given by
its column, or by its column and the factor to the table's unit (kbps, pixels, seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

OWN_HEIGHT = 0  # in-the-wild videos are rated at their native resolution, so each is displayed at its own height
Number = str | tuple[str, float]


@dataclass(frozen=True)
class Join:
    """An optional file with more columns on the videos of a label file. `key` is a column of both."""

    paths: tuple[str, ...]  # the first that exists is read, relative to the label file's folder
    key: str
    prefix: str = ""


@dataclass(frozen=True)
class LabelFile:
    """One label file, constant cells for all of its rows, and files to join."""

    path: str
    cells: Mapping[str, str] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One published form of the labels of a data set."""

    files: tuple[LabelFile, ...]
    video: str  # the expected path under the root, with "/"; matched by its last parts, with any file extension
    numbers: Mapping[str, Number]  # table column -> label file column; "score" is required
    texts: Mapping[str, str] = field(default_factory=dict)  # table column -> template (codec, split, ...)
    parse: tuple[str, str] = ("", "")
    clip: str = ""  # default: the video without its extension
    content: str = "{clip}"
    group: str = "{content}"
    derive: Callable[[pd.DataFrame, Path], pd.DataFrame] | None = (
        None  # runs after `parse`, on all rows and the folder of the labels
    )
    header: tuple[str, ...] = ()  # column names of a file without a header line
    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Description:
    """A data set as published. `encodes` is the number of rated videos in its label files."""

    title: str
    url: str
    license: str
    encodes: int
    scale: tuple[str, float, float]  # kind of score, lowest and highest score of its scale
    layouts: tuple[Layout, ...]
    polarity: str = "higher_is_better"
    display_height: int = OWN_HEIGHT
    about: str = ""


def label_files(*paths: str) -> tuple[LabelFile, ...]:
    """Label files given by their paths only."""
    return tuple(LabelFile(path) for path in paths)
