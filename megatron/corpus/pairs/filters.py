"""Which sentence pairs are no translations, judged by what holds for every pair of languages.

A pair whose sides are the same, or in each other's language, teaches a model to mix languages, which is the known
danger of training on parallel text (MixCPT, arXiv 2504.04152); so copies and wrong scripts go first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import regex

from megatron.config.corpus_schema import ParallelConfig
from megatron.corpus.document import Dropped
from megatron.corpus.languages import Label
from megatron.corpus.pairs.lengths import length, length_ratio
from megatron.languages.script import NO_SCRIPTS, looks_like, script_profile

#: Every rule, in the order in which they are asked, and what it means.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "empty": "a side has no letters and no digits",
        "line_break": "a side has several lines, so it is no sentence",
        "short": "a side is shorter than `min_characters`, counted in characters of English",
        "long": "a side is longer than `max_characters`, counted in characters of English",
        "length_ratio": "one side is more than `max_length_ratio` times as long as the other",
        "copy": "both sides have the same letters and digits",
        "overlap": "more than `max_overlap` of a side's words are also in the other side",
        "script": "less than `min_script` of a side's letters are of its label's script",
        "numbers": "the sides have different numbers (only with `same_numbers`)",
    }
)

# Scripts that put no blanks between words: there, pairs of neighbouring characters are compared in their place.
_BLANKLESS = """
    Bali Bopo Hanb Hani Hans Hant Hira Hrkt Java Jpan Kana Khmr Lana Laoo Mymr Tale Talu Tavt Thai Tibt Yiii
"""
_WITHOUT_BLANKS = frozenset(_BLANKLESS.split())
# A side of fewer words may well be a part of the other, such as a name.
_FEW_WORDS = 4

_WORD = regex.compile(r"\w+")
# Groups of digits that separators join: 1,000.5 and 1 000,5 are the same number.
_NUMBER = regex.compile(r"\d+(?:[.,'’\u066b\u066c\u00a0\u202f]\d+)*")
_NO_DIGIT = regex.compile(r"\D+")


class PairFilters:
    """Checks the pairs of one corpus.

    Args:
        settings: the limits.
        source: label of the first side.
        target: label of the second side.
    """

    def __init__(self, settings: ParallelConfig, *, source: Label, target: Label) -> None:
        self._settings = settings
        self._scripts = (source.script, target.script)
        self._known_scripts = NO_SCRIPTS.isdisjoint(self._scripts)
        self._alike = not self._known_scripts or not set(looks_like(source.script)).isdisjoint(
            looks_like(target.script)
        )
        self._by_word = _WITHOUT_BLANKS.isdisjoint(self._scripts)

    def check(self, source: str, target: str) -> Dropped | None:
        """Return why a pair is dropped; None when it is kept.

        Args:
            source: the first side; white space around it does not count.
            target: the second side.
        """
        sides = (source.strip(), target.strip())
        if "\n" in sides[0] or "\n" in sides[1]:
            return Dropped("line_break")
        words = [_WORD.findall(side.casefold()) for side in sides]
        if not all(words):
            return Dropped("empty")
        return (
            self._check_lengths(sides)
            or (Dropped("copy") if "".join(words[0]) == "".join(words[1]) else None)
            or (self._check_overlap(words) if self._alike else None)
            or self._check_scripts(sides)
            or (Dropped("numbers") if self._settings.same_numbers and _numbers(source) != _numbers(target) else None)
        )

    def _check_lengths(self, sides: Sequence[str]) -> Dropped | None:
        lengths = [length(side, script) for side, script in zip(sides, self._scripts, strict=True)]
        if min(lengths) < self._settings.min_characters:
            return Dropped("short", min(lengths), self._settings.min_characters)
        if max(lengths) > self._settings.max_characters:
            return Dropped("long", max(lengths), self._settings.max_characters)
        ratio = length_ratio(*lengths)
        if ratio > self._settings.max_length_ratio:
            return Dropped("length_ratio", ratio, self._settings.max_length_ratio)
        return None

    def _check_overlap(self, words: Sequence[list[str]]) -> Dropped | None:
        shorter, longer = sorted(words if self._by_word else map(_neighbours, words), key=len)
        size = len(shorter) if len(shorter) >= _FEW_WORDS else len(longer)
        limit = self._settings.max_overlap
        if sum(map(set(longer).__contains__, shorter)) <= limit * size:
            return None  # the common case: not even counting every copy of a word reaches the limit
        share = (Counter(shorter) & Counter(longer)).total() / size
        return Dropped("overlap", share, limit) if share > limit else None

    def _check_scripts(self, sides: Sequence[str]) -> Dropped | None:
        for side, script in zip(sides, self._scripts, strict=True):
            if script in NO_SCRIPTS or not self._settings.min_script:
                continue
            profile = script_profile(side)
            share = profile.share(script)
            if profile.letters and share < self._settings.min_script:
                return Dropped("script", share, self._settings.min_script)
        return None


def _neighbours(words: Sequence[str]) -> list[str]:
    """Return all pairs of neighbouring letters."""
    letters = "".join(words)
    return [letters[index : index + 2] for index in range(max(1, len(letters) - 1))]


def _numbers(text: str) -> list[str]:
    """Return the numbers of a text in European digits, without separators, sorted."""
    found = (_NO_DIGIT.sub("", number) for number in _NUMBER.findall(text))
    return sorted("".join(str(int(digit)) for digit in number) for number in found)
