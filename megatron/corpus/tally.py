"""What the stages did, counted: documents and bytes for each stage, corpus and rule, with a few examples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import xxhash

#: ``in`` and ``out``: documents that came to a stage and went on; ``dropped``: those that did not, by rule;
#: ``changed``: those that a rule changed; ``noted``: those that it only looked at.
Kind = Literal["in", "out", "dropped", "changed", "noted"]

_EXAMPLE_CHARACTERS = 300


class Key(NamedTuple):
    """What is counted."""

    stage: str
    corpus: str
    kind: Kind
    rule: str = ""


class Example(NamedTuple):
    """A document that a rule dropped or changed.

    Attributes:
        id: where it came from.
        text: its text, cut short.
        detail: what was measured, or the text after the change.
    """

    id: str
    text: str
    detail: str


@dataclass
class Tally:
    """Counts that can be added up in any order with the same result.

    Attributes:
        keep: examples to keep for each rule of each stage: those whose texts have the smallest hashes.
        documents: documents.
        bytes: UTF-8 bytes.
        examples: for stage and rule, examples by the hash of their text.
    """

    keep: int = 0
    documents: defaultdict[Key, int] = field(default_factory=lambda: defaultdict(int))
    bytes: defaultdict[Key, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[tuple[str, str], dict[int, Example]] = field(default_factory=dict)

    def add(self, key: Key, size_bytes: int, *, documents: int = 1) -> None:
        """Count documents of ``size_bytes`` together."""
        self.documents[key] += documents
        self.bytes[key] += size_bytes

    def show(self, key: Key, id: str, text: str, detail: str) -> None:
        """Offer an example."""
        digest = xxhash.xxh3_64_intdigest(text.encode())
        self._offer((key.stage, key.rule), digest, Example(id, _cut(text), _cut(detail)))

    def record(self, key: Key, size_bytes: int, id: str, text: str, detail: str) -> None:
        """Count one document, and offer it as an example."""
        self.add(key, size_bytes)
        self.show(key, id, text, detail)

    def merge(self, other: Tally) -> None:
        """Add the counts and examples of another."""
        for key, count in other.documents.items():
            self.add(key, other.bytes[key], documents=count)
        for place, examples in other.examples.items():
            for digest, example in examples.items():
                self._offer(place, digest, example)

    def _offer(self, place: tuple[str, str], digest: int, example: Example) -> None:
        if not self.keep:
            return
        kept = self.examples.setdefault(place, {})
        if len(kept) < self.keep or digest < max(kept):
            kept[digest] = min(example, kept.get(digest, example))
            if len(kept) > self.keep:
                del kept[max(kept)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, in a fixed order."""
        return {
            "counts": [[*key, self.documents[key], self.bytes[key]] for key in sorted(self.documents)],
            "examples": [
                [*place, str(digest), *example]
                for place, examples in sorted(self.examples.items())
                for digest, example in sorted(examples.items())
            ],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, keep: int = 0) -> Tally:
        """Return what :meth:`to_json` was made of."""
        tally = cls(keep=keep)
        for *key, documents, size_bytes in content["counts"]:
            tally.add(Key(*key), size_bytes, documents=documents)
        for stage, rule, digest, *example in content["examples"]:
            tally._offer((stage, rule), int(digest), Example(*example))
        return tally

    def items(self, *, stage: str | None = None, kind: Kind | None = None) -> Iterator[tuple[Key, int, int]]:
        """Yield key, documents and bytes of a stage and kind, or of all, in a fixed order."""
        for key in sorted(self.documents):
            if stage in (None, key.stage) and kind in (None, key.kind):
                yield key, self.documents[key], self.bytes[key]


def _cut(text: str) -> str:
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[:_EXAMPLE_CHARACTERS] + "…"
