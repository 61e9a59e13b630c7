"""From the language codes of a benchmark to those of corpora, ``xxx_Ssss``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from megatron.config.corpus_schema import LanguagesConfig
from megatron.corpus.language_tables import known_scripts
from megatron.corpus.languages import UNDETERMINED, Label, LanguageResolver
from megatron.corpus.script import NO_SCRIPT, script_profile

# As the corpus pipeline names them. Simplified and traditional Chinese stay apart: benchmarks have both.
_SCRIPTS = {"Hang": "Kore", "Hira": "Jpan", "Hrkt": "Jpan", "Kana": "Jpan", "Jamo": "Kore"}
_SAMPLE_CHARACTERS = 20_000
_FEWEST_LETTERS = 10


class Mapped(NamedTuple):
    """What an upstream code stands for.

    Attributes:
        code: corpus code; None where there is none.
        how: ``definition`` (it says so), ``code`` (the code itself names language and script), ``text`` (the script is
            that of the texts), ``likely`` (their letters are too few, so it is the language's usual script), or the
            reason why there is none.
    """

    code: str | None
    how: str


class CodeMap:
    """Maps upstream codes.

    Args:
        given: upstream code to corpus code, which wins.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._resolver = LanguageResolver(LanguagesConfig())

    def corpus_code(self, upstream: str, texts: Sequence[str]) -> Mapped:
        """Return the corpus code of an upstream code.

        Args:
            upstream: ISO 639 code, BCP 47 tag, ``xxx_Ssss``, or English name, whose blanks may be underscores.
            texts: some of its texts, which show the script where the code does not name it.
        """
        if upstream in self._given:
            return Mapped(self._given[upstream], "definition")
        found = self._resolver.resolve(upstream)
        if found.kind == "unknown":
            found = self._resolver.resolve(upstream.replace("_", " "))
        if found.code == UNDETERMINED:
            return Mapped(None, "no known language" if upstream else "nothing names a language")
        if found.script is not None:
            return Mapped(Label(found.code, _SCRIPTS.get(found.script, found.script)).code, "code")
        profile = script_profile("\n".join(texts)[:_SAMPLE_CHARACTERS])
        known = known_scripts(found.code)
        if profile.letters >= _FEWEST_LETTERS and profile.main != NO_SCRIPT:
            return Mapped(Label(found.code, profile.main).code, "text")
        if known:
            return Mapped(Label(found.code, known[0]).code, "likely")
        return Mapped(None, "no known script")
