"""Measures what several tokenizers make of one language's text, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from megatron.languages.spacing import UNSPACED_SCRIPTS
from megatron.tokenizer.base import Ids, TokenizerError
from megatron.tokenizer.measure.counts import Example, LanguageCounts, keep_example
from megatron.tokenizer.measure.source import Loaded
from megatron.tokenizer.measure.words import WordCollector, words_of

_KEY = 0x74726970
_SHOWN_CHARACTERS = 60
_BEFORE_CHARACTERS = 10


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured.

    Attributes:
        context_tokens: length of a context.
        round_trip_share: part of the documents that are decoded again, chosen by the hash of their text; 1 for all.
    """

    context_tokens: int = 4096
    round_trip_share: float = 1.0

    def __post_init__(self) -> None:
        if self.context_tokens < 1 or not 0 <= self.round_trip_share <= 1:
            raise TokenizerError(
                f"context {self.context_tokens} must be at least 1 (--context), and round_trip_share "
                f"{self.round_trip_share} from 0 to 1 (--round-trip-share)"
            )


@dataclass(frozen=True)
class Text:
    """One document: its text, its UTF-8 bytes, and where it was read."""

    text: str
    data: bytes
    place: str


class Measurer:
    """Counts the text of one language, or of a part of it.

    Args:
        tokenizers: what encodes.
        settings: what is measured.
        script: ISO 15924; of scripts that do not write words apart no words are collected.
    """

    def __init__(self, tokenizers: Sequence[Loaded], settings: MeasureSettings, *, script: str) -> None:
        self._tokenizers, self._settings = tokenizers, settings
        self._counts = LanguageCounts.empty(len(tokenizers))
        self._words = None if script in UNSPACED_SCRIPTS else WordCollector()

    def add(self, batch: Sequence[Text]) -> npt.NDArray[np.int64]:
        """Count some documents; return their tokens, of shape ``[tokenizers, documents]``."""
        lengths = np.zeros((len(self._tokenizers), len(batch)), dtype=np.int64)
        if not batch:
            return lengths
        self._add_text(batch)
        texts = [each.text for each in batch]
        hashes = [xxhash.xxh3_64_intdigest(each.data, seed=_KEY) for each in batch]
        limit = round(self._settings.round_trip_share * (1 << 64))
        checked = [place for place, digest in enumerate(hashes) if digest < limit]
        for number, loaded in enumerate(self._tokenizers):
            arrays = loaded.tokenizer.encode_batch(texts)
            lengths[number] = [len(array) for array in arrays]
            self._add_tokens(number, arrays, lengths[number])
            for place in checked:
                self._check(number, batch[place], arrays[place], hashes[place])
        return lengths

    def counts(self) -> LanguageCounts:
        """Return what has been counted, with the sample of words."""
        if self._words is not None:
            self._counts.words = self._words.sample(self._tokenizers)
        return self._counts

    def _add_text(self, batch: Sequence[Text]) -> None:
        text = self._counts.text
        text.documents += len(batch)
        distinct: set[str] = set()
        for each in batch:
            words = words_of(each.text)
            text.bytes += len(each.data)
            text.characters += len(each.text)
            text.words += len(words)
            distinct.update(words if self._words is not None else ())
        if self._words is not None:
            self._words.add(distinct)

    def _add_tokens(self, number: int, arrays: Sequence[Ids], lengths: npt.NDArray[np.int64]) -> None:
        loaded, counts, context = self._tokenizers[number], self._counts.tokens[number], self._settings.context_tokens
        tokenizer = loaded.tokenizer
        flat = np.concatenate(arrays)
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < tokenizer.vocab_size:
            raise TokenizerError(
                f"{tokenizer.kind} gave ids {int(flat.min())} to {int(flat.max())}, its vocabulary has "
                f"{tokenizer.vocab_size}; the tokenizer file is damaged"
            )
        counts.tokens += len(flat)
        if tokenizer.unk_id is not None:
            counts.unk_tokens += int(np.count_nonzero(flat == tokenizer.unk_id))
        counts.byte_tokens += int(np.count_nonzero(loaded.byte_mask.take(flat)))
        counts.overflowing += int(np.count_nonzero(lengths > context))
        counts.windows += int(np.maximum(1, -(-lengths // context)).sum())

    def _check(self, number: int, text: Text, ids: Ids, digest: int) -> None:
        counts = self._counts.tokens[number]
        counts.checked += 1
        decoded = self._tokenizers[number].tokenizer.decode(ids.tolist())
        if decoded == text.text:
            return
        counts.failures += 1
        start = max(0, _first_difference(text.text, decoded) - _BEFORE_CHARACTERS)
        shown = (each[start : start + _SHOWN_CHARACTERS] for each in (text.text, decoded))
        keep_example(self._counts.examples[number], digest, Example(text.place, *shown))


def _first_difference(text: str, decoded: str) -> int:
    """Return where two different texts begin to differ."""
    pairs = enumerate(zip(text, decoded, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(text), len(decoded)))
