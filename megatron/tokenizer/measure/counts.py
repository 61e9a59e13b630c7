"""Counts of text and of its tokens, which add up to the same in any order and however the text is divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from megatron.tokenizer.measure.words import WordSample

#: Examples of texts that do not come back, for each language and tokenizer: those with the smallest hashes.
KEPT_EXAMPLES = 3


class Example(NamedTuple):
    """A text that does not come back.

    Attributes:
        place: where it was read, ``<file>:<line>``.
        text: what it has where the two begin to differ, cut short.
        decoded: what came back there.
    """

    place: str
    text: str
    decoded: str


class _Sums:
    """Adds up field by field."""

    def add(self, other: Any) -> None:
        """Add the counts of other text."""
        for each in fields(self):  # type: ignore[arg-type]  # all who inherit are data classes
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class TextCounts(_Sums):
    """What a text holds: documents, UTF-8 bytes, code points and words between blanks."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0


@dataclass
class TokenCounts(_Sums):
    """What one tokenizer makes of it.

    Attributes:
        tokens: tokens of the texts alone; nothing is added where documents begin and end.
        unk_tokens: those that are the unknown id.
        byte_tokens: those that stand for a part of a character.
        overflowing: documents with more tokens than a context holds.
        windows: contexts that the documents fill, each on its own.
        checked: documents that were decoded again.
        failures: those of them that did not come back as they were.
    """

    tokens: int = 0
    unk_tokens: int = 0
    byte_tokens: int = 0
    overflowing: int = 0
    windows: int = 0
    checked: int = 0
    failures: int = 0


@dataclass
class LanguageCounts:
    """What text in one language holds, and what each tokenizer makes of it.

    Attributes:
        text: the text.
        tokens: of each tokenizer.
        examples: of each tokenizer, texts that do not come back, by the hash of the text.
        words: a sample of distinct words; empty where words are not written apart.
    """

    text: TextCounts
    tokens: list[TokenCounts]
    examples: list[dict[int, Example]]
    words: WordSample

    @classmethod
    def empty(cls, tokenizers: int) -> LanguageCounts:
        """Return the counts of no text."""
        each = range(tokenizers)
        return cls(TextCounts(), [TokenCounts() for _ in each], [{} for _ in each], WordSample.empty(tokenizers))

    def add(self, other: LanguageCounts) -> None:
        """Add other text of the same language."""
        self.text.add(other.text)
        for mine, theirs in zip(self.tokens, other.tokens, strict=True):
            mine.add(theirs)
        for kept, others in zip(self.examples, other.examples, strict=True):
            for digest, example in others.items():
                keep_example(kept, digest, example)
        self.words = self.words.merged(other.words)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "text": asdict(self.text),
            "tokens": [asdict(counts) for counts in self.tokens],
            "examples": [{str(digest): list(kept[digest]) for digest in sorted(kept)} for kept in self.examples],
            "words": self.words.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LanguageCounts:
        """Return what :meth:`to_json` was made of."""
        return cls(
            TextCounts(**content["text"]),
            [TokenCounts(**counts) for counts in content["tokens"]],
            [{int(digest): Example(*each) for digest, each in kept.items()} for kept in content["examples"]],
            WordSample.from_json(content["words"]),
        )


@dataclass
class Side:
    """One side of parallel text: UTF-8 bytes, code points, and the tokens of each tokenizer."""

    bytes: int
    characters: int
    tokens: list[int]

    @classmethod
    def empty(cls, tokenizers: int) -> Side:
        """Return a side without text."""
        return cls(0, 0, [0] * tokenizers)

    def add(self, size_bytes: int, characters: int, tokens: Sequence[int]) -> None:
        """Add text."""
        self.bytes += int(size_bytes)
        self.characters += int(characters)
        self.tokens = [mine + int(more) for mine, more in zip(self.tokens, tokens, strict=True)]


@dataclass
class ParallelCounts:
    """The same text in a language and in the pivot.

    Attributes:
        records: those that both have.
        unmatched: those that one of them does not have, or has blank.
        own: the language's side of the records that both have.
        pivot: the pivot's side.
        uneven: whether the two have different numbers of records: a number may then not stand for the same text.
    """

    records: int
    unmatched: int
    own: Side
    pivot: Side
    uneven: bool = False

    @classmethod
    def empty(cls, tokenizers: int) -> ParallelCounts:
        """Return the counts of no text."""
        return cls(0, 0, Side.empty(tokenizers), Side.empty(tokenizers))

    def add(self, other: ParallelCounts) -> None:
        """Add other text of the same two languages."""
        self.records += other.records
        self.unmatched += other.unmatched
        self.uneven = self.uneven or other.uneven
        for mine, theirs in ((self.own, other.own), (self.pivot, other.pivot)):
            mine.add(theirs.bytes, theirs.characters, theirs.tokens)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ParallelCounts:
        """Return what :meth:`to_json` was made of."""
        return cls(**{**content, "own": Side(**content["own"]), "pivot": Side(**content["pivot"])})


def keep_example(kept: dict[int, Example], digest: int, example: Example) -> None:
    """Keep an example if the hash of its text is among the smallest; equal texts keep the first place by name."""
    kept[digest] = min(example, kept.get(digest, example))
    if len(kept) > KEPT_EXAMPLES:
        del kept[max(kept)]
