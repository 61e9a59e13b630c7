"""Sentence pairs as documents.

EMMA-500's second generation put ten pairs into a document, with the languages marked; the wording is not published. The
default here marks every sentence with its corpus code. Marks matter: without them a model learns that text may change
its language at any line, which shows as language mixing in what it generates (MixCPT, arXiv 2504.04152).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import xxhash

from megatron.config.corpus_schema import ParallelConfig
from megatron.corpus.document import CorpusError
from megatron.corpus.languages import Label
from megatron.corpus.pairs.names import names_of_both
from megatron.corpus.placeholders import Template, is_template, unescape


class _Shape(NamedTuple):
    """The text before the pairs, the text of one pair, and what stands between pairs."""

    header: str
    pair: str
    separator: str


#: The built-in templates. ``code-switched`` takes one side of every pair only.
BUILT_IN: Mapping[str, _Shape] = MappingProxyType(
    {
        "plain": _Shape("", "{source}\n{target}", "\n\n"),
        "tagged": _Shape("", "[{source_code}] {source}\n[{target_code}] {target}", "\n"),
        "translation": _Shape(
            "Translate from {source_name} to {target_name}.\n\n",
            "{source_name}: {source}\n{target_name}: {target}",
            "\n\n",
        ),
        "code-switched": _Shape("", "{source}{target}", "\n"),
    }
)
_LANGUAGE_FIELDS = ("source_code", "target_code", "source_name", "target_name")
_PAIR_FIELDS = ("source", "target", *_LANGUAGE_FIELDS)


class PairTemplate:
    """Turns the pairs of one corpus into documents.

    Which side comes first, and which sides a code-switched document takes, is drawn by a hash of the pairs: the same
    pairs always give the same document.

    Args:
        settings: template, direction and seed.
        source: label of the first side.
        target: label of the second side.

    Raises:
        CorpusError: no template of that name, or a template with wrong placeholders.
    """

    def __init__(self, settings: ParallelConfig, *, source: Label, target: Label) -> None:
        shape = BUILT_IN.get(settings.template)
        if shape is None and not is_template(settings.template):
            raise CorpusError(
                f"parallel.template {settings.template!r}: no such template; use {', '.join(BUILT_IN)}, or write one "
                "of your own, such as '{source_name}: {source}\\n{target_name}: {target}'"
            )
        shape = shape or _Shape("", settings.template, "\n")
        self._settings = settings
        self._switched = settings.template == "code-switched"
        header = shape.header if settings.header is None else settings.header
        self._header = Template(header, allowed=_LANGUAGE_FIELDS, setting="parallel.header")
        self._pair = Template(
            shape.pair, allowed=_PAIR_FIELDS, required=("source", "target"), setting="parallel.template"
        )
        self._separator = shape.separator if settings.separator is None else unescape(settings.separator)
        self._codes = (source.code, target.code)
        self._names = names_of_both(source, target)

    def document(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Return the text of one document.

        Args:
            pairs: the two sides of each pair, at least one; white space around them is left out.
        """
        sides = [(source.strip(), target.strip()) for source, target in pairs]
        first = self._first(sides)
        values = {
            "source_code": self._codes[first],
            "target_code": self._codes[1 - first],
            "source_name": self._names[first],
            "target_name": self._names[1 - first],
        }
        parts = []
        for pair in sides:
            texts = (pair[first], pair[1 - first])
            if self._switched:
                texts = ("", texts[1]) if self._draw([pair]) else (texts[0], "")
            parts.append(self._pair.fill({**values, "source": texts[0], "target": texts[1]}))
        return self._header.fill(values) + self._separator.join(parts)

    def _first(self, sides: Sequence[tuple[str, str]]) -> int:
        """Return which side comes first, 0 or 1."""
        if self._settings.direction == "both":
            return self._draw(sides)
        return int(self._settings.direction == "backward")

    def _draw(self, sides: Sequence[tuple[str, str]]) -> int:
        """Return 0 or 1, as a keyed hash of some pairs says."""
        content = "\n".join(text for pair in sides for text in pair).encode("utf-8")
        return xxhash.xxh3_64_intdigest(content, seed=self._settings.seed) & 1
