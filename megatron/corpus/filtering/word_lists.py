"""Lists of words that a text should hold few of: one word or phrase a line, ``#`` before comments."""

from __future__ import annotations

import functools
import unicodedata
from collections import defaultdict
from pathlib import Path

import regex

from megatron.corpus.document import CorpusError

# A list is something that people read.
_MAX_LIST_BYTES = 16 << 20
_WORDS = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*+")
# Their words are not told apart by blanks, so that characters take the place of words.
_UNSPACED = frozenset({"Hani", "Jpan", "Thai", "Khmr", "Laoo", "Mymr", "Tibt"})
_UNSPACED_LETTERS = "ー" + "".join(
    rf"\p{{Script={script}}}" for script in ("Hani", "Hira", "Kana", "Thai", "Khmr", "Laoo", "Mymr", "Tibt")
)
_CHARACTERS = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{M}}]&&[{_UNSPACED_LETTERS}]]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED_LETTERS}]]+"
)


class WordList:
    """The words and phrases of one language.

    Args:
        lines: one word or phrase each.
        script: ISO 15924; where it writes no blanks between words, characters are counted instead of words.
    """

    def __init__(self, lines: list[str], *, script: str = "Latn") -> None:
        self._pattern = _CHARACTERS if script in _UNSPACED else _WORDS
        self._phrases = {tuple(words) for line in lines if (words := self._words(line))}
        lengths: dict[str, set[int]] = defaultdict(set)
        for phrase in self._phrases:
            lengths[phrase[0]].add(len(phrase))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def share(self, text: str) -> float:
        """Return the share of the words of ``text`` that belong to a listed word or phrase; 0 without words."""
        words = self._words(text)
        if not words or self._lengths.keys().isdisjoint(words):
            return 0.0
        listed = place = 0
        while place < len(words):
            length = self._match(words, place)
            listed += length
            place += max(length, 1)
        return listed / len(words)

    def _match(self, words: list[str], place: int) -> int:
        """Return the words of the longest listed phrase at a place, 0 for none."""
        for length in self._lengths.get(words[place], ()):
            if tuple(words[place : place + length]) in self._phrases:
                return length
        return 0

    def _words(self, text: str) -> list[str]:
        found: list[str] = self._pattern.findall(unicodedata.normalize("NFC", text).casefold())
        return found


def find_word_list(folder: str, code: str, script: str) -> WordList | None:
    """Return the list of a corpus, ``<xxx_Ssss>.txt`` or ``<xxx>.txt``; None when the folder has none.

    Raises:
        CorpusError: there is no such folder, or the list is no UTF-8, too large, or has no words.
    """
    if not Path(folder).is_dir():
        raise CorpusError(f"filters.word_lists: {folder} is no folder; name one that holds <xxx_Ssss>.txt or <xxx>.txt")
    for name in (code, code.partition("_")[0]):
        path = Path(folder) / f"{name}.txt"
        if path.is_file():
            return _read(str(path), path.stat().st_mtime_ns, script)
    return None


@functools.lru_cache(maxsize=8)
def _read(path: str, _changed: int, script: str) -> WordList:
    if Path(path).stat().st_size > _MAX_LIST_BYTES:
        raise CorpusError(f"{path}: a word list may have {_MAX_LIST_BYTES >> 20} MiB; leave rare words out")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: byte {error.start} is no UTF-8; save the list as UTF-8") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise CorpusError(f"{path}: the word list is empty; remove it, or write one word or phrase a line")
    return WordList(lines, script=script)
