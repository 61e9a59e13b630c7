"""Templates of text: literal text and ``{field}``, which names a value and nothing else."""

from __future__ import annotations

import string
from collections.abc import Mapping

Parts = tuple[tuple[str, str | None], ...]
"""Pieces of literal text, each with the field that follows it or None."""


def parse_template(text: str) -> Parts:
    """Take a template apart; ``{{`` and ``}}`` stand for braces.

    Raises:
        ValueError: a brace without its other half, or a field that is more than a name (``{a.b}``, ``{a[0]}``,
            ``{a!r}``, ``{a:>8}``).
    """
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is no template ({error})") from None
    for _, field, form, conversion in found:
        if field is not None and (not field.isidentifier() or form or conversion):
            shown = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ValueError(f"has the field {{{shown}}}, which is no plain name")
    return tuple((literal, field) for literal, field, _, _ in found)


def template_fields(text: str) -> frozenset[str]:
    """Return the names of the fields of a template.

    Raises:
        ValueError: as for :func:`parse_template`.
    """
    return frozenset(field for _, field in parse_template(text) if field is not None)


def fill_template(text: str, values: Mapping[str, str]) -> str:
    """Return a template with values in the place of its fields; what is filled in is not read again.

    Raises:
        ValueError: as for :func:`parse_template`, or a field has no value.
    """
    found: list[str] = []
    for literal, field in parse_template(text):
        found.append(literal)
        if field is not None:
            if field not in values:
                raise ValueError(f"the template {text!r} asks for {{{field}}}; there is {', '.join(sorted(values))}")
            found.append(values[field])
    return "".join(found)
