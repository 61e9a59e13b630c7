"""A sample of the distinct words of any amount of text, in bounded memory, and which of them stay one token.

The words with the smallest hashes are kept. So the sample is a random one of the distinct words, whatever order they
come in, and samples of parts of a text merge into that of the whole.
"""

from __future__ import annotations

import base64
import functools
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import regex
import xxhash

from megatron.tokenizer.measure.source import Loaded

#: Distinct words of a language that are kept: a share of them is then known to 1.6 percentage points (95%).
SAMPLED_WORDS = 4096

# Words that are remembered so that they need not be looked at again, none of them long; some 20 MB.
_REMEMBERED_WORDS = 200_000

_KEY = 0x776F7264
_MAX_WORD_CHARACTERS = 100  # longer ones are addresses and noise
# The blank between words of older Ethiopic text is a sign of its own.
_ETHIOPIC_BLANK = "\u1361"


def words_of(text: str) -> list[str]:
    """Return what stands between the blanks of a text, Ethiopic's word space among them."""
    return (text.replace(_ETHIOPIC_BLANK, " ") if _ETHIOPIC_BLANK in text else text).split()


@dataclass(frozen=True)
class WordSample:
    """Distinct words by their hashes.

    Attributes:
        hashes: ascending, uint64 of shape ``[words]``; at most :data:`SAMPLED_WORDS`.
        whole: whether each word is one token, of shape ``[words, tokenizers]``.
    """

    hashes: npt.NDArray[np.uint64]
    whole: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, tokenizers: int) -> WordSample:
        """Return a sample without words."""
        return cls(np.zeros(0, dtype=np.uint64), np.zeros((0, tokenizers), dtype=np.bool_))

    def merged(self, other: WordSample) -> WordSample:
        """Return the sample of both texts together."""
        hashes, places = np.unique(np.concatenate([self.hashes, other.hashes]), return_index=True)
        whole = np.concatenate([self.whole, other.whole])[places]
        return WordSample(hashes[:SAMPLED_WORDS], whole[:SAMPLED_WORDS])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "hashes": base64.b64encode(self.hashes.astype("<u8").tobytes()).decode(),
            "whole": base64.b64encode(self.whole.astype(np.uint8).tobytes()).decode(),
            "tokenizers": self.whole.shape[1],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WordSample:
        """Return what :meth:`to_json` was made of."""
        hashes = np.frombuffer(base64.b64decode(content["hashes"]), dtype="<u8").astype(np.uint64)
        whole = np.frombuffer(base64.b64decode(content["whole"]), dtype=np.uint8).astype(np.bool_)
        return cls(hashes, whole.reshape(len(hashes), content["tokenizers"]))


class WordCollector:
    """Collects the sample of a text as it goes by."""

    def __init__(self) -> None:
        self._words: dict[int, str] = {}
        self._limit = 1 << 64
        self._seen: set[str] = set()

    def add(self, words: Iterable[str]) -> None:
        """Take words as they stand between blanks; signs around them are taken off, and words without a letter left."""
        if len(self._seen) > _REMEMBERED_WORDS:
            self._seen = set()
        new = set(words) - self._seen
        self._seen.update(word for word in new if len(word) <= _MAX_WORD_CHARACTERS)
        for word in new:
            if not word.isalpha():
                word = word.strip(string.punctuation)  # far faster than all signs, and most often enough
            if not word.isalpha():
                word = _edges().sub("", word)
                if not _letter().search(word):
                    continue
            if len(word) > _MAX_WORD_CHARACTERS:
                continue
            digest = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"), seed=_KEY)
            if digest < self._limit:
                self._words[digest] = word
        if len(self._words) > 2 * SAMPLED_WORDS:
            self._cut()

    def sample(self, tokenizers: Sequence[Loaded]) -> WordSample:
        """Return the sample, with what each tokenizer makes of its words."""
        self._cut()
        hashes = sorted(self._words)
        words = [self._words[digest] for digest in hashes]
        whole = np.zeros((len(words), len(tokenizers)), dtype=np.bool_)
        if words:
            for column, tokenizer in enumerate(tokenizers):
                whole[:, column] = are_whole(words, tokenizer)
        return WordSample(np.array(hashes, dtype=np.uint64), whole)

    def _cut(self) -> None:
        if len(self._words) > SAMPLED_WORDS:
            kept = sorted(self._words)[:SAMPLED_WORDS]
            self._words = {digest: self._words[digest] for digest in kept}
            self._limit = kept[-1]


def are_whole(words: Sequence[str], loaded: Loaded) -> npt.NDArray[np.bool_]:
    """Return which words are one token and come back from it, at the beginning of a text or after a blank.

    SentencePiece puts a blank before a text itself, byte-level vocabularies do not; words inside a text follow one.
    """
    whole = np.zeros(len(words), dtype=np.bool_)
    # Most words are no token's text, and need not be encoded.
    places = np.array([place for place, word in enumerate(words) if word in loaded.token_texts], dtype=np.int64)
    if len(places):
        for blank in ("", " "):
            ids = loaded.tokenizer.encode_batch([blank + words[place] for place in places])
            whole[places] |= [len(each) == 1 and int(each[0]) != loaded.tokenizer.unk_id for each in ids]
    return whole


@functools.cache
def _edges() -> regex.Pattern[str]:
    return regex.compile(r"^[^\p{L}\p{M}\p{N}]+|[^\p{L}\p{M}\p{N}]+$")


@functools.cache
def _letter() -> regex.Pattern[str]:
    return regex.compile(r"\p{L}")
