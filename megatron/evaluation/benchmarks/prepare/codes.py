"""From the language codes of a benchmark to those of corpora, ``xxx_Ssss``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from megatron.config.corpus_schema import LanguagesConfig
from megatron.corpus.languages import UNDETERMINED, Label, LanguageResolver, Resolution, script_subtag
from megatron.evaluation.benchmarks.prepare.varieties import variety
from megatron.languages.script import NO_SCRIPT, script_profile
from megatron.languages.tables import known_scripts, tags

# As the corpus pipeline names them. Simplified and traditional Chinese stay apart: benchmarks have both.
_SCRIPTS = {"Hang": "Kore", "Hira": "Jpan", "Hrkt": "Jpan", "Kana": "Jpan", "Jamo": "Kore"}
_SAMPLE_CHARACTERS = 20_000
_FEWEST_LETTERS = 10
_NAME = "name"
_JOINTS = re.compile(r"[-_]")
_REGION = re.compile(r"[a-z]{2}|[0-9]{3}")

NO_LANGUAGE = "no code, tag or English name of a language"
"""Why there is no corpus code for something else than a code."""


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
        found = self._resolve(upstream)
        if found.code == UNDETERMINED:
            return Mapped(None, "no known language" if upstream else "nothing names a language")
        if found.via != (_NAME,) and not _is_plain(upstream, found):
            return Mapped(None, NO_LANGUAGE)
        if found.script is not None:
            return Mapped(_code(upstream, found, _SCRIPTS.get(found.script, found.script)), "code")
        profile = script_profile("\n".join(texts)[:_SAMPLE_CHARACTERS])
        known = known_scripts(found.code)
        if profile.letters >= _FEWEST_LETTERS and profile.main != NO_SCRIPT:
            return Mapped(_code(upstream, found, profile.main), "text")
        if known:
            return Mapped(_code(upstream, found, known[0]), "likely")
        return Mapped(None, "no known script")

    def origin(self, upstream: str) -> str:
        """Say for people what kind of name an upstream code is, such as ``English name of swa``."""
        found = self._resolve(upstream)
        kind = "English name" if found.via == (_NAME,) else " ".join(found.via)
        return f"{kind} of {found.code}"

    def _resolve(self, upstream: str) -> Resolution:
        found = self._resolver.resolve(upstream)
        return found if found.kind != "unknown" else self._resolver.resolve(upstream.replace("_", " "))


def _code(upstream: str, found: Resolution, script: str) -> str:
    """Return a corpus code: of a name or a code of two letters that of the variety that is meant."""
    is_coarse = found.via == (_NAME,) or len(_JOINTS.split(upstream.strip())[0]) == 2
    return Label(variety(found.code, script) if is_coarse else found.code, script).code


def _is_plain(upstream: str, found: Resolution) -> bool:
    """Return whether nothing follows a language's code but what a tag may name besides: a script and a region.

    More would be a tag as well (``my-notes`` is Burmese in a variant of its own), but nobody means it.
    """
    first, *rest = _JOINTS.split(upstream.strip().lower())
    if "-".join((first, *rest)) in tags():
        return True
    if rest and "extlang" in found.via:
        rest = rest[1:]
    if rest and len(rest[0]) == 4 and script_subtag(f"{first}-{rest[0]}") is not None:
        rest = rest[1:]
    if rest and _REGION.fullmatch(rest[0]):
        rest = rest[1:]
    return not rest
