"""Find, read and join label files. All cells stay text, and only the number of cells per line is checked."""

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

LINE = "_line"  # origin of a row, "FILE:NUMBER"
LINE_LENGTH = "line has "  # start of the reason to refuse a line with a wrong number of cells
VIDEO_EXTENSIONS = frozenset((*VIDEO_SUFFIXES, ".yuv"))


def without_extension(name: str) -> str:
    """A file name without its video extension; other dots, as in 59.94fps, stay."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in VIDEO_EXTENSIONS else name


def find_labels(description: Description, place: Path) -> tuple[Layout, list[tuple[LabelFile, Path]], list[str]]:
    """The first layout with a file in or below a folder, its files, and the names of missing files.

    `place` can also be one label file under its usual name, which is then the only one read.

    Raises:
        ValueError: `place` does not exist, has no label file, or has two of the same name.
    """
    if not place.exists():
        raise ValueError(f"{place}: no such folder or file")
    for layout in description.layouts:
        if place.is_file():
            matches = [(file, place) for file in layout.files if Path(file.path).name == place.name]
            if len(matches) > 1:  # test_1/mos_ci.csv and test_2/mos_ci.csv differ in their folders only
                matches = [(file, place) for file, _ in matches if place.resolve().match(file.path)]
            if matches:
                return layout, matches, []
            continue
        files = [(file, path) for file in layout.files if (path := _below(place, file.path))]
        if files:
            present = {file.path for file, _ in files}
            return layout, files, [file.path for file in layout.files if file.path not in present]
    expected = "; or ".join(", ".join(file.path for file in layout.files) for layout in description.layouts)
    raise ValueError(f"{place}: no label file of {description.title}; expected {expected} (see --labels)")


def _below(folder: Path, name: str) -> Path | None:
    """The file `name` in or below a folder."""
    if (folder / name).is_file():
        return folder / name
    parts = Path(name).parts
    paths = sorted(path for path in folder.rglob(parts[-1]) if path.parts[-len(parts) :] == parts and path.is_file())
    if len(paths) > 1:
        raise ValueError(f"{folder}: {len(paths)} files named {name} ({paths[0]}, {paths[1]}); give one with --labels")
    return paths[0] if paths else None


def read_rows(layout: Layout, files: list[tuple[LabelFile, Path]]) -> tuple[pd.DataFrame, list[str]]:
    """All rows of the label files with text cells, and notes on skipped lines and missing joins.

    Lines with a wrong number of cells stay as rows, with the reason in the column `derive.REFUSED`.

    Raises:
        ValueError: a file is empty, is not UTF-8 text, or is not a list of records.
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
    """The table with the columns of a joined file; skipped rows are added to `notes`."""
    path = next((folder / name for name in join.paths if (folder / name).is_file()), None)
    if path is None:
        if not join.prefix:
            notes.append(f"{folder.name}/{join.paths[0]}: missing, so its columns are left empty")
        return table
    extra, _ = _read(path, layout)
    if join.key not in extra.columns or join.key not in table.columns:
        raise ValueError(f"{path}: no column {join.key!r} to join by")
    extra = extra[extra[REFUSED] == ""].drop(columns=[LINE, REFUSED])
    extra.index = extra[join.key].map(without_extension)
    extra = extra.drop(columns=join.key).add_prefix(join.prefix)
    if duplicates := int(extra.index.duplicated().sum()):
        notes.append(f"{path.name}: {duplicates} videos are repeated; the first row counts")
        extra = extra[~extra.index.duplicated()]
    keys = table[join.key].map(without_extension)
    if missing := int((~keys.isin(extra.index)).sum()):
        notes.append(f"{path.name}: no row for {missing} of {len(table)} videos")
    new = [name for name in extra.columns if name not in table.columns]
    matched = extra.reindex(keys)[new].fillna("").set_index(table.index)
    return table.join(matched)


def _read(path: Path, layout: Layout) -> tuple[pd.DataFrame, int]:
    """Rows of one file, and its number of blank lines."""
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
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text), delimiter=layout.separator, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: {error}") from None
    blank = sum(not any(cells) for _, cells in lines)
    lines = [(number, cells) for number, cells in lines if any(cells)]
    names = list(layout.header) or (lines.pop(0)[1] if lines else [])
    if not lines:
        raise ValueError(f"{path}: no rows")
    records = []
    for number, cells in lines:
        complete = len(cells) == len(names)
        record = dict(zip(names, cells, strict=True)) if complete else {names[0]: layout.separator.join(cells)}
        refused = "" if complete else f"{LINE_LENGTH}{len(cells)} cells instead of {len(names)}"
        records.append(record | {LINE: f"{path.name}:{number}", REFUSED: refused})
    return pd.DataFrame(records).fillna("").drop(columns="", errors="ignore"), blank


def _read_json(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path}: not a list of records")
    cells = [{name: "" if value is None else str(value) for name, value in record.items()} for record in records]
    lines = [f"{path.name}:{number}" for number in range(1, len(cells) + 1)]
    return pd.DataFrame(cells).fillna("").assign(**{LINE: lines, REFUSED: ""})


def _read_mat(path: Path) -> pd.DataFrame:
    """One column per vector of a MATLAB file or of its structs, named by the innermost name.

    The longest text vector sets the number of rows. Shorter vectors are padded, longer ones dropped.
    """
    import numpy as np
    import pandas as pd
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        variables = loadmat(path, squeeze_me=True, struct_as_record=False)
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: not a readable MATLAB file ({error})") from None
    vectors: dict[str, Any] = {}
    for name, value in variables.items():
        fields = {field: getattr(value, field) for field in getattr(value, "_fieldnames", [])} or {name: value}
        vectors |= {key: np.atleast_1d(item) for key, item in fields.items() if not name.startswith("__")}
    vectors = {name: vector for name, vector in vectors.items() if vector.ndim == 1}
    if not vectors:
        raise ValueError(f"{path}: no vectors")
    rows = max((len(vector) for vector in vectors.values() if vector.dtype.kind in "OU"), default=0)
    columns = {
        name: [str(item) for item in vector] + [""] * (rows - len(vector))
        for name, vector in vectors.items()
        if len(vector) <= rows
    }
    lines = [f"{path.name}:{number}" for number in range(1, rows + 1)]
    return pd.DataFrame(columns).assign(**{LINE: lines, REFUSED: ""})
