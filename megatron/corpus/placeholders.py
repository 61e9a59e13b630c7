"""Templates that a user writes: text with placeholders such as ``{source}``."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping

from megatron.corpus.document import CorpusError

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


class Template:
    r"""A text with placeholders, read once and filled often.

    ``\n``, ``\t`` and ``\\`` stand for a line feed, a tab and a backslash; ``{{`` and ``}}`` for braces. What is filled
    in is never read again, so braces and backslashes in texts are safe.

    Args:
        text: the template.
        allowed: the placeholders that it may have.
        required: those that it must have.
        setting: the name of the setting, for errors.

    Attributes:
        fields: the placeholders that it has.

    Raises:
        CorpusError: a brace without its other half, a placeholder that is not known, or one that is missing.
    """

    def __init__(self, text: str, *, allowed: Collection[str], required: Collection[str] = (), setting: str) -> None:
        try:
            parts = list(string.Formatter().parse(unescape(text)))
        except ValueError as error:
            raise CorpusError(
                f"{setting} {text!r}: {error}; write {{{{ and }}}} for braces that are no placeholders"
            ) from None
        known = ", ".join(f"{{{name}}}" for name in allowed) or "no placeholders"
        for _, field, form, conversion in parts:
            if field is not None and (field not in allowed or form or conversion):
                shown = field + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise CorpusError(f"{setting} {text!r}: no placeholder {{{shown}}}; it may have {known}")
        self._parts = tuple((literal, field) for literal, field, _, _ in parts)
        self.fields = frozenset(field for _, field in self._parts if field is not None)
        if missing := [name for name in required if name not in self.fields]:
            raise CorpusError(f"{setting} {text!r}: lacks the placeholder {{{missing[0]}}}; it may have {known}")

    def fill(self, values: Mapping[str, str], *, before: str | None = None) -> str:
        """Return the text with values in the place of placeholders.

        Args:
            values: placeholder -> value.
            before: end in front of this placeholder, if given.
        """
        found: list[str] = []
        for literal, field in self._parts:
            found.append(literal)
            if field is not None and field == before:
                break
            if field is not None:
                found.append(values[field])
        return "".join(found)


def is_template(text: str) -> bool:
    """Tell a template of the user's own from the name of a built-in one."""
    return "{" in text


def unescape(text: str) -> str:
    r"""Replace ``\n``, ``\t`` and ``\\``; any other backslash stays as it is."""
    return re.sub(r"\\([nt\\])", lambda match: _ESCAPES[match[1]], text)
