"""HLS playlist variables: EXT-X-DEFINE and `{$name}` references (RFC 8216bis, 4.3 and 4.4.2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

_REFERENCE = re.compile(r"\{\$([A-Za-z0-9_-]+)\}")


def parse_attributes(line: str) -> dict[str, str]:
    """Attributes of a tag, without quotes."""
    pairs = re.findall(r'([A-Z0-9-]+)\s*=\s*("[^"]*"|[^,]*)', line.partition(":")[2])
    return {name: value.strip().strip('"') for name, value in pairs}


def substitute_variables(
    lines: Sequence[str], path: str, query: str = "", imported: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """A playlist's lines with every reference replaced by its value, and the variables.

    Args:
        lines: of the playlist at `path`.
        path: named in errors.
        query: query of the playlist's URI, for QUERYPARAM.
        imported: variables of the multivariant playlist, for IMPORT; None if there is none.

    Raises:
        ValueError: a definition is incomplete, repeated or without a value, or a reference is undefined.
    """
    variables: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise ValueError(f"{path}: {match[0]} is used, but no EXT-X-DEFINE before it defines {match[1]}")
        return variables[match[1]]

    replaced = []
    for line in lines:
        if not line.startswith("#"):
            line = _REFERENCE.sub(value, line)
        elif line.startswith("#EXT"):  # in tags, only quoted strings have references
            line = re.sub(r'"[^"]*"', lambda quoted: _REFERENCE.sub(value, quoted[0]), line)
        if line.startswith("#EXT-X-DEFINE:"):
            name, defined = _definition(parse_attributes(line), path, query, imported)
            if name in variables:
                raise ValueError(f"{path}: EXT-X-DEFINE defines {name} twice")
            variables[name] = defined
        replaced.append(line)
    return replaced, variables


def _definition(
    attributes: Mapping[str, str], path: str, query: str, imported: Mapping[str, str] | None
) -> tuple[str, str]:
    kinds = [kind for kind in ("NAME", "IMPORT", "QUERYPARAM") if kind in attributes]
    if len(kinds) != 1:
        raise ValueError(f"{path}: an EXT-X-DEFINE has {' and '.join(kinds) or 'no NAME, IMPORT or QUERYPARAM'}")
    name = attributes[kinds[0]]
    if kinds[0] == "NAME":
        if "VALUE" not in attributes:
            raise ValueError(f"{path}: the EXT-X-DEFINE of {name} has no VALUE")
        return name, attributes["VALUE"]
    if kinds[0] == "IMPORT":
        if imported is None or name not in imported:
            reason = "it was given without one" if imported is None else "that one does not define it"
            raise ValueError(f"{path}: EXT-X-DEFINE imports {name} from the multivariant playlist, but {reason}")
        return name, imported[name]
    parameters = dict(part.partition("=")[::2] for part in query.split("&"))
    if not parameters.get(name):
        raise ValueError(
            f"{path}: EXT-X-DEFINE takes {name} from the playlist's URI, which has no such query parameter"
        )
    return name, unquote(parameters[name])
