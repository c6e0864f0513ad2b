"""Read table files as spreadsheets and other tools write them; one reader for every command.

Text tables (.csv, .tsv, .txt) may use commas, semicolons or tabs as separators. They may have a byte-order mark, blank
lines and spaces around names. Numbers may have decimal commas if they are quoted or the separator is not a comma.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TEXT_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
TABLE_SUFFIXES = (".parquet", *TEXT_TABLE_SUFFIXES, ".json")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_EMPTY = frozenset(["", "nan", "na", "n/a", "#n/a", "none", "null", "-"])
DECIMAL_COMMA, THOUSANDS, AMBIGUOUS = "a decimal comma", "commas between thousands", "ambiguous"
_UNIT_NOTE = "the unit "
_UNIT = re.compile(r"\s*(kbit/s|kbits/s|kb/s|kbps|p|%|fps|px)$", re.IGNORECASE)


def read_text(path: Path) -> str:
    """A text file without its byte-order mark.

    Raises:
        ValueError: the encoding is not UTF-8.
    """
    return decode_text(path.read_bytes(), str(path))


def decode_text(data: bytes, name: str) -> str:
    """As `read_text`, for bytes; errors refer to them as `name`."""
    if data.startswith(_UTF16_MARKS):
        raise ValueError(f"{name}: UTF-16 text; save it as UTF-8")
    if b"\0" in data:
        raise ValueError(f"{name}: not UTF-8 text (it has zero bytes; UTF-16?); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def read_table_file(path: Path, *, text_columns: Collection[str] = (), notes: list[str] | None = None) -> pd.DataFrame:
    """Read a table from .csv, .tsv, .txt, .parquet, or .json (a list of records).

    Args:
        path: the file.
        text_columns: columns that stay text; empty cells become "".
        notes: collects a line for each unusual separator or number format.

    Raises:
        ValueError: the file is missing, has another suffix or can't be parsed, or two columns have the same name.
    """
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    notes = [] if notes is None else notes
    suffix = path.suffix.lower()
    try:
        if suffix in TEXT_TABLE_SUFFIXES:
            return _read_text_table(path, text_columns, notes)
        if suffix == ".parquet":
            table = pd.read_parquet(path)
        elif suffix == ".json":
            table = pd.DataFrame(json.loads(read_text(path)))
        else:
            raise ValueError(f"{path}: not a table file; its suffix must be .csv, .tsv, .txt, .parquet or .json")
    except (ValueError, OSError) as error:
        message = str(error)
        if message.startswith(str(path)):
            raise
        raise ValueError(f"{path}: can't be read as a table ({(message.splitlines() or [''])[0]})") from error
    for name in text_columns:
        if name in table.columns:
            table[name] = table[name].fillna("").astype(object)
    return table


def _read_text_table(path: Path, text_columns: Collection[str], notes: list[str]) -> pd.DataFrame:
    import pandas as pd

    text = read_text(path)
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise ValueError(f"{path}: can't be read as a table (it is empty)")
    separator = _separator(header)
    if separator != {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower(), separator):
        notes.append(f"{path.name}: separated by {_SEPARATORS[separator]}")
    names = [name.strip() for name in next(csv.reader([header.strip("\r\n")], delimiter=separator))]
    duplicates = sorted({name for name in names if name and names.count(name) > 1})
    if duplicates:
        raise ValueError(f"{path}: {names.count(duplicates[0])} columns called {duplicates[0]!r}; keep one")
    dtypes = dict.fromkeys(text_columns, "string")
    table = pd.read_csv(io.StringIO(text), sep=separator, dtype=dtypes, skipinitialspace=separator != "\t")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: rows have more cells than the header; quote numbers with decimal commas")
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    table = table.loc[:, [not name.startswith("Unnamed:") or table[name].notna().any() for name in table.columns]]
    table = table[table.notna().any(axis=1)].reset_index(drop=True)  # rows of separators only
    for name in text_columns:
        if name in table.columns:
            table[name] = table[name].fillna("").astype(object)
    others = [name for name in table.columns if name not in text_columns]
    non_numeric = [name for name in others if table[name].dtype.kind not in "fiub"]
    localized = {name: _localized_numbers(table[name], separator == ",") for name in non_numeric}
    if any(DECIMAL_COMMA in parsed[1] for parsed in localized.values() if parsed):  # then 4.800 means 4800
        cells = pd.read_csv(io.StringIO(text), sep=separator, dtype="string", skipinitialspace=separator != "\t")
        cells.columns = pd.Index([str(name).strip() for name in cells.columns])
        cells = cells[cells.notna().any(axis=1)].reset_index(drop=True)
        localized |= {name: _dotted_thousands(cells[name]) for name in others if name not in non_numeric}
    for name, parsed in localized.items():
        if parsed:
            table[name] = parsed[0]
            if parsed[1]:
                notes.append(f"column {name!r}: read as numbers with {', '.join(parsed[1])}")
    return table


def _separator(header: str) -> str:
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(_SEPARATORS, key=unquoted.count)  # a comma if there is no separator


def _localized_numbers(column: pd.Series[str], comma_separated: bool) -> tuple[pd.Series[float], list[str]] | None:
    """A text column as numbers, with the notations used; None if a cell is not a number.

    "1,234" is read in the notation of the other cells, else with a decimal comma unless commas separate the cells.
    """
    import pandas as pd

    cells = column.astype("string").str.strip()
    filled = ~(cells.isna() | cells.str.lower().isin(_EMPTY))
    parsed = [parse_number(str(cell)) for cell in cells[filled]]
    numbers = [number for number in parsed if number is not None]
    if not numbers or len(numbers) < len(parsed):
        return None
    kinds = {kind for _, kind in numbers}
    if any(kind.startswith(_UNIT_NOTE) for kind in kinds):
        return None  # cells such as 1080p may be names
    if {DECIMAL_COMMA, THOUSANDS} <= kinds or (AMBIGUOUS in kinds and comma_separated and kinds <= {"", AMBIGUOUS}):
        return None
    factor = 1000.0 if THOUSANDS in kinds else 1.0
    values = pd.Series(float("nan"), index=column.index, name=column.name)
    values.loc[filled] = np.asarray(
        [round(v * factor) if kind == AMBIGUOUS and factor > 1 else v for v, kind in numbers]
    )
    if AMBIGUOUS in kinds:
        kinds = (kinds - {AMBIGUOUS}) | {THOUSANDS if factor > 1 else DECIMAL_COMMA}
    return values, sorted(kinds - {""})


def to_numbers(column: pd.Series[Any], name: str, path: object) -> pd.Series[float]:
    """A column as numbers: empty cells become NaN, and units such as in 1080p or 300 kbps are removed.

    Raises:
        ValueError: a cell is not a number.
    """
    import pandas as pd

    text = column.astype("string").str.strip()
    empty = column.isna() | text.str.lower().isin(_EMPTY)
    numbers = pd.to_numeric(column.where(~empty), errors="coerce").astype(float)
    for row in np.flatnonzero(numbers.isna() & ~empty):
        parsed = parse_number(str(text.iloc[row]))
        if parsed is not None and parsed[1].startswith(_UNIT_NOTE):
            numbers.iloc[int(row)] = parsed[0]
    invalid = np.flatnonzero(numbers.isna() & ~empty)
    if invalid.size:
        raise ValueError(
            f"{path}: {name!r} has {column.iloc[invalid[0]]!r} in row {invalid[0] + 1}, which is not a number "
            f"({invalid.size} such rows)"
        )
    return numbers


def _dotted_thousands(cells: pd.Series[str]) -> tuple[pd.Series[float], list[str]] | None:
    """A column of whole numbers with points between thousands, such as 4.800 for 4800; None for any other column."""
    filled = cells.dropna().str.strip()
    whole = filled.str.fullmatch(r"[-+]?\d{1,3}(\.\d{3})*")
    if not whole.all() or not filled.str.contains(".", regex=False).any():
        return None
    return cells.str.strip().str.replace(".", "", regex=False).astype("Float64").astype(float), [
        "points between thousands"
    ]


def parse_number(text: str) -> tuple[float, str] | None:
    """(number, unusual notation or "") of text in English or continental notation; None if it is not a number."""
    unit = _UNIT.search(text)
    plain = text[: unit.start()] if unit else text
    plain = re.sub(r"(?<=\d)[ '\u00a0\u202f\u2019](?=\d{3}(\D|$))", "", plain).strip()
    unusual = f"{_UNIT_NOTE}{unit[1]}" if unit else ""
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+\.\d+|[-+]?\d{1,3}(,\d{3}){2,}", plain):
        plain, unusual = plain.replace(",", ""), THOUSANDS
    elif re.fullmatch(r"[-+]?\d{1,3}(\.\d{3})+,\d+", plain):
        plain, unusual = plain.replace(".", "").replace(",", "."), DECIMAL_COMMA
    elif re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", plain):
        plain, unusual = plain.replace(",", "."), AMBIGUOUS
    elif re.fullmatch(r"[-+]?\d*,\d+([eE][-+]?\d+)?", plain):
        plain, unusual = plain.replace(",", "."), DECIMAL_COMMA
    try:
        return float(plain), unusual
    except ValueError:
        return None
