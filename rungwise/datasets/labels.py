"""Label files as rows of text: found, read cell by cell, joined. Nothing is judged here but the shape of a line."""

from __future__ import annotations

import csv
import io
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.datasets.derive import REFUSED
from rungwise.datasets.description import Description, Join, LabelFile, Layout
from rungwise.media.suffixes import VIDEO_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

LINE = "_line"  # where a row came from, "FILE:NUMBER"
VIDEO_ENDINGS = frozenset((*VIDEO_SUFFIXES, ".yuv"))


def without_ending(name: str) -> str:
    """A file name less its video ending; dots inside the name, as in 59.94fps, stay."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in VIDEO_ENDINGS else name


def find_labels(description: Description, place: Path) -> tuple[Layout, list[tuple[LabelFile, Path]], list[str]]:
    """The first layout of which a file lies in (or below) a folder, its files, and the names of those not there.

    `place` may also be one label file by its usual name, which is then read alone.

    Raises:
        ValueError: no such place, no label file in it, or two of one name.
    """
    if not place.exists():
        raise ValueError(f"{place}: no such folder or file")
    for layout in description.layouts:
        if place.is_file():
            alone = [(file, place) for file in layout.files if Path(file.path).name == place.name]
            if len(alone) > 1:  # test_1/mos_ci.csv, test_2/mos_ci.csv: the folder tells them apart
                alone = [(file, place) for file, _ in alone if place.resolve().match(file.path)]
            if alone:
                return layout, alone, []
            continue
        found = [(file, path) for file in layout.files if (path := _below(place, file.path))]
        if found:
            there = {file.path for file, _ in found}
            return layout, found, [file.path for file in layout.files if file.path not in there]
    wanted = "; or ".join(", ".join(file.path for file in layout.files) for layout in description.layouts)
    raise ValueError(f"{place}: no label file of {description.title}; looked for {wanted} (say where with --labels)")


def _below(folder: Path, name: str) -> Path | None:
    if (folder / name).is_file():
        return folder / name
    parts = Path(name).parts
    found = sorted(path for path in folder.rglob(parts[-1]) if path.parts[-len(parts) :] == parts and path.is_file())
    if len(found) > 1:
        raise ValueError(f"{folder}: {len(found)} files named {name} ({found[0]}, {found[1]}); give one with --labels")
    return found[0] if found else None


def read_rows(layout: Layout, files: list[tuple[LabelFile, Path]]) -> tuple[pd.DataFrame, list[str]]:
    """All rows of the label files, every cell text, and notes on what was not read.

    Lines with a wrong number of cells stay as rows, with the reason in the column `derive.REFUSED`.

    Raises:
        ValueError: a file is empty, is no text, or holds no list of records.
    """
    import pandas as pd

    notes: list[str] = []
    tables = []
    for file, path in files:
        table, blank = _read(path, layout)
        if blank:
            notes.append(f"{path.name}: {blank} blank lines")
        for join in file.joins:
            table = _joined(table, join, path.parent, layout, notes)
        tables.append(table.assign(**file.cells))
    return pd.concat(tables, ignore_index=True).fillna(""), notes


def _joined(table: pd.DataFrame, join: Join, folder: Path, layout: Layout, notes: list[str]) -> pd.DataFrame:
    path = next((folder / name for name in join.paths if (folder / name).is_file()), None)
    if path is None:
        if not join.prefix:
            notes.append(f"{folder.name}/{join.paths[0]}: not there, and with it what it knows of the videos")
        return table
    more, _ = _read(path, layout)
    if join.key not in more.columns or join.key not in table.columns:
        raise ValueError(f"{path}: no column {join.key!r} to join it by")
    more = more[more[REFUSED] == ""].drop(columns=[LINE, REFUSED])
    more.index = more[join.key].map(without_ending)
    more = more.drop(columns=join.key).add_prefix(join.prefix)
    if doubles := int(more.index.duplicated().sum()):
        notes.append(f"{path.name}: {doubles} videos stand there twice; the first counts")
        more = more[~more.index.duplicated()]
    keys = table[join.key].map(without_ending)
    if missing := int((~keys.isin(more.index)).sum()):
        notes.append(f"{path.name}: knows nothing of {missing} videos of {len(table)}")
    new = [name for name in more.columns if name not in table.columns]
    matched = more.reindex(keys)[new].fillna("").set_index(table.index)
    return table.join(matched)


def _read(path: Path, layout: Layout) -> tuple[pd.DataFrame, int]:
    """Rows of one file and how many blank lines it has."""
    if path.suffix == ".json":
        return _read_json(path), 0
    if path.suffix == ".mat":
        return _read_mat(path), 0
    return _read_csv(path, layout)


def _read_csv(path: Path, layout: Layout) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text), delimiter=layout.separator, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}") from None
    blank = sum(not any(cells) for _, cells in lines)
    lines = [(number, cells) for number, cells in lines if any(cells)]
    names = list(layout.header) or (lines.pop(0)[1] if lines else [])
    if not lines:
        raise ValueError(f"{path}: holds no row")
    records = []
    for number, cells in lines:
        fits = len(cells) == len(names)
        record = dict(zip(names, cells, strict=True)) if fits else {names[0]: layout.separator.join(cells)}
        refused = "" if fits else f"line of {len(cells)} cells, {len(names)} wanted"
        records.append(record | {LINE: f"{path.name}:{number}", REFUSED: refused})
    return pd.DataFrame(records).fillna("").drop(columns="", errors="ignore"), blank


def _read_json(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from None
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path}: no list of records")
    cells = [{name: "" if value is None else str(value) for name, value in record.items()} for record in records]
    lines = [f"{path.name}:{number}" for number in range(1, len(cells) + 1)]
    return pd.DataFrame(cells).fillna("").assign(**{LINE: lines, REFUSED: ""})


def _read_mat(path: Path) -> pd.DataFrame:
    """One column a vector of a MATLAB file or of its structs, by the innermost name; shorter vectors are padded."""
    import numpy as np
    import pandas as pd
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path, squeeze_me=True, struct_as_record=False)
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: no MATLAB file that can be read ({error})") from None
    vectors: dict[str, Any] = {}
    for name, value in held.items():
        fields = {field: getattr(value, field) for field in getattr(value, "_fieldnames", [])} or {name: value}
        vectors |= {key: np.atleast_1d(item) for key, item in fields.items() if not name.startswith("__")}
    vectors = {name: vector for name, vector in vectors.items() if vector.ndim == 1}
    if not vectors:
        raise ValueError(f"{path}: holds no vector")
    rows = max((len(vector) for vector in vectors.values() if vector.dtype.kind in "OU"), default=0)
    columns = {
        name: [str(item) for item in vector] + [""] * (rows - len(vector))
        for name, vector in vectors.items()
        if len(vector) <= rows
    }
    lines = [f"{path.name}:{number}" for number in range(1, rows + 1)]
    return pd.DataFrame(columns).assign(**{LINE: lines, REFUSED: ""})
