"""What pydantic finds wrong with a section, in this project's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megatron.config.fields import Section, sections_in
from megatron.config.problems import ABSENT, Problem, did_you_mean
from megatron.config.read import Entry


def problem_of(details: Any, section: type[Section], given: Mapping[str, Entry]) -> Problem:
    """Turn one of pydantic's errors into a problem in this project's words."""
    path = [str(part) for part in details["loc"]]
    entry = given.get(path[0])
    if entry is not None:
        path = _as_written(path, entry)
    where = entry.place(path[1:]) if entry is not None else ""
    key = ".".join(part for part in path if part != "[key]")
    if details["type"] == "missing" and path[-1].isdigit():
        return Problem(where, key.rpartition(".")[0], "has too few entries", "Add what is missing.", details["input"])
    if details["type"] == "missing":
        return Problem(where, key, "is missing", f"Add `{path[-1]}: ...`.")
    if details["type"] == "extra_forbidden":
        known = _known_inside(section, path[:-1])
        fix = did_you_mean(path[-1], known) or f"Known here: {', '.join(known)}."
        return Problem(where, key, "is not a known key", fix, details["input"])
    rule, fix = _rule_of(details)
    return Problem(where, key, rule, fix, details["input"])


def _as_written(path: list[str], entry: Entry) -> list[str]:
    """Cut a path where the user wrote a bare value for a section, as a number for the share of a source."""
    for length in range(1, len(path)):
        value = entry.inside(path[1:length])
        if value is not ABSENT and not isinstance(value, dict | list):
            return path[:length]
    return path


def _known_inside(section: type[Section], path: Sequence[str]) -> list[str]:
    """Return the field names at ``path`` below a section, for "did you mean"."""
    known: list[str] = list(section.model_fields)
    for name in path:
        # A name that is no field is a key of a mapping of sections, such as the name of a tier.
        if name in known:
            inner = sections_in(section.model_fields[name].annotation)
            if not inner:
                return []
            section = inner[0]
            known = list(section.model_fields)
    return known


_TYPES = {
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is neither true nor false",
    "string_type": "is not text",
    "dict_type": "is not a mapping",
    "model_type": "is not a mapping",
    "model_attributes_type": "is not a mapping",
    "tuple_type": "is not a list",
}
_BOUNDS = {
    "greater_than": ("gt", "is not above {}"),
    "greater_than_equal": ("ge", "is below {}"),
    "less_than": ("lt", "is not below {}"),
    "less_than_equal": ("le", "is above {}"),
    "too_short": ("min_length", "has fewer than {} entries"),
    "too_long": ("max_length", "has more than {} entries"),
    "string_too_short": ("min_length", "is empty"),
    "literal_error": ("expected", "is not one of {}"),
}
_EXAMPLES = {
    "int_type": "Write it with digits only, such as 1000; no quotes, no dot, no exponent.",
    "bool_type": "Write true or false.",
    "string_type": "Put it in quotes if it is meant as text.",
    "dict_type": "Write {key: value, ...}.",
    "model_type": "Write {key: value, ...}.",
    "tuple_type": "Write [a, b, ...].",
}


def _rule_of(details: Any) -> tuple[str, str]:
    kind = details["type"]
    fix = _EXAMPLES.get(kind, "Change the value.")
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return text.format(str(details["ctx"][name]).replace(" or ", ", ")), fix
    return _TYPES.get(kind, details["msg"]), fix
