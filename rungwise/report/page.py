"""Templates and the JSON of all pages: one file each, offline, with all text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rungwise.ladder.rungs import format_kbps


def render(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """A page from `templates/`.

    Args:
        template: its file name.
        data: what the page carries as JSON in `<script id="data">`. `rounded("a.0.b")` in a template is a value of it
            as text, so that no number of a page can differ from its JSON.
        values: what else the template uses.
    """
    environment = Environment(
        loader=PackageLoader("rungwise.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}

    def rounded(key: str, form: str) -> str:
        value: Any = data
        for part in key.split("."):
            value = value[int(part) if part.isdigit() else part]
        if value is None:
            return "–"
        return format_kbps(value) if form == "kbps" else format(value, form)

    environment.globals["rounded"] = rounded
    return environment.get_template(template).render(data=data, **values)


def sentence(text: str) -> str:
    """A note as a sentence."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
