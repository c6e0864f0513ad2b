"""Help in plain text: verbs and options under headings, examples at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Verb(TyperCommand):
    """A command whose options stand under their `rich_help_panel`; the epilog holds examples, one a line."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        # typer prints {NAME} where it is required
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (row := param.get_help_record(ctx)) is not None:
                if param.param_type_name == "argument":
                    panels.setdefault("Arguments", []).append((row[0].partition(" <")[0], row[1]))
                else:
                    panels.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(row)
        _write(panels, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog or "", formatter)


class VerbGroup(TyperGroup):
    """A group whose verbs stand under their `rich_help_panel`; the epilog holds examples, one a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        verbs = {name: verb for name, verb in self.commands.items() if not verb.hidden}
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, verb in verbs.items():
            panel = getattr(verb, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).append((name, (verb.help or "").partition("\n")[0]))
        _write(panels, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        _write_examples(self.epilog or "", formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        place = Path(args[0])
        if "make" in self.commands and place.suffix in (".yaml", ".yml"):
            ctx.fail(f"name the verb: {ctx.command_path} make {args[0]}")
        if "check" in self.commands and args[0] not in self.commands and place.exists():
            ctx.fail(f"name the verb: {ctx.command_path} check {args[0]}")
        return super().resolve_command(ctx, args)


def _write_examples(epilog: str, formatter: Any) -> None:
    lines = epilog.splitlines()
    with formatter.section("Examples" if len(lines) > 1 else "Example"):
        for line in lines:
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _write(panels: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for panel, rows in panels.items():
        with formatter.section(panel):
            formatter.write_dl(rows)
