"""What languages are called in English, for texts that name them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from megatron.corpus.languages import Label

# "Swahili (individual language)", "Modern Greek (1453-)", "Bemba (Zambia)".
_QUALIFIER = re.compile(r" \([^()]*\)")
# "Simplified" and "Traditional": people do not call them scripts.
_WAYS_OF_HAN = ("Hans", "Hant")


def language_name(code: str) -> str:
    """Return the English name of an ISO 639-3 code, without its qualifier; the code itself when it has none."""
    return _names().get(code, code)


def name_in_script(label: Label) -> str:
    """Return the English name of a language and of its script (of CLDR; the code itself when it has none).

    >>> name_in_script(Label("kas", "Deva")), name_in_script(Label("cmn", "Hans"))
    ('Kashmiri (Devanagari script)', 'Mandarin Chinese (Simplified)')
    """
    name = script_name(label.script)
    return f"{language_name(label.language)} ({name if label.script in _WAYS_OF_HAN else f'{name} script'})"


def script_name(script: str) -> str:
    """Return the English name of a script (of CLDR); the code itself when it has none."""
    return _script_names().get(str(script), str(script))


def names_of_both(source: Label, target: Label) -> tuple[str, str]:
    """Return the names of two languages; one in two scripts gets them too, and different codes of one name stay apart.

    >>> names_of_both(Label("srp", "Latn"), Label("srp", "Cyrl"))
    ('Serbian (Latn)', 'Serbian (Cyrl)')
    """
    names = language_name(source.language), language_name(target.language)
    if names[0] != names[1]:
        return names
    if source.language == target.language:
        return f"{names[0]} ({source.script})", f"{names[1]} ({target.script})"
    return f"{names[0]} ({source.language})", f"{names[1]} ({target.language})"


@functools.cache
def _names() -> Mapping[str, str]:
    # Reading the package's tables takes a fifth of a second, which only those who need them should pay.
    from iso639 import ALL_LANGUAGES

    return {language.part3: _QUALIFIER.sub("", language.name) for language in ALL_LANGUAGES if language.part3}


@functools.cache
def _script_names() -> Mapping[str, str]:
    from babel import Locale

    return {str(code): str(name) for code, name in Locale("en").scripts.items()}
