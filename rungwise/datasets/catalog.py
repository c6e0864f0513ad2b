"""The catalog of rated data sets by name."""

from __future__ import annotations

from rungwise.datasets.description import Description
from rungwise.datasets.in_the_wild import IN_THE_WILD
from rungwise.datasets.ladders import LADDERS

CATALOG: dict[str, Description] = IN_THE_WILD | LADDERS


def describe(name: str) -> Description:
    """The description of a data set.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
    """
    if name not in CATALOG:
        raise ValueError(f"no data set {name!r}; known: {', '.join(CATALOG)}")
    return CATALOG[name]
