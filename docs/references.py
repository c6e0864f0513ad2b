"""Markdown references read off the code: every key of a run's YAML, every command and its options."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import typer.main
from result_tables import table

from rungwise.cli import VERBS, app
from rungwise.config import RunConfig

Schema = dict[str, Any]
LIMITS = {"minimum": ">= {}", "exclusiveMinimum": "> {}", "maximum": "<= {}", "exclusiveMaximum": "< {}"}
TYPES = {"string": "text", "boolean": "true or false"}


def config() -> str:
    """One table a section of the YAML: key, type, default, range, meaning."""
    schema = RunConfig.model_json_schema()
    sections = schema.pop("$defs")
    places: dict[str, list[str]] = {}
    _find_places("", schema, sections, places)
    parts = [_section(schema)]
    for name, paths in places.items():
        model = sections[name]["properties"].get("model", {}).get("const")
        parts += [f"### {paths[0]}" + (f", model: {model}" if model else ""), _section(sections[name])]
        if len(paths) > 1:
            parts.append(f"The same keys stand in {', '.join(f'`{path}`' for path in paths[1:])}.")
    return "\n\n".join(parts)


def _find_places(path: str, section: Schema, sections: Schema, places: dict[str, list[str]]) -> None:
    """Section -> where in the YAML it stands, in the order of the YAML."""
    for key, value in section["properties"].items():
        place = f"{path}.{key}" if path else key
        for name in _references(value):
            where = places.setdefault(name, [])
            if place not in where:
                where.append(place)
                _find_places(place, sections[name], sections, places)


def _references(value: Any) -> Iterator[str]:
    """Names of the sections that a key's schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[1]
        value = [part for key, part in value.items() if key != "discriminator"]
    if isinstance(value, list):
        for part in value:
            yield from _references(part)


def _section(section: Schema) -> str:
    """What a section is, and the table of its keys."""
    required = section.get("required", [])
    rows = []
    for key, value in section["properties"].items():
        default = "required" if key in required else f"`{_literal(value['default'])}`"
        meaning = " ".join(value.get("description", "").split())
        rows.append((f"`{key}`", _type(value), default, ", ".join(dict.fromkeys(_limits(value))), meaning))
    about = " ".join(section["description"].split())
    return f"{about}\n\n{table(('key', 'type', 'default', 'range', 'meaning'), rows)}"


def _literal(value: object) -> str:
    return {None: "null", "": '""'}.get(value, str(value)) if value is None or isinstance(value, str) else str(value)


def _type(value: Schema) -> str:
    """A key's type in words; choices are listed."""
    if "$ref" in value:
        return "section"
    if parts := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if "enum" in value or "const" in value:
        choices = value["enum"] if "enum" in value else [value["const"]]
        return ", ".join(f"`{choice}`" for choice in choices)
    if value["type"] == "array":
        if "prefixItems" in value:
            return f"[{', '.join(_type(item) for item in value['prefixItems'])}]"
        return f"list of {_type(value['items'])}"
    if value["type"] == "object":
        return f"mapping to {_type(value['additionalProperties'])}"
    kind = str(value["type"])
    return "path" if value.get("format") == "path" else TYPES.get(kind, kind)


def _limits(value: Any) -> Iterator[str]:
    """A key's bounds, wherever in its type they stand."""
    if isinstance(value, dict):
        yield from (text.format(value[name]) for name, text in LIMITS.items() if name in value)
        if value.get("minItems") and "prefixItems" not in value:
            yield f"{value['minItems']} entry or more"
        value = [part for key, part in value.items() if key not in ("default", "discriminator")]
    if isinstance(value, list):
        for part in value:
            yield from _limits(part)


def commands() -> str:
    """Every command with its usage, options and examples, in the order of --help."""
    root: Any = typer.main.get_command(app)
    parts, last = [], ""
    for heading, name, _, examples in VERBS:
        command = root
        for word in name.split():
            command = command.commands[word]
        parts += ([f"## {heading}"] if heading != last else []) + [_command(f"rungwise {name}", command, examples)]
        last = heading
    return "\n\n".join(parts)


def _command(name: str, command: Any, examples: tuple[str, ...]) -> str:
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        records = [(param, param.get_help_record(context)) for param in command.params]
    rows = []
    for param, record in records:
        if record and record[0] != "--help":
            shown = record[0].split(" <")[0] if param.param_type_name == "argument" else record[0]
            rows.append((f"<code>{_cell(shown)}</code>", _cell(record[1])))
    about = " ".join((command.help or "").split())
    lines = "\n".join([usage, "", *(f"{name} {example}" for example in examples)])
    return f"### {name}\n\n{about}\n\n```\n{lines}\n```\n\n{table(('', 'meaning'), rows)}"


def _cell(text: str) -> str:
    """Text in a table, without Markdown's own characters."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;").replace("*", "&#42;")
