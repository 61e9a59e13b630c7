"""What is wrong with a configuration: one record per problem, one error for all of them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence

_SHOWN_CHARACTERS = 80


class _Absent:
    """Marks a problem that has no value, such as a missing key."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


Complaint = tuple[str | tuple[str, ...], str, str]
"""What a broken rule says: the key to blame, or the path to it inside a mapping; the rule (the end of a sentence that
begins with the key); the fix (a sentence)."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        where: ``file.yml:12``, ``command line``, or empty when the key is in no file.
        key: the YAML key; nested keys are joined by dots.
        rule: what is wrong, as the end of a sentence that begins with key and value.
        fix: what to change, as a sentence of its own.
        value: what was given; ``ABSENT`` when there is none.
        hides_keys: whether keys went unread because of it, so that none may be called missing.
    """

    where: str
    key: str
    rule: str
    fix: str
    value: object = ABSENT
    hides_keys: bool = False

    def __str__(self) -> str:
        subject = self.key if isinstance(self.value, _Absent) else f"{self.key} = {shown(self.value)}"
        parts = (self.where, subject, f"{self.rule}. {self.fix}".strip())
        return ": ".join(part for part in parts if part)


class ConfigError(ValueError):
    """The configuration cannot be used; ``problems`` holds every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"the configuration has {count}:", *(f"  - {problem}" for problem in self.problems)]
        super().__init__("\n".join(lines))


def shown(value: object) -> str:
    """Return ``value`` as it is quoted in a message: shortened, so that a long list does not hide the message."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the nearest known name, or an empty string when nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""
