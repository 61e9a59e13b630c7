"""The words that new tokens may lie in, and how often each language has each."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from megatron.languages.script import NO_SCRIPT, script_counts
from megatron.tokenizer.export import SPACE

_LONGEST_WORD = 200  # characters; clauses of scripts without spaces are cut
# Letters and marks, joiners and apostrophes inside; at most one space before them.
_RUN = regex.compile(rf"{SPACE}?[\p{{L}}\p{{M}}](?:[\p{{L}}\p{{M}}\u200c\u200d]|['’](?=\p{{L}})){{0,{_LONGEST_WORD}}}")
_LETTER = regex.compile(r"\p{L}")
# Together at most 2^50, whatever is rounded up: every sum of them is far below 2^63.
_TOTAL_WEIGHT = 1 << 50


@dataclass
class WordCounts:
    """How often a corpus has each word.

    Attributes:
        words: the frequent ones.
        text_bytes: UTF-8 bytes read.
        characters: how often each character comes.
        dropped: occurrences of words that were too rare for the table.
    """

    words: Counter[str]
    text_bytes: int
    characters: Counter[str]
    dropped: int


def count_words(texts: Iterable[str], words_of: Callable[[str], Iterable[str]], *, max_words: int) -> WordCounts:
    """Count the words of one corpus in a table of bounded size.

    Args:
        texts: its documents.
        words_of: cuts a document into words.
        max_words: distinct words that are kept; the table takes up to twice as many while it fills.
    """
    counts = WordCounts(Counter(), 0, Counter(), 0)
    for text in texts:
        counts.text_bytes += len(text.encode("utf-8", "surrogatepass"))
        counts.characters.update(text)
        counts.words.update(words_of(text))
        if len(counts.words) > 2 * max_words:
            _prune(counts, max_words)
    _prune(counts, max_words)
    return counts


def _prune(counts: WordCounts, max_words: int) -> None:
    """Keep the most frequent words, of equals those first in order of text."""
    if len(counts.words) <= max_words:
        return
    kept = sorted(counts.words.items(), key=lambda item: (-item[1], item[0]))[:max_words]
    before = counts.words.total()
    counts.words = Counter(dict(kept))
    counts.dropped += before - counts.words.total()


def words_of_one_script(text: str) -> Iterator[str]:
    """Yield runs of letters and marks of one script, each with the space before it, if there is one, as ``▁``.

    Digits, punctuation and other signs end a word and are in none.
    """
    for run in _RUN.findall(text.replace(" ", SPACE)):
        yield from (run,) if run.removeprefix(SPACE).isascii() else _split_by_script(run)


@functools.lru_cache(maxsize=1 << 16)
def _split_by_script(run: str) -> tuple[str, ...]:
    parts, current = [""], NO_SCRIPT
    for character in run:
        script = script_of(character)
        if NO_SCRIPT not in (script, current) and script != current:
            parts.append("")
        current = script if script != NO_SCRIPT else current
        parts[-1] += character
    return tuple(parts)


@functools.lru_cache(maxsize=1 << 18)
def script_of(character: str) -> str:
    """Return the Unicode script of a character, ``Zyyy`` for what belongs to none."""
    return next(iter(script_counts(character)), NO_SCRIPT)


def has_letter(text: str) -> bool:
    """Return whether there is a letter in a text."""
    return _LETTER.search(text) is not None


def shares_of(
    text_bytes: Sequence[int], codes: Sequence[str], *, alpha: float, factors: Mapping[str, float]
) -> list[float]:
    """Return the share of each corpus in what is learnt from; their sum is 1.

    The share of a language is proportional to ``bytes ** alpha`` times its factor; its corpora share it by bytes.

    Args:
        text_bytes: of each corpus.
        codes: of each corpus.
        alpha: 1 for shares as in the text, 0 for equal shares.
        factors: by code; 1 where there is none.
    """
    of_code: Counter[str] = Counter()
    for code, size in zip(codes, text_bytes, strict=True):
        of_code[code] += size
    wanted = [
        of_code[code] ** alpha * factors.get(code, 1.0) * size / of_code[code] if size else 0.0
        for code, size in zip(codes, text_bytes, strict=True)
    ]
    total = sum(wanted)
    return [value / total if total else 0.0 for value in wanted]


def weighed(
    parts: Iterable[tuple[float, Sequence[Sequence[int]], Sequence[int]]],
) -> tuple[list[tuple[int, ...]], npt.NDArray[np.int64]]:
    """Return the distinct words of all corpora as symbols, and their weights.

    A corpus has its share by symbols, so that a new token weighs the part of each corpus's tokens which it saves.

    Args:
        parts: of each corpus its share, its words as symbols, and how often each comes.
    """
    weights: Counter[tuple[int, ...]] = Counter()
    for share, words, counts in parts:
        symbols = sum(len(word) * count for word, count in zip(words, counts, strict=True))
        for word, count in zip(words, counts, strict=True):
            if len(word) > 1 and share > 0:
                weights[tuple(word)] += max(1, int(_TOTAL_WEIGHT * share * count / symbols))
    # In an order of their own, so that the order of corpora and files says nothing.
    ordered = sorted(weights)
    return ordered, np.array([weights[word] for word in ordered], dtype=np.int64)
