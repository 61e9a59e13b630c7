"""Language codes: any ISO 639 or BCP 47 code to ISO 639-3, and labels such as ``eng_Latn``.

ISO 639-3 itself comes from the ``python-iso639`` package; nothing here guesses a language from a name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from megatron.corpus.script import OTHER_SCRIPTS, UNICODE_SCRIPTS

#: ISO 639-3 for "undetermined": what every code gets that maps to no single language.
UNDETERMINED = "und"

_LABEL = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")

# MaLA writes Japanese as `jpn_Japn`; every other script code of its list is in ISO 15924.
_SCRIPT_ALIASES = {"Japn": "Jpan"}
_SCRIPTS = frozenset(UNICODE_SCRIPTS + OTHER_SCRIPTS)

# Withdrawn ISO 639-1 codes that BCP 47 still registers, so that old tags keep meaning what they meant.
_WITHDRAWN_PART1 = {"in": "ind", "iw": "heb", "ji": "yid", "jw": "jav", "mo": "ron", "sh": "hbs"}


@dataclass(frozen=True)
class Label:
    """A language in a script.

    Attributes:
        language: ISO 639-3, or what the label's author wrote in its place (MaLA also has ISO 639-2 collections).
        script: ISO 15924.
    """

    language: str
    script: str

    @property
    def code(self) -> str:
        """The label as written: ``eng_Latn``."""
        return f"{self.language}_{self.script}"


def parse_label(text: str) -> Label | None:
    """Read a label of the form ``xxx_Ssss``; None when ``text`` is not one.

    The script must be in ISO 15924 (MaLA's ``Japn`` is read as ``Jpan``). The language is kept as written, so that
    results can be joined with published tables: MaLA's list has collections (``ber``), retired codes (``eml``) and
    private use (``qaa``). :func:`to_iso639_3` says which of them are single languages.
    """
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    script = _SCRIPT_ALIASES.get(match[2], match[2])
    return Label(match[1], script) if script in _SCRIPTS else None


def parse_pair(text: str) -> tuple[Label, Label] | None:
    """Read the label of a language pair, ``xxx_Ssss-yyy_Ssss``; None when ``text`` is not one."""
    first, dash, second = text.partition("-")
    labels = parse_label(first), parse_label(second)
    if not dash or labels[0] is None or labels[1] is None:
        return None
    return labels[0], labels[1]


def to_iso639_3(code: str) -> str:
    """Return the ISO 639-3 code of an ISO 639-1, -2/B, -2/T or -3 code or of a BCP 47 tag; ``und`` when it has none.

    Of a tag the language counts (``pt-BR``, ``zh_Hant`` and ``eng_Latn`` work), or the extended language subtag that
    refines it (``zh-yue`` is ``yue``). Retired codes that were merged or renamed give their successor. Macrolanguages
    stay as they are. Codes that were split or declared non-existent, ISO 639-2 collections, private use and unknown
    codes are ``und``: choosing a language for them would be a guess.
    """
    subtags = _subtags(code)
    language = _codes().get(subtags[0], UNDETERMINED)
    if len(subtags) > 1 and len(subtags[1]) == 3 and _macrolanguages().get(subtags[1], "") == language:
        return subtags[1]
    return language


def script_subtag(code: str) -> str | None:
    """Return the script that a BCP 47 tag names (``zh-Hant`` gives ``Hant``), in ISO 15924; None when it names none."""
    for subtag in _subtags(code)[1:]:
        if len(subtag) == 1:  # an extension or private use begins
            return None
        script = _SCRIPT_ALIASES.get(subtag.title(), subtag.title())
        if script in _SCRIPTS:
            return script
    return None


def _subtags(code: str) -> list[str]:
    return re.split(r"[-_]", code.strip().lower())


@functools.cache
def _codes() -> Mapping[str, str]:
    """Map every ISO 639 code to the ISO 639-3 code it stands for now."""
    # Reading the package's tables takes a fifth of a second, which only those who need them should pay.
    from iso639 import ALL_LANGUAGES

    active = {language.part3: language for language in ALL_LANGUAGES if language.status == "A"}
    codes = dict(_WITHDRAWN_PART1)
    for language in ALL_LANGUAGES:
        if language.part3 not in active and language.retire_change_to in active:
            codes[language.part3] = language.retire_change_to
    for part3, language in active.items():
        codes.update({other: part3 for other in (language.part1, language.part2b, language.part2t, part3) if other})
    return codes


@functools.cache
def _macrolanguages() -> Mapping[str, str]:
    """Map each ISO 639-3 code that belongs to a macrolanguage to that macrolanguage."""
    from iso639 import ALL_LANGUAGES

    return {
        language.part3: language.macrolanguage
        for language in ALL_LANGUAGES
        if language.status == "A" and language.macrolanguage
    }
