"""What flows through the corpus pipeline: documents, and the reasons for which some of them go no further."""

from __future__ import annotations

from dataclasses import dataclass

import orjson


class CorpusError(ValueError):
    """Raw text or a corpus that cannot be used: says which file and line, which rule, and what to change."""


@dataclass(frozen=True)
class Document:
    """One text, or a sentence and its translation.

    Attributes:
        text: the text, never blank.
        original_code: the language code that the file gives it (ISO 639 or BCP 47, not interpreted), or None.
        id: where it was read, ``<file>:<record>``; empty outside the pipeline.
        target: the translation of ``text``; None for a text that stands alone.
        target_code: the language code that the file gives ``target``, or None.
    """

    text: str
    original_code: str | None = None
    id: str = ""
    target: str | None = None
    target_code: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, and its translation where there is one."""
        return (self.text,) if self.target is None else (self.text, self.target)

    @property
    def key_text(self) -> str:
        """What equal documents have in common: the text, or both sides of a pair, whichever of them comes first."""
        return "\n".join(sorted(self.texts))

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(len(text.encode("utf-8")) for text in self.texts)

    def to_json(self) -> bytes:
        """Return one line of JSON, with its line feed; fields without a value are left out."""
        fields = {name: value for name, value in vars(self).items() if value not in (None, "")}
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class Dropped:
    """Why a document goes no further.

    Attributes:
        rule: the name of the rule, such as ``short``.
        value: what was measured; None where nothing is.
        limit: what it was compared with.
    """

    rule: str
    value: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        return self.rule if self.value is None else f"{self.rule} ({self.value:.4g}, limit {self.limit:.4g})"
