"""What must hold of an extended tokenizer, measured with the real libraries on its finished files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.tokenizer.extend.old import INSTALL_TRANSFORMERS, Encode, OldTokenizer
from megatron.tokenizer.extend.source import Source, in_text, pivot_lines

_BATCH = 256
_FEW_LINES = 100  # a share of fewer is no measurement

Text = TypeVar("Text", str, bytes)


class BrokenGatesError(TokenizerError):
    """The extended tokenizer does what it must not; nothing is written."""


@dataclass(frozen=True)
class Gate:
    """One measurement.

    Attributes:
        name: what is measured.
        value: the number found, or a share.
        limit: the most that passes; None for what is only told.
        of: what there is in all.
        note: more about it, such as an example.
        least: of fewer than this a value within the limit says nothing.
    """

    name: str
    value: float
    limit: float | None
    of: int
    note: str = ""
    least: int = 0

    @property
    def passes(self) -> bool:
        """Whether the value is within the limit."""
        return self.limit is None or self.value <= self.limit

    @property
    def state(self) -> str:
        """How it ended, in a word or two."""
        if not self.passes:
            return "BROKEN"
        if self.of < self.least:
            return "not measured"
        return "told" if self.limit is None else "passes"


@dataclass
class Measured:
    """What the texts of one corpus gave.

    Attributes:
        documents: held out.
        text_bytes: of those, UTF-8.
        before: old tokens of each held-out document, by its number.
        after: new tokens of each.
        total_documents: of the corpus, all.
    """

    documents: int = 0
    text_bytes: int = 0
    before: dict[int, int] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    total_documents: int = 0


@dataclass
class Checks:
    """Compares two tokenizers, and the libraries that read the new one's files."""

    old: Tokenizer
    new: Tokenizer
    libraries: Mapping[str, Encode]
    texts: int = 0
    broken: int = 0
    compared: int = 0
    disagreeing: dict[str, int] = field(default_factory=dict)
    example: str = ""

    def encode_and_check(self, text: str) -> list[int]:
        """Return the new ids of a text; count it if they do not give it back."""
        ids = self.new.encode(text)
        self.texts += 1
        # The old tokenizer may lose something as well: SentencePiece takes a literal ▁ for a space.
        if self.new.decode(ids) != text and self.old.decode(self.old.encode(text)) == text:
            self.broken += 1
        return ids

    def compare(self, text: str) -> tuple[list[int], list[int]]:
        """Return the old and the new ids of a text; count the libraries that give others."""
        before, after = self.old.encode(text), self.encode_and_check(text)
        self.compared += 1
        for name, encode in self.libraries.items():
            if list(encode(text)) != after:
                self.disagreeing[name] = self.disagreeing.get(name, 0) + 1
                self.example = self.example or text[:60]
        return before, after


def changed_lines(old: Tokenizer, new: Tokenizer, lines: Iterable[str]) -> tuple[int, int, str]:
    """Return how many lines have other ids than before, alone or inside a text; of how many; and one of them."""
    changed, total, example = 0, 0, ""
    left = iter(lines)
    while batch := list(islice(left, _BATCH)):
        differs = [False] * len(batch)
        for forms in zip(*map(in_text, batch), strict=True):
            pairs = zip(old.encode_batch(forms), new.encode_batch(forms), strict=True)
            for number, (before, after) in enumerate(pairs):
                differs[number] |= before.tolist() != after.tolist()
        total += len(batch)
        changed += sum(differs)
        example = example or next((line for line, other in zip(batch, differs, strict=True) if other), "")
    return changed, total, example


def measure(sources: Sequence[Source], checks: Checks, *, hold_out: int) -> tuple[dict[str, Measured], set[int]]:
    """Encode all texts, and those held out with all libraries.

    Returns:
        What each corpus gave, by its name; the ids that held-out text uses.
    """
    rows: dict[str, Measured] = {}
    used: set[int] = set()
    for source in sources:
        row = rows[source.name] = Measured()
        for number, text in enumerate(source.read(), start=1):
            row.total_documents = number
            if number % hold_out:
                checks.encode_and_check(text)
                continue
            before, after = checks.compare(text)
            row.documents += 1
            row.text_bytes += len(text.encode("utf-8", "surrogatepass"))
            row.before[number], row.after[number] = len(before), len(after)
            if not source.is_pivot:
                used.update(after)
    return rows, used


def guard_gate(
    old: OldTokenizer[Text], tokens: Collection[Text], lines: Iterable[str], *, at_most: float
) -> Gate:
    """Return how many pivot lines would have other ids if the guard had not seen them.

    Args:
        old: the tokenizer.
        tokens: new tokens, learnt with a guard that has not seen the lines.
        lines: held out.
        at_most: the share that passes; it is only told with 1.
    """
    known = frozenset(tokens)
    changed, total, example = 0, 0, ""
    for line in lines:
        total += 1
        if not known.isdisjoint(old.joined(in_text(line))):
            changed += 1
            example = example or line
    share = changed / total if total else 0.0
    note = example[:60] or f"{total} lines are too few; give more pivot text"
    name = "pivot lines that change where the guard has not seen them, share"
    return Gate(name, share, share_limit(at_most), total, note, least=_FEW_LINES)


def share_limit(at_most: float) -> float | None:
    """Return the limit of a share; none where any share is within it."""
    return at_most if at_most < 1 else None


def pivot_gate(old: Tokenizer, new: Tokenizer, sources: Sequence[Source]) -> Gate:
    """Return how many lines of the pivots have other ids than before."""
    changed, total, example = changed_lines(old, new, pivot_lines(sources))
    return Gate("pivot lines changed", changed, 0, total, example[:60])


def library_gates(checks: Checks) -> list[Gate]:
    """Return whether all texts come back and all libraries agree, and whether transformers was asked."""
    gates = [Gate("texts that no longer come back", checks.broken, 0, checks.texts)]
    for name in checks.libraries:
        gates.append(
            Gate(f"texts with other ids by {name}", checks.disagreeing.get(name, 0), 0, checks.compared, checks.example)
        )
    if "transformers" not in checks.libraries:
        note = f"not installed: {INSTALL_TRANSFORMERS}"
        gates.append(Gate("texts with other ids by transformers", 0, 0, 0, note, least=1))
    return gates


def gate_table(gates: Sequence[Gate]) -> list[str]:
    """Return the lines of a table of all gates."""
    width = max(len(gate.name) for gate in gates)
    return [
        f"{gate.name:<{width}}  {_number(gate.value):>9} of {gate.of:>9,}  {_limit(gate):>14}  {gate.state}"
        + (f"  {gate.note!r}" if gate.note and gate.state in ("BROKEN", "not measured") else "")
        for gate in gates
    ]


def _limit(gate: Gate) -> str:
    return "" if gate.limit is None else f"at most {_number(gate.limit):>6}"


def _number(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) and not value.is_integer() else f"{int(value):,}"
