"""Integrity check of the model shipped with the package."""

from __future__ import annotations

from pathlib import Path

from rungwise.artifact import sha256_file


def check_shipped(model: Path) -> None:
    """Compare a model with the checksum in the .sha256 file beside it, which `make model-checksum` writes.

    Raises:
        ValueError: the checksum differs or is missing.
    """
    checksum_file = model.with_suffix(".sha256")
    expected = checksum_file.read_text(encoding="utf-8").split()[:1] if checksum_file.is_file() else []
    actual = sha256_file(model)
    if expected != [actual]:
        raise ValueError(
            f"{model}: damaged or replaced: its sha256 is {actual}, {checksum_file.name} states "
            f"{expected[0] if expected else 'none'}; reinstall rungwise, or pass your own model with --model"
        )
