"""Facts about language codes: what each code stands for, tags out of the ordinary, names, and usual scripts.

ISO 639-1, -2 and -3 come from the ``python-iso639`` package, English names and likely scripts from the Unicode CLDR as
Babel carries it, the rest from the files in ``data/``, which name their sources.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from megatron.languages.script import NO_SCRIPTS, looks_like

_FOLDER = Path(__file__).parent / "data"
_QUALIFIER = re.compile(r"\s*\([^()]*\)$")

Kind = Literal["language", "macrolanguage", "collective", "special", "private", "retired", "unknown"]

# Scopes of ISO 639-3; its special codes are und, mul, mis and zxx.
_KINDS: Mapping[str, Kind] = {"I": "language", "M": "macrolanguage", "S": "special"}


class Entry(NamedTuple):
    """What a code stands for.

    Attributes:
        code: ISO 639-3, or the code itself where it stands for no single language.
        kind: what sort of thing ``code`` is.
        via: the table in which it was found.
    """

    code: str
    kind: Kind
    via: str


@functools.cache
def codes() -> Mapping[str, Entry]:
    """Map every code of two or three letters to what it stands for now.

    Retired codes of ISO 639-3 that were merged or renamed stand for their successor; those that were split or never
    existed stand for themselves, because choosing a language for them would be a guess.
    """
    # Reading the package's tables takes a fifth of a second, which only those who need them should pay.
    from iso639 import ALL_LANGUAGES

    active = {language.part3: language for language in ALL_LANGUAGES if language.status == "A"}
    table = {code: Entry(code, "collective", "ISO 639-5") for code, _ in _rows("collections.tsv")}
    table |= {code: Entry(code, "private", "private use") for code in _private_codes()}
    for language in ALL_LANGUAGES:
        if language.part3 not in active:
            target = active.get(language.retire_change_to or "")
            table[language.part3] = (
                Entry(target.part3, _KINDS[target.scope], "retired")
                if target is not None
                else Entry(language.part3, "retired", "retired")
            )
    for code, language in active.items():
        kind = _KINDS[language.scope]
        for other, via in (
            (language.part1, "ISO 639-1"),
            (language.part2b, "ISO 639-2"),
            (language.part2t, "ISO 639-2"),
            (code, "ISO 639-3"),
        ):
            if other:
                table[other] = Entry(code, kind, via)
    return table


@functools.cache
def tags() -> Mapping[str, Entry]:
    """Map tags, in lower case, that do not follow from :func:`codes`: irregular, withdrawn, or MediaWiki's."""
    return {tag: codes()[code]._replace(via=source) for tag, code, source in _rows("tags.tsv")}


@functools.cache
def macrolanguages() -> Mapping[str, str]:
    """Map each ISO 639-3 code that belongs to a macrolanguage to that macrolanguage."""
    from iso639 import ALL_LANGUAGES

    return {
        language.part3: language.macrolanguage
        for language in ALL_LANGUAGES
        if language.status == "A" and language.macrolanguage
    }


@functools.cache
def sign_languages() -> frozenset[str]:
    """Return the ISO 639-3 codes of the languages whose name says that they are signed."""
    from iso639 import ALL_LANGUAGES

    return frozenset(
        language.part3 for language in ALL_LANGUAGES if language.status == "A" and "Sign Language" in language.name
    )


@functools.cache
def names() -> Mapping[str, str | None]:
    """Map English names, case folded, to the code that each stands for; None where several languages have the name.

    ISO 639-3's names count, as they are (``Chinese, Mandarin`` and ``Mandarin Chinese``) and without their qualifier
    (``Swahili`` of ``Swahili (macrolanguage)``), then ISO 639-5's, and CLDR's where ISO has no such name. A name that
    a macrolanguage shares with its members is the macrolanguage's.
    """
    from babel import Locale
    from iso639 import ALL_LANGUAGES

    exact: dict[str, set[str]] = defaultdict(set)
    short: dict[str, set[str]] = defaultdict(set)
    for language in ALL_LANGUAGES:
        if language.status == "A":
            for other in language.other_names or ():
                exact[other.print.casefold()].add(language.part3)
                exact[other.inverted.casefold()].add(language.part3)
            exact[language.name.casefold()].add(language.part3)
    for name, found in exact.items():
        short[_QUALIFIER.sub("", name)] |= found
    table = {name: _only_one(exact.get(name, set()), found | exact.get(name, set())) for name, found in short.items()}
    table |= {name: _only_one(found, found) for name, found in exact.items() if name not in short}
    for code, name in _rows("collections.tsv"):
        table.setdefault(name.casefold(), code)
    for tag, name in Locale("en").languages.items():
        entry = codes().get(tag.split("_")[0])
        if entry is not None:
            table.setdefault(name.casefold(), entry.code)
    return table


def _only_one(exact: set[str], found: set[str]) -> str | None:
    """Return the one language of ``found``, its macrolanguage if that is there, else the only one of ``exact``."""
    widest = {code for code in found if macrolanguages().get(code) not in found}
    for candidates in (widest, exact):
        if len(candidates) == 1:
            return next(iter(candidates))
    return None


@functools.cache
def known_scripts(language: str) -> tuple[str, ...]:
    """Return the scripts that a language is known to be written in, the likely one first; empty when none is known.

    Where the sources list a macrolanguage but not its member, or the members alone, either has the scripts of the
    other: CLDR lists only one of them. Scripts are named as ``script_profile`` names them.
    """
    table = _scripts()
    if language in table:
        return table[language]
    group = macrolanguages().get(language)
    relatives = [group] if group else [member for member, group in macrolanguages().items() if group == language]
    return tuple(dict.fromkeys(script for relative in relatives for script in table.get(relative, ())))


@functools.cache
def _scripts() -> Mapping[str, tuple[str, ...]]:
    """Map each ISO 639-3 code that the sources list to its scripts."""
    from babel.core import get_global

    table: dict[str, dict[str, None]] = defaultdict(dict)
    for tag, likely in get_global("likely_subtags").items():
        entry = codes().get(tag.split("_")[0])
        script = likely.split("_")[1]
        if entry is not None and entry.kind in ("language", "macrolanguage") and script not in NO_SCRIPTS:
            table[entry.code][looks_like(script)[0]] = None
    for language, scripts in _rows("scripts.tsv"):
        table[language] |= dict.fromkeys(scripts.split())
    return {language: tuple(scripts) for language, scripts in table.items()}


def _private_codes() -> Iterator[str]:
    """Yield ``qaa`` to ``qtz``, which ISO 639-2 reserves for local use."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for second in letters[: letters.index("t") + 1]:
        for third in letters:
            yield f"q{second}{third}"


def _rows(name: str) -> Iterator[list[str]]:
    """Yield the rows of a table: tab-separated, without its comments and the line of column names."""
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    yield from (line.split("\t") for line in [line for line in lines if not line.startswith("#")][1:])
