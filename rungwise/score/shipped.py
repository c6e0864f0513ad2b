"""The model that comes with the package: whether it is the file that was put there."""

from __future__ import annotations

from pathlib import Path

from rungwise.artifact import sha256_file


def check_shipped(model: Path) -> None:
    """Compare a model with the checksum in the .sha256 file beside it, which `make model-checksum` writes.

    Raises:
        ValueError: another file, or no checksum.
    """
    stated = model.with_suffix(".sha256")
    expected = stated.read_text(encoding="utf-8").split()[:1] if stated.is_file() else []
    found = sha256_file(model)
    if expected != [found]:
        raise ValueError(
            f"{model}: damaged or replaced: its sha256 is {found}, and {stated.name} states "
            f"{expected[0] if expected else 'none'}; install rungwise again, or name your own file by --model"
        )
