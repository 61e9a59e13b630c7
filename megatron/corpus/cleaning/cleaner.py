"""The rules of stage clean, in their order, applied to a text until nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from megatron.config.corpus_schema import CleanConfig
from megatron.corpus.cleaning.boilerplate import remove_boilerplate
from megatron.corpus.cleaning.characters import cut_marks, normalise, remove_controls
from megatron.corpus.cleaning.html import strip_html
from megatron.corpus.cleaning.lines import limit_repeats
from megatron.corpus.cleaning.mojibake import mend
from megatron.corpus.cleaning.scan import BLANK, CONTROL, LINE_END, MANY_MARKS, MARKUP, SUSPECT, UNORDERED, scan
from megatron.corpus.cleaning.whitespace import collapse_blanks, collapse_empty_lines, strip_line_ends, unify_line_ends

#: Name of each rule and what it does, in the order in which they are applied.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "html": "scripts, styles, comments and tags are removed, entities become the characters they stand for",
        "mojibake": "lines that were decoded with the wrong encoding are mended",
        "control": "control and format characters without a meaning, and lone surrogates, are removed",
        "unicode": "characters are put into a Unicode normal form, with at most 30 marks on one letter",
        "whitespace": "line ends become line feeds, runs of blanks one blank, several empty lines one",
        "boilerplate": "lines of web pages are removed that are no text: menus, buttons, notices, addresses, symbols",
        "repeated_lines": "further copies of a line of the same text are removed",
    }
)

# Source code is only made readable; in instructions, too, blanks and markup may be what they are about. Sides of a pair
# keep their repeated lines, because the other side may not have them.
_RULES_OF_SOURCE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "code": frozenset({"control", "whitespace"}),
        "instruction": frozenset({"mojibake", "control", "unicode", "whitespace"}),
        "bilingual": frozenset(RULES) - {"repeated_lines"},
    }
)
_MOST_ROUNDS = 8
_ANY = 0


class _Step(NamedTuple):
    """A part of a rule: it changes nothing in texts that have none of the traits, if any are named."""

    rule: str
    traits: int
    apply: Callable[[str, int], str]


@dataclass(frozen=True)
class Cleaned:
    """A cleaned text.

    Attributes:
        text: the text, possibly blank.
        rules: names of the rules that changed it, in their order; empty when it is as it was.
    """

    text: str
    rules: tuple[str, ...]


class Cleaner:
    """Applies the rules that are switched on and fit the source.

    Cleaning again changes nothing more: the rules are repeated until none changes the text. Eight rounds are enough for
    everything but texts that were built to need more; these stay as they are then.

    Args:
        settings: section ``clean``.
        source: ``code``, ``instruction`` and ``bilingual`` get fewer rules; any other name gets all.
    """

    def __init__(self, settings: CleanConfig, *, source: str) -> None:
        fitting = _RULES_OF_SOURCE.get(source, frozenset(RULES))
        self._steps = [step for step in _steps(settings, source) if step.rule in fitting]

    def clean(self, text: str) -> Cleaned:
        """Return the cleaned text and the rules that changed it."""
        changed: set[str] = set()
        done: list[str | None] = [None] * len(self._steps)  # what each step made: it does not change that again
        traits = scan(text)
        for _ in range(_MOST_ROUNDS):
            before = text
            for place, (rule, needed, apply) in enumerate(self._steps):
                if (needed and not traits & needed) or done[place] is text:
                    continue
                new = apply(text, traits)
                if new != text:
                    text, traits = new, scan(new)
                    changed.add(rule)
                done[place] = text
            if text is before:
                break
        return Cleaned(text, tuple(name for name in RULES if name in changed) if changed else ())


def _steps(settings: CleanConfig, source: str) -> Iterator[_Step]:
    if settings.html:
        yield _Step("html", MARKUP, lambda text, _: strip_html(text))
    if settings.mojibake:
        yield _Step("mojibake", SUSPECT, lambda text, _: mend(text))
    if settings.control:
        yield _Step("control", CONTROL, lambda text, _: remove_controls(text))
    if settings.unicode != "none":
        form = settings.unicode
        yield _Step("unicode", MANY_MARKS, lambda text, _: cut_marks(text))
        yield _Step("unicode", UNORDERED if form == "NFC" else _ANY, lambda text, _: normalise(text, form))
    if settings.whitespace:
        yield from _whitespace_steps(source)
    if settings.boilerplate:
        yield _Step("boilerplate", _ANY, remove_boilerplate)
    if settings.repeated_lines:
        copies = settings.repeated_lines
        yield _Step("repeated_lines", _ANY, lambda text, _: limit_repeats(text, copies))


def _whitespace_steps(source: str) -> Iterator[_Step]:
    """Code keeps its blanks, instructions their indents and empty lines."""
    all_kinds = source != "code"
    yield _Step("whitespace", LINE_END, lambda text, _: unify_line_ends(text, all_kinds=all_kinds))
    if source == "instruction":
        yield _Step("whitespace", _ANY, lambda text, _: strip_line_ends(text))
    elif source != "code":
        yield _Step("whitespace", _ANY, lambda text, traits: collapse_blanks(text, only_spaces=not traits & BLANK))
        yield _Step("whitespace", _ANY, lambda text, _: collapse_empty_lines(text))
