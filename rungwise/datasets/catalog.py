"""All data sets by name, and finding one."""

from __future__ import annotations

from rungwise.datasets.description import Description
from rungwise.datasets.in_the_wild import IN_THE_WILD
from rungwise.datasets.ladders import LADDERS

CATALOG: dict[str, Description] = IN_THE_WILD | LADDERS


def describe(name: str) -> Description:
    """A data set's description.

    Raises:
        ValueError: no such name; the known ones are listed.
    """
    if name not in CATALOG:
        raise ValueError(f"no data set {name!r}; known: {', '.join(CATALOG)}")
    return CATALOG[name]
