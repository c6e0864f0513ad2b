"""The outcome of an import."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rungwise.datasets.derive import REFERENCE


@dataclass
class ImportReport:
    """The outcome of an import.

    Attributes:
        name: the data set.
        table: path of the table.
        labels: paths of the label files.
        rows: rows of the label files.
        imported: rows of the table.
        contents: contents of the table.
        groups: groups of contents that must stay in one split.
        splits: rows by official split.
        refused: names of refused rows by reason.
        notes: warnings.
    """

    name: str
    table: str
    labels: list[str]
    rows: int
    imported: int = 0
    contents: int = 0
    groups: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether no encode was refused; references are not encodes."""
        return not set(self.refused) - {REFERENCE}

    def as_dict(self) -> dict[str, Any]:
        """All attributes and `clean`, for JSON."""
        return asdict(self) | {"clean": self.clean}
